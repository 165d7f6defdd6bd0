"""Who may write in a run directory: locks that the system takes back when a process dies."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

LOCKS = ".locks"


class RunDirectoryError(ValueError):
    """A run directory that cannot be used as it is."""


@contextlib.contextmanager
def claim(directory: Path, rank: int = 0, world: int = 1) -> Generator[None]:
    """Hold the right to write in a run directory, made if need be.

    One process holds it alone; of those that share a sweep, one of each rank. The system takes a
    lock back when a process dies, however it dies.
    """
    (directory / LOCKS).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        shared = fcntl.LOCK_SH if world > 1 else fcntl.LOCK_EX
        wanted = [("run", shared)]
        if world > 1:
            wanted.append((f"rank-{rank}-of-{world}", fcntl.LOCK_EX))
        for name, kind in wanted:
            if not stack.enter_context(_lock(directory, name, kind | fcntl.LOCK_NB)):
                raise RunDirectoryError(
                    f"{directory} is being computed by another process"
                    + (f" (rank {rank} of {world})" if name != "run" else "")
                )
        yield


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Generator[None]:
    """Wait until no other process that shares the run is here."""
    with _lock(directory, "turn", fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _lock(directory: Path, name: str, kind: int) -> Generator[bool]:
    """Lock a file; False where another process has it."""
    file = os.open(directory / LOCKS / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(file, kind)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)
