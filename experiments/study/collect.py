"""What all runs of a study came to: their datasets as one, their tables one below the other."""

import dataclasses
import json
from typing import Any

import numpy as np
import xarray as xr

from experiments import computing
from experiments.experiment import Experiment
from experiments.study.join import RUN, common, join, refuse
from experiments.study.points import Point, as_word
from experiments.study.stack import SETTING, stack
from rnn_jax import results

MOST_BYTES = 8 * 2**30


def load(experiment: Experiment, point: Point) -> xr.Dataset:
    """Read the dataset of a finished run; StoreError if it is damaged."""
    return computing.load(computing.Run(experiment, point.config, point.directory))


def load_all(
    experiment: Experiment, points: list[Point], most_bytes: float = MOST_BYTES
) -> list[xr.Dataset]:
    """Read the datasets of finished runs, as long as all of them fit into ``most_bytes``."""
    runs, num_bytes = [], 0
    for point in points:
        runs.append(load(experiment, point))
        num_bytes += sum(variable.nbytes for variable in runs[-1].data_vars.values())
        if num_bytes > most_bytes:  # joined, they take no less
            few = f"the first {len(runs)} of {len(points)} runs"
            refuse(f"the datasets of {few} take {num_bytes / 2**30:.3g} GiB", most_bytes)
    return runs


def dataset(
    experiment: Experiment,
    points: list[Point],
    most_bytes: float = MOST_BYTES,
    runs: list[xr.Dataset] | None = None,
) -> xr.Dataset:
    """Join the datasets of finished runs along a dim ``run``; so lie the settings they differ in.

    A dim that has one entry in every run, and not the same in all, lies along ``run`` as well.
    Along any other the joined dataset has what all runs have: nan (no text) where a run has
    nothing. Whole numbers stay whole where nothing is missing.

    ``runs`` are the datasets, where they are read already.

    Raises:
      ValueError: one line: it would take more than ``most_bytes``; StoreError: a run is damaged.
    """
    runs = load_all(experiment, points, most_bytes) if runs is None else runs
    whole, along = join(runs, most_bytes)
    names = [point.directory.name.rpartition("-")[-1] for point in points]
    whole = whole.assign_coords({RUN: (RUN, np.array(names, object))})
    for name in _overridden(points):
        values = _setting(points, name)
        if not any(_is_like(name, values, dim, whole[dim].values) for dim in along):
            is_taken = name in whole.variables or name in whole.dims
            key = SETTING.format(name) if is_taken else name
            whole = whole.assign_coords({key: (RUN, values)})
    config = common([dataclasses.asdict(point.config) for point in points])
    about = {"experiment": experiment.name, "config": json.dumps(config)}
    return whole.assign_attrs(about)


def _overridden(points: list[Point]) -> list[str]:
    return list(dict.fromkeys(name for point in points for name in point.overrides))


def _entry(value: Any) -> Any:
    """Take a list of one entry for that entry, a longer one for its words."""
    if isinstance(value, tuple | list):
        return _entry(value[0]) if len(value) == 1 else as_word(value)
    return value


def _setting(points: list[Point], name: str) -> np.ndarray:
    """List a setting of all runs: as numbers where all are, else as words."""
    entries = [_entry(getattr(point.config, name)) for point in points]
    kinds = {type(entry) for entry in entries}
    if kinds <= {int, float} or kinds == {bool}:
        return np.array(entries)
    return np.array([as_word(entry) for entry in entries], object)


def _is_like(name: str, values: np.ndarray, dim: str, entries: np.ndarray) -> bool:
    """Tell whether a setting says what a dim says: variants and variant, weights and ..._weight."""
    return name.removesuffix("s") in dim and values.tolist() == entries.tolist()


def tables(
    experiment: Experiment, points: list[Point], runs: list[xr.Dataset] | None = None
) -> list[results.Table]:
    """Put the tables of finished runs one below the other, behind the runs' settings."""
    runs = load_all(experiment, points) if runs is None else runs
    found: dict[str, list[tuple[int, results.Table]]] = {}
    for number, run in enumerate(runs):
        for table in experiment.tables(run):
            found.setdefault(table.name, []).append((number, table))
    settings = {name: _setting(points, name) for name in _overridden(points)}
    kept = [parts for parts in found.values() if any(table.rows for _, table in parts)]
    return [stack(parts, settings) for parts in kept]
