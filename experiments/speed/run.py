"""A job -> results: its libraries are compared, timed alone, then timed in turns."""

import statistics
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from experiments.speed import jobs
from experiments.speed.config import Config
from experiments.speed.libraries import LIBRARIES
from experiments.speed.worker import LibraryError, Worker

UNDISTURBED = 1.2  # a time counts while it is at most so many times the time alone


class MismatchError(Exception):
    """Two libraries computed different numbers: one line."""


def run(table: str, config: Config, report: Callable[[str], None] = lambda text: None) -> dict:
    """Return {"libraries": descriptions, "rows": one cell of times a row and library}."""
    config = config.effective()
    names, rows = config.libraries_of(table), config.rows_of(table)
    names.sort(key=lambda name: name == jobs.FLOOR)  # to the end
    comparison = Comparison(table, config.seed)
    alone, descriptions = {}, {}
    for name in names:
        with Worker(table, name, config.precision, config.timeout) as worker:
            for i, row in enumerate(rows):
                report(f"{table}: {name} alone, row {i + 1} of {len(rows)}")
                alone[name, row] = (
                    comparison.of(name, worker, row)
                    or (_take_turns({name: worker}, row, config, config.rounds_alone)[name])
                )
            descriptions[name] = {"title": LIBRARIES[name].title, **worker.description}
    found: list[dict] = []
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(table, name, config.precision, config.timeout))
            for name in names
        }
        for i, row in enumerate(rows):
            report(f"{table}: all in turns, row {i + 1} of {len(rows)}")
            able = {name: workers[name] for name in names if "time" in alone[name, row]}
            together = _take_turns(able, row, config, config.rounds)
            cells = {name: _cell(alone[name, row], together.get(name)) for name in names}
            found.append({"row": list(row), "cells": cells})
    first = jobs.first_timed(found)
    for row in found:
        _add_ratios(row["cells"], first)
    return {"libraries": descriptions, "largest_deviation": comparison.largest, "rows": found}


class Comparison:
    """Libraries' numbers on small rows, against those of the first that has them."""

    def __init__(self, table: str, seed: int):
        self.table, self.job, self.seed = table, jobs.load(table), seed
        self.first: dict[tuple, tuple[str, np.ndarray]] = {}  # small row -> library, values
        self.done: dict[tuple, dict] = {}  # (library, small row) -> what went wrong, or {}
        self.largest: float | None = None  # difference, where two were compared

    def of(self, name: str, worker: Worker, row: tuple) -> dict:
        """Compare one library; return why it has no numbers, {} if it has the right ones."""
        small = self.job.small(row)
        if name == jobs.FLOOR or (name, small) in self.done:
            return self.done.get((name, small), {})
        try:
            values = np.array(worker.ask("values", row=small, seed=self.seed)["values"])
        except (LibraryError, jobs.NotOffered) as error:
            return self.done.setdefault((name, small), _why(error))
        other, expected = self.first.setdefault(small, (name, values))
        is_same_shape = values.shape == expected.shape
        difference = np.max(np.abs(values - expected)) if is_same_shape else np.inf
        if not difference <= self.job.TOLERANCE:
            raise MismatchError(
                f"{self.table}: {name} and {other} differ by {difference:.2g} at {small}; "
                f"allowed: {self.job.TOLERANCE:g}"
            )
        if other != name:
            self.largest = max(self.largest or 0.0, float(difference))
        return self.done.setdefault((name, small), {})


def _take_turns(
    workers: dict[str, Worker], row: tuple, config: Config, rounds: int
) -> dict[str, dict]:
    """Time one row: every library once a round, another one first each time.

    Returns, by library, {"compile": [seconds], "time": [seconds, ...]}, or why it has no time.
    """
    found: dict[str, dict] = {name: {"compile": [], "time": []} for name in workers}
    names = list(workers)
    steps = [(name, "compile") for name in names]
    for i in range(rounds):
        k = i % max(len(names), 1)
        steps += [(name, "time") for name in names[k:] + names[:k]]
    options = {
        "compile": {"row": row, "seed": config.seed},
        "time": {"turn_seconds": config.turn_seconds},
    }
    for name, do in steps:
        if "time" in found[name]:
            try:
                found[name][do].append(workers[name].ask(do, **options[do])["seconds"])
            except (LibraryError, jobs.NotOffered) as error:
                found[name] = _why(error)
    return found


def _why(error: Exception) -> dict:
    return {"missing" if isinstance(error, jobs.NotOffered) else "error": str(error)}


def _cell(alone: dict, together: dict | None) -> dict:
    """Sum up one library at one row; times in seconds."""
    if together is None or "time" not in together:
        return together or alone
    median, alone_median = map(statistics.median, (together["time"], alone["time"]))
    return {
        "compile": alone["compile"][0],
        "median": median,
        "minimum": min(together["time"]),
        "alone": alone_median,
        "counts": median <= UNDISTURBED * alone_median,
        "rounds": together["time"],
    }


def _add_ratios(cells: dict[str, dict], first: str | None) -> None:
    """Add how many times as long as the first library, and as the floor, each one takes.

    A time that does not count sets no ratio, neither its own nor another's.
    """
    counting = {name: cell for name, cell in cells.items() if cell.get("counts")}
    for ratio, name in (("ratio", first or ""), ("floor_ratio", jobs.FLOOR)):
        if base := counting.get(name):
            for cell in counting.values():
                cell[ratio] = cell["median"] / base["median"]
                cell[f"{ratio}_of_minima"] = cell["minimum"] / base["minimum"]
