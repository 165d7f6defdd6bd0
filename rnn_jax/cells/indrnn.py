"""Independently recurrent network (Li et al. 2018, https://arxiv.org/abs/1803.04831, eq. 2).

    h_t = f(W x_t + b + w u ⊙ h_{t-1}),    y_t = h_t

An Elman cell whose recurrent matrix is a diagonal, the vector u: a unit reads its own past alone,
and units meet in the layer above. The recurrence is element-wise. Parameters for I = H = d:
d² + 2 d. f is relu by default, as in the paper, or any activation of ``elman.py``.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, init_vector
from rnn_jax.cells.elman import ElmanCarry, elman
from rnn_jax.types import Array, Initializer, Key


class IndRNNParams(NamedTuple):
    kernel: Float[Array, "I H"]
    recurrent_vector: Float[Array, "H"]  # u
    bias: Float[Array, "H"]


def init(
    hidden_size: int,
    key: Key,
    input_size: int,
    dtype=jnp.float32,
    *,
    kernel_init: Initializer = initializers.glorot_uniform,
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = initializers.zeros,
) -> IndRNNParams:
    """Each entry of u is drawn as a 1 × 1 recurrent matrix: orthogonal gives ±gain.

    ``recurrent_init=identity()`` begins with u = 1, where a unit keeps what it has.
    """
    kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
    return IndRNNParams(
        kernel=kernel_init(kernel_key, (input_size, hidden_size), dtype),
        recurrent_vector=init_vector(recurrent_init, recurrent_key, hidden_size, dtype),
        bias=bias_init(bias_key, (hidden_size,), dtype),
    )


def project_carry(params: IndRNNParams, carry: ElmanCarry, recurrent_weight: Array) -> Array:
    return recurrent_weight * (params.recurrent_vector * carry.hidden)


@cell_factory
def indrnn(hidden_size: int, activation: str = "relu") -> Cell:
    """Make an IndRNN cell of ``hidden_size`` units: an Elman cell but for u.

    activation: relu, or another name of ``elman``.
    """
    return elman(hidden_size, activation)._replace(
        name="indrnn",
        init=partial(init, hidden_size),
        project_carry=project_carry,
        elementwise=True,
    )
