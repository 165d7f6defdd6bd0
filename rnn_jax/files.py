"""Files that are written whole or not at all, files of JSON rows that grow, and files of others."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

PARTIAL = ".*.partial"
MOST_BYTES = 2**24  # of a config or a record, which have some thousand
MOST_SHOWN = 200  # characters of a wrong value in a message


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


def read_text(path: Path) -> str:
    """Read a small file of UTF-8, whatever the file is: an endless one is a ValueError."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES} bytes; allowed: up to that")
    return data.decode("utf-8")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; a ValueError of one line for all else, endless nesting and doubled keys too."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("not JSON that can be read: it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("not JSON that can be read: an object has the same key twice")
    return found


def shown(value: Any) -> str:
    """Write any value of JSON in a line that is not endless."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep; an int of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def shown_name(name: str) -> str:
    """Write a name that may be anything: itself if it is one."""
    return name if name.isidentifier() and len(name) <= MOST_SHOWN else shown(name)


def below(folder: Path) -> Iterator[os.DirEntry]:
    """Find all that is below a folder, however deep; links are found and not followed."""
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def links(folder: Path) -> Iterator[Path]:
    """Find what below a folder is no file or folder: links lead elsewhere, pipes never end."""
    for entry in below(folder):
        if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
            yield Path(entry)


def decoded_size(compressor: str | None, data: bytes) -> int | None:
    """Read from the head of compressed data how many bytes it claims to hold; None: it is torn."""

    def number(start: int, stop: int) -> int:
        return int.from_bytes(data[start:stop], "little")

    if compressor is None:
        return len(data)
    if compressor == "blosc":  # its own length stands there too
        return number(4, 8) if len(data) >= 16 and number(12, 16) == len(data) else None
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 9:  # zstd: RFC 8878, 3.1.1.1
        return None
    kind, is_single = data[4] >> 6, data[4] >> 5 & 1
    start = 5 + (not is_single) + (0, 1, 2, 4)[data[4] & 3]
    if kind == 0:
        return number(start, start + 1) if is_single else None
    return number(start, start + 2**kind) + (256 if kind == 1 else 0)


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
            rows.append(parse_json(line))
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
