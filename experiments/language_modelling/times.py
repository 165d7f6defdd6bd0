"""Dataset -> seconds of a training: its steps times the measured time of a step."""

import math

import numpy as np
import xarray as xr

from experiments.language_modelling.choice import networks, of_point
from experiments.wording import device_label, median
from rnn_jax.results import Row

UNEQUAL = 1.2  # measured seconds of "equal time" that differ by more than this are named


def step_seconds(dataset: xr.Dataset, point: str) -> np.ndarray:
    """Give the times [turn] of a training step of this cell and window; nan: not timed."""
    unknown = np.full(1, math.nan)
    if "step_seconds" not in dataset:
        return unknown
    wanted = (of_point(dataset, "cell", point), of_point(dataset, "window", point))
    for name in map(str, dataset["timed"].values):
        if (of_point(dataset, "cell", name), of_point(dataset, "window", name)) == wanted:
            return dataset["step_seconds"].sel(timed=name).values
    return unknown


def seconds_per_token(dataset: xr.Dataset, point: str) -> float:
    """Give the median time of a step by the tokens it reads."""
    if "step_seconds" not in dataset:
        return math.nan
    tokens = float(dataset["step_seconds"].attrs["batch_tokens"])
    return median(step_seconds(dataset, point)) / tokens


def device(dataset: xr.Dataset) -> str:
    """Name the device of the times; "" where nothing is timed."""
    return device_label(dataset["step_seconds"].attrs) if "step_seconds" in dataset else ""


def equal_time_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a timed network at equal time: what it was given against what was measured.

    The first one that is also in the comparison at equal tokens is the reference, else the first.
    tokens_ratio: tokens given, by the reference's; speed_ratio: tokens a second, by the
    reference's; seconds: of its training; seconds_ratio: by the reference's. Where tokens were
    given in proportion to the speed seconds_ratio is 1.
    """
    points = networks(dataset, "equal_time")
    points = [p for p in points if not math.isnan(seconds_per_token(dataset, p))]
    if len(points) < 2:
        return []
    shared = [p for p in points if p in networks(dataset, "equal_tokens")]
    base = (shared or points)[0]

    def tokens(point: str) -> float:
        return float(of_point(dataset, "tokens", point))

    base_speed = 1 / seconds_per_token(dataset, base)
    base_seconds = tokens(base) / base_speed
    rows = []
    for point in points:
        seconds = tokens(point) * seconds_per_token(dataset, point)
        rows.append(
            {
                "point": point,
                "reference": base,
                "tokens_ratio": tokens(point) / tokens(base),
                "speed_ratio": 1 / seconds_per_token(dataset, point) / base_speed,
                "seconds": seconds,
                "seconds_ratio": seconds / base_seconds,
            }
        )
    return rows
