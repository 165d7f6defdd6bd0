"""The unit of Pascanu, Mikolov, Bengio (2013), Fig. 6, as an Elman network of one unit.

    x_t = w σ(x_{t-1}) + b,  t = 1..T,    E = (σ(x_T) - 0.7)²,    x_0 = 0.5, T = 50, no input

With h_t = σ(x_t) this is h_t = σ(w h_{t-1} + b): an Elman cell with R = 1, recurrent weight w, bias
b, h_0 = σ(x_0). arXiv 1211.5063. Needs float64: a state that starts on the unstable fixed point
leaves it by rounding alone, and m^T rounding errors are 1 % in float32 at w = 4.5.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax import elman, unroll
from rnn_jax.cells.elman import ElmanCarry, ElmanParams
from rnn_jax.types import Array

NUM_STEPS = 50  # T
INITIAL_STATE = 0.5  # x_0
INITIAL_OUTPUT = 1 / (1 + math.exp(-INITIAL_STATE))  # σ(x_0)
TARGET = 0.7
CELL = elman(1, "sigmoid")


class Point(NamedTuple):
    """What is trained; scalars, float64."""

    w: Any
    b: Any


def last_state(point: Point) -> Array:
    """Compute x_T = w h_{T-1} + b; σ(x_T) is the last output of the network."""
    return point.w * _outputs(point)[-2] + point.b


def loss(point: Point) -> Array:
    """E = (h_T - 0.7)²."""
    return (_outputs(point)[-1] - TARGET) ** 2


loss_and_gradient = jax.value_and_grad(loss)


def _outputs(point: Point) -> Array:
    """Return h_1..h_T."""
    one = jnp.ones((1, 1), jnp.float64)
    params = ElmanParams(kernel=0 * one, recurrent_kernel=one, bias=point.b[None])
    carry = ElmanCarry(jnp.full((1,), INITIAL_OUTPUT, jnp.float64))
    no_input = jnp.zeros((NUM_STEPS, 1), jnp.float64)
    _, outputs = unroll(CELL, params, no_input, initial_carry=carry, recurrent_weight=point.w)
    return outputs[:, 0]


def multiplier(w):
    """m = w σ'(x_0): how fast a state beside x_0 leaves it, where x_0 is a fixed point."""
    return w * INITIAL_OUTPUT * (1 - INITIAL_OUTPUT)


def wall_bias(w):
    """b*(w) = x_0 - w σ(x_0): the line on which x_0 is a fixed point; a wall where m > 1."""
    return INITIAL_STATE - w * INITIAL_OUTPUT


def state_by_bias_on_wall(w):
    """dx_T/db = 1 + m + ... + m^(T-1) = (m^T - 1) / (m - 1), exact on the wall."""
    m = multiplier(w)
    return (m**NUM_STEPS - 1) / (m - 1)
