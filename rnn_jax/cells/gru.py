"""Gated recurrent unit, reset after the product (Cho et al. 2014, arXiv 1406.1078; as in cuDNN).

    r = σ(W_r x_t + b_r + w R_r h_{t-1} + b_hr)              reset gate
    z = σ(W_z x_t + b_z + w R_z h_{t-1} + b_hz)              update gate: z = 1 keeps the state
    n = tanh(W_n x_t + b_n + r (w R_n h_{t-1} + b_hn))       candidate
    h_t = (1 - z) n + z h_{t-1},    y_t = h_t

Gate order in the arrays: r, z, n. Parameters for I = H = d: 6 d² + 6 d.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, free, init_blocks, memory_gate_bias, project
from rnn_jax.types import Array, Hold, Initializer, Key


class GRUParams(NamedTuple):
    kernel: Float[Array, "I 3*H"]
    recurrent_kernel: Float[Array, "H 3*H"]
    bias: Float[Array, "3*H"]
    recurrent_bias: Float[Array, "3*H"]


class GRUCarry(NamedTuple):
    hidden: Float[Array, "*B H"]


class GRUGates(NamedTuple):
    """Also the shape of what the inputs and the state send to each gate."""

    reset: Float[Array, "*B H"]
    update: Float[Array, "*B H"]
    candidate: Float[Array, "*B H"]


def init(
    hidden_size: int,
    key: Key,
    input_size: int,
    dtype=jnp.float32,
    *,
    kernel_init: Initializer = initializers.glorot_uniform,
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = initializers.zeros,
    update_bias: float | Initializer = 0.0,
) -> GRUParams:
    kernel_key, recurrent_key, bias_key, recurrent_bias_key, update_key = jax.random.split(key, 5)
    update = memory_gate_bias(update_bias, update_key, hidden_size, dtype)
    none = jnp.zeros_like(update)
    return GRUParams(
        kernel=init_blocks(kernel_init, kernel_key, (input_size, hidden_size), 3, dtype),
        recurrent_kernel=init_blocks(
            recurrent_init, recurrent_key, (hidden_size, hidden_size), 3, dtype
        ),
        bias=bias_init(bias_key, (3 * hidden_size,), dtype) + jnp.concatenate([none, update, none]),
        recurrent_bias=bias_init(recurrent_bias_key, (3 * hidden_size,), dtype),
    )


def initial_carry(hidden_size: int, batch_shape: tuple[int, ...], dtype=jnp.float32) -> GRUCarry:
    return GRUCarry(jnp.zeros((*batch_shape, hidden_size), dtype))


def project_inputs(params: GRUParams, xs: Array) -> GRUGates:
    biases = jnp.split(params.bias, 3)
    return GRUGates(*[z + b for z, b in zip(project(xs, params.kernel, 3), biases, strict=True)])


def project_carry(params: GRUParams, carry: GRUCarry, recurrent_weight: Array) -> GRUGates:
    products = project(carry.hidden, params.recurrent_kernel, 3)
    biases = jnp.split(params.recurrent_bias, 3)
    return GRUGates(*[recurrent_weight * p + b for p, b in zip(products, biases, strict=True)])


def gates(drive: GRUGates, recurrent: GRUGates, hold: Hold = free) -> GRUGates:
    reset = hold("reset", jax.nn.sigmoid(drive.reset + recurrent.reset))
    candidate = jnp.tanh(drive.candidate + reset * recurrent.candidate)
    return GRUGates(
        reset=reset,
        update=hold("update", jax.nn.sigmoid(drive.update + recurrent.update)),
        candidate=hold("candidate", candidate),
    )


def update(carry: GRUCarry, gates: GRUGates, tap: GRUCarry) -> tuple[GRUCarry, Array]:
    hidden = gates.candidate + gates.update * (carry.hidden - gates.candidate) + tap.hidden
    return GRUCarry(hidden), hidden


@cell_factory
def gru(hidden_size: int) -> Cell:
    """Make a GRU cell of ``hidden_size`` units."""
    return Cell(
        name="gru",
        hidden_size=hidden_size,
        init=partial(init, hidden_size),
        initial_carry=partial(initial_carry, hidden_size),
        project_inputs=project_inputs,
        project_carry=project_carry,
        gates=gates,
        update=update,
    )
