"""Unroll a cell over time: ``unroll``, and ``gate_values``, which shows its gates."""

from functools import partial

import jax
import jax.numpy as jnp

from rnn_jax.cells.base import Cell
from rnn_jax.checks import (
    check_choice,
    check_max_norm,
    check_parallel,
    check_resets,
    check_sequence,
    check_tap,
    check_whole,
)
from rnn_jax.recurrence.adjoint import clip_gradient, scan_fused
from rnn_jax.recurrence.parallel import scan_parallel
from rnn_jax.recurrence.steps import read_steps, scan_plain, valid_steps
from rnn_jax.types import Array, Carry, Gates, Params


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
    method: str = "scan",
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
        again in the backward pass: memory ~ T / checkpoint_every + checkpoint_every. Best a divisor
        of T: steps left over are computed apart, from copies.
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
      method: "scan", step after step; or "parallel", all steps at once, for a cell whose recurrence
        is element-wise (``cell.elementwise``: SRU, IndRNN, minGRU): Newton's method over time, each
        iteration an associative scan (``recurrence/parallel.py``), equal to the scan within 1e-10
        in float64, 1e-5 in float32, as long as the sequence does not magnify rounding
        errors; where it does not converge the scan is run. One iteration where no gate reads the
        state (v = 0, or a minGRU). Where it pays: experiments/speed/README.md. Only with the fused
        adjoint and no clip; second derivatives not within a ``lax.scan`` (``checkpoint_every``).
    Returns:
      (carry at the last valid step, outputs [T, *batch, H]).
    Raises:
      ValueError: a shape, dtype, length or setting that does not fit; one line, before compiling.
    """
    xs, initial_carry, seq_lengths, weight = check_sequence(
        cell, params, xs, initial_carry, seq_lengths, recurrent_weight
    )
    check_choice("adjoint", adjoint, ("fused", "autodiff"))
    check_choice("method", method, ("scan", "parallel"))
    if method == "parallel":
        check_parallel(cell, adjoint, max_carry_norm)
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
        adjoint if method == "scan" else method,
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
    way,
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
        carry = clip_gradient(carry, max_carry_norm)

    def segment(carry, part):
        steps = read_steps(cell, params, *part)
        if way == "fused":
            return scan_fused(cell, reverse, params, carry, steps, recurrent_weight, max_carry_norm)
        run = scan_parallel if way == "parallel" else scan_plain
        return run(cell, params, carry, steps, recurrent_weight, reverse)

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
