"""Networks in words, as "elman noise=0.1": a variant of experiments.memory, and noise as input."""

from typing import NamedTuple

import jax

from experiments.memory.variants import ACTIVATION_WORDS, MATRICES, Variant, number_of, read_variant
from rnn_jax.cells import initializers


class Network(NamedTuple):
    variant: Variant
    noise_variance: float
    activation: str | None  # of a gaussian Elman network, for which there is theory; else None

    @property
    def state_size(self) -> int:
        """D, of the flattened carry."""
        carry = jax.eval_shape(lambda: self.variant.cell.initial_carry(()))
        return sum(leaf.size for leaf in carry)


LONGEST = 100  # time scale of "chrono"


def read_network(text: str, hidden_size: int) -> Network:
    """Make a network whose recurrent matrix has gain 1."""
    words = text.split()
    noises = [word for word in words if word.startswith("noise=")]
    rest = [word for word in words if word not in noises]
    if len(noises) > 1:
        raise ValueError(f"network {text!r} says noise twice; allowed: once")
    cell, init = read_variant(" ".join(rest), hidden_size, LONGEST)
    init = {"recurrent_init": initializers.gaussian()} | init
    variance = _variance(text, noises[0]) if noises else 0.0
    has_theory = cell.name == "elman" and not set(MATRICES) - {"gaussian"} & set(rest)
    activation = next((word for word in rest[1:] if word != "gaussian"), "tanh")
    activation = ACTIVATION_WORDS.get(activation, activation)
    return Network(Variant(cell, init), variance, activation if has_theory else None)


def _variance(text: str, word: str) -> float:
    value = number_of(word)
    if not 0 <= value <= 1e4:
        raise ValueError(f"network {text!r} says {word!r}; allowed: noise= and 0 to 10000")
    return value
