"""What tables and sentences say of several seeds, and how they write numbers and devices."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def mean(values: np.ndarray) -> float:
    """Average what is known; nan where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def spread(values: np.ndarray) -> float:
    """Take the standard deviation (n - 1) of what is known; nan below two values."""
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if known.size > 1 else math.nan


def median(values: np.ndarray) -> float:
    """Take the median of what is known; nan where nothing is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else math.nan


def three_digits(value: float) -> str:
    """Round to three digits, without an exponent below a million."""
    return "–" if math.isnan(value) else f"{float(f'{value:.3g}'):.7g}"


def device_label(attributes: Mapping[str, Any]) -> str:
    """Name the device of a timing, from its attributes device and backend."""
    name, backend = str(attributes["device"]), str(attributes["backend"]).upper()
    return f"a {backend}" if name.upper() == backend else f"{name} ({backend})"


def count(number: int, noun: str) -> str:
    """Write a number of things: 1 draw, 2 draws."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
