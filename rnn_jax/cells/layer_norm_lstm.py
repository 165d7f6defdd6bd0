"""LSTM with layer-normalized projections (Ba, Kiros & Hinton 2016, arXiv 1607.06450, eq. 20, 21).

    a = LN(W x_t; s) + LN(w R h_{t-1}; s') + b        [4H]: i, f, g, o
    i, f, o = σ(a_i), σ(a_f), σ(a_o);  g = tanh(a_g)
    c_t = f c_{t-1} + i g
    h_t = o tanh(c_t),    y_t = h_t

    LN(a; s) = s ⊙ (a - mean a) / sqrt(var a + ε),  over all 4H entries

The norm is over the four gates together, as in the paper; s and s' are its gains, 1 at first; b
stands for its three biases. The paper also normalizes c_t before its tanh (eq. 22): here c_t is the
LSTM's, so that the path through the cell stays what it is there.

LN(w R h) hardly depends on the size of w or of R (section 5.1): in a sweep over w > 0 this cell
does nearly the same everywhere, until w R h is so small that ε counts, and dL/dw is near 0. At
h = 0 the norm's derivative is s' / sqrt(ε), 316 for ε = 1e-5: the gradient by a zero initial state
is large.
Gate order i, f, g, o. Parameters for I = H = d: 8 d² + 12 d. The forget bias is 1 by default.
"""

import math
import numbers
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells import initializers
from rnn_jax.cells.base import Cell, cell_factory, free, multiply
from rnn_jax.cells.lstm import LSTMCarry, LSTMGates, lstm
from rnn_jax.cells.lstm import gates as lstm_gates
from rnn_jax.cells.lstm import init as lstm_init
from rnn_jax.types import Array, Hold, Initializer, Key


class LayerNormLSTMParams(NamedTuple):
    kernel: Float[Array, "I 4*H"]
    recurrent_kernel: Float[Array, "H 4*H"]
    bias: Float[Array, "4*H"]
    input_scale: Float[Array, "4*H"]  # s
    recurrent_scale: Float[Array, "4*H"]  # s'


class LayerNormRecurrent(NamedTuple):
    """The norm is not affine in the state, so ``gates`` takes it, and gets its gain from here."""

    product: Float[Array, "*B 4*H"]  # w R h
    scale: Float[Array, "*B 4*H"]  # s', a constant in the state


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
) -> LayerNormLSTMParams:
    """The LSTM's parameters, and gains of 1."""
    plain = lstm_init(
        hidden_size,
        key,
        input_size,
        dtype,
        kernel_init=kernel_init,
        recurrent_init=recurrent_init,
        bias_init=bias_init,
        forget_bias=forget_bias,
    )
    ones = jnp.ones_like(plain.bias)
    return LayerNormLSTMParams(*plain, input_scale=ones, recurrent_scale=ones)


def normalize(a: Array, epsilon: float) -> Array:
    """Bring the last axis to mean 0 and variance 1, or less where its variance is near epsilon.

    Computed in float32 at least: in float16 a square of 300 is inf already.
    """
    wide = a.astype(jnp.promote_types(a.dtype, jnp.float32))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + epsilon)).astype(a.dtype)


def project_inputs(epsilon: float, params: LayerNormLSTMParams, xs: Array) -> LSTMGates:
    normalized = params.input_scale * normalize(multiply(xs, params.kernel), epsilon)
    return LSTMGates(*jnp.split(normalized + params.bias, 4, axis=-1))


def project_carry(
    params: LayerNormLSTMParams, carry: LSTMCarry, recurrent_weight: Array
) -> LayerNormRecurrent:
    product = recurrent_weight * (carry.hidden @ params.recurrent_kernel)
    return LayerNormRecurrent(product, jnp.broadcast_to(params.recurrent_scale, product.shape))


def gates(
    epsilon: float, drive: LSTMGates, recurrent: LayerNormRecurrent, hold: Hold = free
) -> LSTMGates:
    normalized = recurrent.scale * normalize(recurrent.product, epsilon)
    return lstm_gates(drive, LSTMGates(*jnp.split(normalized, 4, axis=-1)), hold)


@cell_factory
def layer_norm_lstm(hidden_size: int, epsilon: float = 1e-5) -> Cell:
    """Make a layer-normalized LSTM cell of ``hidden_size`` units; carry and update are the LSTM's.

    Between the passes it keeps more than an LSTM: the gains beside the product, at every step.

    Args:
      hidden_size: H.
      epsilon: ε, above 0, added to the variance.
    """
    if (
        not isinstance(epsilon, numbers.Real)
        or isinstance(epsilon, bool)
        or not 0 < epsilon < math.inf
    ):
        raise ValueError(f"epsilon is {epsilon!r}; allowed: a finite number above 0")
    return lstm(hidden_size)._replace(
        name="layer_norm_lstm",
        init=partial(init, hidden_size),
        project_inputs=partial(project_inputs, epsilon),
        project_carry=project_carry,
        gates=partial(gates, epsilon),
    )
