"""Compare two datasets of one config, number by number."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from rnn_jax import results

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}  # relative
ABSOLUTE = ("nat", "rad")  # units in which a number near 0 may be off by so much as one near 1


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
    """Compare every variable, coordinates as well; one that is in one dataset only is different.

    Measured times are left out: they have an attribute ``varies``.
    """
    before, now = (
        dataset.drop_vars([name for name, v in dataset.variables.items() if "varies" in v.attrs])
        for dataset in (before, now)
    )
    names = sorted({*map(str, before.variables), *map(str, now.variables)})
    return [_compare(name, before, now) for name in names]


def _compare(name: str, before: xr.Dataset, now: xr.Dataset) -> Comparison:
    for dataset, where in ((now, "original"), (before, "new run")):
        if name not in dataset.variables:
            return Comparison(name, "different", 0.0, 0.0, 1.0, np.inf, f"only in the {where}")
    old, new = before[name], now[name]
    a, b = old.values, new.values
    kinds = [f"{v.dtype.kind if v.dtype.kind in 'OUT' else v.dtype}" for v in (a, b)]
    if old.dims != new.dims or a.shape != b.shape:
        place = f"{dict(old.sizes)}, now {dict(new.sizes)}"
        return Comparison(name, "different", 0.0, 0.0, 1.0, np.inf, place)
    if "f" not in (a.dtype.kind, b.dtype.kind):
        same = close = np.asarray(a == b)
        deviation = np.where(same, 0.0, np.inf)
    else:
        same = _same_bits(a, b)
        tolerance = max(TOLERANCES.get(str(v.dtype), 1e-9) for v in (a, b))
        floor = 1.0 if str(old.attrs.get("units", "")).startswith(ABSOLUTE) else 0.0
        a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            size = np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)
            deviation = np.nan_to_num(np.abs(a - b) / size, nan=np.inf)
        deviation = np.where((a == b) | ((a != a) & (b != b)), 0.0, deviation)
        close = deviation <= tolerance
    if kinds[0] != kinds[1] and not {*kinds} <= {"O", "U", "T"}:
        same = np.zeros_like(same)
    parts = [float(part.mean()) if part.size else 0.0 for part in (same, close & ~same, ~close)]
    if same.all():
        return Comparison(name, "identical", 1.0, 0.0, 0.0, 0.0, "")
    worst = np.unravel_index(np.argmax(deviation), deviation.shape)
    place = ", ".join(
        f"{dim} {before[dim].values[i] if dim in before.coords else i}"
        for dim, i in zip(old.dims, worst, strict=True)
    )
    if deviation[worst] == 0:
        place = (
            f"{before[name].dtype}, now {now[name].dtype}" if kinds[0] != kinds[1] else "-0 and 0"
        )
    verdict = "close" if close.all() else "different"
    return Comparison(name, verdict, *parts, float(deviation[worst]), place)


def _same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare entry by entry; a nan is a nan, but 0 is not -0."""
    if a.dtype != b.dtype:
        return np.zeros(a.shape, bool)
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | ((a != a) & (b != b))


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
        note=f"close: within {TOLERANCES['float32']:g} (float64: {TOLERANCES['float64']:g}) of the "
        "number; logarithms, slopes and angles also where it is below 1",
    )
