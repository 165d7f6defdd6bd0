"""Lyapunov exponents: of random networks over their gain, or of networks along their training."""

import math
from dataclasses import dataclass
from typing import Literal

from experiments.lyapunov.network import read_network
from experiments.memory.config import Config as MemoryConfig
from rnn_jax.config import check_lists, check_whole_numbers


@dataclass(frozen=True)
class Config:
    """Networks × gains × seeds; where ``trained`` names variants, those × updates × seeds."""

    networks: tuple[str, ...] = (
        "elman",
        "elman noise=0.1",
        "elman noise=1",
        "lstm bias=0",
        "lstm bias=1",
        "lstm bias=5",
        "gru bias=0",
        "gru bias=1",
        "gru bias=5",
        "sru noise=1",
    )
    """a cell, activation, matrix (gaussian where none is said), bias of the gate that keeps the
    state, and the variance of white noise as input, into each unit by itself (all its gates)"""
    gains: tuple[float, ...] = (0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0)
    """g, factors on the recurrent matrix"""
    hidden_size: int = 128
    """H"""
    num_exponents: int = 0
    """the largest so many; 0: all D"""
    warmup: int = 500
    """steps before the first that counts"""
    num_steps: int = 1000
    """steps that count"""
    num_seeds: int = 2
    """draws of the network, its input and its first state"""
    seed: int = 0
    """root of all randomness"""
    trained: tuple[str, ...] = ()
    """variants of experiments.memory to train and measure, instead of networks × gains"""
    task: Literal["adding", "copying", "temporal_order"] = "adding"
    """what they learn; they are measured on its sequences, one after another"""
    length: int = 50
    """T of the task"""
    learning_rate: float = 0.01
    """of Adam, clipped at global norm 1"""
    max_updates: int = 600
    """of the training, not cut short"""
    evaluate_every: int = 50
    """updates from one measurement to the next"""
    precision: Literal["highest", "high", "default"] = "highest"
    """of matrix products"""
    dtype: Literal["float32", "float64"] = "float64"
    """float32 knows nothing of exponents more than 16 below the largest"""

    def __post_init__(self):
        check_lists(self, "networks", "gains", *(["trained"] if self.trained else []))
        check_whole_numbers(self, {"seed": 0, "warmup": 0, "num_exponents": 0})
        for gain in self.gains:
            if not 0 < gain <= 100:
                raise ValueError(f"gains holds {gain}; allowed: above 0, up to 100")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; allowed: above 0")
        for name in self.trained:
            self.memory(name)
        smallest = min(self.sizes())
        if self.num_exponents > smallest:
            raise ValueError(
                f"num_exponents is {self.num_exponents}; allowed: up to D = {smallest}, 0 for all"
            )

    def memory(self, variant: str) -> MemoryConfig:
        """Make the config of a training."""
        return MemoryConfig(
            tasks=(self.task,),
            lengths=(self.length,),
            variants=(variant,),
            learning_rates=(self.learning_rate,),
            num_seeds=self.num_seeds,
            seed=self.seed,
            max_updates=self.max_updates,
            evaluate_every=self.evaluate_every,
            hidden_size=self.hidden_size,
            precision=self.precision,
            dtype=self.dtype,
        )

    def sizes(self) -> list[int]:
        """Give D, the size of the state, of every network."""
        names = self.trained or self.networks
        return [read_network(name, self.hidden_size).state_size for name in names]
