"""Time rnn_jax against other libraries at the same job, in processes that take turns."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from experiments.speed.libraries import LIBRARIES


@dataclass(frozen=True)
class Config:
    """What is timed, and how often."""

    job: Literal["gradient_flow"] = "gradient_flow"
    """what every library computes: a module of experiments/speed/jobs"""
    rows: tuple[tuple[int, int, int, int], ...] = (
        (64, 256, 32, 64),
        (256, 200, 1, 1),
        (1024, 1000, 64, 1),
        (256, 256, 8, 32),
        (16, 256, 32, 256),
    )
    """sizes, a row of the table each: weights N, steps T, batch B, units H"""
    libraries: tuple[str, ...] = tuple(LIBRARIES)
    """who is timed; ratios are to the first"""
    rounds: int = 15
    """turns of every library at every row, all processes alive"""
    rounds_alone: int = 5
    """turns of every library before, with no other process alive"""
    turn_seconds: float = 0.1
    """one turn repeats a short call for so long, and counts the median"""
    timeout: float = 300.0
    """seconds without an answer after which a library has failed at a row"""
    seed: int = 0
    """of the inputs"""
    quick: bool = False
    """small rows and 2 rounds: whether it works, not how fast it is"""

    def __post_init__(self):
        for name in self.libraries:
            if name not in LIBRARIES:
                raise ValueError(f"libraries holds {name!r}; allowed: {', '.join(LIBRARIES)}")
        for name in ("libraries", "rows"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}; allowed: one or more, each once")
        for row in self.rows:
            if len(row) != 4 or min(row) < 1:
                raise ValueError(f"rows holds {row}; allowed: four whole numbers of at least 1")
        for name, least in (("rounds", 1), ("rounds_alone", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least {least}")
        for name in ("turn_seconds", "timeout"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; allowed: a finite number from 0")

    def effective(self) -> "Config":
        """Apply ``quick``."""
        if not self.quick:
            return self
        rows = tuple(dict.fromkeys((min(n, 16), min(t, 50), b, h) for n, t, b, h in self.rows))
        return replace(self, rows=rows, rounds=min(self.rounds, 2), rounds_alone=1)
