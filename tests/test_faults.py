"""Faults as a suite: whatever happens to the jobs of a study, every run is there, and the same.

By hand: pytest -m slow tests/test_faults.py. At its end it says how many faults were injected, and
how many runs were lost. Its quick parts are in test_study.py and test_command_line.py.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from studies import (
    MARK,
    ROOT,
    Command,
    datasets,
    left_of,
    processes_of,
    run_study,
    status_of,
    wait_until,
)

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib", "orbax.checkpoint"):
    pytest.importorskip(module)

from test_experiment_text_classification import SMALL, write_texts

from experiments.study.ray_cluster import ENVIRONMENT

pytestmark = pytest.mark.slow
PRESET = ROOT / "experiments" / "study" / "presets" / "quick.json"
NUM_RUNS = 24
FAULTS, LOST = Counter(), Counter()  # by their kind; conftest.py prints them


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The 24 runs as the inline executor has them, undisturbed."""
    out = tmp_path_factory.mktemp("inline")
    code, text, errors = run_study(PRESET, out, "--executor", "inline")
    assert code == 0 and f"{NUM_RUNS} of {NUM_RUNS} runs together" in text, errors
    return datasets(out)


@pytest.fixture
def draw():
    """A source of moments; the seed is printed: -s, or where a test fails."""
    seed = time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
more = {"object_store_memory": 80_000_000}
cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, **more})
second = cluster.add_node(num_cpus=2, **more)
print("address", cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
cluster.shutdown()
"""


@contextlib.contextmanager
def executor_of(name: str, out: Path):
    """Give the arguments of an executor of three workers: for Ray, a cluster of two nodes."""
    if name == "processes":
        yield ["--executor", "processes", "--workers", "3"], None
        return
    pytest.importorskip("ray", reason="Ray is not installed: scripts/setup.sh ray")
    mark = out.with_name(f"{out.name}-cluster")
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=os.environ | ENVIRONMENT | {MARK: str(mark)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said = next(line for line in cluster.stdout if line.startswith("address "))
        arguments = ["--executor", "ray", "--address", said.split()[1], "--workers", "3"]
        yield arguments, lambda: print("second", file=cluster.stdin, flush=True)
    finally:
        cluster.communicate(timeout=60)
    wait_until(lambda: not left_of(mark), 15)


def count(kind: str, faults: int, found: dict, wanted: dict) -> None:
    """Add to the counts, and see that nothing was lost and nothing is another."""
    runs = {name.split("/")[0] for name in wanted}
    lost = [run for run in runs if any(found.get(n) != wanted[n] for n in wanted if run in n)]
    FAULTS[kind] += faults
    LOST[kind] += len(lost)
    assert not lost and found.keys() == wanted.keys()


def runs_of(command: Command) -> list[int]:
    """List the processes of the runs that are under way."""
    return [pid for pid in processes_of(command.out) if pid != command.process.pid]


def kill_runs(command: Command, draw: random.Random, victims: tuple[str, ...]) -> int:
    """Kill a run, or the worker that has started it, one after another; returns how many."""
    killed = 0
    for victim in victims:
        time.sleep(draw.uniform(0, 3))
        wait_until(lambda: runs_of(command) or command.process.poll() is not None, 120)
        for pid in runs_of(command)[:1]:
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                os.kill(parent if victim == "worker" else pid, signal.SIGKILL)
                killed += 1
    return killed


@pytest.mark.parametrize("name", ["processes", "ray"])
def test_three_workers_of_which_two_are_killed_come_to_the_24_results_of_inline(
    tmp_path, reference, draw, name
):
    victims = ("run", "run") if name == "processes" else ("worker", "run")
    with executor_of(name, tmp_path) as (arguments, _):
        command = Command(PRESET, tmp_path, *arguments)
        killed = kill_runs(command, draw, victims)
        code, text, errors = command.end()
    assert code == 0 and f"{NUM_RUNS} of {NUM_RUNS} runs together" in text, errors
    assert killed == 2
    count(f"{name}: a run or its worker killed", killed, datasets(tmp_path), reference)
    if name == "processes":
        assert sum(int(row["attempts"]) for row in status_of(tmp_path)) == NUM_RUNS + 2


def test_a_whole_node_of_a_ray_cluster_dies(tmp_path, reference):
    with executor_of("ray", tmp_path) as (arguments, kill_node):
        command = Command(PRESET, tmp_path, *arguments)
        wait_until(lambda: len(runs_of(command)) >= 3, 120)
        kill_node()
        code, _, errors = command.end()
    assert code == 0, errors
    count("ray: a node killed", 1, datasets(tmp_path), reference)


@pytest.mark.parametrize("name", ["inline", "processes", "ray"])
def test_the_study_itself_is_killed_at_random_moments(tmp_path, reference, draw, name):
    faults = 0
    for _ in range(4 if name == "ray" else 10):  # whose agents take a minute to end
        command = Command(PRESET, tmp_path, "--executor", name)
        time.sleep(draw.uniform(1, 12))
        faults += command.kill()
    assert faults
    code, _, errors = run_study(PRESET, tmp_path, "--executor", name)
    assert code == 0, errors
    count(f"{name}: kill -9 of the study", faults, datasets(tmp_path), reference)


# Trainings, which have more to lose.


def write_trainings(folder: Path) -> Path:
    """A study of four trainings of some seconds each, three seeds at once in each run."""
    data = write_texts(folder / "texts.csv")
    words, config = SMALL.split(), {}
    flags = [i for i, word in enumerate(words) if word.startswith("--")]
    for i, j in zip(flags, [*flags[1:], len(words)], strict=True):
        entries = [json.loads(w) if w[0].isdigit() else w for w in words[i + 1 : j]]
        config[words[i][2:].replace("-", "_")] = entries if len(entries) > 1 else entries[0]
    config |= {"data": str(data), "learning_rates": [0.01], "timing_lengths": [], "num_epochs": 40}
    config |= {"models": ["elman"], "checkpoint_every": 25}
    study = {"experiment": "text_classification", "config": config}
    path = folder / "trainings.json"
    path.write_text(json.dumps(study | {"overrides": {"hidden_size": [4, 5]}}))
    return path


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainings")
    file = write_trainings(folder)
    code, _, errors = run_study(file, folder / "runs", "--executor", "inline")
    assert code == 0, errors
    return file, datasets(folder / "runs")


def num_steps(out: Path) -> int:
    logs = out.glob("*/trainings/*/metrics.jsonl")
    return sum(log.read_bytes().count(b'"event": "steps"') for log in logs)


@pytest.mark.parametrize("name", ["inline", "processes", "ray"])
def test_sigterm_saves_and_ends_inside_ten_seconds(tmp_path, trainings, name):
    if name == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: scripts/setup.sh ray")
    file, wanted = trainings
    for number in (signal.SIGTERM, signal.SIGINT):
        command, before = Command(file, tmp_path, "--executor", name), num_steps(tmp_path)
        wait_until(lambda c=command, b=before: num_steps(tmp_path) > b + 3 or c.process.poll(), 120)
        asked = time.monotonic()
        command.process.send_signal(number)
        code, _, errors = command.end()
        assert time.monotonic() - asked < 10 + 1  # a second to see that nothing is left
        assert code == 128 + number, errors
        assert errors.count("error: ") == 1 and "the same command goes on" in errors
        for log in tmp_path.glob("*/trainings/*/metrics.jsonl"):  # no row came after what is kept
            marks = log.parent.glob("checkpoints/*.json")
            newest = max(marks, key=lambda path: int(path.stem), default=None)
            assert newest and json.loads(newest.read_text())["log_bytes"] == log.stat().st_size
    code, _, errors = run_study(file, tmp_path, "--executor", name)
    assert code == 0, errors
    count(f"{name}: SIGTERM, ctrl-C", 2, datasets(tmp_path), wanted)


@pytest.mark.skipif(not shutil.which("mount"), reason="no mount")
@pytest.mark.parametrize("name", ["inline", "processes"])
def test_the_disk_is_full(tmp_path, reference, name):
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        code, _, errors = run_study(PRESET, tmp_path, "--executor", name)
        assert code == 1 and "No space left on device" in errors, errors
        kept = len(list(tmp_path.glob("memory-*/DONE")))
        assert kept < NUM_RUNS
        subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path)], check=True)
        code, _, errors = run_study(PRESET, tmp_path, "--executor", name)
        assert code == 0, errors
        count(f"{name}: disk full", 1, datasets(tmp_path), reference)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_checkpoints_are_damaged(tmp_path, trainings, draw):
    file, wanted = trainings
    command = Command(file, tmp_path, "--executor", "processes")
    wait_until(lambda: len(list(tmp_path.glob("*/trainings/*/checkpoints/*.json"))) >= 2, 120)
    command.kill()
    damaged = 0
    for folder in tmp_path.glob("*/trainings/*/checkpoints"):
        marks = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
        for mark in marks[-1:]:
            files = [p for p in folder.joinpath(mark.stem).rglob("*") if p.is_file()]
            victim = draw.choice([path for path in files if path.stat().st_size])
            data = bytearray(victim.read_bytes())
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            victim.write_bytes(data if draw.random() < 0.5 else data[: len(data) // 2])
            damaged += 1
    assert damaged
    code, _, errors = run_study(file, tmp_path, "--executor", "processes")
    assert code == 0, errors
    logs = "".join(path.read_text() for path in tmp_path.glob("*/output.log"))
    assert "damaged, not used" in logs
    count("a checkpoint damaged", damaged, datasets(tmp_path), wanted)
