"""One recurrent layer as a Linen module: a cell run over a batch in one direction or both."""

import math

import flax.linen as nn
import jax.numpy as jnp

from rnn_jax.cells import CELLS, Cell, initializers
from rnn_jax.cells.base import memory_bias_keyword
from rnn_jax.checks import check_choice, check_whole
from rnn_jax.recurrence import unroll
from rnn_jax.types import Array, Carry

RECURRENT_INIT = {
    "orthogonal": initializers.orthogonal,
    "gaussian": initializers.gaussian,
    "identity": initializers.identity,
    "uniform": initializers.uniform,
}
FORWARD, REVERSE = "forward", "reverse"


def directions(is_bidirectional: bool) -> tuple[str, ...]:
    """Name the directions of a layer, which are the names of its parameters."""
    return (FORWARD, REVERSE) if is_bidirectional else (FORWARD,)


def check_recurrent(model) -> None:
    """Check the fields that all models with stacked recurrent layers have."""
    for name in ("hidden_size", "num_layers"):
        check_whole(name, getattr(model, name), 1)
    check_choice("cell", model.cell, tuple(CELLS))
    check_choice("recurrent_init", model.recurrent_init, tuple(RECURRENT_INIT))
    for name in ("recurrent_gain", "forget_bias"):
        value = getattr(model, name)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; allowed: a finite number")


def layer_key(layer: int) -> str:
    """Name the parameters of a layer, counted from 0: layer_1 is the first."""
    return f"layer_{layer + 1}"


def stacked_layers(model, is_bidirectional: bool) -> list["RecurrentLayer"]:
    """Make the layers of a model, from the input up; their parameters are layer_1, layer_2, ..."""
    return [
        RecurrentLayer(
            CELLS[model.cell](model.hidden_size),
            is_bidirectional,
            model.recurrent_init,
            model.recurrent_gain,
            model.forget_bias,
            model.dtype,
            name=layer_key(layer),
        )
        for layer in range(model.num_layers)
    ]


class RecurrentLayer(nn.Module):
    """A cell over a batch of sequences; each direction has parameters of its own."""

    cell: Cell
    is_bidirectional: bool = False
    recurrent_init: str = "orthogonal"
    recurrent_gain: float = 1.0
    memory_bias: float | None = None  # of the gate that keeps the state; None: the cell's own
    dtype: str = "float32"

    @nn.compact
    def __call__(self, xs: Array, lengths: Array) -> tuple[Array, ...]:
        """Map xs [T, B, I], lengths [B] to the outputs of each direction, [T, B, H] by input time.

        Outputs past a length are zero.
        """
        return tuple(
            self._unroll(direction, xs, seq_lengths=lengths, reverse=direction == REVERSE)[1]
            for direction in directions(self.is_bidirectional)
        )

    @nn.compact
    def read(
        self, xs: Array, lengths: Array | None, carry: Carry, resets: Array | None
    ) -> tuple[Carry, Array]:
        """Go on from a carry: (carry at the last valid step, outputs [T, B, H]); one direction."""
        return self._unroll(FORWARD, xs, initial_carry=carry, seq_lengths=lengths, resets=resets)

    def _unroll(self, direction: str, xs: Array, **settings) -> tuple[Carry, Array]:
        recurrent_init = RECURRENT_INIT[self.recurrent_init](self.recurrent_gain)
        initializers = {"recurrent_init": recurrent_init, **self._memory_bias()}
        dtype = jnp.dtype(self.dtype)
        params = self.param(direction, self.cell.init, xs.shape[-1], dtype, **initializers)
        return unroll(self.cell, params, xs, **settings)

    def _memory_bias(self) -> dict[str, float]:
        keyword = memory_bias_keyword(self.cell)
        return {} if self.memory_bias is None or not keyword else {keyword: self.memory_bias}
