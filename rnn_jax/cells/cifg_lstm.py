"""LSTM with coupled input and forget gate (Greff et al. 2017, https://arxiv.org/abs/1503.04069).

    f = σ(W_f x_t + b_f + w R_f h_{t-1})        forget gate; the input gate is i = 1 - f
    g = tanh(W_g x_t + b_g + w R_g h_{t-1})     candidate
    o = σ(W_o x_t + b_o + w R_o h_{t-1})        output gate
    c_t = f c_{t-1} + (1 - f) g
    h_t = o tanh(c_t),    y_t = h_t

Their variant CIFG, here of an LSTM without peepholes. The cell is a moving average of
candidates: |c_t| stays below 1. Gate order in the arrays: f, g, o. Parameters for I = H = d:
6 d² + 3 d. The forget bias is 1 by default, as the LSTM's. ``chrono`` needs no second bias: where
b_i = -b_f, an LSTM's input gate is 1 - f but for what W and R add.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, free, init_blocks, memory_gate_bias, project
from rnn_jax.cells.lstm import LSTMCarry, lstm
from rnn_jax.types import Array, Hold, Initializer, Key


class CIFGParams(NamedTuple):
    kernel: Float[Array, "I 3*H"]
    recurrent_kernel: Float[Array, "H 3*H"]
    bias: Float[Array, "3*H"]


class CIFGGates(NamedTuple):
    """Also the shape of what the inputs and the state send to each gate."""

    forget: Float[Array, "*B H"]
    candidate: Float[Array, "*B H"]
    output: Float[Array, "*B H"]


def init(
    hidden_size: int,
    key: Key,
    input_size: int,
    dtype=jnp.float32,
    *,
    kernel_init: Initializer = initializers.glorot_uniform,
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = initializers.zeros,
    forget_bias: float | Initializer = 1.0,
) -> CIFGParams:
    kernel_key, recurrent_key, bias_key, forget_key = jax.random.split(key, 4)
    forget = memory_gate_bias(forget_bias, forget_key, hidden_size, dtype)
    none = jnp.zeros_like(forget)
    return CIFGParams(
        kernel=init_blocks(kernel_init, kernel_key, (input_size, hidden_size), 3, dtype),
        recurrent_kernel=init_blocks(
            recurrent_init, recurrent_key, (hidden_size, hidden_size), 3, dtype
        ),
        bias=bias_init(bias_key, (3 * hidden_size,), dtype) + jnp.concatenate([forget, none, none]),
    )


def project_inputs(params: CIFGParams, xs: Array) -> CIFGGates:
    biases = jnp.split(params.bias, 3)
    return CIFGGates(*[z + b for z, b in zip(project(xs, params.kernel, 3), biases, strict=True)])


def project_carry(params: CIFGParams, carry: LSTMCarry, recurrent_weight: Array) -> CIFGGates:
    products = project(carry.hidden, params.recurrent_kernel, 3)
    return CIFGGates(*[recurrent_weight * product for product in products])


def gates(drive: CIFGGates, recurrent: CIFGGates, hold: Hold = free) -> CIFGGates:
    return CIFGGates(
        forget=hold("forget", jax.nn.sigmoid(drive.forget + recurrent.forget)),
        candidate=hold("candidate", jnp.tanh(drive.candidate + recurrent.candidate)),
        output=hold("output", jax.nn.sigmoid(drive.output + recurrent.output)),
    )


def update(carry: LSTMCarry, gates: CIFGGates, tap: LSTMCarry) -> tuple[LSTMCarry, Array]:
    cell = gates.forget * carry.cell + (1 - gates.forget) * gates.candidate + tap.cell
    hidden = gates.output * jnp.tanh(cell) + tap.hidden
    return LSTMCarry(hidden, cell), hidden


@cell_factory
def cifg_lstm(hidden_size: int) -> Cell:
    """Make a CIFG LSTM cell of ``hidden_size`` units; its carry is the LSTM's."""
    return lstm(hidden_size)._replace(
        name="cifg_lstm",
        init=partial(init, hidden_size),
        project_inputs=project_inputs,
        project_carry=project_carry,
        gates=gates,
        update=update,
    )
