"""How the gradient of a loss flows back through time: dL/dcarry_t, its norm, its share of dL/dw.

The adjoint of ``recurrence/`` runs once. Its norms span hundreds of decades, so each sequence's
adjoint is divided by a power of two after every step (digits stay those of the plain adjoint)
and the power is kept as an integer: norms come out as logarithms, finite in float32
wherever the forward pass is finite. An entry more than 2^126 below the largest of its own sequence
and step is taken as zero. Why it matters: Pascanu, Mikolov, Bengio (2013), arXiv 1211.5063.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.base import Cell
from rnn_jax.checks import check_max_norm, check_resets, check_sequence
from rnn_jax.recurrence import (
    adjoint_step,
    read_steps,
    scale_sequences,
    scan_saving,
    scan_time,
    transpose_matrices,
    valid_steps,
)
from rnn_jax.scaling import exponent as exponent_of
from rnn_jax.scaling import scaled_norm, times_power
from rnn_jax.types import Array, Carry, Params


class GradientFlow(NamedTuple):
    """What ``gradient_flow`` measures. Natural logarithms; t = 0 is the initial carry.

    Attributes:
      loss: [].
      log_carry_norm: [T+1, B], ln ‖dL/dcarry_t‖₂, the total derivative with respect to the state of
        step t: -inf where it is zero in the working dtype, nan past a sequence's length and
        where its last state was not finite.
      leaf_log_norms: Carry of [T+1, B], the same for each part of the carry alone.
      log_weight_share: [T, B], ln |share|; entry t-1 is the part of dL/dw that enters at step t.
      weight_share_sign: [T, B], -1, 0 or 1.
      log_clip_factor: [T+1, B], ln of the factor, at most 1, by which the clip scaled what step t
        sends back: log_carry_norm - log_clip_factor is the norm before it. None without a clip.
    """

    loss: Array
    log_carry_norm: Array
    leaf_log_norms: Carry
    log_weight_share: Array
    weight_share_sign: Array
    log_clip_factor: Array | None = None

    @property
    def carry_norm(self) -> Array:
        """‖dL/dcarry_t‖₂ [T+1, B]; 0 or inf where the dtype cannot hold it."""
        return jnp.exp(self.log_carry_norm)

    @property
    def weight_share(self) -> Array:
        """Each step's part of dL/dw [T, B], which is its sum (``jnp.nansum`` with lengths)."""
        return self.weight_share_sign * jnp.exp(self.log_weight_share)


def gradient_flow(
    cell: Cell,
    params: Params,
    xs: Array,
    loss: Callable[[Carry, Array], Array],
    *,
    initial_carry: Carry | None = None,
    seq_lengths: Array | None = None,
    resets: Array | None = None,
    recurrent_weight: float | Array = 1.0,
    max_carry_norm: float | Array | None = None,
) -> GradientFlow:
    """Measure the gradient of a loss with respect to the state at every time step.

    It is jitted inside with ``loss`` static: pass the same function object again, or put your own
    ``jax.jit`` around, and equal calls do not trace again. ``jax.vmap`` over ``recurrent_weight``
    keeps one large matrix product a step. Matrix products run at "highest" precision unless
    ``jax_default_matmul_precision`` is set.

    Args:
      cell: a Cell.
      params: its parameters.
      xs: inputs [T, *batch, I], in the dtype of params.
      loss: (last carry, outputs [T, *batch, H]) -> scalar.
      initial_carry: Carry of [*batch, H]; None means zeros.
      seq_lengths: valid steps of each sequence, integers [*batch]; None means all T.
      resets: booleans [T, *batch], as ``unroll`` takes them: before one the gradient is zero.
      recurrent_weight: w, a scalar.
      max_carry_norm: c, a scalar above 0: clip at every step as ``unroll`` does, so that
        ‖dL/dcarry_t‖ <= c; norms and shares are those after the clip.
    Returns:
      GradientFlow.
    Raises:
      ValueError: as ``unroll``; a loss that is no function or no scalar.
    """
    if not callable(loss):
        raise ValueError(f"loss is {loss!r}; allowed: a function (last_carry, ys) -> scalar")
    try:
        hash(loss)
    except TypeError:
        raise ValueError(
            f"loss is a {type(loss).__name__} without a hash; allowed: a function, a lambda"
        ) from None
    xs, initial_carry, seq_lengths, weight = check_sequence(
        cell, params, xs, initial_carry, seq_lengths, recurrent_weight
    )
    if resets is not None:
        resets = check_resets(resets, xs.shape[:-1])
    if max_carry_norm is not None:
        max_carry_norm = check_max_norm(max_carry_norm, xs.dtype)
    return _gradient_flow(
        cell, loss, params, xs, initial_carry, seq_lengths, resets, weight, max_carry_norm
    )


@partial(jax.jit, static_argnums=(0, 1))
def _gradient_flow(
    cell, loss, params, xs, initial_carry, seq_lengths, resets, recurrent_weight, max_carry_norm
):
    precision = jax.default_matmul_precision.value or "highest"
    with jax.default_matmul_precision(precision):
        valid = valid_steps(xs, seq_lengths)
        steps = read_steps(cell, params, xs, valid, None, resets)
        last_carry, ys, saved = scan_saving(
            cell, params, initial_carry, steps, recurrent_weight, reverse=False
        )
        _check_loss(jax.eval_shape(loss, last_carry, ys))
        stored = jax.lax.optimization_barrier(transpose_matrices(params, last_carry))
        value, pullback = jax.vjp(loss, last_carry, ys)
        last_grad, ys_grad = pullback(jnp.ones_like(value))
        if not _reads_outputs(loss, last_carry, ys):
            ys_grad = None
        elif valid is not None:
            ys_grad = jnp.where(valid[..., None], ys_grad, 0)

        def body(scaled, inputs):
            adjoint, exponent = scaled
            output_grad, saved_t, step = inputs
            if output_grad is not None:
                adjoint, output_grad, exponent = _common_scale(adjoint, output_grad, exponent)
            params = transpose_matrices(stored, adjoint)
            adjoint, found = adjoint_step(
                cell, params, recurrent_weight, adjoint, output_grad, saved_t, step
            )
            state, share = found.state, found.weight_share
            (state, adjoint, share), exponent, log_factor = _clip(
                (state, adjoint, share), exponent, max_carry_norm
            )
            log_share = jnp.log(jnp.abs(share)) + _LN2 * exponent
            norms = (*_log_norms(state, exponent), log_factor)
            return _rescale(adjoint, exponent), (norms, (log_share, jnp.sign(share)))

        exponent = jnp.zeros(xs.shape[1:-1], jnp.int32)
        first, (norms, shares) = scan_time(
            body, _rescale(last_grad, exponent), (ys_grad, saved, steps), reverse=True
        )

    (initial,), exponent, log_factor = _clip((first[0],), first[1], max_carry_norm)
    norms = jax.tree.map(
        lambda early, late: jnp.concatenate([early[None], late]),
        (*_log_norms(initial, exponent), log_factor),
        norms,
    )
    known = jnp.all(jnp.stack([jnp.isfinite(leaf).all(-1) for leaf in last_carry]), axis=0)
    known_steps = known if valid is None else known & valid
    known = jnp.broadcast_to(known, norms[0].shape).at[1:].set(known_steps)
    norms = jax.tree.map(lambda norm: jnp.where(known, norm, jnp.nan), norms)
    shares = jax.tree.map(lambda share: jnp.where(known_steps, share, jnp.nan), shares)
    log_norm, leaf_log_norms, log_clip_factor = norms
    return GradientFlow(value, log_norm, leaf_log_norms, *shares, log_clip_factor)


def _check_loss(value) -> None:
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(f"loss returns a {type(value).__name__}; allowed: a floating-point scalar")
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        given = f"shape {value.shape}, {value.dtype}"
        raise ValueError(f"loss returns {given}; allowed: a floating-point scalar")


_LN2 = 0.6931471805599453
_HEADROOM = 50  # squares are taken of entries 2^50 larger: a leaf far below the largest stays


def _log_norms(scaled: Carry, exponent: Array) -> tuple[Array, Carry]:
    """ln of the norm of scaled * 2^exponent, over all leaves and leaf by leaf: [B] each."""

    def squared_norm(leaf):
        leaf = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        return jnp.sum(jnp.square(leaf * 2.0**_HEADROOM), axis=-1)

    squared_norms = jax.tree.map(squared_norm, scaled)
    log_scale = 2.0 * _LN2 * (exponent - _HEADROOM)
    logs = jax.tree.map(  # halved last: one product to add leaves compilers one way to round
        lambda squared: 0.5 * (jnp.log(squared) + log_scale), (sum(squared_norms), squared_norms)
    )
    return logs


def _rescale(adjoint: Carry, exponent: Array) -> tuple[Carry, Array]:
    """Divide each sequence's adjoint by the power of two of its largest entry."""
    shift = exponent_of(adjoint)
    return times_power(adjoint, -shift), exponent + shift


def _clip(
    sent_back: tuple, exponent: Array, max_norm: Array | None
) -> tuple[tuple, Array, Array | None]:
    """Clip all that a step sends back, its state's gradient first: (clipped, exponent, ln factor).

    What is clipped takes the threshold's power of two.
    """
    if max_norm is None:
        return sent_back, exponent, None
    own_exponent, norm = scaled_norm(sent_back[0])
    log_factor = jnp.log(max_norm) - (jnp.log(norm) + _LN2 * (own_exponent + exponent))
    is_larger = jnp.isfinite(norm) & (log_factor < 0)
    mantissa, power = jnp.frexp(max_norm)
    factor = jnp.where(is_larger, mantissa / jnp.where(is_larger, norm, 1), 1)
    exponent = jnp.where(is_larger, power.astype(exponent.dtype), exponent)
    clipped = scale_sequences(sent_back, jnp.where(is_larger, -own_exponent, 0), factor)
    return clipped, exponent, jnp.where(is_larger, log_factor, 0)


def _common_scale(
    adjoint: Carry, output_grad: Array, exponent: Array
) -> tuple[Carry, Array, Array]:
    """Bring the scaled adjoint and an unscaled dL/dy_t to the larger of their two exponents."""
    (output_grad,), output_exponent = _rescale((output_grad,), jnp.zeros_like(exponent))
    larger = jnp.maximum(exponent, output_exponent)
    common = jnp.where(_is_zero(adjoint), output_exponent, larger)  # zero has no scale
    common = jnp.where(_is_zero((output_grad,)), exponent, common)
    nothing = jnp.finfo(output_grad.dtype).minexp - 1  # the power that multiplies by 0
    adjoint = times_power(adjoint, jnp.clip(exponent - common, nothing, 0))
    output_grad = times_power(output_grad, jnp.clip(output_exponent - common, nothing, 0))
    return adjoint, output_grad, common


def _is_zero(carry: Carry) -> Array:
    return jnp.all(jnp.stack([jnp.all(leaf == 0, axis=-1) for leaf in carry]), axis=0)


def _reads_outputs(loss: Callable, last_carry: Carry, ys: Array) -> bool:
    """Tell whether the loss uses the outputs at all; where not, half of the scaling is skipped."""
    jaxpr = jax.make_jaxpr(lambda ys: loss(last_carry, ys))(ys).jaxpr
    (ys_variable,) = jaxpr.invars
    return any(ys_variable in eqn.invars for eqn in jaxpr.eqns) or ys_variable in jaxpr.outvars
