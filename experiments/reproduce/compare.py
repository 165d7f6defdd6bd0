"""Compare two datasets of one config, number by number."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from rnn_jax import results

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}  # relative, and of the variable's median size


class Comparison(NamedTuple):
    """How the numbers of one variable came out; the three parts add up to 1."""

    name: str
    verdict: str  # identical, close or different
    identical: float  # part of its entries: the same bits
    close: float  # the same within the tolerance
    different: float
    largest: float  # relative deviation
    place: str  # where that is


def compare(before: xr.Dataset, now: xr.Dataset) -> list[Comparison]:
    """Compare every variable, coordinates as well; one that is in one dataset only is different."""
    names = sorted({*map(str, before.variables), *map(str, now.variables)})
    return [_compare(name, before, now) for name in names]


def _compare(name: str, before: xr.Dataset, now: xr.Dataset) -> Comparison:
    for dataset, where in ((now, "original"), (before, "new run")):
        if name not in dataset.variables:
            return Comparison(name, "different", 0.0, 0.0, 1.0, np.inf, f"only in the {where}")
    old, new = before[name], now[name]
    a, b = old.values, new.values
    if a.shape != b.shape:
        place = f"shape {a.shape}, now {b.shape}"
        return Comparison(name, "different", 0.0, 0.0, 1.0, np.inf, place)
    same = (a == b) | ((a != a) & (b != b))
    if a.dtype.kind != "f":
        deviation, close = np.where(same, 0.0, np.inf), same
    else:
        tolerance = TOLERANCES.get(str(a.dtype), 1e-9)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            a, b = a.astype(np.float64), b.astype(np.float64)
            finite = np.abs(a[np.isfinite(a)])
            typical = float(np.median(finite)) if finite.size else 0.0
            size = np.maximum(np.maximum(np.abs(a), np.abs(b)), typical)
            deviation = np.where(same, 0.0, np.nan_to_num(np.abs(a - b) / size, nan=np.inf))
        close = deviation <= tolerance
    parts = [float(part.mean()) if part.size else 0.0 for part in (same, close & ~same, ~close)]
    if same.all():
        return Comparison(name, "identical", 1.0, 0.0, 0.0, 0.0, "")
    worst = np.unravel_index(np.argmax(deviation), deviation.shape)
    place = ", ".join(
        f"{dim} {before[dim].values[i] if dim in before.coords else i}"
        for dim, i in zip(old.dims, worst, strict=True)
    )
    verdict = "close" if close.all() else "different"
    return Comparison(name, verdict, *parts, float(deviation[worst]), place)


def table(comparisons: list[Comparison]) -> results.Table:
    """Lay the comparison out."""
    return results.Table(
        name="comparison",
        title="Run again: what came out",
        rows=[comparison._asdict() for comparison in comparisons],
        columns=[
            results.Column("name", "variable", is_word=True),
            results.Column("identical", "identical", ".1%"),
            results.Column("close", "close", ".1%"),
            results.Column("different", "different", ".1%"),
            results.Column("largest", "largest", ".1e"),
            results.Column("place", "where", is_word=True),
        ],
        note=f"close: within {TOLERANCES['float32']:g} (float64: {TOLERANCES['float64']:g}), "
        "relative to the number, or to the median of its variable where that is larger",
    )
