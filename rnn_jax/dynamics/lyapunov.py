"""Lyapunov exponents: at what rates small differences between states grow, per step.

An orthonormal frame Q [D, k] rides along a trajectory (Benettin et al. 1980, doi
10.1007/BF02128236; Shimada & Nagashima 1979, doi 10.1143/PTP.61.1605):

    J_t Q_{t-1} = Q_t R_t,    λ_i = (1/T) Σ_t ln |R_t,ii|

The first vector turns to where growth is fastest, the second to where it is fastest across the
first, and so on; von Bremen, Udwadia, Proskurowski (1997) compare QR with other ways. For RNNs:
Vogt et al. (2022), doi 10.3389/fams.2022.818799; Engelken, Wolf, Abbott (2023), doi
10.1103/PhysRevResearch.5.043044. For large random networks ``mean_field`` says what to expect.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.base import Cell
from rnn_jax.checks import check_whole
from rnn_jax.dynamics.jacobian import check_network, highest_precision, make_flow, push
from rnn_jax.linalg import qr
from rnn_jax.recurrence import scan_time
from rnn_jax.types import Array, Carry, Key, Params

_NUM_BATCHES = 10  # few and long: their means are then hardly correlated (Schmeiser 1982)


class LyapunovSpectrum(NamedTuple):
    exponents: Array  # [k], natural log per step, downwards
    standard_errors: Array  # [k], those of the exponents in the same places


class Schedule(NamedTuple):
    """After ``warmup`` steps windows follow; each, and the warm-up, ends with a QR."""

    warmup: int
    window: int
    every: int  # steps from one QR to the next within them


def lyapunov_spectrum(
    cell: Cell,
    params: Params,
    xs: Array,
    *,
    initial_carry: Carry | None = None,
    recurrent_weight: float | Array = 1.0,
    num_exponents: int | None = None,
    warmup: int = 0,
    orthonormalize_every: int = 1,
    key: Key,
) -> LyapunovSpectrum:
    """Measure the k largest Lyapunov exponents along the trajectory that ``xs`` drives.

    Use float64 for the tail. QR knows R_ii no better than eps times the largest growth of its
    interval of m steps: an exponent more than -ln(eps)/m below the largest (16/m in float32, 36/m
    in float64) is rounding noise, or -inf where R_ii was rounded to 0. So are those of directions
    that a step kills (relu); units that are dead at every step counted make as many -inf.

    It is jitted inside, and equal calls do not trace again; ``jax.vmap`` it over params, xs,
    initial_carry, recurrent_weight or key. Memory grows with T (k + D): all steps' logs are kept.

    Args:
      cell: a Cell.
      params: its parameters.
      xs: inputs [T, I], float32 or float64; zeros for an autonomous network.
      initial_carry: Carry of [H]; None means zeros, which without inputs may be a fixed point.
      recurrent_weight: w, a scalar.
      num_exponents: k, 1 to D (the size of the flattened carry); None means D.
      warmup: steps that advance state and frame and are not counted, 0 to T - 1.
      orthonormalize_every: steps from one QR to the next; steps left over at the end count too.
      key: for the first frame, uniform on the orthonormal ones.
    Returns:
      LyapunovSpectrum. Standard errors are from batch means (Flegal & Jones 2010, doi
      10.1214/09-AOS735): the n orthonormalizations are cut into 10 batches (n, if fewer) that
      follow each other without overlap (what is left over is in the exponents only), and the
      error is the standard deviation of their means over √(number of batches). It is too small
      where the trajectory remembers for longer than a batch, as gated cells may: use more steps,
      or several networks. nan where n < 2, or an exponent is -inf. Exponents are nan where the
      state overflows.
    Raises:
      ValueError: a wrong shape, dtype or setting; params, carry or xs that are not finite.
    """
    xs, initial_carry, weight = check_network(cell, params, xs, initial_carry, recurrent_weight)
    num_exponents = _check_exponents(num_exponents, initial_carry)
    _check_times(xs.shape[0], warmup, orthonormalize_every, key)
    schedule = Schedule(warmup, xs.shape[0] - warmup, orthonormalize_every)
    return _lyapunov_spectrum(cell, schedule, num_exponents, params, xs, initial_carry, weight, key)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _lyapunov_spectrum(cell, schedule, num_exponents, *network_and_key):
    log_growth = _log_growth(cell, schedule, num_exponents, *network_and_key)
    exponents = jnp.mean(log_growth, axis=0)  # XLA adds up in a tree: float32 is enough
    num_growths = schedule.window // schedule.every
    batch = max(1, num_growths // _NUM_BATCHES)
    num_batches = min(_NUM_BATCHES, num_growths)
    in_batches = log_growth[: num_batches * batch * schedule.every]
    means = in_batches.reshape(num_batches, batch * schedule.every, num_exponents).mean(axis=1)
    errors = jnp.full_like(exponents, jnp.nan)
    if num_batches > 1:
        errors = jnp.std(means, axis=0, ddof=1) / math.sqrt(num_batches)
    order = jnp.argsort(-exponents)
    return LyapunovSpectrum(exponents[order], errors[order])


def finite_time_exponents(
    cell: Cell,
    params: Params,
    xs: Array,
    *,
    window: int,
    initial_carry: Carry | None = None,
    recurrent_weight: float | Array = 1.0,
    num_exponents: int | None = None,
    warmup: int = 0,
    orthonormalize_every: int = 1,
    key: Key,
) -> Array:
    """Measure growth rates over consecutive windows: (1/window) Σ ln |R_ii| over a window's QRs.

    The frame is that of ``lyapunov_spectrum``: it comes from the past of each window, so the rates
    are those of the directions that the trajectory has singled out so far, and their mean over all
    windows is the exponents. They are not ln(singular values of the window's product of
    Jacobians)/window, which take the best directions of each window anew: the largest of those is
    at least as large, the sum of all D the same.

    Args:
      cell: a Cell.
      params: its parameters.
      xs: inputs [T, I], float32 or float64.
      window: steps of a window, 1 to T - warmup; steps left over at the end are dropped.
      initial_carry: as ``lyapunov_spectrum`` takes it, and so are the others.
      recurrent_weight: w, a scalar.
      num_exponents: k; None means D.
      warmup: steps before the first window.
      orthonormalize_every: steps from one QR to the next; there is one at a window's end always.
      key: for the first frame.
    Returns:
      [num_windows, k], natural log per step, in the order of the frame's vectors: not sorted.
    Raises:
      ValueError: as ``lyapunov_spectrum``; a window longer than what the warm-up leaves.
    """
    xs, initial_carry, weight = check_network(cell, params, xs, initial_carry, recurrent_weight)
    num_exponents = _check_exponents(num_exponents, initial_carry)
    _check_times(xs.shape[0], warmup, orthonormalize_every, key)
    check_whole("window", window, 1)
    left = xs.shape[0] - warmup
    if window > left:
        raise ValueError(f"window is {window}; allowed: 1 to {left}, what the warm-up leaves of T")
    xs = xs[: warmup + left // window * window]
    schedule = Schedule(warmup, window, orthonormalize_every)
    return _finite_time_exponents(
        cell, schedule, num_exponents, params, xs, initial_carry, weight, key
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _finite_time_exponents(cell, schedule, num_exponents, *network_and_key):
    log_growth = _log_growth(cell, schedule, num_exponents, *network_and_key)
    return log_growth.reshape(-1, schedule.window, num_exponents).mean(axis=1)


def _log_growth(cell, schedule, num_exponents, params, xs, initial_carry, weight, key) -> Array:
    """ln |R_ii| of every step after the warm-up [T - warmup, k]; 0 at steps without a QR."""
    with highest_precision():
        flow = make_flow(cell, params, xs, initial_carry, weight)
        size, dtype = flow.start.size, flow.start.dtype

        def orthonormalize(tangents):
            frame, triangle = qr(tangents.T)
            growth = jnp.log(jnp.abs(jnp.diagonal(triangle)))
            return frame.T, (growth, jnp.any(tangents != 0, axis=0))

        def keep(tangents):
            return tangents, (jnp.zeros(num_exponents, dtype), jnp.zeros(size, bool))

        def body(state_and_tangents, inputs):
            step, is_end = inputs
            state, tangents = push(flow, *state_and_tangents, step)
            if schedule.every == 1:
                tangents, found = orthonormalize(tangents)
            else:
                tangents, found = jax.lax.cond(is_end, orthonormalize, keep, tangents)
            growth, is_alive = found  # relu has a slope, 0, even where its state is no number
            growth = jnp.where(jnp.all(jnp.isfinite(state)), growth, jnp.nan)
            return (state, tangents), (growth, is_alive)

        first, _ = orthonormalize(jax.random.normal(key, (num_exponents, size), dtype))
        inputs = (flow.steps, _ends(schedule, xs.shape[0]))
        _, found = scan_time(body, (flow.start, first), inputs, reverse=False)

    log_growth, is_alive = jax.tree.map(lambda a: a[schedule.warmup :], found)
    rank = jnp.sum(jnp.any(is_alive, axis=0))  # no more directions survive than units ever live
    is_dead = (jnp.arange(num_exponents) >= rank) & ~jnp.isnan(log_growth)
    return jnp.where(is_dead, -jnp.inf, log_growth)


def _ends(schedule: Schedule, num_steps: int) -> Array:
    """Return [T], whether a step ends with a QR."""
    times = jnp.arange(num_steps)
    is_warmup = times < schedule.warmup
    length = jnp.where(is_warmup, schedule.warmup, schedule.window)
    place = jnp.where(is_warmup, times, (times - schedule.warmup) % schedule.window) + 1
    return (place % schedule.every == 0) | (place == length)


def kaplan_yorke_dimension(exponents: Array) -> Array:
    """Estimate the attractor's dimension from all D exponents (Kaplan & Yorke 1979).

        j + (λ_1 + ... + λ_j) / |λ_{j+1}|,    j the most exponents whose sum is not negative

    0 where all are negative, D where the sum of all is not.

    Args:
      exponents: [..., D], in any order; with the k largest alone k is as far as it can count.
    Returns:
      [...].
    """
    exponents = -jnp.sort(-jnp.asarray(exponents), axis=-1)
    column = jnp.zeros_like(exponents[..., :1])
    sums = jnp.concatenate([column, jnp.cumsum(exponents, axis=-1)], axis=-1)
    following = jnp.concatenate([exponents, column - jnp.inf], axis=-1)
    count = jnp.sum(sums[..., 1:] >= 0, axis=-1, keepdims=True)
    total, after = (jnp.take_along_axis(a, count, axis=-1) for a in (sums, following))
    dimension = (count + total / jnp.abs(after))[..., 0]
    return jnp.where(jnp.any(jnp.isnan(exponents), axis=-1), jnp.nan, dimension)


def entropy_rate(exponents: Array) -> Array:
    """Sum the positive exponents [..., k]: the entropy produced, in nats per step (Pesin 1977)."""
    return jnp.sum(jnp.maximum(jnp.asarray(exponents), 0), axis=-1)


def _check_exponents(num_exponents, initial_carry) -> int:
    size = sum(leaf.size for leaf in jax.tree.leaves(initial_carry))
    if num_exponents is None:
        return size
    check_whole("num_exponents", num_exponents, 1)
    if num_exponents > size:
        raise ValueError(f"num_exponents is {num_exponents}; allowed: 1 to D = {size}")
    return num_exponents


def _check_times(num_steps: int, warmup, orthonormalize_every, key) -> None:
    check_whole("warmup", warmup, 0)
    if warmup >= num_steps:
        raise ValueError(f"warmup is {warmup}; allowed: 0 to {num_steps - 1} of {num_steps} steps")
    check_whole("orthonormalize_every", orthonormalize_every, 1)
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == jnp.uint32
    ):
        raise ValueError(f"key is {key!r}; allowed: a PRNG key, as jax.random.key(0)")
