"""Files that are written whole or not at all, and files of JSON rows that grow."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path

PARTIAL = ".*.partial"


@contextlib.contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """Give a place beside ``path`` to write to; it is renamed there, or removed if that fails.

    A device or a pipe is no file that could be renamed over: it is written to.
    """
    is_device = path.exists() and not (path.is_file() or path.is_dir())
    if is_device or path.parent == Path("/dev"):
        yield path
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        beside.rename(path)
    except BaseException:
        remove(beside)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file of bytes."""
    with written_whole(path) as beside:
        beside.write_bytes(data)


def append_row(path: Path, row: dict) -> None:
    """Append a row of JSON: one write, so that rows of several processes do not mix."""
    data = json.dumps(row).encode() + b"\n"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        end = os.lseek(file, 0, os.SEEK_END)
        if end and os.pread(file, 1, end - 1) != b"\n":  # a row cut short, by a full disk
            data = b"\n" + data
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def read_rows(path: Path) -> list[dict]:
    """Read the rows; one that was cut short is left out."""
    rows = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and "event" in row]


def remove_partial(*folders: Path) -> None:
    """Remove what killed processes left half written; only while nobody writes there."""
    for folder in folders:
        for path in folder.glob(PARTIAL):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
