"""What a user installs and imports: pinned versions, a light import, a set-up that runs once."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"""[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*( ; python_version [<>=]+ "3\.\d+")?""")

# What `import rnn_jax` may take time and memory for; all else is imported where it is used.
HEAVY = (
    "array_record",
    "brotli",
    "matplotlib",
    "orbax",
    "ray",
    "rich",
    "safetensors",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "tokenizers",
    "torch",
    "tyro",
    "xarray",
    "zarr",
)


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [line for line in pins if not PIN.fullmatch(line)] == []


def test_constraints_pin_each_dependency_that_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + sum(map(extras.get, ("dev", "parity", "text")), [])
    names = {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in asked}
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert names - pinned == set()


def test_import_is_light():
    show = "import sys, rnn_jax; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"rnn_jax", "jax"} <= loaded
    assert loaded.intersection(HEAVY) == set()


class Checkout:
    """A folder with scripts/setup.sh and a .venv whose Python notes each install and does none."""

    def __init__(self, path):
        self.path, self.log, self.is_broken = path, path / "installs", path / "broken"
        self.stamp = path / ".venv" / "setup-stamp"
        (path / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "setup.sh", path / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, path)
        python = path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            f'  *"pip install"*) echo "$*" >> "{self.log}"; sleep 0.2\n'
            f'    [ ! -e "{self.is_broken}" ] ;;\n'
            '  *"pip --version"*) ;;\n'
            f'  *) exec "{sys.executable}" "$@" ;;\n'
            "esac\n"
        )
        python.chmod(0o755)

    def start(self, *extras):
        command = ["bash", str(self.path / "scripts" / "setup.sh"), *extras]
        return subprocess.Popen(command, cwd="/", stderr=subprocess.PIPE, text=True)

    def setup(self, *extras):
        """Run setup.sh; return its exit status and what it installed, one string a call of pip."""
        before = len(self.installs())
        process = self.start(*extras)
        process.communicate()
        return process.returncode, self.installs()[before:]

    def installs(self):
        """What pip was asked for so far: '.', '.[dev]', ..."""
        return (
            [line.split()[-1] for line in self.log.read_text().splitlines()]
            if self.log.exists()
            else []
        )


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("scripts/setup.sh needs bash")
    return Checkout(tmp_path)


def test_setup_installs_once_and_adds_up_the_extras(checkout):
    assert checkout.setup() == (0, ["."])
    assert checkout.setup() == (0, [])
    assert checkout.setup("dev") == (0, [".[dev]"])
    assert checkout.setup("dev") == checkout.setup() == (0, [])
    assert checkout.setup("parity") == (0, [".[dev,parity]"])
    assert checkout.setup("parity", "dev") == checkout.setup("dev") == (0, [])


def test_setup_installs_again_when_a_pin_changes(checkout):
    checkout.setup("dev")
    with (checkout.path / "constraints.txt").open("a") as file:
        file.write("another-package==1.0\n")
    assert checkout.setup() == (0, [".[dev]"])
    assert checkout.setup() == (0, [])


def test_setup_that_failed_is_done_again(checkout):
    checkout.setup("dev")
    checkout.is_broken.touch()
    status, _ = checkout.setup("parity")
    assert status != 0 and not checkout.stamp.exists()
    checkout.is_broken.unlink()
    assert checkout.setup() == (0, [".[dev]"])  # what failed is not asked for again by itself


@pytest.mark.skipif(shutil.which("flock") is None, reason="two set-ups at once need flock")
def test_setups_at_the_same_time_install_once(checkout):
    both = [checkout.start("dev"), checkout.start("dev")]
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    assert checkout.installs() == [".[dev]"]


def test_setup_refuses_an_unknown_extra_in_one_line(checkout):
    process = checkout.start("cuda")
    _, error = process.communicate()
    assert process.returncode == 1
    assert "'cuda'" in error and error.count("\n") == 1
    assert checkout.installs() == []
