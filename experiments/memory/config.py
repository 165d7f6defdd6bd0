"""Memory tasks at growing lengths: which cell, from which beginning, learns to remember how far."""

import math
from dataclasses import dataclass
from typing import Literal

from experiments.memory.variants import read_variant
from rnn_jax.config import check_lists, check_whole_numbers
from rnn_jax.data.memory_tasks import MEMORY_TASKS, MemoryTask


@dataclass(frozen=True)
class Config:
    """Tasks × lengths × variants; of each, clips × learning rates × seeds, all of one budget."""

    tasks: tuple[Literal["adding", "copying", "temporal_order"], ...] = ("adding",)
    """memory tasks"""
    lengths: tuple[int, ...] = (100,)
    """T, as each task counts it"""
    variants: tuple[str, ...] = (
        "elman gaussian",
        "elman orthogonal",
        "elman relu identity",
        "lstm",
        "lstm chrono",
        "gru",
        "gru chrono",
        "sru",
    )
    """a cell, then activation, recurrent matrix, bias=number or chrono; nothing: the cell's own"""
    clip_norms: tuple[float, ...] = (1.0,)
    """of the gradient's global norm; 0: no clip"""
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    """of Adam; the same for every variant"""
    num_seeds: int = 4
    """draws of parameters and training sequences"""
    seed: int = 0
    """root of all randomness"""
    max_updates: int = 1500
    """the budget of every run; the runs of a variant end together, once all are solved"""
    evaluate_every: int = 50
    """updates between two evaluations"""
    hidden_size: int = 64
    """H"""
    batch_size: int = 32
    """B, sequences an update, never the same twice"""
    test_size: int = 512
    """sequences held out, the same at every evaluation"""
    begins_below: float = 0.8
    """a run has begun to learn when its held-out loss is below this part of the baseline"""
    solved_below: float = 0.1
    """and has solved the task when it is below this part at two evaluations, one after another"""
    precision: Literal["highest", "high", "default"] = "highest"
    """of matrix products"""
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        check_lists(self, "tasks", "lengths", "variants", "clip_norms", "learning_rates")
        check_whole_numbers(self, {"seed": 0})
        for norm in self.clip_norms:
            if not 0 <= norm < math.inf:
                raise ValueError(f"clip_norms holds {norm}; allowed: numbers from 0")
        for rate in self.learning_rates:
            if not 0 < rate < math.inf:
                raise ValueError(f"learning_rates holds {rate}; allowed: numbers above 0")
        if self.max_updates % self.evaluate_every:
            raise ValueError(
                f"evaluate_every is {self.evaluate_every}; allowed: divisors of max_updates = "
                f"{self.max_updates}"
            )
        if not 0 < self.solved_below < self.begins_below <= 1:
            raise ValueError(
                f"solved_below is {self.solved_below}, begins_below {self.begins_below}; allowed: "
                "0 < solved_below < begins_below <= 1"
            )
        for length in self.lengths:
            for task in self.tasks:
                self.task(task, length)  # refuses lengths that are too short
        for variant in self.variants:
            read_variant(variant, self.hidden_size, self.lengths[0])

    def task(self, name: str, length: int) -> MemoryTask:
        """Make a task."""
        try:
            return MEMORY_TASKS[name](length)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    @property
    def num_evaluations(self) -> int:
        """Count the evaluations of a run, the one before its first update with them."""
        return self.max_updates // self.evaluate_every + 1
