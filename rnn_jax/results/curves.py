"""Curves that a reader chooses among: what the interactive part of a report shows."""

import math
from typing import NamedTuple

import numpy as np

MOST_STEPS, FEWEST_STEPS, MOST_NUMBERS = 400, 50, 200_000


class Curves(NamedTuple):
    """One curve of decimal logarithms for every combination of choices.

    -inf is a quantity of exactly zero; nan one that is not known, for the reason ``unknown`` gives.
    """

    choices: dict[str, list]  # name: values; strings make a list to choose from, numbers a slider
    x: list[float]
    x_label: str
    y_label: str  # of what is drawn
    values: np.ndarray  # [*lengths of the choices, len(x)], log10
    quantity: str  # what 10^value is
    is_relative: bool = False  # drawn: value minus the value at x[0]
    also: dict[str, list] = {}  # more readings of x: name: values
    unknown: str = "not known"
    caption: str = ""


def thin(curves: Curves) -> tuple[Curves, str]:
    """Keep what a page can carry: evenly spaced points and choices, and a sentence on what is left.

    The first and the last of everything stay.
    """
    lengths = list(curves.values.shape[:-1])
    while math.prod(lengths) * FEWEST_STEPS > MOST_NUMBERS:
        longest = lengths.index(max(lengths))
        lengths[longest] = -(-lengths[longest] // 2)
    steps = min(len(curves.x), MOST_STEPS, max(MOST_NUMBERS // math.prod(lengths), FEWEST_STEPS))
    kept = [_evenly(n, of) for n, of in zip([*lengths, steps], curves.values.shape, strict=True)]
    words = [
        f"{len(some)} of {len(values)} values of {name}"
        for some, (name, values) in zip(kept, curves.choices.items(), strict=False)
        if len(some) < len(values)
    ]
    if steps < len(curves.x):
        words.append(f"{steps} of {len(curves.x)} points of each curve")
    some = {
        name: [values[i] for i in at]
        for at, (name, values) in zip(kept, curves.choices.items(), strict=False)
    }
    thinned = curves._replace(
        choices=some,
        x=[curves.x[i] for i in kept[-1]],
        also={name: [values[i] for i in kept[-1]] for name, values in curves.also.items()},
        values=curves.values[np.ix_(*kept)],
    )
    return thinned, f"Here: {', '.join(words)}; the dataset holds all." if words else ""


def to_tree(curves: Curves) -> dict:
    """Make it ready for JSON: one list a curve, the last choice varying fastest."""
    rows = curves.values.reshape(-1, len(curves.x)).astype(float)
    return curves._asdict() | {"values": [[_plain(v) for v in row] for row in rows]}


def _plain(value: float) -> float | str | None:
    if np.isfinite(value):
        return round(float(value), 4)
    return None if np.isnan(value) else "inf" if value > 0 else "-inf"


def _evenly(count: int, of: int) -> list[int]:
    return np.unique(np.linspace(0, of - 1, count).round().astype(int)).tolist()
