"""Which points a comparison has, and which learning rate of each network is shown.

It is chosen on the validation split: the lowest mean over seeds of bits per byte, where a training
without a result counts as infinite; of equals the lowest rate. The test split chooses nothing.
"""

import math

import numpy as np
import xarray as xr

from rnn_jax.data import Encoding
from rnn_jax.plotting.labels import cell_label

COMPARISONS = ("equal_tokens", "equal_time", "window_study")


def networks(dataset: xr.Dataset, comparison: str | None = None) -> list[str]:
    """List the points that are trained, of one comparison or of all."""
    is_kept = dataset["kind"].values == "network"
    if comparison is not None:
        is_kept = is_kept & (dataset[comparison].values == 1)
    return [str(point) for point in dataset["point"].values[is_kept]]


def yardsticks(dataset: xr.Dataset, kind: str) -> list[str]:
    """List the points of a kind: n-gram or compressor."""
    return [str(point) for point in dataset["point"].values[dataset["kind"].values == kind]]


def labels(dataset: xr.Dataset, points: list[str]) -> dict[str, str]:
    """Write points for people: the cell where it tells them apart, else the whole name."""
    cells = {point: str(of_point(dataset, "cell", point)) for point in points}
    every = list(cells.values())
    written = {}
    for point, cell in cells.items():
        rest = point.removeprefix(cell) if cell else f" {point}"
        is_alone = bool(cell) and every.count(cell) == 1
        written[point] = (cell_label(cell) + (rest if not is_alone else "")).strip()
    return written


def is_lossless(dataset: xr.Dataset) -> bool:
    """Tell whether the tokens are the whole text; else bits per byte leave a part unpaid."""
    return Encoding.from_json(dataset.attrs["encoding"]).is_lossless


def has_seeds(dataset: xr.Dataset) -> bool:
    """Tell whether there are several seeds: one has no spread."""
    return dataset.sizes["seed"] > 1


def of_point(dataset: xr.Dataset, coordinate: str, point: str):
    """Read a coordinate of the dim point."""
    value = dataset.variables[coordinate].values[dataset.indexes["point"].get_loc(point)]
    return value.item() if isinstance(value, np.generic) else value


def chosen_rates(dataset: xr.Dataset) -> dict[str, float]:
    """Choose the learning rate of every network; the rule is the module's."""
    rates = np.sort(dataset["learning_rate"].values)
    chosen = {}
    for point in networks(dataset):
        means = [_validation(dataset, point, rate) for rate in rates]
        chosen[point] = float(rates[np.argmin(means)])
    return chosen


def best_network(dataset: xr.Dataset, comparison: str = "equal_tokens") -> str | None:
    """Name the network of the lowest mean on the validation split; None where none has all seeds.

    The comparison equal_tokens falls back to every network where it is empty.
    """
    rates = chosen_rates(dataset)
    points = networks(dataset, comparison) or networks(dataset)
    means = {point: _validation(dataset, point, rates[point]) for point in points}
    best = min(means, key=lambda point: means[point], default=None)
    return best if best is not None and math.isfinite(means[best]) else None


def of_seeds(dataset: xr.Dataset, name: str, point: str, rate: float = math.nan) -> np.ndarray:
    """Give a variable [seed] at a learning rate, what is not finite as nan.

    A yardstick has no rate (nan): its one value and nan, flat.
    """
    if name not in dataset:
        return np.full(1, math.nan)
    # by index: of a dataset with many coordinates `sel` takes a millisecond
    values = dataset.variables[name].transpose("point", "learning_rate", "seed").values
    values = values[dataset.indexes["point"].get_loc(point)]
    if not math.isnan(rate):
        values = values[dataset.indexes["learning_rate"].get_loc(rate)]
    return np.where(np.isfinite(values), values, np.nan).ravel()


def _validation(dataset: xr.Dataset, point: str, rate: float) -> float:
    """Average bits per byte on the validation split; infinite where a seed has none."""
    values = of_seeds(dataset, "validation_bits", point, rate)
    return float(np.where(np.isnan(values), np.inf, values).mean())
