"""minGRU, a minimal GRU (Feng et al. 2024, https://arxiv.org/abs/2410.01201, section 3.1).

    z = σ(W_z x_t + b_z)        update gate
    n = W_n x_t + b_n           candidate
    h_t = (1 - z) w h_{t-1} + z n,    y_t = h_t

A GRU without its reset gate, without tanh, and whose gate and candidate do not read the state. So
there is no recurrent matrix: w multiplies the state itself as it enters the update, and w = 1 is
the published cell. The recurrence is element-wise, and affine in the state.
Here z = 1 replaces the state, as in the paper; the update gate of ``gru.py`` keeps it. It is not
the MGU of Zhou et al. (2016), whose gate reads the state.
The paper's log-space version makes candidates positive instead, n + 1/2 above 0 and σ(n) below, and
sums logarithms; this is its plain version.
Order in the arrays: z, candidate. Parameters for I = H = d: 2 d² + 2 d.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, free, init_blocks, memory_gate_bias, project
from rnn_jax.types import Array, Hold, Initializer, Key


class MinGRUParams(NamedTuple):
    kernel: Float[Array, "I 2*H"]
    bias: Float[Array, "2*H"]


class MinGRUCarry(NamedTuple):
    hidden: Float[Array, "*B H"]


class MinGRUDrive(NamedTuple):
    update: Float[Array, "*B H"]
    candidate: Float[Array, "*B H"]


class MinGRUGates(NamedTuple):
    update: Float[Array, "*B H"]
    candidate: Float[Array, "*B H"]
    previous: Float[Array, "*B H"]  # w h_{t-1}, which the update gate mixes with the candidate


def init(
    hidden_size: int,
    key: Key,
    input_size: int,
    dtype=jnp.float32,
    *,
    kernel_init: Initializer = initializers.glorot_uniform,
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = initializers.zeros,
    forget_bias: float | Initializer = 0.0,
) -> MinGRUParams:
    """``recurrent_init`` draws nothing here: every cell takes it, this one has nothing recurrent.

    forget_bias: of 1 - z, the gate that keeps the state, as the bias of a forget gate: b_z is minus
    that, since 1 - σ(a) = σ(-a).
    """
    kernel_key, bias_key, forget_key = jax.random.split(key, 3)
    forget = memory_gate_bias(forget_bias, forget_key, hidden_size, dtype)
    return MinGRUParams(
        kernel=init_blocks(kernel_init, kernel_key, (input_size, hidden_size), 2, dtype),
        bias=bias_init(bias_key, (2 * hidden_size,), dtype)
        + jnp.concatenate([-forget, jnp.zeros_like(forget)]),
    )


def initial_carry(hidden_size: int, batch_shape: tuple[int, ...], dtype=jnp.float32) -> MinGRUCarry:
    return MinGRUCarry(jnp.zeros((*batch_shape, hidden_size), dtype))


def project_inputs(params: MinGRUParams, xs: Array) -> MinGRUDrive:
    biases = jnp.split(params.bias, 2)
    return MinGRUDrive(*[z + b for z, b in zip(project(xs, params.kernel, 2), biases, strict=True)])


def project_carry(params: MinGRUParams, carry: MinGRUCarry, recurrent_weight: Array) -> Array:
    return recurrent_weight * carry.hidden


def gates(drive: MinGRUDrive, recurrent: Array, hold: Hold = free) -> MinGRUGates:
    return MinGRUGates(
        update=hold("update", jax.nn.sigmoid(drive.update)),
        candidate=hold("candidate", drive.candidate),
        previous=hold("previous", recurrent),
    )


def update(carry: MinGRUCarry, gates: MinGRUGates, tap: MinGRUCarry) -> tuple[MinGRUCarry, Array]:
    hidden = (1 - gates.update) * gates.previous + gates.update * gates.candidate + tap.hidden
    return MinGRUCarry(hidden), hidden


@cell_factory
def min_gru(hidden_size: int) -> Cell:
    """Make a minGRU cell of ``hidden_size`` units."""
    return Cell(
        name="min_gru",
        hidden_size=hidden_size,
        init=partial(init, hidden_size),
        initial_carry=partial(initial_carry, hidden_size),
        project_inputs=project_inputs,
        project_carry=project_carry,
        gates=gates,
        update=update,
        elementwise=True,
    )
