"""Runs that are killed: started, stopped by kill -9 at random moments, and compared bit for bit."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np
from helpers import QUICK

from rnn_jax.training import Training, init_state

ROOT = Path(__file__).parent.parent


def start(name: str, folder: Path, arguments: str) -> subprocess.Popen:
    """Start ``python -m experiments.<name>`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{name}", "--out", str(folder), *arguments.split()],
        cwd=ROOT,
        env={"XLA_FLAGS": QUICK, **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def num_rows(folder: Path) -> int:
    """Count the rows of the trainings' logs."""
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("*/trainings/*/*.jsonl"))


def kill_in_training(
    begin: Callable[[], subprocess.Popen], folder: Path, draw: random.Random, times: int
) -> None:
    """Start, and kill -9 once some more rows are written, again and again."""
    for _ in range(times):
        process, before = begin(), num_rows(folder)
        wanted = before + draw.randint(1, 6)
        while process.poll() is None and num_rows(folder) < wanted:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def terminate_in_training(begin: Callable[[], subprocess.Popen], folder: Path) -> None:
    """Start, and send SIGTERM amid the training: inside 10 seconds it ends, and all is kept."""
    process, before = begin(), num_rows(folder)
    while process.poll() is None and num_rows(folder) < before + 3:
        time.sleep(0.002)
    asked = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.count(b"error: terminated; ") == 1, errors
    for log in folder.glob("*/trainings/*/metrics.jsonl"):
        marks = sorted(log.parent.glob("checkpoints/*.json"), key=lambda path: int(path.stem))
        assert json.loads(marks[-1].read_text())["log_bytes"] == log.stat().st_size


def assert_it_goes_on_to_the_same_bits(
    begin: Callable[[Path], subprocess.Popen],
    read: Callable[[Path], tuple],
    tmp_path: Path,
    times: int,
) -> None:
    """Killed so often, then terminated, a run comes to all that one has which nothing stopped."""

    def finish(folder: Path) -> tuple:
        _, errors = begin(folder).communicate()
        assert b"Traceback" not in errors and list(folder.glob("*/DONE")), errors
        return read(folder)

    # the whole one first: what it compiles is there for the others
    whole, folder = finish(tmp_path / "whole"), tmp_path / "killed"
    begin_again = functools.partial(begin, folder)
    kill_in_training(begin_again, folder, random.Random(times), times)
    terminate_in_training(begin_again, folder)
    assert not list(folder.glob("*/DONE")) and num_rows(folder)
    logs, final, files = finish(folder)
    assert logs == whole[0] and final == whole[1] and files == whole[2]


def everything(directory: Path, trainings: Iterable[Training]) -> tuple:
    """All that must not differ: logs of the trainings, their states at the end, the dataset."""
    logs = {path.parent.name: path.read_bytes() for path in directory.glob("trainings/*/*.jsonl")}
    final = {}
    for training in trainings:
        checkpoints = training.checkpoints()
        like = init_state(training.task, training.optimizer, training.key, training.learning_rate)
        final[training.folder.name] = checkpoints.restore(like, checkpoints.steps()[-1])
    store = directory / "results.zarr"
    files = {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}
    return logs, jax.tree.map(lambda a: np.asarray(a).tobytes(), final), files
