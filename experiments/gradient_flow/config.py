"""Sweep the recurrent weight and measure the gradient's norm at every time step."""

import math
from dataclasses import dataclass
from typing import Literal

from rnn_jax.cells import CELLS, gate_names
from rnn_jax.cells.base import MEMORY_BIASES, memory_bias_keyword
from rnn_jax.config import check_lists, check_whole_numbers


@dataclass(frozen=True)
class Config:
    """What is swept (cells × weights × seeds) and what is held."""

    cells: tuple[str, ...] = ("elman", "lstm", "gru", "sru")
    """cells to sweep, by their names in rnn_jax.CELLS"""
    weights: tuple[float, ...] = tuple(0.25 * i for i in range(1, 17))
    """recurrent weights w, each a sweep point"""
    num_seeds: int = 4
    """draws of parameters, inputs and loss at every point"""
    seed: int = 0
    """root of all randomness"""
    recurrent_matrix: Literal["orthogonal", "gaussian", "identity", "scalar"] = "orthogonal"
    """law of R; scalar is one unit with R = 1"""
    gain: float = 1.0
    """factor on R: its spectral radius (gaussian: for large H)"""
    activation: Literal["tanh", "relu", "sigmoid", "identity"] = "tanh"
    """of the Elman and the leaky cell"""
    hidden_size: int = 64
    """H"""
    num_steps: int = 200
    """T"""
    batch_size: int = 8
    """B, sequences at every point"""
    input: Literal["text", "noise", "none"] = "text"
    """windows of the standard library's source through a random embedding; white noise; or zeros"""
    input_size: int = 32
    """I, size of the byte embedding (noise drives each unit by itself: I = H)"""
    noise_variance: float = 1.0
    """of the white noise"""
    initial_state: float = 0.0
    """standard deviation of the initial carry"""
    loss: Literal["last_state", "next_byte"] = "last_state"
    """random projection of the last state; or cross-entropy of the next byte at every step"""
    gate: tuple[str, ...] = ()
    """gates held at a value, as forget=1 input=0, in the cells that have them"""
    forget_bias: float | None = None
    """bias of the gate that keeps the state (forget; GRU: update); None: each cell's own"""
    chrono_steps: float | None = None
    """chrono initialization of that gate for time scales up to so many steps"""
    gate_means: bool = False
    """record the mean of every gate at every step"""
    clip: tuple[Literal["none", "value", "global-norm", "per-step"], ...] = ("none",)
    """of the gradient by the parameters; per-step: of dL/dcarry_t inside the adjoint"""
    clip_thresholds: tuple[float, ...] = (1.0, 10.0, 100.0)
    """largest entry, norm, or norm by step, one after another"""
    drop_first: int = 20
    """steps left out of the slope's fit, where the state has not reached its regime"""
    block_size: int = 64
    """weights computed by one call and kept at once; in the hash, as it can change last bits"""
    precision: Literal["highest", "high", "default"] = "highest"
    """of matrix products"""
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        for name in self.cells:
            if name not in CELLS:
                raise ValueError(f"cells holds {name!r}; allowed: {', '.join(CELLS)}")
        for weight in self.weights:
            if not abs(weight) < 1e38:
                raise ValueError(f"weights holds {weight}; allowed: finite numbers, up to 1e38")
        check_lists(self, "cells", "weights", "clip", "clip_thresholds")
        for threshold in self.clip_thresholds:
            if not 0 < threshold < math.inf:
                raise ValueError(f"clip_thresholds holds {threshold}; allowed: numbers above 0")
        if self.forget_bias is not None and not math.isfinite(self.forget_bias):
            raise ValueError(f"forget_bias is {self.forget_bias}; allowed: a finite number")
        if self.chrono_steps is not None and not 2 < self.chrono_steps < math.inf:
            raise ValueError(f"chrono_steps is {self.chrono_steps}; allowed: a number above 2")
        if self.chrono_steps is not None and self.forget_bias is not None:
            raise ValueError("chrono_steps is given with forget_bias; allowed: one of them")
        self._check_memory_bias()
        known = {name: gate_names(CELLS[name](1)) for name in self.cells}
        for name in self.held_gates():
            if not any(name in gates for gates in known.values()):
                of_cells = "; ".join(f"{cell}: {', '.join(gates)}" for cell, gates in known.items())
                raise ValueError(f"gate holds {name!r}; allowed: a gate of these cells: {of_cells}")
        check_whole_numbers(self, {"seed": 0, "drop_first": 0})
        for name in ("gain", "noise_variance", "initial_state"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(
                    f"{name} is {getattr(self, name)}; allowed: a finite number from 0"
                )
        if self.drop_first > self.num_steps - 1:
            raise ValueError(
                f"drop_first is {self.drop_first}; allowed: up to num_steps - 1 = "
                f"{self.num_steps - 1}"
            )
        if self.recurrent_matrix == "scalar" and self.hidden_size != 1:
            raise ValueError(
                f"recurrent_matrix scalar has hidden_size {self.hidden_size}; allowed: 1"
            )
        if self.loss == "next_byte" and self.input != "text":
            raise ValueError(f"loss next_byte has input {self.input}; allowed: text")

    def _check_memory_bias(self) -> None:
        keywords = [memory_bias_keyword(CELLS[name](1)) for name in self.cells]
        for name in ("forget_bias", "chrono_steps"):
            if getattr(self, name) is not None and not any(keywords):
                raise ValueError(
                    f"{name} is {getattr(self, name)} for {', '.join(self.cells)}; allowed: with a "
                    f"cell whose init takes {' or '.join(MEMORY_BIASES)}"
                )

    def held_gates(self) -> dict[str, float]:
        """Read ``gate``: name to value."""
        held = {}
        for setting in self.gate:
            name, _, text = setting.partition("=")
            if name in held:
                raise ValueError(f"gate holds {name!r} twice; allowed: once")
            try:
                held[name] = float(text)
            except ValueError:
                held[name] = math.nan
            if not math.isfinite(held[name]):
                raise ValueError(f"gate holds {setting!r}; allowed: name=number, as forget=1")
        return held
