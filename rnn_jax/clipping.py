"""Clip a gradient, and say what the clip did to it.

    by value         g_i -> sign(g_i) min(|g_i|, c)            turns the gradient
    by global norm   g   -> g min(1, c / ‖g‖₂)                 keeps its direction
    by percentile    the same, with c a percentile of the norms of the last steps
    per step         dL/dcarry_t -> the same, inside the adjoint: ``max_carry_norm`` of ``unroll``
                     and ``gradient_flow``

The first three are optax transformations for any tree of gradients; put one first in
``optax.chain``. Its state holds a ``ClipReport`` of the last update; ``clip_reports`` finds it.

What is not a plain gradient: a zero gradient stays as it is, and its angle is 0. By value an
infinite entry is cut to ±c and a nan stays nan. By norm a gradient with an entry that is not
finite has no direction: it is left as it is, so that whoever counts bad steps sees it. Finite
entries whose squares overflow are clipped like any others.

Mikolov (2012), "Statistical language models based on neural networks" (by value); Pascanu, Mikolov,
Bengio (2013), arXiv 1211.5063, algorithm 1 (by norm); Seetharaman et al. (2020), arXiv 2007.14469
(by percentile).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from rnn_jax.checks import check_not_tiny, check_positive, check_whole
from rnn_jax.scaling import power_of_two, scaled_norm, times_power
from rnn_jax.types import Array

Gradient = Any  # a tree of arrays


class ClipReport(NamedTuple):
    """What a clip did to a gradient; scalars, float32 or the gradient's wider dtype."""

    norm_before: Array  # ‖g‖₂ over all leaves
    norm_after: Array
    clipped_fraction: Array  # share of the entries that changed
    angle: Array  # between before and after, radians; nan where one has no direction


class ClipState(NamedTuple):
    """State of the transformations below."""

    report: ClipReport  # of the last update; zeros before the first
    threshold: Array  # c of the last update
    recent_norms: Array  # [window], the latest last, nan where none yet; [0] where c is given


def clip_by_value(max_abs: float | Array) -> optax.GradientTransformation:
    """Cut every entry to [-max_abs, max_abs]; signs stay, the direction may turn."""
    check_positive("max_abs", max_abs)
    return _transformation(_clip_value, max_abs)


def clip_by_global_norm(max_norm: float | Array) -> optax.GradientTransformation:
    """Scale a gradient of a larger norm down to max_norm; what is under it stays bit for bit."""
    check_positive("max_norm", max_norm)
    return _transformation(_clip_norm, max_norm)


def clip_by_norm_percentile(
    percentile: float = 90.0, window: int = 100
) -> optax.GradientTransformation:
    """Clip by global norm, at a percentile of the norms of the last ``window`` updates.

    The threshold is one of the norms seen before this update (before their clip), so one outlier
    cannot raise it; until the first is seen nothing is clipped. Zero and non-finite norms
    are not counted.

    Args:
      percentile: above 0, up to 100.
      window: how many norms are remembered.
    """
    check_positive("percentile", percentile, 100.0)
    check_whole("window", window, 1)

    ranks = _lower_ranks(percentile, window)

    def threshold(recent_norms):
        num_seen = jnp.sum(~jnp.isnan(recent_norms))
        measured = jnp.sort(recent_norms)[ranks[num_seen - 1]]  # nan is sorted last
        return jnp.where(num_seen > 0, measured, jnp.inf)

    return _transformation(_clip_norm, threshold, window)


def _lower_ranks(percentile: float | Array, window: int) -> Array:
    """Rank of a percentile among n norms, "lower" in numpy's words, for n = 1..window."""
    if not isinstance(percentile, Tracer):
        return jnp.asarray(np.floor(np.arange(window) * (float(percentile) / 100)), jnp.int32)
    ranks = jnp.arange(window) * (percentile / 100)
    rounding = 4 * jnp.finfo(ranks.dtype).eps  # 10 / 100 of 10 norms is 1, not a little less
    return jnp.floor(ranks * (1 + rounding)).astype(jnp.int32)


CLIPS = {  # name on a command line: made from one number
    "value": clip_by_value,
    "global-norm": clip_by_global_norm,
    "percentile": clip_by_norm_percentile,
}


def compare(before: Gradient, after: Gradient) -> ClipReport:
    """Report what happened between two gradients of the same tree.

    Raises:
      ValueError: leaves that are not floating, trees of different shapes.
    """
    _check_gradient(before)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"after has shapes {shapes[1]}; allowed: those of before, {shapes[0]}")
    norms = gradient_norm(before), gradient_norm(after)
    pairs = list(zip(_flat(before), _flat(after), strict=True))
    changed = [jnp.sum((a != b) & ~(jnp.isnan(a) & jnp.isnan(b))) for a, b in pairs]
    num_changed = jnp.sum(jnp.stack(changed))
    fraction = (num_changed / sum(a.size for a, _ in pairs)).astype(norms[0].dtype)
    is_same = (num_changed == 0) & jnp.isfinite(norms[0])  # rounding turns nothing
    return ClipReport(*norms, fraction, jnp.where(is_same, 0, _angle(before, after)))


def clip_reports(optimizer_state) -> list[ClipReport]:
    """Find the reports of all clips in an optax state, in the order of the chain."""
    leaves = jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, ClipState))
    return [leaf.report for leaf in leaves if isinstance(leaf, ClipState)]


def gradient_norm(gradient: Gradient) -> Array:
    """‖g‖₂ over all leaves; squares neither overflow nor underflow on the way."""
    power, norm = scaled_norm(_flat(gradient))
    return norm * power_of_two(power, norm.dtype)


def norm_factor(leaves, max_norm: Array) -> tuple[Array, Array, Array]:
    """min(1, c / ‖·‖₂) over all leaves' last axes as 2^power * factor; and whether it is below 1.

    1 where the norm is zero or not finite. Two factors, since one may be too small for the dtype.
    """
    power, norm = scaled_norm(leaves)
    is_larger = jnp.isfinite(norm) & (norm > max_norm * power_of_two(-power, norm.dtype))
    factor = jnp.where(is_larger, max_norm / jnp.where(is_larger, norm, 1), 1)
    return jnp.where(is_larger, -power, 0), factor, is_larger


def _flat(gradient: Gradient) -> list[Array]:
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)]
    return [leaf for leaf in leaves if leaf.size] or [jnp.zeros(1)]


def _check_gradient(gradient: Gradient) -> None:
    for leaf in jax.tree.leaves(gradient):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"the gradient has a leaf of {dtype}; allowed: floating dtypes")


def _clip_value(gradient: Gradient, max_abs: Array) -> Gradient:
    return optax.clip(max_abs).update(gradient, optax.EmptyState())[0]


def _clip_norm(gradient: Gradient, max_norm: Array) -> Gradient:
    """optax's clip, and beside it what it leaves undefined: squares out of range, inf and nan."""
    clipped, _ = optax.clip_by_global_norm(max_norm).update(gradient, optax.EmptyState())
    leaves = _flat(gradient)
    power, factor, _ = norm_factor(leaves, max_norm)
    first = power_of_two(power, factor.dtype)
    norm = optax.tree.norm(gradient)
    is_defined = jnp.isfinite(norm) & jnp.isclose(norm, gradient_norm(gradient), rtol=1e-3, atol=0)
    return jax.tree.map(
        lambda leaf, by_optax: jnp.where(is_defined, by_optax, leaf * first * factor),
        gradient,
        clipped,
    )


def _transformation(
    clip: Callable[[Gradient, Array], Gradient],
    threshold: float | Array | Callable[[Array], Array],
    window: int = 0,
) -> optax.GradientTransformation:
    """Wrap ``clip(gradient, c)``; c is a number, or a function of the recent norms."""
    measure: Any = threshold if callable(threshold) else lambda recent_norms: threshold

    def init(params):
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        report = ClipReport(*[jnp.zeros((), dtype) for _ in ClipReport._fields])  # can be donated
        return ClipState(report, jnp.zeros((), dtype), jnp.full((window,), jnp.nan, dtype))

    def update(updates, state, params=None):
        del params
        _check_gradient(updates)
        recent = state.recent_norms
        limit = measure(recent)
        check_not_tiny("the threshold", limit, recent.dtype)
        limit = jnp.asarray(limit, recent.dtype)
        wide = jax.tree.map(lambda leaf: leaf.astype(recent.dtype), updates)  # bfloat16 is coarse
        clipped = jax.tree.map(lambda a, b: a.astype(b.dtype), clip(wide, limit), updates)
        report = jax.tree.map(lambda a: a.astype(recent.dtype), compare(updates, clipped))
        if window:
            norm = report.norm_before
            counts = jnp.isfinite(norm) & (norm > 0)
            recent = jnp.where(counts, jnp.append(recent[1:], norm), recent)
        return clipped, ClipState(report, limit, recent)

    return optax.GradientTransformation(init, update)


def _angle(before: Gradient, after: Gradient) -> Array:
    """2 atan2(‖u - v‖, ‖u + v‖) of the unit vectors: exact near 0, where arccos is not."""

    def unit(gradient):
        leaves = _flat(gradient)
        power, norm = scaled_norm(leaves)
        flat = jnp.concatenate([leaf.astype(norm.dtype) for leaf in times_power(leaves, -power)])
        return flat / norm

    u, v = unit(before), unit(after)  # nan where one is zero or not finite
    return 2 * jnp.arctan2(jnp.linalg.norm(u - v), jnp.linalg.norm(u + v))
