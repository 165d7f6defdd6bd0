"""The step as a map of the flattened carry, and its Jacobian along a trajectory.

    s_t = F_t(s_{t-1}),    J_t = dF_t/ds,    J_t[i, j] = d s_t,i / d s_{t-1},j

s, of size D, is the carry with its leaves one after another: D = H for most cells, 2H for the LSTM,
whose hidden and cell are coordinates of their own here. (Elsewhere dL/dcell is a total derivative,
which counts the way through this step's hidden too.) Tangents [k, D] are pushed forward, a row
each, so that k of them share one product with the recurrent matrix.

Everything runs at "highest" matrix precision unless ``jax_default_matmul_precision`` is set.
Eigenvalues exist on CPUs and GPUs only: JAX has none for TPUs.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from rnn_jax.cells.base import Cell
from rnn_jax.checks import check_sequence
from rnn_jax.linalg import eigenvalues, singular_values
from rnn_jax.recurrence import Steps, read_steps, scan_time
from rnn_jax.recurrence.steps import advance
from rnn_jax.types import Array, Carry, Params


class JacobianSpectra(NamedTuple):
    singular_values: Array  # [T, D], downwards
    eigenvalues: Array  # [T, D] complex, by modulus downwards


class Flow(NamedTuple):
    """A cell as a sequence of maps of the flattened carry."""

    start: Array  # [D]
    steps: Steps  # what each step reads, stacked over T
    map: Callable  # (s [D], what one step reads) -> the next s [D]
    unflatten: Callable  # s [D] -> Carry


def make_flow(
    cell: Cell, params: Params, xs: Array, initial_carry: Carry, recurrent_weight: Array
) -> Flow:
    """Flatten the carry; inputs of all steps are projected at once."""
    start, unflatten = ravel_pytree(initial_carry)

    def one_step(state, step):
        carry = unflatten(state)
        recurrent = cell.project_carry(params, carry, recurrent_weight)
        return ravel_pytree(advance(cell, carry, recurrent, step)[0])[0]

    return Flow(start, read_steps(cell, params, xs, None, None), one_step, unflatten)


def push(flow: Flow, state: Array, tangents: Array, step: Steps) -> tuple[Array, Array]:
    """Take a step: (s [D], tangents [k, D]) -> (next s, J applied to each tangent)."""
    next_state, linear = jax.linearize(lambda s: flow.map(s, step), state)
    return next_state, jax.vmap(linear)(tangents)


def with_jacobian(flow: Flow, state: Array, step: Steps) -> tuple[Array, Array]:
    """Take a step: s [D] -> (next s, J [D, D])."""
    next_state, columns = push(flow, state, jnp.eye(state.size, dtype=state.dtype), step)
    return next_state, columns.T


def highest_precision():
    """Set the precision of matrix products, where the user has not."""
    return jax.default_matmul_precision(jax.default_matmul_precision.value or "highest")


def step_jacobian(
    cell: Cell,
    params: Params,
    carry: Carry,
    x: Array,
    recurrent_weight: float | Array = 1.0,
) -> Array:
    """Differentiate one step with respect to the carry: J[i, j] = d carry'_i / d carry_j.

    Elman, h' = f(z): J = w diag(f'(z)) Rᵀ.

    Args:
      cell: a Cell.
      params: its parameters.
      carry: Carry of [H].
      x: the input of the step [I].
      recurrent_weight: w, a scalar.
    Returns:
      [D, D] over the flattened carry, leaves one after another.
    Raises:
      ValueError: a wrong shape or dtype; params, carry or x that are not finite.
    """
    x = jnp.asarray(x)
    if x.ndim != 1:
        raise ValueError(f"x has shape {x.shape}; allowed: [I]")
    checked = check_network(cell, params, x[None], carry, recurrent_weight)
    return _step_jacobian(cell, params, *checked)


@partial(jax.jit, static_argnums=0)
def _step_jacobian(cell, params, xs, carry, recurrent_weight):
    with highest_precision():
        flow = make_flow(cell, params, xs, carry, recurrent_weight)
        return with_jacobian(flow, flow.start, jax.tree.map(lambda a: a[0], flow.steps))[1]


def trajectory(
    cell: Cell,
    params: Params,
    xs: Array,
    *,
    initial_carry: Carry | None = None,
    recurrent_weight: float | Array = 1.0,
) -> Carry:
    """Run the network and return every state it passes.

    Args:
      cell: a Cell.
      params: its parameters.
      xs: inputs [T, I], float32 or float64; zeros for an autonomous network.
      initial_carry: Carry of [H]; None means zeros.
      recurrent_weight: w, a scalar.
    Returns:
      Carry of [T+1, H], those of t = 0..T.
    Raises:
      ValueError: a wrong shape or dtype; params, carry or xs that are not finite.
    """
    checked = check_network(cell, params, xs, initial_carry, recurrent_weight)
    return _trajectory(cell, params, *checked)


@partial(jax.jit, static_argnums=0)
def _trajectory(cell, params, xs, initial_carry, recurrent_weight):
    with highest_precision():
        flow = make_flow(cell, params, xs, initial_carry, recurrent_weight)

        def body(state, step):
            state = flow.map(state, step)
            return state, state

        _, states = scan_time(body, flow.start, flow.steps, reverse=False)
        return jax.vmap(flow.unflatten)(jnp.concatenate([flow.start[None], states]))


def jacobian_spectra(
    cell: Cell,
    params: Params,
    xs: Array,
    *,
    initial_carry: Carry | None = None,
    recurrent_weight: float | Array = 1.0,
) -> JacobianSpectra:
    """Return singular values and eigenvalues of every step's Jacobian along a trajectory.

    Args:
      cell: a Cell.
      params: its parameters.
      xs: inputs [T, I], float32 or float64; zeros for an autonomous network.
      initial_carry: Carry of [H]; None means zeros.
      recurrent_weight: w, a scalar.
    Returns:
      JacobianSpectra: entry t-1 is J_t, the Jacobian at carry t-1 and input t; nan where the state
      overflows.
    Raises:
      ValueError: a wrong shape or dtype; params, carry or xs that are not finite.
    """
    checked = check_network(cell, params, xs, initial_carry, recurrent_weight)
    return _jacobian_spectra(cell, params, *checked)


@partial(jax.jit, static_argnums=0)
def _jacobian_spectra(cell, params, xs, initial_carry, recurrent_weight):
    with highest_precision():
        flow = make_flow(cell, params, xs, initial_carry, recurrent_weight)

        def body(state, step):
            state, jacobian = with_jacobian(flow, state, step)
            found = JacobianSpectra(singular_values(jacobian), eigenvalues(jacobian))
            is_known = jnp.all(jnp.isfinite(state))  # relu has a slope even where it is not
            return state, jax.tree.map(lambda values: jnp.where(is_known, values, jnp.nan), found)

        return scan_time(body, flow.start, flow.steps, reverse=False)[1]


def check_network(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_carry: Carry | None,
    recurrent_weight: float | Array,
) -> tuple[Array, Carry, Array]:
    """Check a network and one input sequence; return (xs, initial_carry, recurrent_weight).

    Values are checked where they are known before tracing.

    Raises:
      ValueError: one line, before anything is compiled.
    """
    xs = jnp.asarray(xs)
    if xs.ndim != 2:
        raise ValueError(f"xs has shape {xs.shape}; allowed: [T, I] without batch axes (jax.vmap)")
    xs, initial_carry, _, weight = check_sequence(
        cell, params, xs, initial_carry, None, recurrent_weight
    )
    check_numbers(params=params, xs=xs, initial_carry=initial_carry)
    return xs, initial_carry, weight


def check_numbers(**trees) -> None:
    """Check that every known leaf is finite, and of a dtype that LAPACK has."""
    for name, tree in trees.items():
        for leaf in jax.tree.leaves(tree):
            if leaf.dtype not in (jnp.float32, jnp.float64):
                raise ValueError(f"{name} is {leaf.dtype}; allowed: float32, float64")
            if isinstance(leaf, Tracer):
                continue
            with jax.ensure_compile_time_eval():  # known, though it be inside of jit
                is_finite = bool(jnp.all(jnp.isfinite(leaf)))
            if not is_finite:
                raise ValueError(f"{name} holds nan or inf; allowed: finite numbers")
