"""All steps at once, for a cell whose recurrence is element-wise (the SRU): ``scan_parallel``.

A step is c_t = F_t(c_{t-1}), each unit by itself: its Jacobian is a diagonal, J_t = F_t'(c_{t-1}).
Newton's method solves the T equations together. From a trajectory c, zeros at first,

    d_t = J_t d_{t-1} + F_t(c_{t-1}) - c_t,   d_0 = 0;   c <- c + d

is a linear recurrence, which an associative scan solves in O(log T) dependent passes. Where no gate
reads the state (v = 0), F_t is affine and the first d is exact: the same code sees that J did not
change, and ends. In float32, very long memories (1/(1-f) of thousands of steps) may keep d above
the tolerance: the scan is run then.

Backward the equations are linear whatever the cell, with the same J: no iteration,

    a_{t-1} = J_t a_t + (what y_t sends to c_{t-1}),   a_T = dLoss/dc_T.

To be differentiated again, the trajectory has a rule of its own, however it was found,

    dc_t = J_t dc_{t-1} + (dF_t with c_{t-1} held),

and both linear recurrences are differentiated as solutions of their equations, not as loops.
Within a ``lax.scan`` (``checkpoint_every`` is one) JAX loses that rule after the first derivative,
and second ones are wrong or fail: take them there by method="scan".

Newton's method over time: DEER (Lim et al. 2024, arXiv 2309.12252); by diagonals alone: quasi-DEER
(Gonzalez et al. 2024, arXiv 2407.19115). Here the diagonal is all there is.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.base import Cell
from rnn_jax.recurrence.adjoint import Saved, adjoint_step, scan_saving, sum_up
from rnn_jax.recurrence.steps import Steps, advance, restart
from rnn_jax.types import Array, Carry, Params

# With inputs of variance 1 and weights v of ±1 an SRU takes 5 to 12 iterations. Where J is often
# above 1, changes grow along the sequence first: such runs take 50 or more, and the scan is faster.
MAX_ITERATIONS = 30
# Of |d| / (1 + |c|). d is the error of the trajectory it corrects, to first order; the error that
# is left is of second order. Below what is promised (1e-5, 1e-10); above the rounding of d.
TOLERANCE = {"float32": 4e-6, "float64": 1e-11}


class Newton(NamedTuple):
    """An iterate of Newton's method."""

    carry: Array  # c_1..c_T, [T, *batch, H]
    image: Array  # F_t(c_{t-1})
    slope: Array  # J_t, the same shape
    count: Array  # of iterations, []
    is_solved: Array  # [] bool


@partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def scan_parallel(
    cell: Cell, params: Params, carry: Carry, steps: Steps, recurrent_weight: Array, reverse: bool
) -> tuple[Carry, Array]:
    """Run all steps as ``scan_plain`` does, parallel over time; the cell is ``elementwise``.

    Equal to it within 1e-5 (float32) or 1e-10 (float64), as long as the sequence itself does not
    magnify rounding errors. Where Newton's method does not end or a number is not finite, the
    states are computed one after another after all. A narrower dtype is
    iterated in float32. Memory ~ T, whatever the number of iterations.

    References: Lim et al. (2024), DEER, arXiv 2309.12252; Gonzalez et al. (2024), ELK, arXiv
    2407.19115.
    """
    return _forward(cell, params, carry, steps, recurrent_weight, reverse)[0]


def step_all(
    cell: Cell, params: Params, before: Array, carry: Carry, steps: Steps, recurrent_weight: Array
) -> Array:
    """Take every step by itself: c_{t-1}, [T, *batch, H], -> F_t(c_{t-1}).

    ``carry`` gives the structure alone.
    """
    parts = restart(jax.tree.structure(carry).unflatten([before]), steps)
    recurrent = cell.project_carry(params, parts, recurrent_weight)
    return jax.tree.leaves(advance(cell, parts, recurrent, steps)[0])[0]


def newton(
    cell: Cell, params: Params, carry: Carry, steps: Steps, recurrent_weight: Array, reverse: bool
) -> Newton:
    """Iterate on the trajectory of all steps until it is solved, not finite, or takes too long."""
    (start,) = jax.tree.leaves(carry)

    def evaluate(trajectory):
        before = shift(start, trajectory, reverse)
        return value_and_slope(
            lambda before: step_all(cell, params, before, carry, steps, recurrent_weight), before
        )

    def improve(at):
        change = linear_recurrence(at.slope, at.image - at.carry, reverse)
        trajectory = at.carry + change
        image, slope = evaluate(trajectory)
        limit = tolerance * (1 + jnp.abs(trajectory))
        is_affine = jnp.all((slope == at.slope) & (jnp.abs(image - trajectory) <= limit))
        is_small = jnp.all(jnp.abs(change) <= limit)
        is_solved = (is_affine | is_small) & jnp.isfinite(trajectory).all()
        return Newton(trajectory, image, slope, at.count + 1, is_solved)

    def goes_on(at):
        is_finite = jnp.isfinite(at.image).all() & jnp.isfinite(at.slope).all()
        return ~at.is_solved & is_finite & (at.count < MAX_ITERATIONS)

    tolerance = TOLERANCE[str(start.dtype)]
    num_steps = jax.tree.leaves(steps.drive)[0].shape[0]
    zeros = jnp.zeros((num_steps, *start.shape), start.dtype)
    first = Newton(zeros, *evaluate(zeros), jnp.array(0), jnp.array(False))
    return jax.lax.while_loop(goes_on, improve, first)


def value_and_slope(function: Callable, at: Array) -> tuple[Array, Array]:
    """Return an element-wise function's values and its derivatives: its Jacobian is diagonal."""
    return jax.jvp(function, (at,), (jnp.ones_like(at),))


def linear_recurrence(slope: Array, constant: Array, reverse: bool) -> Array:
    """Solve a_t = slope_t a_{t-1} + constant_t with a_0 = 0, all [T, ...], in O(log T) passes."""

    def compose(first, second):
        return second[0] * first[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(compose, (slope, constant), reverse=reverse)[1]


def shift(first: Array, rest: Array, reverse: bool) -> Array:
    """Return what each step finds: ``first`` before the first step, the rest moved by a step."""
    parts = (rest[1:], first[None]) if reverse else (first[None], rest[:-1])
    return jnp.concatenate(parts)


def replace_where(is_needed: Array, compute: Callable, value: Array) -> Array:
    """Return ``compute()`` where needed, else the value.

    A loop of at most one turn, not a ``cond``: under ``jax.vmap`` that would always compute, while
    a loop turns only where some member needs it.
    """

    def turn(state):
        return jnp.zeros_like(state[0]), compute()

    return jax.lax.while_loop(lambda state: state[0], turn, (is_needed, value))[1]


def solve_linear(slope: Array, constant: Array, reverse: bool) -> Array:
    """Solve as ``linear_recurrence``, finite where the scan is; differentiable any number of times.

    Its derivatives are solutions of the same equations, or of the transposed ones.
    """
    zero = jnp.zeros_like(constant[0])

    def solve(slope, constant, reverse):
        def one_by_one():  # a product of slopes may overflow where no solution does
            def body(a, step):
                a = step[0] * a + step[1]
                return a, a

            return jax.lax.scan(body, zero, (slope, constant), reverse=reverse)[1]

        found = linear_recurrence(slope, constant, reverse)
        return replace_where(~jnp.isfinite(found).all(), one_by_one, found)

    return jax.lax.custom_linear_solve(
        lambda a: a - slope * shift(zero, a, reverse),
        constant,
        solve=lambda _, b: solve(slope, b, reverse),
        transpose_solve=lambda _, b: solve(shift(zero, slope, not reverse), b, not reverse),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0, 5))
def carries_before(
    cell: Cell, params: Params, carry: Carry, steps: Steps, recurrent_weight: Array, reverse: bool
) -> Array:
    """Return what each step finds, c_{t-1}, [T, *batch, H]; a reset is still to come."""
    arguments = (cell, params, carry, steps, recurrent_weight, reverse)
    (start,) = jax.tree.leaves(carry)
    found = newton(*arguments)

    def one_by_one():
        return jax.tree.leaves(scan_saving(*arguments)[2].carry)[0]

    return replace_where(~found.is_solved, one_by_one, shift(start, found.carry, reverse))


@carries_before.defjvp
def _carries_before_jvp(cell, reverse, primals, tangents):
    params, carry, steps, recurrent_weight = primals
    params_dot, carry_dot, steps_dot, weight_dot = tangents
    before = carries_before(cell, *primals, reverse)
    (start_dot,) = jax.tree.leaves(carry_dot)

    def step(params, before, steps, recurrent_weight):
        return step_all(cell, params, before, carry, steps, recurrent_weight)

    slope = value_and_slope(lambda b: step(params, b, steps, recurrent_weight), before)[1]
    held = shift(start_dot, jnp.zeros_like(before), reverse)  # only the first carry moves by itself
    constant = jax.jvp(
        step,
        (params, before, steps, recurrent_weight),
        (params_dot, held, steps_dot, weight_dot),
    )[1]
    return before, shift(start_dot, solve_linear(slope, constant, reverse), reverse)


def widen(tree):
    """Bring floating leaves to float32 at least."""

    def wide(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

    return jax.tree.map(wide, tree)


def _forward(cell, params, carry, steps, recurrent_weight, reverse):
    before = carries_before(cell, *widen((params, carry, steps, recurrent_weight)), reverse)
    before = restart(jax.tree.map(lambda leaf: before.astype(leaf.dtype), carry), steps)
    recurrent = cell.project_carry(params, before, recurrent_weight)
    after, ys = advance(cell, before, recurrent, steps)
    last_carry = jax.tree.map(lambda leaf: leaf[0 if reverse else -1], after)
    return (last_carry, ys), (params, steps, recurrent_weight, Saved(before, None))


def _backward(cell, reverse, residuals, cotangents):
    params, steps, recurrent_weight, saved = residuals
    last_grad, ys_grad = cotangents
    (end,), tree = jax.tree.flatten(last_grad)

    def step_back(adjoint, output_grad):
        """a_t -> a_{t-1} and what step t finds, for all t at once."""
        adjoint, found = adjoint_step(
            cell, params, recurrent_weight, tree.unflatten([adjoint]), output_grad, saved, steps
        )
        return jax.tree.leaves(adjoint)[0], found

    zeros = jnp.zeros_like(jax.tree.leaves(saved.carry)[0])
    slope = step_back(jnp.ones_like(zeros), None)[0]
    constant = step_back(shift(end, zeros, not reverse), ys_grad)[0]
    adjoints = solve_linear(*widen((slope, constant)), not reverse)
    adjoints = shift(end, adjoints.astype(end.dtype), not reverse)
    to_previous, found = step_back(adjoints, ys_grad)

    carry_grad = tree.unflatten([to_previous[-1 if reverse else 0]])
    params_grad, steps_grad, weight_grad = sum_up(
        cell, params, steps, recurrent_weight, saved.carry, found
    )
    return params_grad, carry_grad, steps_grad, weight_grad


scan_parallel.defvjp(_forward, _backward)
