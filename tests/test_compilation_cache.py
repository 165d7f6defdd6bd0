"""What XLA compiled goes from process to process, whole entries only."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPILE = """
import os
from pathlib import Path
from experiments import compilation_cache as cache
import jax, jax.numpy as jnp
cache.use()
cache.use()  # once is enough
before = set(cache._published)
jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((30, 30))).block_until_ready()
((own, shared),) = cache._folders
found = {entry.name for entry in own.glob("*-cache")}
print(len(before), len(found - before))
"""
DIE = """
(own / "half-cache").write_bytes(b"hal")
os.kill(os.getpid(), 9)
"""


def run(home, code, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=clean | {"XDG_CACHE_HOME": str(home)} | environment,
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_second_process_compiles_nothing_and_a_killed_one_leaves_nothing_half(tmp_path):
    first = run(tmp_path, COMPILE)
    assert first.returncode == 0, first.stderr
    known, new = map(int, first.stdout.split())
    assert known == 0 and new > 0
    (shared,) = (tmp_path / "rnn_jax").iterdir()
    killed = run(tmp_path, COMPILE + DIE)
    assert killed.returncode == -signal.SIGKILL
    assert list(map(int, run(tmp_path, COMPILE).stdout.split())) == [new, 0]
    names = [path.name for path in shared.iterdir()]
    assert "half-cache" not in names and len([n for n in names if n.endswith("-cache")]) == new
    assert not [name for name in names if name.startswith("process-")]


@pytest.mark.parametrize("environment", [{"JAX_COMPILATION_CACHE_DIR": ""}, {}])
def test_without_a_place_it_goes_without(tmp_path, environment):
    (tmp_path / "rnn_jax").write_text("no folder")
    code = COMPILE[: COMPILE.index("before =")] + "print(cache._folders)"
    done = run(tmp_path, code, **environment)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr


def test_too_many_entries_make_room(tmp_path, monkeypatch):
    from experiments import compilation_cache as cache

    for age in range(5):
        entry = tmp_path / f"{age}-cache"
        entry.write_bytes(b"x" * 100)
        os.utime(entry, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(cache, "MAX_BYTES", 250)
    cache._tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-cache", "1-cache"]
