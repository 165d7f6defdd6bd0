"""Numbers of any size as (digits, power of two): what keeps norms and clips right at every scale.

A tree of leaves [B, H] belongs to one gradient a sequence; its exponent [B] is that of the largest
entry over all leaves. Powers of two change no digit.
"""

import jax
import jax.numpy as jnp

from rnn_jax.types import Array


def exponent(leaves) -> Array:
    """Exponent of the largest entry over all leaves, int32 [B], such that 2^±exponent is normal."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), axis=-1) for leaf in leaves]), axis=0)
    info, integer = _float_layout(largest.dtype)
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(largest), integer)
    biased = (bits >> info.nmant).astype(jnp.int32)
    return jnp.clip(biased + (info.minexp - 1), info.minexp, -info.minexp)


def times_power(tree, power: Array):
    """Multiply each leaf [B, H] by 2^power, made from its exponent bits.

    power: minexp to -minexp of the dtype; minexp - 1, whose bits are all 0, multiplies by 0.
    """

    def times(leaf):
        info, integer = _float_layout(leaf.dtype)
        biased = (power - (info.minexp - 1)).astype(integer)
        factor = jax.lax.bitcast_convert_type(biased << info.nmant, leaf.dtype)
        return leaf * factor[..., None]

    return jax.tree.map(times, tree)


def scaled_norm(leaves) -> tuple[Array, Array]:
    """Take the norm over all leaves' last axes as (exponent, digits): it is digits * 2^exponent.

    At least in float32. The digits of zeros are 0; with an inf they are inf, with a nan nan.
    """
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
    all_zero = jnp.all(jnp.stack([jnp.all(leaf == 0, axis=-1) for leaf in wide]), axis=0)
    # opaque, and 1 for zeros: XLA turns (a c)² with a known c into a² c², and c² may be inf
    power = jax.lax.optimization_barrier(jnp.where(all_zero, 0, exponent(wide)))
    square = sum(jnp.sum(jnp.square(leaf), axis=-1) for leaf in times_power(wide, -power))
    is_zero = square == 0  # where the square root has no derivative
    return power, jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, square)))


def power_of_two(power: Array, dtype) -> Array:
    """2^power, for powers of normal numbers."""
    (factor,) = times_power((jnp.ones((*power.shape, 1), dtype),), power)
    return factor[..., 0]


def _float_layout(dtype):
    info = jnp.finfo(dtype)
    return info, jnp.dtype(f"int{info.bits}")
