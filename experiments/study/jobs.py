"""One run of a study in a process of its own: its log, its time limit, its attempts.

A process that was killed (by the system for its memory, by hand, by a crash of a library) is
started again: the run goes on from what it has kept. One that ends with an error is broken, and its
log says why. PDEATHSIG and process groups see to it that no process is left, however this one ends.
"""

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from rnn_jax import results

LOG = "output.log"
GRACE = 8.0  # seconds between SIGTERM, on which a run saves, and SIGKILL
HEAD = b"== start "  # of what one start writes into the log
PAUSE = 0.05  # between two looks at a child
STOPPED = threading.Event()  # set: end every child, begin none


class Job(NamedTuple):
    """What is to be run, and under what limits."""

    experiment: str
    directory: Path  # of the run
    config: Path
    cores: int
    time_limit: float | None
    attempts: int
    starts_before: int  # by earlier commands: the log has a line for each
    working_directory: Path  # relative paths in a config start there


class Outcome(NamedTuple):
    """How a run ended."""

    status: str  # finished, failed, timed out, killed, stopped
    words: str = ""  # the reason, in one line
    attempts: int = 1
    seconds: float = 0.0
    peak_memory: float = float("nan")  # bytes
    host: str = ""


def run_job(job: Job) -> Outcome:
    """Run a job to its end; started again as often as allowed where its process was killed."""
    started, peak = time.perf_counter(), 0.0
    # not always the first: Ray calls again where this process has died
    attempt = num_starts(job.directory) - job.starts_before + 1
    outcome = Outcome("killed", f"its worker has died at each of {attempt - 1} starts", attempt - 1)
    while attempt <= job.attempts:
        try:
            _wait_for_its_place(job)
            code, timed_out, memory = _run_child(job, attempt)
        except OSError as error:
            outcome = Outcome("failed", f"{error.filename}: {error.strerror}", attempt)
            break
        peak, outcome = max(memory, peak), judge(job, code, timed_out, attempt)
        if outcome.status != "killed":
            break
        attempt += 1
    seconds = time.perf_counter() - started
    peak = peak or float("nan")
    return outcome._replace(seconds=seconds, peak_memory=peak, host=socket.gethostname())


def num_starts(directory: Path) -> int:
    """Count how often a run was started by a study."""
    with contextlib.suppress(OSError):
        lines = (directory / LOG).read_bytes().split(b"\n")
        return sum(line.startswith(HEAD) for line in lines)
    return 0


def judge(job: Job, code: int, timed_out: bool, attempt: int) -> Outcome:
    """Say how a start has ended."""
    if results.is_finished(job.directory):
        return Outcome("finished", "", attempt)
    if STOPPED.is_set():
        return Outcome("stopped", "stopped with the study", attempt)
    if timed_out:
        return Outcome("timed out", time_limit_words(job.time_limit), attempt)
    number = -code if code < 0 else code - 128
    if number > 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(number).name
            return Outcome("killed", f"ended by {name} at each of {attempt} starts", attempt)
    return Outcome("failed", last_line(job.directory / LOG) or f"ended with code {code}", attempt)


def _wait_for_its_place(job: Job) -> None:
    """Wait for a process of a study that was killed just now to end: it holds the directory."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until and not STOPPED.is_set():
        with contextlib.suppress(results.RunDirectoryError), results.claim(job.directory):
            return
        time.sleep(0.5)


def time_limit_words(seconds: float | None) -> str:
    """Say what happened at a time limit."""
    return f"ended at its time limit of {seconds:g} s; what it has kept is gone on with"


def last_line(log: Path) -> str:
    """Read the last line of a log that says something."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def environment(cores: int) -> dict[str, str]:
    """Return the variables that a run is started with: its cores, where the code is, JAX's own.

    Those of JAX are of the study's command, however the Ray cluster was started.
    """
    paths = [str(results.ROOT), os.environ.get("PYTHONPATH", "")]
    own = {name: text for name, text in os.environ.items() if name.startswith(("XLA_", "JAX_"))}
    threads = dict.fromkeys(("PJRT_NPROC", "OMP_NUM_THREADS"), str(cores))
    return own | threads | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def child_command(job: Job) -> list[str]:
    """Return the command of a run: its experiment's own, in a process that ends with this one."""
    child = [sys.executable, "-m", "experiments.study.child", str(os.getpid()), job.experiment]
    return [*child, "--config", str(job.config), "--out", str(job.directory.parent)]


def _run_child(job: Job, attempt: int) -> tuple[int, bool, float]:
    """Run the process once: (its code, whether it ran out of time, bytes it took at most)."""
    job.directory.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + (job.time_limit or float("inf"))
    process, timed_out, peak = None, False, 0.0
    try:
        with open_log(job.directory, attempt) as log:
            process = subprocess.Popen(
                child_command(job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=job.working_directory,
                env=os.environ | environment(job.cores),
                start_new_session=True,
            )
        while process.poll() is None:
            peak = _peak_memory(process.pid) or peak
            timed_out = time.monotonic() > until
            if timed_out or STOPPED.is_set():
                break
            time.sleep(PAUSE)
    finally:
        if process:
            _end(process)
    return process.returncode, timed_out, peak


def open_log(directory: Path, attempt: int):
    """Open the log of a run, and head what this start will write."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # no link
    log = os.fdopen(os.open(directory / LOG, flags, 0o666), "ab")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    log.write(HEAD + f"{attempt}, {now}, on {socket.gethostname()}\n".encode())
    log.flush()
    return log


def _peak_memory(pid: int) -> float:
    """Read how many bytes a process has taken at most; 0 where that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    return 0.0


def _end(process: subprocess.Popen) -> None:
    """End a process, if it goes on, and all it has started: asked first, then killed."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal(process, signal.SIGKILL)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:  # it hangs in the kernel: of a dead file server, say
        process.returncode = -signal.SIGKILL


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
