"""Config -> results: the libraries are compared, timed alone, then timed in turns."""

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


def run(config: Config, report: Callable[[str], None] = lambda text: None) -> dict:
    """Return {"libraries": descriptions, "rows": one cell of times a row and library}."""
    config = config.effective()
    alone, values, descriptions = {}, {}, {}
    for name in config.libraries:
        report(f"{name} alone")
        with Worker(config.job, name, config.timeout) as worker:
            values[name] = _values(worker, config)
            alone[name] = [
                _take_turns({name: worker}, row, config, config.rounds_alone)[name]
                for row in config.rows
            ]
            descriptions[name] = {"title": LIBRARIES[name].title, **worker.description}
    deviation = _compare(values, config)
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(config.job, name, config.timeout))
            for name in config.libraries
        }
        rows = []
        for i, row in enumerate(config.rows):
            report(f"row {i + 1} of {len(config.rows)}: {row}")
            together = _take_turns(workers, row, config, config.rounds)
            cells = {n: _cell(alone[n][i], together[n]) for n in config.libraries}
            rows.append({"row": list(row), "cells": _with_ratios(cells)})
    return {"libraries": descriptions, "largest_deviation": deviation, "rows": rows}


def _take_turns(
    workers: dict[str, Worker], row: tuple[int, ...], config: Config, rounds: int
) -> dict[str, dict]:
    """Time one row: every library once a round, another one first each time."""
    found: dict[str, dict] = {name: {"seconds": [], "error": None} for name in workers}

    def ask(name, **command):
        if not found[name]["error"]:
            try:
                return workers[name].ask(**command)["seconds"]
            except LibraryError as error:
                found[name]["error"] = str(error)
        return None

    for name in workers:
        found[name]["compile"] = ask(name, do="compile", row=row, seed=config.seed)
    names = list(workers)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            seconds = ask(name, do="time", turn_seconds=config.turn_seconds)
            if seconds is not None:
                found[name]["seconds"].append(seconds)
    return found


def _values(worker: Worker, config: Config) -> list[np.ndarray] | None:
    job = jobs.load(config.job)
    try:
        answers = [
            worker.ask("values", row=job.small(row), seed=config.seed) for row in config.rows
        ]
    except LibraryError:
        return None  # its line in the table will say why
    return [np.array(answer["values"]) for answer in answers]


def _compare(values: dict[str, list[np.ndarray] | None], config: Config) -> float:
    """Return the largest difference between libraries; too large a one is an error."""
    job, largest = jobs.load(config.job), 0.0
    known = {name: found for name, found in values.items() if found is not None}
    for name, found in list(known.items())[1:]:
        first, expected = next(iter(known.items()))
        for row, a, b in zip(config.rows, expected, found, strict=True):
            difference = np.max(np.abs(a - b)) if a.shape == b.shape else np.inf
            if not difference <= job.TOLERANCE:
                raise MismatchError(
                    f"{name} and {first} differ by {difference:.2g} at {job.small(row)}; "
                    f"allowed: {job.TOLERANCE:g}"
                )
            largest = max(largest, float(difference))
    return largest


def _cell(alone: dict, together: dict) -> dict:
    """Sum up one library at one row; times in seconds."""
    cell = {"error": alone["error"] or together["error"]}
    if cell["error"]:
        return cell
    median, alone_median = map(statistics.median, (together["seconds"], alone["seconds"]))
    return cell | {
        "compile": alone["compile"],
        "median": median,
        "minimum": min(together["seconds"]),
        "alone": alone_median,
        "counts": median <= UNDISTURBED * alone_median,
        "rounds": together["seconds"],
    }


def _with_ratios(cells: dict[str, dict]) -> dict[str, dict]:
    """Add how many times as long as the first library each one takes."""
    first = next(iter(cells.values()))
    for cell in cells.values():
        if not cell["error"] and not first["error"]:
            cell["ratio"] = cell["median"] / first["median"]
            cell["ratio_of_minima"] = cell["minimum"] / first["minimum"]
    return cells
