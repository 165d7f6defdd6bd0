"""Simple recurrent unit (Lei et al. 2018, arXiv 1709.02755, eq. 1-4 and the state in the gates).

    f = σ(W_f x_t + w v_f c_{t-1} + b_f)          forget gate
    r = σ(W_r x_t + w v_r c_{t-1} + b_r)          reset gate, of the highway connection
    c_t = f c_{t-1} + (1 - f) W x_t
    h_t = r c_t + (1 - r) x_t,    y_t = h_t

The state is c alone, and the recurrence is element-wise: v_f and v_r are vectors.
With I ≠ H the skip term x_t is a fourth projection of x; with ``projects_skip`` also with I = H:
the sru package scales x there.
Order in the arrays: candidate, f, r (, skip). Parameters for I = H = d: 3 d² + 4 d.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import (
    Cell,
    cell_factory,
    free,
    init_blocks,
    init_vector,
    memory_gate_bias,
    project,
)
from rnn_jax.types import Array, Hold, Initializer, Key


class SRUParams(NamedTuple):
    kernel: Float[Array, "I 3*H"]  # or [I, 4H]: always where I ≠ H
    recurrent_vector: Float[Array, "2*H"]  # v_f, v_r
    bias: Float[Array, "2*H"]  # b_f, b_r


class SRUCarry(NamedTuple):
    cell: Float[Array, "*B H"]


class SRUGates(NamedTuple):
    """Also the shape of what the inputs send to each gate; the last two are linear in x."""

    forget: Float[Array, "*B H"]
    reset: Float[Array, "*B H"]
    candidate: Float[Array, "*B H"]  # W x_t
    skip: Float[Array, "*B H"]  # x_t, or its projection


class SRURecurrent(NamedTuple):
    forget: Float[Array, "*B H"]
    reset: Float[Array, "*B H"]


def init(
    hidden_size: int,
    projects_skip: bool,
    key: Key,
    input_size: int,
    dtype=jnp.float32,
    *,
    kernel_init: Initializer = initializers.glorot_uniform,
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = initializers.zeros,
    forget_bias: float | Initializer = 0.0,
) -> SRUParams:
    """Each entry of v_f and v_r is drawn as a 1 × 1 recurrent matrix: orthogonal gives ±gain."""
    kernel_key, recurrent_key, bias_key, forget_key = jax.random.split(key, 4)
    forget = memory_gate_bias(forget_bias, forget_key, hidden_size, dtype)
    blocks = 4 if projects_skip or input_size != hidden_size else 3
    return SRUParams(
        kernel=init_blocks(kernel_init, kernel_key, (input_size, hidden_size), blocks, dtype),
        recurrent_vector=init_vector(recurrent_init, recurrent_key, 2 * hidden_size, dtype),
        bias=bias_init(bias_key, (2 * hidden_size,), dtype)
        + jnp.concatenate([forget, jnp.zeros_like(forget)]),
    )


def initial_carry(hidden_size: int, batch_shape: tuple[int, ...], dtype=jnp.float32) -> SRUCarry:
    return SRUCarry(jnp.zeros((*batch_shape, hidden_size), dtype))


def project_inputs(params: SRUParams, xs: Array) -> SRUGates:
    hidden_size = params.bias.shape[-1] // 2
    candidate, forget, reset, *skip = project(
        xs, params.kernel, params.kernel.shape[-1] // hidden_size
    )
    forget_bias, reset_bias = jnp.split(params.bias, 2)
    return SRUGates(
        forget=forget + forget_bias,
        reset=reset + reset_bias,
        candidate=candidate,
        skip=skip[0] if skip else xs,
    )


def project_carry(params: SRUParams, carry: SRUCarry, recurrent_weight: Array) -> SRURecurrent:
    forget, reset = jnp.split(params.recurrent_vector, 2)
    return SRURecurrent(
        forget=recurrent_weight * (forget * carry.cell),
        reset=recurrent_weight * (reset * carry.cell),
    )


def gates(drive: SRUGates, recurrent: SRURecurrent, hold: Hold = free) -> SRUGates:
    return SRUGates(
        forget=hold("forget", jax.nn.sigmoid(drive.forget + recurrent.forget)),
        reset=hold("reset", jax.nn.sigmoid(drive.reset + recurrent.reset)),
        candidate=hold("candidate", drive.candidate),
        skip=hold("skip", drive.skip),
    )


def update(carry: SRUCarry, gates: SRUGates, tap: SRUCarry) -> tuple[SRUCarry, Array]:
    cell = gates.candidate + gates.forget * (carry.cell - gates.candidate) + tap.cell
    output = gates.skip + gates.reset * (cell - gates.skip)
    return SRUCarry(cell), output


@cell_factory
def sru(hidden_size: int, projects_skip: bool = False) -> Cell:
    """Make an SRU cell of ``hidden_size`` units.

    Raises:
      ValueError: ``projects_skip`` is not a boolean.
    """
    if not isinstance(projects_skip, bool):
        raise ValueError(f"projects_skip is {projects_skip!r}; allowed: True, False")
    return Cell(
        name="sru",
        hidden_size=hidden_size,
        init=partial(init, hidden_size, projects_skip),
        initial_carry=partial(initial_carry, hidden_size),
        project_inputs=project_inputs,
        project_carry=project_carry,
        gates=gates,
        update=update,
        elementwise=True,
    )
