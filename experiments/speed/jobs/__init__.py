"""What is timed. A job is a module with

COLUMNS: names of a row's numbers
inputs(row, seed): the same float32 numpy arrays for every library
small(row): the row cut down until float32 results agree
TOLERANCE: how far two libraries' results may differ there, absolute
RUNNERS: library -> function of (row, inputs) that returns a call without arguments; the call does
    the whole job, waits for its end and returns an array

Runners import their library themselves: each runs in a process that has that library alone.
"""

from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
