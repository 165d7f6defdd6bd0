"""Fixed points of a recurrent network under a constant input, and how it moves around them.

    F(s) = step(s) - s = 0,    Newton: (J - 1) δ = -F,    s <- s + 2^-n δ

with the n that leaves the smallest residual ‖F‖. States near a fixed point multiply their distance
by the eigenvalues of J at each step: it is stable where all are below 1 in modulus. What fixed
points and slow points tell of a trained network: Sussillo & Barak (2013), doi 10.1162/NECO_a_00409.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import linalg
from rnn_jax.cells.base import Cell
from rnn_jax.checks import check_positive, check_sequence, check_whole
from rnn_jax.dynamics.jacobian import (
    check_numbers,
    highest_precision,
    make_flow,
    with_jacobian,
)
from rnn_jax.types import Array, Carry, Params

_HALVINGS = 16


class FixedPoints(NamedTuple):
    """Where the search from each of P starts ended.

    Attributes:
      carries: Carry of [P, H].
      residuals: [P], ‖step(carry) - carry‖₂ over the flattened carry.
      converged: [P], whether the residual is at most the tolerance.
      eigenvalues: [P, D] complex, of the Jacobian there, by modulus downwards.
    """

    carries: Carry
    residuals: Array
    converged: Array
    eigenvalues: Array


def fixed_points(
    cell: Cell,
    params: Params,
    x: Array,
    initial_carries: Carry,
    *,
    recurrent_weight: float | Array = 1.0,
    max_iterations: int = 100,
    tolerance: float | None = None,
) -> FixedPoints:
    """Search fixed points by damped Newton steps from many starts at once.

    A search ends at the tolerance, after max_iterations, or where no step makes the residual
    smaller (then it did not converge: a slow point, if the residual is small). Where J - 1 is
    singular the step is that of the network itself. Memory: P · D² numbers a few times over.

    Args:
      cell: a Cell.
      params: its parameters.
      x: the constant input [I], float32 or float64.
      initial_carries: Carry of [P, H], where the searches start: states of a ``trajectory``, say.
      recurrent_weight: w, a scalar.
      max_iterations: Newton steps at most.
      tolerance: on the residual; None means √D eps^¾: 2e-12 √D in float64, 6e-6 √D in float32.
    Returns:
      FixedPoints, one a start; several starts may share one: see ``distinct``.
    Raises:
      ValueError: a wrong shape, dtype or setting; arrays that are not finite.
    """
    x = jnp.asarray(x)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}; allowed: [I]")
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(initial_carries)}
    num_starts = {shape[0] if len(shape) == 2 else 0 for shape in shapes}
    if len(num_starts) != 1 or 0 in num_starts:
        raise ValueError(f"initial_carries has shapes {sorted(shapes)}; allowed: [P, H], P over 0")
    xs = jnp.broadcast_to(x, (1, *num_starts, x.size))
    _, initial_carries, _, weight = check_sequence(
        cell, params, xs, initial_carries, None, recurrent_weight
    )
    check_numbers(params=params, x=x, initial_carries=initial_carries)
    check_whole("max_iterations", max_iterations, 1)
    if tolerance is None:
        size = sum(leaf[0].size for leaf in initial_carries)
        tolerance = _default_tolerance(size, x.dtype)
    check_positive("tolerance", tolerance)
    return _fixed_points(cell, max_iterations, params, x, initial_carries, weight, tolerance)


@partial(jax.jit, static_argnums=(0, 1))
def _fixed_points(cell, max_iterations, params, x, initial_carries, recurrent_weight, tolerance):
    def search(initial_carry):
        flow = make_flow(cell, params, x[None], initial_carry, recurrent_weight)
        step = jax.tree.map(lambda a: a[0], flow.steps)

        def residual_of(state):
            residual = jnp.linalg.norm(flow.map(state, step) - state)
            return jnp.where(jnp.isnan(residual), jnp.inf, residual)

        def improve(search):
            state, residual, _, iteration = search
            next_state, jacobian = with_jacobian(flow, state, step)
            moved = next_state - state
            newton = linalg.solve(jacobian - jnp.eye(state.size, dtype=state.dtype), -moved)
            direction = jnp.where(jnp.all(jnp.isfinite(newton)), newton, moved)
            scales = 0.5 ** jnp.arange(_HALVINGS, dtype=state.dtype)
            candidates = state + scales[:, None] * direction
            residuals = jax.vmap(residual_of)(candidates)
            best = jnp.argmin(residuals)
            is_better = residuals[best] < residual
            state = jnp.where(is_better, candidates[best], state)
            return state, jnp.minimum(residuals[best], residual), is_better, iteration + 1

        def goes_on(search):
            _, residual, is_better, iteration = search
            return is_better & (residual > tolerance) & (iteration < max_iterations)

        start = (flow.start, residual_of(flow.start), True, 0)
        state, residual, _, _ = jax.lax.while_loop(goes_on, improve, start)
        _, jacobian = with_jacobian(flow, state, step)
        converged = residual <= tolerance
        return FixedPoints(flow.unflatten(state), residual, converged, linalg.eigenvalues(jacobian))

    with highest_precision():
        return jax.vmap(search)(initial_carries)


def distinct(found: FixedPoints, tolerance: float | None = None) -> FixedPoints:
    """Keep each converged fixed point once, on the host.

    Args:
      found: what ``fixed_points`` returns.
      tolerance: the distance in ‖·‖₂ up to which two are the same. None: what their residuals leave
        open, 10 r / min|1 - λ| of the one and of the other, r the default tolerance of
        ``fixed_points``.
    Returns:
      FixedPoints of the first of each, in the order of their starts.
    Raises:
      ValueError: a tolerance that is not above 0; more axes than [P, H], as of a vmapped search.
    """
    shapes = {np.shape(leaf) for leaf in found.carries}
    if any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"found.carries has shapes {sorted(shapes)}; allowed: [P, H]")
    states = np.concatenate([np.asarray(leaf) for leaf in found.carries], axis=-1)
    reach = (
        10
        * _default_tolerance(*states.shape[1:], states.dtype)
        / np.maximum(np.min(np.abs(1 - np.asarray(found.eigenvalues)), axis=-1), 1e-12)
    )
    if tolerance is not None:
        check_positive("tolerance", tolerance)
        reach = np.full(len(states), tolerance / 2)
    kept: list[int] = []
    for place in np.flatnonzero(found.converged):
        distances = np.linalg.norm(states[kept] - states[place], axis=-1)
        if np.all(distances > reach[kept] + reach[place]):
            kept.append(int(place))
    return jax.tree.map(lambda leaf: leaf[np.array(kept, int)], found)


def _default_tolerance(size: int, dtype) -> float:
    return float(np.sqrt(size) * jnp.finfo(dtype).eps ** 0.75)
