"""Elman network (Elman 1990, doi 10.1207/s15516709cog1402_1).

    h_t = f(W x_t + b + w R h_{t-1}),    y_t = h_t

With one unit and R = 1: h_t = f(w h_{t-1} + z_t). Parameters for I = H = d: 2 d² + d.
f is tanh, relu max(0, a), sigmoid 1 / (1 + e^-a), identity a, erf erf(√π a/2) (its slope at 0 is 1,
as tanh's) or hard_tanh max(-1, min(1, a)).
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, free, multiply
from rnn_jax.types import Array, Hold, Initializer, Key


@jax.custom_jvp
def tanh(x: Array) -> Array:
    """tanh whose derivative keeps one array, (1 - y) (1 + y); that of jnp.tanh keeps two."""
    return jnp.tanh(x)


@tanh.defjvp
def _tanh_jvp(primals, tangents):
    y = tanh(*primals)
    return y, tangents[0] * ((1 - y) * (1 + y))


ACTIVATIONS = {
    "tanh": tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
    "erf": lambda x: jax.lax.erf(0.5 * math.sqrt(math.pi) * x),
    "hard_tanh": jax.nn.hard_tanh,
}


class ElmanParams(NamedTuple):
    kernel: Float[Array, "I H"]
    recurrent_kernel: Float[Array, "H H"]
    bias: Float[Array, "H"]


class ElmanCarry(NamedTuple):
    hidden: Float[Array, "*B H"]


class ElmanGates(NamedTuple):
    candidate: Float[Array, "*B H"]  # f of the pre-activation: an Elman unit has no gate around it


def init(
    hidden_size: int,
    key: Key,
    input_size: int,
    dtype=jnp.float32,
    *,
    kernel_init: Initializer = initializers.glorot_uniform,
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = initializers.zeros,
) -> ElmanParams:
    kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
    return ElmanParams(
        kernel=kernel_init(kernel_key, (input_size, hidden_size), dtype),
        recurrent_kernel=recurrent_init(recurrent_key, (hidden_size, hidden_size), dtype),
        bias=bias_init(bias_key, (hidden_size,), dtype),
    )


def initial_carry(hidden_size: int, batch_shape: tuple[int, ...], dtype=jnp.float32) -> ElmanCarry:
    return ElmanCarry(jnp.zeros((*batch_shape, hidden_size), dtype))


def project_inputs(params: ElmanParams, xs: Array) -> Array:
    return multiply(xs, params.kernel) + params.bias


def project_carry(params: ElmanParams, carry: ElmanCarry, recurrent_weight: Array) -> Array:
    return recurrent_weight * (carry.hidden @ params.recurrent_kernel)


def gates(activation: str, drive: Array, recurrent: Array, hold: Hold = free) -> ElmanGates:
    return ElmanGates(hold("candidate", ACTIVATIONS[activation](drive + recurrent)))


def update(carry: ElmanCarry, gates: ElmanGates, tap: ElmanCarry) -> tuple[ElmanCarry, Array]:
    hidden = gates.candidate + tap.hidden
    return ElmanCarry(hidden), hidden


@cell_factory
def elman(hidden_size: int, activation: str = "tanh") -> Cell:
    """Make an Elman cell of ``hidden_size`` units.

    activation: tanh, relu, sigmoid, identity, erf or hard_tanh; the module has their equations.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; allowed: {', '.join(ACTIVATIONS)}")
    return Cell(
        name="elman",
        hidden_size=hidden_size,
        init=partial(init, hidden_size),
        initial_carry=partial(initial_carry, hidden_size),
        project_inputs=project_inputs,
        project_carry=project_carry,
        gates=partial(gates, activation),
        update=update,
    )
