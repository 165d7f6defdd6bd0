"""The adjoint of the plain scan: one reversed scan for training and for measurement.

Backward, for t = T..1, with a_t = dLoss/dcarry_t through the later steps:

    (direct, d_recurrent, d_drive, d_state) = pullback of advance at t applied to (a_t, dLoss/dy_t)
    a_{t-1} = direct + w Lᵀ d_recurrent

``d_state`` is the total derivative of the loss with respect to the state of step t. Because
the recurrent projection is affine, <Lᵀ d_recurrent, carry_{t-1}> is what step t contributes to
dLoss/dw, and dLoss/dR is one product of all stacked states after the loop, not T small ones
in it. Between the passes only the states are kept and, where it comes from a matrix product,
``recurrent``: gates are computed again; or the derivatives of gates and update, where they take
no more room (Elman).

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

from rnn_jax.cells.base import Cell, rows, zeros_like
from rnn_jax.clipping import norm_factor
from rnn_jax.recurrence.steps import Steps, advance, restart, scan_plain, scan_time
from rnn_jax.scaling import power_of_two
from rnn_jax.types import Array, Carry, Drive, Params, Recurrent


class Saved(NamedTuple):
    """What the backward pass needs of a step, stacked over T."""

    carry: Carry  # before the step
    kept: Recurrent | Callable | None  # recurrent; or the pullback of ``advance`` where it is no
    # larger; or nothing, where recurrent takes no matrix product to compute again


class StepGradients(NamedTuple):
    """What the adjoint finds at a step."""

    state: Carry  # total derivative with respect to the state of this step
    drive: Drive
    recurrent: Recurrent
    weight_share: Array  # [B], this step's part of dLoss/dw
    is_clipped: Array | None = None  # [B], whether a clip scaled all the others; None: no clip


def scan_saving(
    cell: Cell, params: Params, carry: Carry, steps: Steps, recurrent_weight: Array, reverse: bool
) -> tuple[Carry, Array, Saved]:
    """Run all steps and return also, stacked, what ``adjoint_step`` needs of each."""

    def body(carry, step):
        carry = restart(carry, step)
        recurrent = cell.project_carry(params, carry, recurrent_weight)
        if cell.elementwise:
            new_carry, output = advance(cell, carry, recurrent, step)
            return new_carry, (output, Saved(carry, None))
        (new_carry, output), pullback = linearize(cell, carry, recurrent, step)
        is_small = _num_bytes(pullback) <= _num_bytes(recurrent)
        if jax.config.jax_disable_jit:  # ty: ignore[missing-attribute]
            is_small = False  # steps run one by one then, and their pullbacks do not stack
        return new_carry, (output, Saved(carry, pullback if is_small else recurrent))

    last_carry, (ys, saved) = scan_time(body, carry, steps, reverse)
    return last_carry, ys, saved


def linearize(
    cell: Cell, carry: Carry, recurrent: Recurrent, step: Steps, is_output_read: bool = True
) -> tuple[tuple[Carry, Array | None], Callable]:
    """Return what ``advance`` returns, and its pullback to (carry, recurrent, drive, tap)."""

    def of(carry, recurrent, drive, tap):
        new_carry, output = advance(cell, carry, recurrent, Steps(drive, step.valid, tap))
        return new_carry, output if is_output_read else None

    tap = zeros_like(carry) if step.tap is None else step.tap
    return jax.vjp(of, carry, recurrent, step.drive, tap)


def _num_bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def transpose_matrices(params: Params, carry: Carry) -> Params:
    """Transpose every matrix of the parameters; twice gives them back.

    The adjoint multiplies by the transposed recurrent matrix at every step, for which XLA on CPUs
    takes up to twice as long as by a matrix that is stored that way: so it is transposed before the
    loop, and back in its body, where that is no work. Not for a carry of a single sequence: XLA
    merges a product of one row with all that its row is made of, and computes that many times.
    """
    rows = carry[0].size // carry[0].shape[-1]
    return jax.tree.map(lambda leaf: leaf.T if leaf.ndim == 2 and rows > 1 else leaf, params)


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
        recurrent = saved.kept
        if recurrent is None:
            recurrent = cell.project_carry(params, saved.carry, recurrent_weight)
        is_output_read = output_grad is not None
        pullback = linearize(cell, saved.carry, recurrent, step, is_output_read)[1]
    elif output_grad is None:
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
    stored = jax.lax.optimization_barrier(transpose_matrices(params, last_grad))

    def body(adjoint, inputs):
        params = transpose_matrices(stored, adjoint)
        adjoint, found = adjoint_step(cell, params, recurrent_weight, adjoint, *inputs)
        if max_carry_norm is None:
            return adjoint, found
        (adjoint, found), is_clipped = clip_sequences((adjoint, found), found.state, max_carry_norm)
        return adjoint, found._replace(is_clipped=is_clipped)

    return _scan_once(body, last_grad, (ys_grad, saved, steps), reverse=not reverse)


def _scan_once(body: Callable, first: Any, inputs: Any, reverse: bool) -> tuple[Any, Any]:
    """Scan as ``jax.lax.scan`` does, but stack an array that ``body`` puts out twice only once.

    A gate that adds its drive and its recurrent part has one gradient for both.
    """
    put_out: list = []

    def body_once(carry, inputs):
        carry, found = body(carry, inputs)
        leaves, structure = jax.tree.flatten(found)
        distinct = list({id(leaf): leaf for leaf in leaves}.values())
        places = [next(i for i, d in enumerate(distinct) if d is leaf) for leaf in leaves]
        put_out[:] = places, structure
        return carry, distinct

    last, stacked = scan_time(body_once, first, inputs, reverse)
    places, structure = put_out
    return last, jax.tree.unflatten(structure, [stacked[i] for i in places])


def sum_up(
    cell: Cell,
    params: Params,
    steps: Steps,
    recurrent_weight: Array,
    carries: Carry,
    found: StepGradients,
) -> tuple[Params, Steps, Array]:
    """What all steps found -> the gradients of the parameters, of what steps read, and of w."""
    carries, d_recurrent = rows((carries, found.recurrent))
    over_time = jax.vjp(lambda p: cell.project_carry(p, carries, recurrent_weight), params)[1]
    (params_grad,) = over_time(d_recurrent)
    steps_grad = Steps(found.drive, None, None if steps.tap is None else found.state, None)
    weight_grad = jnp.sum(found.weight_share).astype(recurrent_weight.dtype)
    return params_grad, steps_grad, weight_grad


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan_fused(cell, reverse, params, carry, steps, recurrent_weight, max_carry_norm):
    """Run all steps as ``scan_plain`` does; differentiated by the adjoint above."""
    return scan_plain(cell, params, carry, steps, recurrent_weight, reverse)


def _fused_forward(cell, reverse, params, carry, steps, recurrent_weight, max_carry_norm):
    last_carry, ys, saved = scan_saving(cell, params, carry, steps, recurrent_weight, reverse)
    return (last_carry, ys), (params, steps, recurrent_weight, max_carry_norm, saved)


def _fused_backward(cell, reverse, residuals, cotangents):
    params, steps, recurrent_weight, max_carry_norm, saved = residuals
    carry_grad, found = scan_adjoint(
        cell, params, steps, recurrent_weight, saved, *cotangents, max_carry_norm, reverse
    )
    params_grad, steps_grad, weight_grad = sum_up(
        cell, params, steps, recurrent_weight, saved.carry, found
    )
    max_norm_grad = jax.tree.map(jnp.zeros_like, max_carry_norm)
    return params_grad, carry_grad, steps_grad, weight_grad, max_norm_grad


scan_fused.defvjp(_fused_forward, _fused_backward)


@jax.custom_vjp
def clip_gradient(carry: Carry, max_norm: Array) -> Carry:
    """Return the carry; clip its gradient, each sequence by itself."""
    return carry


clip_gradient.defvjp(
    lambda carry, max_norm: (carry, max_norm),
    lambda max_norm, grad: (clip_sequences(grad, grad, max_norm)[0], jnp.zeros_like(max_norm)),
)
