"""Descend beside the wall of a one-unit network's loss, without a clip and with each clip."""

import math
from dataclasses import dataclass
from typing import Literal

from rnn_jax.config import check_whole_numbers


@dataclass(frozen=True)
class Config:
    """What is drawn, where the paths start, and which thresholds are swept."""

    grid_weights: tuple[float, float] = (4.0, 5.5)
    """range of w of the surfaces"""
    grid_biases: tuple[float, float] = (-3.0, -1.9)
    """range of b of the surfaces"""
    grid_size: int = 201
    """points of the surfaces along w, and along b"""
    start_weight: float = 5.0
    """w where the paths start"""
    start_bias: float = -2.58
    """b where the paths start"""
    learning_rate: float = 0.1
    """of every path"""
    num_updates: int = 500
    """of every path"""
    max_abs: float = 0.5
    """threshold of the path that is clipped by value"""
    max_norm: float = 0.5
    """threshold of the path that is clipped by global norm"""
    percentile: float = 90.0
    """of the path that is clipped at a percentile of the last norms"""
    window: int = 100
    """how many norms the percentile is taken of"""
    thresholds: tuple[float, float] = (0.01, 100.0)
    """range of the thresholds swept, by value and by global norm"""
    num_thresholds: int = 41
    """thresholds (log-spaced) and percentiles (evenly spaced, up to 100) swept"""
    num_starts: int = 32
    """starts drawn for the sweep, the same for every clip and threshold"""
    sweep_weights: tuple[float, float] = (4.5, 5.5)
    """range of w of these starts"""
    sweep_distance: float = 0.2
    """they lie up to so far above the wall: b - b*(w)"""
    low_loss: float = 0.01
    """a path has come down if its last loss is below this"""
    seed: int = 0
    """of the starts"""
    dtype: Literal["float64"] = "float64"
    """float32 cannot hold a state on the wall"""

    def __post_init__(self):
        for name in ("grid_weights", "grid_biases", "thresholds", "sweep_weights"):
            _check_range(name, getattr(self, name))
        if self.thresholds[0] <= 0:
            raise ValueError(f"thresholds is {self.thresholds}; allowed: above 0")
        check_whole_numbers(self, {"grid_size": 2, "seed": 0, "num_thresholds": 2})
        for name in ("start_weight", "start_bias"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: a finite number")
        positive = ("learning_rate", "max_abs", "max_norm", "percentile", "sweep_distance")
        for name in (*positive, "low_loss"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; allowed: a finite number above 0")
        if self.percentile > 100:
            raise ValueError(f"percentile is {self.percentile}; allowed: above 0, up to 100")


def _check_range(name: str, values: tuple[float, ...]) -> None:
    if not (len(values) == 2 and all(map(math.isfinite, values)) and values[0] < values[1]):
        raise ValueError(f"{name} is {values}; allowed: two finite numbers, the lower first")
