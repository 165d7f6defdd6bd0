"""A step of the recurrence: what it reads, its gates and update, and the plain scan of all steps.

recurrent_t       = project_carry(carry_{t-1}, w) = w L(carry_{t-1}) + constant
(carry_t, y_t)    = advance(carry_{t-1}, recurrent_t, drive_t)      gates and update
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.base import Cell, zeros_like
from rnn_jax.types import Array, Carry, Drive, Params, Recurrent


class Steps(NamedTuple):
    """What a step reads besides its carry, stacked over T."""

    drive: Drive
    valid: Array | None  # [T, B] bool; None: every step is valid
    tap: Carry | None  # zeros to differentiate by; None: no tap
    reset: Array | None = None  # [T, B] bool: the carry is zero before the step; None: never


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


def restart(carry: Carry, step: Steps) -> Carry:
    """Set the carry to zero before a step that begins anew; its own transpose."""
    if step.reset is None:
        return carry
    reset = step.reset[..., None]
    return jax.tree.map(lambda part: jnp.where(reset, 0, part), carry)


def advance(cell: Cell, carry: Carry, recurrent: Recurrent, step: Steps) -> tuple[Carry, Array]:
    """Compute gates and update of one step; past a sequence's length the carry is frozen."""
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

    return scan_time(body, carry, steps, reverse)


# Steps in the body of the compiled loop, by backend; 1 where it says nothing. On CPUs more made
# steps slower and took longer to compile (experiments/speed, table scan_unroll).
SCAN_UNROLL = {"cpu": 1}


def scan_time(body: Callable, first: Any, inputs: Any, reverse: bool) -> tuple[Any, Any]:
    """``jax.lax.scan`` over time."""
    unroll = SCAN_UNROLL.get(jax.default_backend(), 1)
    return jax.lax.scan(body, first, inputs, reverse=reverse, unroll=unroll)
