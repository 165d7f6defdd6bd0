"""Read a gradient's course over time in three numbers: slope, horizon, regime.

All take ln‖dL/dcarry_t‖ as ``gradient_flow`` gives it: [T+1, ...], t = 0 first, nan past a length.
"""

import jax.numpy as jnp
import numpy as np

from rnn_jax.checks import check_whole
from rnn_jax.types import Array

REGIMES = ("vanishing", "neutral", "exploding")


def slope(log_norm: Array | np.ndarray, drop_first: int = 0) -> Array:
    """Fit ln‖dL/dcarry_t‖ ≈ a + slope · (T - t) by least squares: growth per step backwards.

    For a linear network with an orthogonal recurrent matrix it is ln w; for a large random tanh
    network it tends to the largest Lyapunov exponent.

    Args:
      log_norm: [T+1, ...].
      drop_first: leave out t < drop_first, where the state has not yet reached its regime.
    Returns:
      [...], natural log per step; -inf where the gradient reached exactly zero in the fitted
      steps, nan where fewer than two steps are known.
    """
    log_norm = jnp.asarray(log_norm)
    check_whole("drop_first", drop_first, 0)
    if drop_first > log_norm.shape[0] - 2:
        raise ValueError(
            f"drop_first is {drop_first}; allowed: 0 to {log_norm.shape[0] - 2} "
            f"({log_norm.shape[0]} steps, two at least are fitted)"
        )
    log_norm = log_norm[drop_first:]
    steps_back = -jnp.arange(log_norm.shape[0], dtype=log_norm.dtype)
    steps_back = steps_back.reshape(-1, *[1] * (log_norm.ndim - 1))
    known = jnp.isfinite(log_norm)
    count = jnp.sum(known, axis=0)

    def centred(values):
        values = jnp.where(known, values, 0)
        return jnp.where(known, values - jnp.sum(values, axis=0) / count, 0)

    x = centred(jnp.broadcast_to(steps_back, log_norm.shape))
    fitted = jnp.sum(x * centred(log_norm), axis=0) / jnp.sum(x * x, axis=0)
    fitted = jnp.where(count < 2, jnp.nan, fitted)
    return jnp.where(jnp.any(log_norm == -jnp.inf, axis=0), -jnp.inf, fitted)


def horizon(log_norm: Array | np.ndarray) -> Array:
    """Count the steps back from the end until the norm has changed by a factor e, either way.

    Args:
      log_norm: [T+1, ...].
    Returns:
      [...], whole numbers as floats; inf where it does not change so much, nan where the
      last norm is unknown or zero.
    """
    log_norm = jnp.asarray(log_norm)
    times = jnp.arange(log_norm.shape[0]).reshape(-1, *[1] * (log_norm.ndim - 1))
    known = ~jnp.isnan(log_norm)
    end = jnp.max(jnp.where(known, times, -1), axis=0)
    at_end = jnp.take_along_axis(log_norm, jnp.maximum(end, 0)[None], axis=0)
    changed = known & (jnp.abs(log_norm - at_end) >= 1.0)
    latest = jnp.max(jnp.where(changed, times, -1), axis=0)
    steps = jnp.where(latest < 0, jnp.inf, (end - latest).astype(log_norm.dtype))
    return jnp.where((end < 0) | (at_end[0] == -jnp.inf), jnp.nan, steps)


def regime(slope: float, num_steps: int) -> str:
    """Name the regime: does the fitted line change by a factor e or more over the sequence?

    vanishing if slope · num_steps <= -1, exploding if >= 1, neutral between, unknown for nan.
    """
    if slope != slope:
        return "unknown"
    change = slope * num_steps
    return REGIMES[0] if change <= -1.0 else REGIMES[2] if change >= 1.0 else REGIMES[1]
