"""How a token is drawn from logits: temperature, then top-k, then top-p, then a draw.

    temperature  p_v ∝ exp(l_v / τ); τ = 0 is its limit: the most probable symbol, "greedy"
    top-k        only the k most probable symbols (Fan et al. 2018)
    top-p        only the nucleus: the smallest set of most probable symbols whose probability,
                 after temperature and top-k, reaches p (Holtzman et al. 2020)

Of symbols that are as probable as each other the one with the lower index comes first, so each of
these sets is one set. A draw from softmax(l) is argmax_v (l_v + g_v), g_v Gumbel noise.

References: Fan, Lewis, Dauphin (2018), Hierarchical neural story generation, arXiv 1805.04833;
Holtzman et al. (2020), The curious case of neural text degeneration, arXiv 1904.09751.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.checks import check_whole
from rnn_jax.types import Array, Key


class Sampling(NamedTuple):
    """How a token is drawn; hashable. Temperature first, then top-k, then top-p."""

    temperature: float = 1.0  # 0: the most probable token
    top_k: int | None = None  # None, or V and more: no limit
    top_p: float = 1.0  # 1: no limit


PLAIN = Sampling()  # from what the model predicts, as it is


def check_sampling(sampling: Sampling) -> None:
    """Check the settings; a ValueError of one line says which is out of range."""
    largest = float(jnp.finfo(jnp.float32).max)
    if not 0 <= sampling.temperature <= largest:
        raise ValueError(f"temperature is {sampling.temperature}; allowed: 0 to {largest:.3g}")
    if sampling.top_k is not None:
        check_whole("top_k", sampling.top_k, 1)
    if not 0 < sampling.top_p <= 1:
        raise ValueError(f"top_p is {sampling.top_p}; allowed: above 0, up to 1")


def scale(logits: Array, temperature: float | Array) -> Array:
    """Divide logits [.., V] by the temperature, the largest set to 0 first: nothing overflows.

    Temperature 0 leaves the most probable symbol alone, of equals the one of the lowest index.
    """
    logits = _working(logits)
    temperature = jnp.asarray(temperature, logits.dtype)
    best = jnp.argmax(logits, axis=-1, keepdims=True)
    below = logits - jnp.take_along_axis(logits, best, axis=-1)
    greedy = jnp.where(jnp.arange(logits.shape[-1]) == best, 0, -jnp.inf)
    return jnp.where(temperature == 0, greedy, below / jnp.where(temperature == 0, 1, temperature))


def keep_top_k(logits: Array, k: int | Array) -> Array:
    """Keep the k most probable symbols of logits [.., V], the others become -inf; k >= V: all."""
    if not isinstance(k, jax.Array) and k >= jnp.shape(logits)[-1]:
        return _working(logits)
    return _keep_fewest(_working(logits), jnp.ones((), jnp.int32), k)


def keep_top_p(logits: Array, p: float | Array) -> Array:
    """Keep the nucleus of logits [.., V], the other symbols become -inf; p = 1: all."""
    logits = _working(logits)
    if not isinstance(p, jax.Array) and p >= 1:
        return logits
    p = jnp.maximum(jnp.asarray(p, logits.dtype), jnp.finfo(logits.dtype).tiny)
    kept = _keep_fewest(logits, jax.nn.softmax(logits, axis=-1), p)
    return jnp.where(p < 1, kept, logits)  # a rounded sum may reach 1 before the last symbol


def sample(key: Key, logits: Array, sampling: Sampling = PLAIN) -> Array:
    """Draw tokens [..] from logits [.., V]; pure: ``check_sampling`` checks the settings."""
    temperature, top_k, top_p = sampling
    logits = scale(logits, temperature)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    return jax.random.categorical(key, keep_top_p(logits, top_p))


def _keep_fewest(logits: Array, weights: Array, total: int | Array) -> Array:
    """Keep the fewest of the most probable symbols whose weights together reach a total.

    Without a sort, which takes 15 times as long on a CPU: the logit of the last one that is kept is
    found bit by bit, the largest at or above which the weights reach the total.
    """
    order = _ordered_bits(logits)
    num_bits = 8 * order.dtype.itemsize

    def weight(is_chosen):
        return jnp.sum(jnp.where(is_chosen, weights, 0), axis=-1, keepdims=True)

    def add_bit(i, border):
        higher = border | (jnp.ones((), order.dtype) << (num_bits - 1 - i).astype(order.dtype))
        return jnp.where(weight(order >= higher) >= total, higher, border)

    border = jax.lax.fori_loop(0, num_bits, add_bit, jnp.zeros_like(order[..., :1]))
    is_equal = order == border
    before = weight(order > border) + weights * (jnp.cumsum(is_equal, axis=-1) - 1)
    return jnp.where((order > border) | is_equal & (before < total), logits, -jnp.inf)


def _ordered_bits(a: Array) -> Array:
    """Map floats to unsigned integers in the same order."""
    a = jnp.where(a == 0, 0, a)  # -0 is 0
    unsigned = jnp.dtype(f"uint{8 * a.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(a, unsigned)
    sign = jnp.ones((), unsigned) << jnp.asarray(8 * a.dtype.itemsize - 1, unsigned)
    return jnp.where(bits & sign, ~bits, bits | sign)


def _working(logits: Array) -> Array:
    logits = jnp.asarray(logits)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
