"""The log of a run, metrics.jsonl: a row for every start, block and end, whoever computes them."""

import contextlib
import json
import os
from pathlib import Path

LOG = "metrics.jsonl"


def append_row(directory: Path, **row) -> None:
    """Append a row to the log: one write, so that rows of several processes do not mix."""
    data = json.dumps(row).encode() + b"\n"
    file = os.open(directory / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        end = os.lseek(file, 0, os.SEEK_END)
        if end and os.pread(file, 1, end - 1) != b"\n":  # a row cut short, by a full disk
            data = b"\n" + data
        os.write(file, data)
    finally:
        os.close(file)


def read_log(directory: Path) -> list[dict]:
    """Read the log; a row that was cut short is left out."""
    rows = []
    path = directory / LOG
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and "event" in row]
