"""Outputs over time -> one vector a text: what the readout reads.

    last       y_T, the output of the last valid step; of a reverse layer that of step 1
    mean       1/T Σ_t y_t
    max        max_t y_t, unit by unit
    attention  Σ_t a_t y_t,  a = softmax_t(v·tanh(y_t W))    (Yang et al. 2016, eq. 5-7)

Pure functions of ys [T, B, F] and lengths [B] -> [B, F]. What stands past a length is never read;
a text of length 0 gives zeros.

References: Yang et al. (2016), Hierarchical attention networks, doi 10.18653/v1/N16-1174 (without
their bias).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from rnn_jax.cells.initializers import gaussian, glorot_uniform
from rnn_jax.types import Array, Key


def last_pool(ys: Array, lengths: Array, is_reverse: bool = False) -> Array:
    """Take the output of the step that was read last."""
    last = jnp.zeros_like(lengths) if is_reverse else jnp.maximum(lengths - 1, 0)
    picked = jnp.take_along_axis(ys, last[None, :, None], axis=0)[0]
    return jnp.where(lengths[:, None] > 0, picked, 0)


def mean_pool(ys: Array, lengths: Array) -> Array:
    """Average over the valid steps."""
    total = jnp.sum(_masked(ys, lengths, 0), axis=0)
    return total / jnp.maximum(lengths, 1)[:, None].astype(ys.dtype)


def max_pool(ys: Array, lengths: Array) -> Array:
    """Take the maximum over the valid steps, unit by unit."""
    largest = jnp.max(_masked(ys, lengths, _lowest(ys)), axis=0)
    return jnp.where(lengths[:, None] > 0, largest, 0)


class AttentionParams(NamedTuple):
    kernel: Float[Array, "F F"]
    vector: Float[Array, "F"]


def init_attention(key: Key, size: int, dtype=jnp.float32) -> AttentionParams:
    """Draw the parameters of ``attention_pool``."""
    kernel_key, vector_key = jax.random.split(key)
    return AttentionParams(
        kernel=glorot_uniform(kernel_key, (size, size), dtype),
        vector=gaussian()(vector_key, (size,), dtype),
    )


def attention_pool(params: AttentionParams, ys: Array, lengths: Array) -> Array:
    """Average over the valid steps, weighed by a softmax of v·tanh(y_t W)."""
    ys = _masked(ys, lengths, 0)
    scores = jnp.tanh(ys @ params.kernel) @ params.vector  # [T, B]
    weights = jax.nn.softmax(jnp.where(_valid(ys, lengths), scores, _lowest(ys)), axis=0)
    return jnp.sum(weights[..., None] * ys, axis=0)


def _masked(ys: Array, lengths: Array, fill: float) -> Array:
    return jnp.where(_valid(ys, lengths)[..., None], ys, fill)


def _valid(ys: Array, lengths: Array) -> Array:
    """Tell [T, B] which steps are within their lengths."""
    return jnp.arange(ys.shape[0])[:, None] < lengths


def _lowest(ys: Array) -> float:
    """Return the lowest finite number: over nothing but it a softmax is no nan."""
    return float(jnp.finfo(ys.dtype).min)
