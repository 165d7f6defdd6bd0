"""Who may write in a run directory: locks that the system takes back when a process dies."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from rnn_jax.files import links

LOCKS = ".locks"


class RunDirectoryError(ValueError):
    """A run directory that cannot be used as it is."""


@contextlib.contextmanager
def claim(directory: Path, rank: int = 0, world: int = 1) -> Generator[None]:
    """Hold the right to write in a run directory, made if need be.

    One process holds it alone; of those that share a sweep, one of each rank. The system takes a
    lock back when a process dies, however it dies. A directory with a link in it is refused: what
    is written there would be written elsewhere.
    """
    for link in links(directory):
        raise RunDirectoryError(f"{link} is a link or a device; allowed: files and folders")
    (directory / LOCKS).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:

        def take(name: str, kind: int, who: str = "") -> None:
            if not stack.enter_context(_lock(directory, name, kind | fcntl.LOCK_NB)):
                raise RunDirectoryError(f"{directory} is being computed by another process{who}")

        if world == 1:
            take("run", fcntl.LOCK_EX)
        else:
            take("run", fcntl.LOCK_SH)
            take(f"rank-{rank}-of-{world}", fcntl.LOCK_EX, f" (rank {rank} of {world})")
            take(f"of-{world}", fcntl.LOCK_SH)
            for other in (directory / LOCKS).glob("of-*"):
                if other.name != f"of-{world}":
                    take(other.name, fcntl.LOCK_EX, f" (one {other.name.replace('-', ' ')})")
        yield


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Generator[None]:
    """Wait until no other process that shares the run is here."""
    with _lock(directory, "turn", fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _lock(directory: Path, name: str, kind: int) -> Generator[bool]:
    """Lock a file; False where another process has it.

    On a file system without locks everybody has every lock.
    """
    path = directory / LOCKS / name
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(file, kind)
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                    raise
            # meanwhile the directory may have been set aside, and the lock with it
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield True
                return
            path.parent.mkdir(parents=True, exist_ok=True)
        finally:
            os.close(file)
