"""Work one recurrent unit through by hand on real text, then train it with and without a clip."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from rnn_jax.cells.elman import ACTIVATIONS


@dataclass(frozen=True)
class Config:
    """The text, the unit, what is swept and how it is trained."""

    words: tuple[str, str] = ("if", "elif")
    """the two classes: the first word of a line decides"""
    text: str = "elif not isinstance(value, str):"
    """the short text that is worked through step by step"""
    min_length: int = 5
    """words of the shortest line, its first word and its colon included"""
    max_length: int = 24
    """words of the longest line"""
    alphabet_size: int = 64
    """how many symbols; every rarer word is read as one of them, …"""
    lines_per_class: int = 2000
    """at most so many lines of each class in each split"""
    held_out_fraction: float = 0.25
    """part of the conditions that training never sees"""
    activations: tuple[str, ...] = ("identity", "tanh", "sigmoid", "relu")
    """f of the sweep over w"""
    weights: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    """recurrent weights w of the sweep"""
    drives: tuple[float, ...] = (1.0, 1e-6, 0.0)
    """of the sweep: factors on z_t and h_0; 0 leaves the unit alone, at rest"""
    long_length: int = 200
    """words of the long text of the sweep: lines one after another"""
    initial_state: float = 0.1
    """h_0"""
    embedding_scale: float = 0.5
    """standard deviation of the numbers per symbol before training"""
    trained_activations: tuple[str, ...] = ("tanh", "identity")
    """f of the units that are trained; the first one is worked through"""
    initial_weight: float = 1.5
    """w before training"""
    learning_rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    """of SGD"""
    clips: tuple[Literal["none", "value", "global-norm"], ...] = ("none", "value", "global-norm")
    """what is done to the gradient before it is used"""
    threshold: float = 0.25
    """c of the clips: the largest entry, or the largest norm"""
    num_updates: int = 1000
    """steps of SGD"""
    report_every: int = 20
    """updates from one point of the curves to the next"""
    batch_size: int = 32
    """lines of an update"""
    num_seeds: int = 8
    """draws of the embedding and of the order of the lines"""
    seed: int = 0
    """root of all randomness"""
    dtype: Literal["float64"] = "float64"
    """by hand and by autodiff are compared to the last digits"""

    def __post_init__(self):
        _check_words(self)
        for name in ("activations", "trained_activations"):
            for value in getattr(self, name):
                _check(value in ACTIVATIONS, f"{name} holds {value!r}", ", ".join(ACTIVATIONS))
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                once = value and len(set(value)) == len(value)
                _check(once, f"{field.name} is {value}", "one or more, each once")
            if field.type in (int, "int"):
                _check_whole(field.name, value)
        for weight in (*self.weights, self.initial_weight):
            _check(0 < weight <= 100, f"a weight w is {weight}", "above 0, up to 100")
        for name in ("drives", "learning_rates"):
            for value in getattr(self, name):
                least = "from 0" if name == "drives" else "above 0"
                fits = math.isfinite(value) and (value >= 0 if name == "drives" else value > 0)
                _check(fits, f"{name} holds {value}", f"finite numbers {least}")
        for name in ("embedding_scale", "threshold"):
            value = getattr(self, name)
            _check(value > 0 and math.isfinite(value), f"{name} is {value}", "above 0, finite")
        _check(
            math.isfinite(self.initial_state), f"initial_state is {self.initial_state}", "finite"
        )
        _check(
            0 < self.held_out_fraction < 1,
            f"held_out_fraction is {self.held_out_fraction}",
            "between 0 and 1",
        )
        _check(
            self.num_updates % self.report_every == 0,
            f"report_every is {self.report_every}",
            f"divisors of num_updates = {self.num_updates}",
        )


def _check(holds: object, given: str, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{given}; allowed: {allowed}")


def _check_whole(name: str, value: int) -> None:
    least = {"seed": 0, "min_length": 3, "max_length": 3, "alphabet_size": 4, "long_length": 2}
    _check(
        least.get(name, 1) <= value < 2**32,
        f"{name} is {value}",
        f"{least.get(name, 1)} to {2**32 - 1}",
    )


def _check_words(config: Config) -> None:
    _check(len(set(config.words)) == 2, f"words is {config.words}", "two different words")
    for word in config.words:
        _check(word.isidentifier(), f"words holds {word!r}", "single words of Python")
    _check(
        config.text.split(" ")[0] in config.words,
        f"text is {config.text!r}",
        f"a line that begins with {' or '.join(config.words)}",
    )
    _check(
        config.min_length <= config.max_length,
        f"min_length is {config.min_length}",
        f"up to max_length = {config.max_length}",
    )
