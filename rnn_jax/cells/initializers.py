"""Initializers: arguments of a cell's ``init``, each ``(key, shape, dtype) -> Array``.

A recurrent matrix [H, H] of every kind has a ``gain`` that multiplies it, so that its spectral
radius (orthogonal, identity) or its large-H spectral radius (gaussian) is the gain.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rnn_jax.linalg import one_by_one
from rnn_jax.types import Array, Initializer, Key

glorot_uniform: Initializer = jax.nn.initializers.glorot_uniform()
zeros: Initializer = jax.nn.initializers.zeros


def orthogonal(gain: float = 1.0) -> Initializer:
    """Draw gain * Q, Q uniform on the orthogonal matrices (Saxe et al. 2014, arXiv 1312.6120)."""
    gain = _finite("gain", gain)

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        wide = jnp.promote_types(dtype, jnp.float32)  # QR knows no shorter floats than float32
        return (gain * _orthogonal_of(tuple(shape), wide)(key)).astype(dtype)

    return init


@functools.lru_cache(maxsize=256)
def _orthogonal_of(shape: tuple[int, ...], dtype) -> Callable[[Key], Array]:
    """Cached, so that what ``one_by_one`` makes of it compiles once."""
    draw = jax.nn.initializers.orthogonal()
    return one_by_one(lambda key: draw(key, shape, dtype))


def gaussian(gain: float = 1.0) -> Initializer:
    """Draw entries from N(0, gain² / fan_in): spectral radius -> gain as H grows.

    Sompolinsky, Crisanti, Sommers (1988), doi 10.1103/PhysRevLett.61.259.
    """
    gain = _finite("gain", gain)

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        return gain / shape[0] ** 0.5 * jax.random.normal(key, shape, dtype)

    return init


def identity(gain: float = 1.0) -> Initializer:
    """Set gain * I, for ReLU networks (Le, Jaitly, Hinton 2015, arXiv 1504.00941)."""
    gain = _finite("gain", gain)

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        return gain * jnp.eye(*shape, dtype=dtype)

    return init


def uniform(scale: float = 1.0) -> Initializer:
    """Draw entries from U[-a, a], a = scale / sqrt(fan_in)."""
    scale = _finite("scale", scale)

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        bound = scale / shape[0] ** 0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Chrono(NamedTuple):
    """An initializer [H] made by ``chrono``; the LSTM ties its input gate's bias to it."""

    max_steps: float

    def __call__(self, key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
        """Draw ln U[1, max_steps - 1]."""
        return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, float(self.max_steps) - 1.0))


def chrono(max_steps: float) -> Chrono:
    """Draw a memory gate's bias as ln U[1, max_steps - 1]: time scales spread up to max_steps.

    Give it to ``forget_bias`` (LSTM, SRU) or ``update_bias`` (GRU). The LSTM then sets the bias of
    its input gate to the negative (Tallec & Ollivier 2018, arXiv 1804.11188, eq. 16).
    """
    if not 2 < max_steps < math.inf:
        raise ValueError(f"max_steps of chrono is {max_steps!r}; allowed: a number above 2")
    return Chrono(max_steps)


def _finite(name: str, value: float) -> float:
    if isinstance(value, Tracer):
        return value
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; allowed: a finite number")
    return float(value)
