"""Files that are written whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path

PARTIAL = ".*.partial"


@contextlib.contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """Give a place beside ``path`` to write to; it is renamed there, or removed if that fails."""
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
