"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    i = σ(W_i x_t + b_i + w R_i h_{t-1})        input gate
    f = σ(W_f x_t + b_f + w R_f h_{t-1})        forget gate
    g = tanh(W_g x_t + b_g + w R_g h_{t-1})     candidate
    o = σ(W_o x_t + b_o + w R_o h_{t-1})        output gate
    c_t = f c_{t-1} + i g
    h_t = o tanh(c_t),    y_t = h_t

Gate order in the arrays: i, f, g, o. Parameters for I = H = d: 8 d² + 4 d.
The forget bias is 1 by default (Jozefowicz et al. 2015).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, free, init_blocks, memory_gate_bias, project
from rnn_jax.types import Array, Hold, Initializer, Key


class LSTMParams(NamedTuple):
    kernel: Float[Array, "I 4*H"]
    recurrent_kernel: Float[Array, "H 4*H"]
    bias: Float[Array, "4*H"]


class LSTMCarry(NamedTuple):
    hidden: Float[Array, "*B H"]
    cell: Float[Array, "*B H"]


class LSTMGates(NamedTuple):
    """Also the shape of what the inputs and the state send to each gate."""

    input: Float[Array, "*B H"]
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
) -> LSTMParams:
    kernel_key, recurrent_key, bias_key, forget_key = jax.random.split(key, 4)
    forget = memory_gate_bias(forget_bias, forget_key, hidden_size, dtype)
    none = jnp.zeros_like(forget)
    closing = -forget if isinstance(forget_bias, initializers.Chrono) else none  # b_i = -b_f
    return LSTMParams(
        kernel=init_blocks(kernel_init, kernel_key, (input_size, hidden_size), 4, dtype),
        recurrent_kernel=init_blocks(
            recurrent_init, recurrent_key, (hidden_size, hidden_size), 4, dtype
        ),
        bias=bias_init(bias_key, (4 * hidden_size,), dtype)
        + jnp.concatenate([closing, forget, none, none]),
    )


def initial_carry(hidden_size: int, batch_shape: tuple[int, ...], dtype=jnp.float32) -> LSTMCarry:
    zeros = jnp.zeros((*batch_shape, hidden_size), dtype)
    return LSTMCarry(zeros, zeros)


def project_inputs(params: LSTMParams, xs: Array) -> LSTMGates:
    biases = jnp.split(params.bias, 4)
    return LSTMGates(*[z + b for z, b in zip(project(xs, params.kernel, 4), biases, strict=True)])


def project_carry(params: LSTMParams, carry: LSTMCarry, recurrent_weight: Array) -> LSTMGates:
    products = project(carry.hidden, params.recurrent_kernel, 4)
    return LSTMGates(*[recurrent_weight * product for product in products])


def gates(drive: LSTMGates, recurrent: LSTMGates, hold: Hold = free) -> LSTMGates:
    return LSTMGates(
        input=hold("input", jax.nn.sigmoid(drive.input + recurrent.input)),
        forget=hold("forget", jax.nn.sigmoid(drive.forget + recurrent.forget)),
        candidate=hold("candidate", jnp.tanh(drive.candidate + recurrent.candidate)),
        output=hold("output", jax.nn.sigmoid(drive.output + recurrent.output)),
    )


def update(carry: LSTMCarry, gates: LSTMGates, tap: LSTMCarry) -> tuple[LSTMCarry, Array]:
    cell = gates.forget * carry.cell + gates.input * gates.candidate + tap.cell
    hidden = gates.output * jnp.tanh(cell) + tap.hidden
    return LSTMCarry(hidden, cell), hidden


@cell_factory
def lstm(hidden_size: int) -> Cell:
    """Make an LSTM cell of ``hidden_size`` units."""
    return Cell(
        name="lstm",
        hidden_size=hidden_size,
        init=partial(init, hidden_size),
        initial_carry=partial(initial_carry, hidden_size),
        project_inputs=project_inputs,
        project_carry=project_carry,
        gates=gates,
        update=update,
    )
