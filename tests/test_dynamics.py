"""Jacobians, their spectra and fixed points, against closed forms and the cells' oracles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE, every_case, one_case_a_cell
from helpers import raises_one_line, tree_allclose

from rnn_jax import elman, gru, lstm
from rnn_jax.cells import initializers
from rnn_jax.dynamics import (
    distinct,
    fixed_points,
    jacobian_spectra,
    step_jacobian,
    trajectory,
)

W = 1.3


def oracle_step(case, params, carry, x, xp=np):
    """The next carry by the equations of the papers."""
    zeros = jax.tree.map(xp.zeros_like, carry)
    return case.step(xp, params, carry, x, W, zeros)[0]


@every_case
def test_step_jacobian_is_that_of_the_oracle(case, getkey):
    """Reverse mode through the papers' equations; leaves one after another."""
    params, carry = case.params(getkey()), case.carry(getkey(), ())
    x = case.xs(getkey(), 1, ())[0]

    def flat_step(flat):
        leaves = jnp.split(flat, len(carry))
        return jnp.concatenate(oracle_step(case, params, type(carry)(*leaves), x, jnp))

    expected = jax.jacrev(flat_step)(jnp.concatenate(carry))
    found = step_jacobian(case.cell, params, carry, x, W)
    tree_allclose(found, expected, "step")


@one_case_a_cell
def test_trajectory_is_the_oracles_loop(case, getkey):
    params, start, xs = case.params(getkey()), case.carry(getkey(), ()), case.xs(getkey(), 7, ())
    carries = [jax.tree.map(np.asarray, start)]
    numpy_params = jax.tree.map(np.asarray, params)
    for x in np.asarray(xs):
        carries.append(oracle_step(case, numpy_params, carries[-1], x))
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *carries)
    found = trajectory(case.cell, params, xs, initial_carry=start, recurrent_weight=W)
    tree_allclose(found, expected)


@one_case_a_cell
def test_spectra_are_those_of_every_step_jacobian(case, getkey):
    """By numpy, sorted downwards; and vmap over w and xs is separate calls."""
    params, xs = case.params(getkey()), case.xs(getkey(), 5, (2,))
    weights = jnp.array([0.7, W])

    def spectra(w, xs):
        return jacobian_spectra(case.cell, params, xs, recurrent_weight=w)

    found = jax.vmap(spectra, in_axes=(0, 1))(weights, xs)
    for i, w in enumerate(weights):
        carries = trajectory(case.cell, params, xs[:, i], recurrent_weight=w)
        for t, x in enumerate(xs[:, i]):
            carry = jax.tree.map(lambda leaf, t=t: leaf[t], carries)
            jacobian = np.asarray(step_jacobian(case.cell, params, carry, x, w))
            singular_values = np.linalg.svd(jacobian, compute_uv=False)
            tree_allclose(found.singular_values[i, t], singular_values)
            values = np.asarray(found.eigenvalues[i, t])
            assert np.all(np.diff(np.abs(values)) <= 1e-12)
            expected = np.linalg.eigvals(jacobian)
            np.testing.assert_allclose(
                np.sort_complex(values.round(9)), np.sort_complex(expected.round(9)), atol=1e-8
            )


# Fixed points


def linear_network(getkey, gain=0.5):
    cell = elman(4, "identity")
    return cell, cell.init(
        getkey(),
        2,
        jnp.float64,
        recurrent_init=initializers.gaussian(gain),
        bias_init=jax.nn.initializers.normal(),
    )


def starts(cell, key, num_starts):
    """States from N(0, 1)."""
    zeros = cell.initial_carry((num_starts,), jnp.float64)
    keys = jax.random.split(key, len(zeros))
    return type(zeros)(*[jax.random.normal(k, a.shape) for k, a in zip(keys, zeros, strict=True)])


def test_an_affine_map_has_one_fixed_point(getkey):
    """h = b + x W + w h R solved by numpy; the eigenvalues are those of w R."""
    cell, params = linear_network(getkey)
    x = jax.random.normal(getkey(), (2,))
    found = fixed_points(cell, params, x, starts(cell, getkey(), 5), recurrent_weight=W)
    kernel, recurrent_kernel, bias = map(np.asarray, params)
    expected = np.linalg.solve(np.eye(4) - W * recurrent_kernel.T, np.asarray(x) @ kernel + bias)
    tree_allclose(found.carries.hidden, np.tile(expected, (5, 1)))
    assert found.converged.all()
    moduli = np.sort(np.abs(np.linalg.eigvals(W * recurrent_kernel)))[::-1]
    tree_allclose(jnp.abs(found.eigenvalues), np.tile(moduli, (5, 1)))
    assert distinct(found).carries.hidden.shape == (1, 4)


def one_tanh_unit():
    one = initializers.identity()
    cell = elman(1)
    return cell, cell.init(jax.random.key(0), 1, jnp.float64, kernel_init=one, recurrent_init=one)


def test_a_tanh_unit_has_three(getkey):
    """h = tanh(2h): 0 and ±0.9575, by iteration; eigenvalues 2 (1 - h²)."""
    cell, params = one_tanh_unit()
    stable = functools.reduce(lambda h, _: np.tanh(2 * h), range(200), 0.5)
    begin = cell.initial_carry(())._replace(hidden=jnp.linspace(-1.5, 1.5, 13)[:, None])
    found = fixed_points(cell, params, jnp.zeros(1), begin, recurrent_weight=2.0)
    assert found.converged.all()
    once = distinct(found)
    order = np.argsort(once.carries.hidden[:, 0])
    hidden = np.asarray(once.carries.hidden)[order, 0]
    np.testing.assert_allclose(hidden, [-stable, 0.0, stable], atol=1e-10)
    np.testing.assert_allclose(
        np.asarray(once.eigenvalues)[order, 0], 2 * (1 - hidden**2), atol=1e-10
    )


@pytest.mark.parametrize("gain", [0.9, 0.999])
def test_in_float32_one_fixed_point_is_found_once(gain, getkey):
    """Near the edge the residual says least of the place: ‖s - s*‖ is up to r / |1 - λ|."""
    cell = elman(16)
    params = cell.init(getkey(), 1, jnp.float32, recurrent_init=initializers.orthogonal(gain))
    begin = cell.initial_carry((20,), jnp.float32)
    begin = begin._replace(hidden=jax.random.normal(getkey(), (20, 16), jnp.float32))
    found = fixed_points(cell, params, jnp.zeros(1, jnp.float32), begin)
    assert found.converged.sum() >= 10 and len(distinct(found).residuals) == 1
    assert len(distinct(found, tolerance=1e-12).residuals) > 1


@pytest.mark.parametrize("cell", [lstm(6), gru(6)], ids=lambda cell: cell.name)
def test_gated_cells_rest_at_their_fixed_points(cell, getkey):
    """Strong recurrent weights; residuals by the trajectory, and Newton's own."""
    recurrent_init = initializers.gaussian(2.0)
    params = cell.init(getkey(), 2, jnp.float64, recurrent_init=recurrent_init)
    x = jax.random.normal(getkey(), (2,))
    found = fixed_points(cell, params, x, starts(cell, getkey(), 20), tolerance=1e-12)
    kept = distinct(found)
    assert found.converged.sum() >= 10 and len(kept.residuals) >= 1
    for place in range(len(kept.residuals)):
        carry = jax.tree.map(lambda leaf, i=place: leaf[i], kept.carries)
        moved = trajectory(cell, params, x[None], initial_carry=carry)
        for leaf in moved:
            np.testing.assert_allclose(leaf[1], leaf[0], atol=1e-12, rtol=0)
        jacobian = np.asarray(step_jacobian(cell, params, carry, x))
        moduli = np.sort(np.abs(np.linalg.eigvals(jacobian)))[::-1]
        np.testing.assert_allclose(jnp.abs(kept.eigenvalues[place]), moduli, atol=1e-9)


def test_a_singular_matrix_leaves_no_nan(getkey):
    """h = h + b: J - 1 is zero and there is no fixed point; a network beside it keeps its own."""
    cell, params = linear_network(getkey)
    singular = params._replace(recurrent_kernel=jnp.eye(4))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, singular)
    begin = starts(cell, getkey(), 3)
    found = jax.vmap(lambda p: fixed_points(cell, p, jnp.zeros(2), begin))(both)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert found.converged[0].all() and not found.converged[1].any()
    np.testing.assert_allclose(found.residuals[1], np.linalg.norm(params.bias), rtol=1e-12)


def test_equal_calls_do_not_trace_again(getkey):
    case = CASE["lstm"]
    cell, calls = case.counting_calls()

    def call():
        params, xs = case.params(getkey()), case.xs(getkey(), 4, ())
        carry = case.carry(getkey(), ())
        begin = jax.tree.map(lambda leaf: leaf[None], carry)
        trajectory(cell, params, xs, initial_carry=carry)
        jacobian_spectra(cell, params, xs, initial_carry=carry)
        step_jacobian(cell, params, carry, xs[0])
        fixed_points(cell, params, xs[0], begin)

    call()
    traced = len(calls)
    assert traced > 0
    call()
    assert len(calls) == traced


# Errors

CELL = elman(3)
PARAMS = CELL.init(jax.random.key(0), 2, jnp.float64)
CARRY = CELL.initial_carry((), jnp.float64)
CARRIES = CELL.initial_carry((4,), jnp.float64)
BAD_PARAMS = PARAMS._replace(bias=jnp.full(3, jnp.nan))


@pytest.mark.parametrize(
    ("call", "fragments"),
    [
        (lambda: trajectory(CELL, PARAMS, jnp.zeros((5, 4, 2))), ("xs", "(5, 4, 2)", "vmap")),
        (lambda: trajectory(CELL, PARAMS, jnp.zeros((0, 2))), ("xs", "(0, 2)")),
        (lambda: trajectory(CELL, BAD_PARAMS, jnp.zeros((5, 2))), ("params", "nan")),
        (lambda: trajectory(CELL, PARAMS, jnp.full((5, 2), jnp.inf)), ("xs", "inf")),
        (
            lambda: trajectory(CELL, PARAMS, jnp.zeros((5, 2)), initial_carry=CARRIES),
            ("initial_carry.hidden", "(4, 3)"),
        ),
        (
            lambda: trajectory(
                CELL,
                *jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS, jnp.zeros((5, 2)))),
            ),
            ("bfloat16", "float64"),
        ),
        (lambda: step_jacobian(CELL, PARAMS, CARRY, jnp.zeros((1, 2))), ("x has", "(1, 2)")),
        (lambda: jacobian_spectra(CELL, PARAMS, jnp.zeros((5, 3))), ("kernel", "I = 3")),
        (
            lambda: fixed_points(CELL, PARAMS, jnp.zeros(2), CARRY),
            ("initial_carries", "[P, H]"),
        ),
        (
            lambda: fixed_points(
                CELL, PARAMS, jnp.zeros(2), jax.tree.map(lambda a: a[:0], CARRIES)
            ),
            ("initial_carries", "(0, 3)"),
        ),
        (
            lambda: fixed_points(CELL, PARAMS, jnp.zeros(2), CARRIES, max_iterations=0),
            ("max_iterations is 0",),
        ),
        (
            lambda: fixed_points(CELL, PARAMS, jnp.zeros(2), CARRIES, tolerance=-1.0),
            ("tolerance is -1.0",),
        ),
        (lambda: fixed_points(CELL, BAD_PARAMS, jnp.zeros(2), CARRIES), ("params", "nan")),
    ],
)
def test_a_bad_argument_is_named_in_one_line(call, fragments):
    with raises_one_line(*fragments):
        call()
