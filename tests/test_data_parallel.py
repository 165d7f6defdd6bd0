"""One training on several devices, of several processes: its loss curve is that of one device."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import QUICK, raises_one_line

pytest.importorskip("orbax.checkpoint")

import shared_training
from test_experiment_text_classification import SMALL, write_texts

from experiments import running, sharing
from experiments.experiment import load
from rnn_jax.files import read_rows
from rnn_jax.training import ROWS, Placement, cut_over, train

HERE = Path(__file__).parent
EPOCHS = 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command: list) -> subprocess.Popen:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=HERE.parent,
        env={**os.environ, "PYTHONPATH": path, "XLA_FLAGS": QUICK, "PJRT_NPROC": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_trainings(folder: Path, devices: int, world: int, num_epochs: int) -> list:
    """Start the processes of shared_training.py."""
    script, port = HERE / "shared_training.py", free_port()
    return [
        start([script, devices, rank, world, port, folder, num_epochs]) for rank in range(world)
    ]


def ends(process: subprocess.Popen, within: float = 120) -> str:
    """Wait until it has ended well; returns what it printed."""
    printed, _ = process.communicate(timeout=within)
    assert process.returncode == 0, printed
    return printed


@contextlib.contextmanager
def no_process_left(processes: list):
    """Whatever fails: none outlives its test."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def train_alone(folder: Path, num_epochs: int) -> None:
    for name in shared_training.NAMES:
        with jax.enable_x64(False):  # with it dropout draws other numbers
            train(shared_training.training(name, Placement(), folder, num_epochs))


def assert_same_curves(folder: Path, other: Path) -> None:
    """Every number of both logs, to 1e-5 of it."""
    for name in shared_training.NAMES:
        rows, others = (read_rows(at / name / ROWS) for at in (folder, other))
        assert len(rows) == len(others) > 6 * EPOCHS
        for row, expected in zip(rows, others, strict=True):
            assert row.keys() == expected.keys()
            for key, value in row.items():
                if isinstance(value, float | list):
                    np.testing.assert_allclose(value, expected[key], rtol=1e-5, err_msg=f"{key}")
                else:
                    assert value == expected[key], (key, row, expected)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The trainings of one device, those of two, and what the latter printed."""
    alone, two = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("two")
    processes = start_trainings(two, 2, 1, EPOCHS)
    with no_process_left(processes):
        train_alone(alone, EPOCHS)
        return alone, two, ends(processes[0])


def test_two_devices_give_the_loss_curve_of_one(folders):
    alone, two, printed = folders
    assert_same_curves(two, alone)
    # they tell each other sums, once a step: nothing inside the loops over time
    lines = [line for line in printed.splitlines() if line.startswith(shared_training.NAMES)]
    assert lines == [f"{name} {{'ENTRY': {{'all-reduce'}}}}" for name in shared_training.NAMES]


def test_two_processes_go_on_from_one_device_and_it_from_them_and_neither_waits_for_a_dead_one(
    folders, tmp_path
):
    train_alone(tmp_path, 1)
    log = tmp_path / shared_training.NAMES[-1] / ROWS
    before = len(read_rows(log))
    processes = start_trainings(tmp_path, 1, 2, EPOCHS)
    with no_process_left(processes):
        until = time.monotonic() + 120
        while len(read_rows(log)) < before + 2:
            assert time.monotonic() < until, "it hangs"
            assert all(process.poll() is None for process in processes), processes[0].communicate()
            time.sleep(0.005)
        processes[1].kill()
        processes[0].communicate(timeout=90)
        assert processes[0].returncode not in (0, None)
    train_alone(tmp_path, EPOCHS)
    assert_same_curves(tmp_path, folders[0])


def test_a_batch_that_cannot_be_cut_is_one_line():
    with raises_one_line("batch_size is 3", "multiples of 2"):
        cut_over(jax.devices() * 2, 3)


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("memory", "--batch-shards 2", "batch_shards is 2; allowed: 1, memory has no batches"),
        ("text_classification", "--batch-shards 64", "batch_shards is 64; allowed: up to"),
        ("text_classification", "--batch-shards 0", "batch_shards is 0; allowed: at least 1"),
        ("text_classification", "--coordinator 127.0.0.1:1", "allowed: a world of at least 2"),
        (
            "text_classification",
            "--coordinator 127.0.0.1:1 --world 2 --batch-shards 3",
            "allowed: a world of at least 2, and batch_shards a multiple of it",
        ),
    ],
)
def test_what_cannot_be_shared_is_one_line(name, arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sharing, "_batch_shards", 1)  # put back afterwards
    data = f"--data {write_texts(tmp_path / 'texts.csv', 40)} --batch-size 64 --warmup-steps 0"
    flags = arguments.split() + (data.split() if name == "text_classification" else [])
    with pytest.raises(SystemExit) as stop:
        running.main(load(name), ["--out", str(tmp_path / "runs"), *flags])
    (line,) = [a for a in capsys.readouterr().err.splitlines() if a.startswith("error: ")]
    assert stop.value.code == 2 and message in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_of_two_processes_survives_what_ends_either(tmp_path):
    """SIGTERM and kill -9 at each; then the same commands go on, to the bits of a quiet run."""
    data = write_texts(tmp_path / "texts.csv")
    flags = f"--data {data} {SMALL} --models elman lstm --learning-rates 0.03 --num-epochs 8"

    def begin(name: str) -> list:
        port = free_port()
        together = f"--batch-shards 2 --coordinator 127.0.0.1:{port} --world 2 --rank"
        words = ["-m", "experiments.text_classification", *flags.split(), *together.split()]
        return [start([*words, rank, "--out", tmp_path / name]) for rank in range(2)]

    def num_rows() -> int:
        logs = tmp_path.glob("stopped/*/trainings/*/metrics.jsonl")
        return sum(len(read_rows(log)) for log in logs)

    for rank, number in ((0, signal.SIGTERM), (1, signal.SIGTERM), (0, 9), (1, 9)):
        processes, before = begin("stopped"), num_rows()
        with no_process_left(processes):
            while num_rows() < before + 4:
                assert processes[0].poll() is None, processes[0].communicate()
                time.sleep(0.01)
            processes[rank].send_signal(number)
            told = time.monotonic()
            processes[rank].wait(timeout=60)
            assert time.monotonic() - told < 10
            # the other one: at once, or when it misses the heartbeat of the dead one
            printed = [process.communicate(timeout=100)[0] for process in processes]
            codes = [process.returncode for process in processes]
            assert codes[rank] == (143 if number == signal.SIGTERM else -9), printed
            assert codes[1 - rank] not in (0, None), printed
            assert "Traceback" not in printed[rank], printed[rank]
    for name in ("stopped", "quiet"):
        processes = begin(name)
        with no_process_left(processes):
            for process in processes:
                ends(process)
    (stopped,), (quiet,) = (list(tmp_path.glob(f"{name}/*")) for name in ("stopped", "quiet"))
    assert {path.name for path in stopped.iterdir()} == {path.name for path in quiet.iterdir()}
    paths = [*quiet.glob("trainings/*/*.jsonl"), *quiet.glob("results.zarr/**/*")]
    assert len(paths) > 40
    for path in paths:
        if path.is_file():
            assert (stopped / path.relative_to(quiet)).read_bytes() == path.read_bytes(), path
