"""Studies that tests start: their command, what is on the disk, which processes are left."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from helpers import QUICK

ROOT = Path(__file__).parent.parent
MARK = "RNN_JAX_STUDY_OF_A_TEST"  # a variable that all that a study starts inherits, Ray's too


class Command:
    """A study in a process group of its own, with its output in files."""

    def __init__(self, file: Path, out: Path, *arguments: str, code: str = "", **environment):
        self.out = out
        begin = ["-c", code] if code else ["-m", "experiments.study"]
        self.process = subprocess.Popen(
            [sys.executable, *begin, str(file), "--out", str(out), *arguments],
            cwd=ROOT,
            env={"XLA_FLAGS": QUICK, **os.environ, MARK: str(out), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, timeout=900) -> tuple[int, str, str]:
        """Wait for it; returns (code, output, errors). Nothing that it has started is left."""
        out, errors = self.process.communicate(timeout=timeout)
        assert "Traceback" not in errors, errors
        wait_until(lambda: not left_of(self.out), 15)
        return self.process.returncode, out, errors

    def kill(self) -> bool:
        """End it by kill -9, it alone; returns whether it was there still. All else ends by itself.

        All that runs is gone at once; Ray's own agents look for their end for a minute.
        """
        was_there = self.process.poll() is None
        self.process.kill()
        self.process.communicate()
        wait_until(lambda: not processes_of(self.out), 15)
        wait_until(lambda: not left_of(self.out), 90)
        return was_there


def run_study(file: Path, out: Path, *arguments: str) -> tuple[int, str, str]:
    return Command(file, out, *arguments).end()


def processes_of(folder: Path) -> list[int]:
    """List the processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def left_of(out: Path) -> dict[int, str]:
    """List all processes that come from a study's command, or name its folder: number -> command.

    Those of a Ray cluster that was there before have names alone.
    """
    found, mark = {}, f"{MARK}={out}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            is_marked = mark in (folder / "environ").read_bytes()
        except OSError:
            continue
        if line and (is_marked or str(out) in line):  # none: it has ended
            found[int(folder.name)] = line
    return found


def wait_until(is_so, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def datasets(out: Path) -> dict[str, bytes]:
    """Every byte of the datasets of the runs, and of the study's own."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.glob("*/results.zarr/**/*")
        if path.is_file()
    }
    assert found
    return found


def status_of(out: Path) -> list[dict[str, str]]:
    (path,) = out.glob("study-*/status.csv")
    return list(csv.DictReader(path.read_text().splitlines()))
