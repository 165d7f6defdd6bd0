"""What all runs of a study came to: their tables one below the other, their datasets as one."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import xarray as xr

from experiments import computing
from experiments.experiment import Experiment
from experiments.study.points import Point, as_word
from rnn_jax import results
from rnn_jax.results.tables import cell_text

MOST_BYTES = 8 * 2**30
RUN = "run"


def load(experiment: Experiment, point: Point) -> xr.Dataset:
    """Read the dataset of a finished run; StoreError if it is damaged."""
    return computing.load(computing.Run(experiment, point.config, point.directory))


def dataset(
    experiment: Experiment, points: list[Point], most_bytes: float = MOST_BYTES
) -> xr.Dataset:
    """Join the datasets of finished runs along a dim ``run``; what each overrides lies along it.

    A dim that has one entry in every run, and not the same in all, lies along ``run`` as well.
    Where coordinates differ otherwise, the joined one has all of them, and nan where a run has
    nothing.

    Raises:
      ValueError: the joined dataset would take more than ``most_bytes``; StoreError: a run is
        damaged.
    """
    parts = [load(experiment, point).drop_encoding() for point in points]  # of each run's own disk
    along = [str(dim) for dim in parts[0].dims if _is_of_the_run(parts, str(dim))]
    parts = [part.squeeze(along) for part in parts]
    _check_size(parts, most_bytes)
    joined = xr.concat(
        parts,
        RUN,
        data_vars="all",
        coords="different",
        compat="equals",
        join="outer",
        combine_attrs="drop_conflicts",
    )
    names = [point.directory.name.rpartition("-")[-1] for point in points]
    coordinates: dict[str, Any] = {RUN: (RUN, np.array(names, object))}
    for name in _overridden(points):
        taken = name in joined.variables or name in joined.dims
        coordinates[f"{name}_setting" if taken else name] = (RUN, _column(points, name))
    attributes = {"experiment": experiment.name, "config": json.dumps(_common(points))}
    return joined.assign_coords(coordinates).assign_attrs(attributes)


def tables(experiment: Experiment, points: list[Point]) -> list[results.Table]:
    """Put the tables of finished runs one below the other, behind what each run overrides."""
    found: dict[str, list[tuple[Point, results.Table]]] = {}
    for point in points:
        for table in experiment.tables(load(experiment, point)):
            if table.is_printed and table.rows:
                found.setdefault(table.name, []).append((point, table))
    return [_stacked(parts, _overridden(points)) for parts in found.values()]


class _Row(dict):
    """A row of the stacked table: its values, and how its own table writes them."""

    texts: dict[str, str]


def _stacked(parts: list[tuple[Point, results.Table]], names: list[str]) -> results.Table:
    """Stack tables of one name; each row is written by the columns of its own table."""
    rows, words = [], dict.fromkeys(names, True)
    for point, table in parts:
        settings = {name: _entry(getattr(point.config, name)) for name in names}
        words |= {column.heading: column.is_word for column in table.columns}
        for row in table.shown():
            keyed = {f"{k}_setting" if k in row else k: v for k, v in settings.items()}
            stacked = _Row(keyed | row)
            stacked.texts = {column.heading: cell_text(column, row) for column in table.columns}
            stacked.texts |= {name: as_word(value) for name, value in settings.items()}
            rows.append(stacked)
    for key in dict.fromkeys(key for row in rows for key in row):
        for row in rows:
            row.setdefault(key, math.nan)
    columns = [
        results.Column(heading, heading, lambda row, h=heading: _text(row, h), is_word=is_word)
        for heading, is_word in words.items()
    ]
    titles, notes = ({getattr(table, name) for _, table in parts} for name in ("title", "note"))
    name = parts[0][1].name
    title = titles.pop() if len(titles) == 1 else name
    return results.Table(name, title, rows, columns, notes.pop() if len(notes) == 1 else "")


def _text(row: Any, heading: str) -> str:
    return row.texts.get(heading, "–")


def _is_of_the_run(parts: list[xr.Dataset], dim: str) -> bool:
    """Tell whether a dim has one entry in every run, and not the same one in all."""
    if any(part.sizes.get(dim) != 1 or dim not in part.coords for part in parts):
        return False
    return len({str(part[dim].values[0]) for part in parts}) > 1


def _check_size(parts: list[xr.Dataset], most_bytes: float) -> None:
    lengths: dict[str, int] = {}
    for dim in dict.fromkeys(str(dim) for part in parts for dim in part.dims):
        known = [part[dim].values for part in parts if dim in part.coords]
        longest = max(part.sizes.get(dim, 0) for part in parts)
        lengths[dim] = len(np.unique(np.concatenate(known).astype(str))) if known else longest
    shapes = {name: [str(d) for d in v.dims] for part in parts for name, v in part.items()}
    entries = sum(math.prod(lengths[dim] for dim in dims) for dims in shapes.values())
    if 8 * entries * len(parts) > most_bytes:
        longest = max(lengths, key=lambda dim: lengths[dim])
        raise ValueError(
            f"the runs' datasets would take {8 * entries * len(parts) / 2**30:.1f} GiB as one "
            f"({longest} has {lengths[longest]} entries); allowed: up to {most_bytes / 2**30:g} GiB"
        )


def _overridden(points: list[Point]) -> list[str]:
    return list(dict.fromkeys(name for point in points for name in point.overrides))


def _column(points: list[Point], name: str) -> np.ndarray:
    """List a setting of all runs: as numbers where all are."""
    entries = [_entry(getattr(point.config, name)) for point in points]
    kinds = {type(entry) for entry in entries}
    if kinds <= {int, float} or kinds == {bool}:
        return np.array(entries)
    return np.array([as_word(entry) for entry in entries], object)


def _entry(value: Any) -> Any:
    """Take a list of one entry for that entry, a longer one for its words."""
    if isinstance(value, tuple | list):
        return value[0] if len(value) == 1 else as_word(value)
    return value


def _common(points: list[Point]) -> dict[str, Any]:
    """List the settings that all runs share."""
    left_out = _overridden(points)
    config = dataclasses.asdict(points[0].config)
    return {name: value for name, value in config.items() if name not in left_out}
