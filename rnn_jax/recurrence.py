"""Unroll a cell over time, and its adjoint: one reversed scan for training and for measurement.

Forward, for t = 1..T:

    recurrent_t       = project_carry(carry_{t-1}, w) = w L(carry_{t-1}) + constant
    (carry_t, y_t)    = advance(carry_{t-1}, recurrent_t, drive_t)      element-wise

Backward, for t = T..1, with a_t = dLoss/dcarry_t through the later steps:

    (direct, d_recurrent, d_drive, d_state) = pullback of advance at t applied to (a_t, dLoss/dy_t)
    a_{t-1} = direct + w Lᵀ d_recurrent

``d_state`` is the total derivative of the loss with respect to the state of step t. Because
the recurrent projection is affine, <Lᵀ d_recurrent, carry_{t-1}> is what step t contributes to
dLoss/dw, and dLoss/dR is one product of all stacked states after the loop, not T small ones
in it. Between the passes only the states and either ``recurrent`` are kept, and gates are computed
again, or the derivatives of the element-wise part, where they take no more room (Elman).

A clip at every step (``max_carry_norm``, c) multiplies all that step t sends back, a_{t-1} with it,
by min(1, c / ‖d_state‖), each sequence by itself: ‖dLoss/dcarry_t‖ is then at most c at every t.
"""

import functools
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.base import Cell, zeros_like
from rnn_jax.checks import (
    check_choice,
    check_max_norm,
    check_resets,
    check_sequence,
    check_tap,
    check_whole,
)
from rnn_jax.clipping import norm_factor
from rnn_jax.scaling import power_of_two
from rnn_jax.types import Array, Carry, Drive, Gates, Params, Recurrent


class Steps(NamedTuple):
    """What a step reads besides its carry, stacked over T."""

    drive: Drive
    valid: Array | None  # [T, B] bool; None: every step is valid
    tap: Carry | None  # zeros to differentiate by; None: no tap
    reset: Array | None = None  # [T, B] bool: the carry is zero before the step; None: never


class Saved(NamedTuple):
    """What the backward pass needs of a step, stacked over T."""

    carry: Carry  # before the step
    kept: Recurrent | Callable  # recurrent, or the pullback of ``advance`` where it is no larger


class StepGradients(NamedTuple):
    """What the adjoint finds at a step."""

    state: Carry  # total derivative with respect to the state of this step
    drive: Drive
    recurrent: Recurrent
    weight_share: Array  # [B], this step's part of dLoss/dw
    is_clipped: Array | None = None  # [B], whether a clip scaled all the others; None: no clip


def restart(carry: Carry, step: Steps) -> Carry:
    """Set the carry to zero before a step that begins anew; its own transpose."""
    if step.reset is None:
        return carry
    reset = step.reset[..., None]
    return jax.tree.map(lambda part: jnp.where(reset, 0, part), carry)


def advance(cell: Cell, carry: Carry, recurrent: Recurrent, step: Steps) -> tuple[Carry, Array]:
    """Compute the element-wise part of one step; past a sequence's length the carry is frozen."""
    tap = zeros_like(carry) if step.tap is None else step.tap
    new_carry, output = cell.update(carry, cell.gates(step.drive, recurrent), tap)
    if step.valid is None:
        return new_carry, output
    valid = step.valid[..., None]
    frozen = jax.tree.map(lambda new, old: jnp.where(valid, new, old), new_carry, carry)
    return frozen, jax.tree.map(lambda part: jnp.where(valid, part, 0), output)


def scan_plain(
    cell: Cell, params: Params, carry: Carry, steps: Steps, recurrent_weight: Array, reverse: bool
) -> tuple[Carry, Array]:
    """Run all steps: what an unroll is, and the oracle of everything below."""

    def body(carry, step):
        carry = restart(carry, step)
        return advance(cell, carry, cell.project_carry(params, carry, recurrent_weight), step)

    return jax.lax.scan(body, carry, steps, reverse=reverse)


def scan_saving(
    cell: Cell, params: Params, carry: Carry, steps: Steps, recurrent_weight: Array, reverse: bool
) -> tuple[Carry, Array, Saved]:
    """Run all steps and return also, stacked, what ``adjoint_step`` needs of each."""

    def body(carry, step):
        carry = restart(carry, step)
        recurrent = cell.project_carry(params, carry, recurrent_weight)
        (new_carry, output), pullback = linearize(cell, carry, recurrent, step)
        is_small = _num_bytes(pullback) <= _num_bytes(recurrent)
        if jax.config.jax_disable_jit:  # ty: ignore[missing-attribute]
            is_small = False  # steps run one by one then, and their pullbacks do not stack
        return new_carry, (output, Saved(carry, pullback if is_small else recurrent))

    last_carry, (ys, saved) = jax.lax.scan(body, carry, steps, reverse=reverse)
    return last_carry, ys, saved


def linearize(
    cell: Cell, carry: Carry, recurrent: Recurrent, step: Steps
) -> tuple[tuple[Carry, Array], Callable]:
    """Return what ``advance`` returns, and its pullback to (carry, recurrent, drive, tap)."""

    def of(carry, recurrent, drive, tap):
        return advance(cell, carry, recurrent, Steps(drive, step.valid, tap))

    tap = zeros_like(carry) if step.tap is None else step.tap
    return jax.vjp(of, carry, recurrent, step.drive, tap)


def _num_bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def adjoint_step(
    cell: Cell,
    params: Params,
    recurrent_weight: Array,
    adjoint: Carry,
    output_grad: Array | None,
    saved: Saved,
    step: Steps,
) -> tuple[Carry, StepGradients]:
    """Take one step backwards: (a_t, dLoss/dy_t) -> (a_{t-1}, the gradients found at step t)."""
    pullback = saved.kept
    if not callable(pullback):
        pullback = linearize(cell, saved.carry, saved.kept, step)[1]
    if output_grad is None:
        output_grad = jnp.zeros_like(adjoint[0])  # an output has the shape of a part of the carry
    direct, d_recurrent, d_drive, d_state = pullback((adjoint, output_grad))

    one = jnp.ones_like(recurrent_weight)
    transpose = jax.vjp(lambda c: cell.project_carry(params, c, one), saved.carry)[1]
    (through,) = transpose(d_recurrent)
    share = functools.reduce(operator.add, map(_dot, through, saved.carry))
    adjoint = jax.tree.map(lambda d, r: d + recurrent_weight * r, direct, through)
    return restart(adjoint, step), StepGradients(d_state, d_drive, d_recurrent, share)


def scale_sequences(tree, power: Array, factor: Array):
    """Multiply leaves [B] and [B, H] by 2^power, then by factor, [B] each: no step underflows."""
    first = power_of_two(power, factor.dtype)

    def scale(leaf):
        by_unit = leaf.ndim > factor.ndim
        p, f = (a[..., None] if by_unit else a for a in (first, factor))
        return (leaf.astype(jnp.promote_types(leaf.dtype, f.dtype)) * p * f).astype(leaf.dtype)

    return jax.tree.map(scale, tree)


def clip_sequences(tree, state: Carry, max_norm: Array) -> tuple[Any, Array]:
    """Scale a tree by min(1, c / ‖state‖), each sequence by itself; also [B], whether it was."""
    power, factor, is_larger = norm_factor(state, max_norm)
    return scale_sequences(tree, power, factor), is_larger


def _dot(a: Array, b: Array) -> Array:
    dtype = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.sum(a.astype(dtype) * b.astype(dtype), axis=-1)


def scan_adjoint(
    cell: Cell,
    params: Params,
    steps: Steps,
    recurrent_weight: Array,
    saved: Saved,
    last_grad: Carry,
    ys_grad: Array | None,
    max_carry_norm: Array | None = None,
    reverse: bool = False,
) -> tuple[Carry, StepGradients]:
    """Run all steps backwards: (dLoss/dcarry_T, dLoss/dys) -> (a_0, what each step found)."""

    def body(adjoint, inputs):
        adjoint, found = adjoint_step(cell, params, recurrent_weight, adjoint, *inputs)
        if max_carry_norm is None:
            return adjoint, found
        (adjoint, found), is_clipped = clip_sequences((adjoint, found), found.state, max_carry_norm)
        return adjoint, found._replace(is_clipped=is_clipped)

    return jax.lax.scan(body, last_grad, (ys_grad, saved, steps), reverse=not reverse)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _fused_scan(cell, reverse, params, carry, steps, recurrent_weight, max_carry_norm):
    return scan_plain(cell, params, carry, steps, recurrent_weight, reverse)


def _fused_forward(cell, reverse, params, carry, steps, recurrent_weight, max_carry_norm):
    last_carry, ys, saved = scan_saving(cell, params, carry, steps, recurrent_weight, reverse)
    return (last_carry, ys), (params, steps, recurrent_weight, max_carry_norm, saved)


def _fused_backward(cell, reverse, residuals, cotangents):
    params, steps, recurrent_weight, max_carry_norm, saved = residuals
    carry_grad, found = scan_adjoint(
        cell, params, steps, recurrent_weight, saved, *cotangents, max_carry_norm, reverse
    )
    over_time = jax.vjp(lambda p: cell.project_carry(p, saved.carry, recurrent_weight), params)[1]
    (params_grad,) = over_time(found.recurrent)
    weight_grad = jnp.sum(found.weight_share).astype(recurrent_weight.dtype)
    steps_grad = Steps(found.drive, None, None if steps.tap is None else found.state, None)
    max_norm_grad = jax.tree.map(jnp.zeros_like, max_carry_norm)
    return params_grad, carry_grad, steps_grad, weight_grad, max_norm_grad


_fused_scan.defvjp(_fused_forward, _fused_backward)


@jax.custom_vjp
def _clip_gradient(carry: Carry, max_norm: Array) -> Carry:
    """Return the carry; clip its gradient, each sequence by itself."""
    return carry


_clip_gradient.defvjp(
    lambda carry, max_norm: (carry, max_norm),
    lambda max_norm, grad: (clip_sequences(grad, grad, max_norm)[0], jnp.zeros_like(max_norm)),
)


def read_steps(
    cell: Cell,
    params: Params,
    xs: Array,
    valid: Array | None,
    tap: Carry | None,
    resets: Array | None = None,
) -> Steps:
    """Project the inputs of all steps at once; what lies in padded places is never read."""
    if valid is not None:
        xs, tap = jax.tree.map(lambda a: jnp.where(valid[..., None], a, 0), (xs, tap))
    if valid is not None and resets is not None:
        resets = resets & valid  # a frozen carry stays
    return Steps(cell.project_inputs(params, xs), valid, tap, resets)


def valid_steps(xs: Array, seq_lengths: Array | None) -> Array | None:
    """Return valid [T, B]: step t of a sequence is valid while t <= its length."""
    if seq_lengths is None:
        return None
    times = jnp.arange(1, xs.shape[0] + 1).reshape(-1, *[1] * seq_lengths.ndim)
    return times <= seq_lengths


def unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    *,
    initial_carry: Carry | None = None,
    seq_lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    recurrent_weight: float | Array = 1.0,
    checkpoint_every: int | None = None,
    carry_tap: Carry | None = None,
    max_carry_norm: float | Array | None = None,
    adjoint: str = "fused",
) -> tuple[Carry, Array]:
    """Run a cell over a sequence: carry_t, y_t = step(carry_{t-1}, x_t), t = 1..T.

    Differentiable in every array argument. It is jitted inside: equal calls do not trace again.

    Args:
      cell: a Cell, for example ``lstm(64)``.
      params: its parameters, ``cell.init(key, input_size)``.
      xs: inputs [T, *batch, I], any number of batch axes, in the dtype of params.
      initial_carry: Carry of [*batch, H]; None means zeros.
      seq_lengths: valid steps of each sequence, integers [*batch], 0 <= n <= T; None means all T.
        Past a length outputs are zero and the carry stays frozen; padding (NaN included) reaches
        no value and no gradient. Length 0 gives the initial carry.
      resets: booleans [T, *batch], by input time: the carry is set to zero before such a step is
        read, as where a new document begins (with ``reverse``: where one ends); no gradient
        passes. None: never.
      reverse: run from step T down to step 1; outputs stay indexed by input time.
      recurrent_weight: w, a scalar that multiplies the recurrent product; ``jax.vmap`` sweeps it.
      checkpoint_every: keep the carry every so many steps only and compute the steps between
        again in the backward pass: memory ~ T / checkpoint_every + checkpoint_every.
      carry_tap: zeros stacked like the carries of steps 1..T (Carry of [T, *batch, H], by input
        time). The gradient with respect to it is dL/dcarry_t, the total derivative of any loss
        with respect to the state of step t: every later use counts, its own output included
        (PyTorch's ``retain_grad`` on h_t and c_t).
      max_carry_norm: c, a scalar above 0: clip the gradient at every step t = 0..T as it goes back.
        All that step t sends back (to its inputs, to the parameters, to step t-1) is scaled by
        min(1, c / ‖dL/dcarry_t‖), each sequence by itself, so that ‖dL/dcarry_t‖ <= c. A step
        whose gradient is not finite is left as it is. None: no clip.
      adjoint: "fused", or "autodiff" for ordinary differentiation of the plain scan (the oracle;
        forward mode works through it; no clip).
    Returns:
      (carry at the last valid step, outputs [T, *batch, H]).
    Raises:
      ValueError: a shape, dtype, length or setting that does not fit; one line, before compiling.
    """
    xs, initial_carry, seq_lengths, weight = check_sequence(
        cell, params, xs, initial_carry, seq_lengths, recurrent_weight
    )
    check_choice("adjoint", adjoint, ("fused", "autodiff"))
    if checkpoint_every is not None:
        check_whole("checkpoint_every", checkpoint_every, 1)
    if carry_tap is not None:
        check_tap(carry_tap, initial_carry, xs.shape[0])
    if resets is not None:
        resets = check_resets(resets, xs.shape[:-1])
    if max_carry_norm is not None:
        check_choice("adjoint with max_carry_norm", adjoint, ("fused",))
        max_carry_norm = check_max_norm(max_carry_norm, xs.dtype)
    return _unroll(
        cell,
        bool(reverse),
        adjoint,
        checkpoint_every,
        params,
        xs,
        initial_carry,
        seq_lengths,
        resets,
        carry_tap,
        weight,
        max_carry_norm,
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _unroll(
    cell,
    reverse,
    adjoint,
    checkpoint_every,
    params,
    xs,
    carry,
    seq_lengths,
    resets,
    tap,
    recurrent_weight,
    max_carry_norm,
):
    if max_carry_norm is not None:
        carry = _clip_gradient(carry, max_carry_norm)

    def segment(carry, part):
        steps = read_steps(cell, params, *part)
        if adjoint == "fused":
            return _fused_scan(
                cell, reverse, params, carry, steps, recurrent_weight, max_carry_norm
            )
        return scan_plain(cell, params, carry, steps, recurrent_weight, reverse)

    parts = (xs, valid_steps(xs, seq_lengths), tap, resets)
    if checkpoint_every is None or checkpoint_every >= xs.shape[0]:
        return segment(carry, parts)
    return _scan_segments(segment, carry, parts, xs.shape[0], checkpoint_every, reverse)


def _scan_segments(segment, carry, parts, num_steps, every, reverse):
    """Scan over segments of ``every`` steps, keeping the carries between them alone."""
    segment = jax.checkpoint(segment, prevent_cse=False)
    odd = num_steps % every  # the steps left over are computed last
    split = odd if reverse else num_steps - odd
    early, late = (
        jax.tree.map(lambda a, s=s: a[s], parts) for s in (slice(split), slice(split, None))
    )
    whole, rest = (late, early) if reverse else (early, late)
    whole = jax.tree.map(lambda a: a.reshape(-1, every, *a.shape[1:]), whole)
    carry, ys = jax.lax.scan(segment, carry, whole, reverse=reverse)
    ys = ys.reshape(-1, *ys.shape[2:])
    if not odd:
        return carry, ys
    carry, rest_ys = segment(carry, rest)
    return carry, jnp.concatenate([rest_ys, ys] if reverse else [ys, rest_ys])


def gate_values(
    cell: Cell,
    params: Params,
    xs: Array,
    *,
    initial_carry: Carry | None = None,
    seq_lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    recurrent_weight: float | Array = 1.0,
) -> Gates:
    """Return every gate of the cell over time: Gates of [T, *batch, H], zero past a length.

    Args and errors: as ``unroll``.
    """
    xs, initial_carry, seq_lengths, weight = check_sequence(
        cell, params, xs, initial_carry, seq_lengths, recurrent_weight
    )
    if resets is not None:
        resets = check_resets(resets, xs.shape[:-1])
    return _gate_values(cell, bool(reverse), params, xs, initial_carry, seq_lengths, resets, weight)


@partial(jax.jit, static_argnums=(0, 1))
def _gate_values(cell, reverse, params, xs, carry, seq_lengths, resets, recurrent_weight):
    def update(carry, gates, tap):
        return cell.update(carry, gates, tap)[0], gates  # a cell that puts out its gates

    steps = read_steps(cell, params, xs, valid_steps(xs, seq_lengths), None, resets)
    shown = cell._replace(update=update)
    return scan_plain(shown, params, carry, steps, recurrent_weight, reverse)[1]
