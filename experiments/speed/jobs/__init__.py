"""What is timed. A job is a module with

TITLE: heading of its table
COLUMNS: names of a row's values: "cell", then sizes
ROWS: the default rows, tuples (cell name, *sizes)
inputs(row, seed): the same float32 numpy arrays for every library
small(row): the row cut down until float32 results agree
TOLERANCE: how far two libraries' results may differ there, absolute
RUNNERS: library -> function of (row, arrays, dtype) that returns a call without arguments; the call
    does the whole job, waits for its end and returns an array. dtype is "float32" or "bfloat16".
    The first is "rnn_jax". "floor" is the job's matrix products alone; its values mean nothing.

Runners import their library themselves: each runs in a process that has that library alone.
"""

from importlib import import_module
from types import ModuleType

FLOOR = "floor"


class NotOffered(Exception):  # noqa: N818 (no failure)
    """A library has no such thing: the table shows "–", and the reason below."""


def load(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def timed(rows: list[dict]) -> list[str]:
    """List the libraries that have a time in a row or more of a job's results."""
    names = rows[0]["cells"] if rows else ()
    return [name for name in names if any("median" in row["cells"][name] for row in rows)]


def first_timed(rows: list[dict]) -> str | None:
    """Name the library to which ratios are: the first with a time, never the floor."""
    return next((name for name in timed(rows) if name != FLOOR), None)
