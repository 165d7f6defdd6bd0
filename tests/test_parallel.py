"""``unroll(..., method="parallel")`` against the plain scan under ordinary differentiation."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE
from helpers import raises_one_line, tree_allclose, tree_equal

from rnn_jax import hold_gates, lstm, sru, unroll
from rnn_jax.cells.sru import SRUCarry
from rnn_jax.recurrence import read_steps, valid_steps
from rnn_jax.recurrence.parallel import (
    MAX_ITERATIONS,
    linear_recurrence,
    newton,
    solve_linear,
)

H = 3
BOTH_DTYPES = pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])


class Arguments(NamedTuple):
    """All that a run can be differentiated by."""

    params: Any
    xs: Any
    carry: Any
    recurrent_weight: Any
    tap: Any


def draw(
    case, getkey, num_steps, batch=(2,), dtype=jnp.float64, v=1.0, w=0.9, scale=1.0, forget_bias=0.0
):
    """Generic arguments with every |v| near ``v`` where the cell has one, rounded alike in both."""
    params = case.params(getkey(), jnp.float32)
    if hasattr(params, "recurrent_vector"):
        signs = jax.random.rademacher(getkey(), params.recurrent_vector.shape, jnp.float32)
        size = jax.random.uniform(getkey(), signs.shape, jnp.float32, 0.8, 1.2)
        params = params._replace(recurrent_vector=v * signs * size)
    forget = jnp.arange(params.bias.size) < case.cell.hidden_size
    params = params._replace(bias=params.bias + forget_bias * forget)
    arguments = Arguments(
        params,
        scale * case.xs(getkey(), num_steps, batch, jnp.float32),
        case.carry(getkey(), batch, jnp.float32),
        jnp.asarray(w, jnp.float32),
        case.zero_tap(num_steps, batch, jnp.float32),
    )
    return jax.tree.map(lambda leaf: leaf.astype(dtype), arguments)


def engine(cell, arguments, lengths, resets, reverse, **options):
    params, xs, carry, w, tap = arguments
    return unroll(
        cell,
        params,
        xs,
        initial_carry=carry,
        seq_lengths=lengths,
        resets=resets,
        reverse=reverse,
        recurrent_weight=w,
        carry_tap=tap,
        **options,
    )


parallel = functools.partial(engine, method="parallel")
plain = functools.partial(engine, adjoint="autodiff")


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def run(engine, cell, arguments, readout, lengths=None, resets=None, reverse=False):
    """((loss, (last carry, ys)), gradient by arguments)."""

    def loss(arguments):
        result = engine(cell, arguments, lengths, resets, reverse)
        return readout(*result), result

    return jax.value_and_grad(loss, has_aux=True)(arguments)


@functools.partial(jax.jit, static_argnums=(0, 4))
def solve(cell, arguments, lengths=None, resets=None, reverse=False):
    """Newton's method alone."""
    params, xs, carry, w, tap = arguments
    steps = read_steps(cell, params, xs, valid_steps(xs, lengths), tap, resets)
    return newton(cell, params, carry, steps, w, reverse)


def check(case, arguments, getkey, **options):
    """Values and all gradients, of a mean over time."""
    num_steps, *batch, _ = arguments.xs.shape
    readout = case.readout(getkey(), num_steps, tuple(batch), arguments.xs.dtype)
    readout = jax.tree.map(lambda leaf: leaf / num_steps, readout)
    found, expected = (
        run(engine, case.cell, arguments, readout, **options) for engine in (parallel, plain)
    )
    tree_allclose(found, expected)
    return found


LENGTHS = {(): np.array(4), (3,): np.array([7, 0, 1]), (2, 2): np.array([[5, 0], [1, 7]])}


@BOTH_DTYPES
@pytest.mark.parametrize("name", ["sru", *[pytest.param(name, marks=pytest.mark.slow)
    for name in ("sru_projected_skip", "indrnn", "indrnn_relu", "min_gru")]])  # fmt: skip
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch, has_lengths", [((), False), ((3,), True), ((2, 2), True)])
def test_values_and_all_gradients(name, dtype, reverse, batch, has_lengths, getkey):
    """By params, xs, initial carry, recurrent weight and tap; several batch axes and lengths."""
    arguments = draw(CASE[name], getkey, 7, batch, dtype)
    lengths = LENGTHS[batch] if has_lengths else None
    check(CASE[name], arguments, getkey, lengths=lengths, reverse=reverse)


@pytest.mark.parametrize("name", ["indrnn", "min_gru"])
def test_other_cells_that_are_element_wise(name, getkey):
    """With lengths, resets and backwards; what is affine in the state takes one iteration."""
    case, lengths, resets = CASE[name], np.array([9, 0, 5]), np.zeros((9, 3), bool)
    resets[[0, 4], 0] = True
    arguments = draw(case, getkey, 9, (3,))
    check(case, arguments, getkey, lengths=lengths, resets=resets, reverse=True)
    found = solve(case.cell, arguments, lengths, resets, True)
    assert found.is_solved and (found.count == 1) == (name == "min_gru")


@BOTH_DTYPES
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, np.array([20, 0, 9])])
def test_resets(dtype, reverse, lengths, getkey):
    """Steps that begin anew, the first, the last and neighbours among them."""
    resets = np.zeros((20, 3), bool)
    resets[[0, 5, 6, 19], 0] = resets[[3, 12], 2] = True  # one of them past its length
    arguments = draw(CASE["sru"], getkey, 20, (3,), dtype)
    check(CASE["sru"], arguments, getkey, lengths=lengths, resets=resets, reverse=reverse)


@BOTH_DTYPES
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_one_unit_and_few_steps(dtype, num_steps, getkey):
    case = CASE["sru"]._replace(cell=sru(1), input_size=1)
    check(case, draw(case, getkey, num_steps, (1,), dtype), getkey)


@BOTH_DTYPES
@pytest.mark.parametrize("forget_bias", [0.0, 5.0])
@pytest.mark.parametrize("v", [0.0, 1.0])
def test_long_sequences(dtype, forget_bias, v, getkey):
    """T = 4096, solved in parallel."""
    case = CASE["sru"]
    arguments = draw(case, getkey, 4096, dtype=dtype, v=v, scale=0.5, forget_bias=forget_bias)
    assert solve(case.cell, arguments).is_solved
    check(case, arguments, getkey)


# w v = 9 in float32 is left out: there two plain scans, differentiated in two ways, differ by 2e-5
WEIGHTS = [*((jnp.float64, w) for w in (-2.0, 0.0, 1.0, 3.0)),
           *((jnp.float32, w) for w in (-2.0, 0.0, 1.0))]  # fmt: skip


@pytest.mark.parametrize("dtype, w", WEIGHTS)
@pytest.mark.parametrize("v", [0.5, pytest.param(2.0, marks=pytest.mark.slow), 3.0])
def test_every_weight(dtype, v, w, getkey):
    """Gates that the state drives hard: solved or not, the numbers are those of the scan."""
    check(CASE["sru"], draw(CASE["sru"], getkey, 40, dtype=dtype, v=v, w=w), getkey)


# Iterations


@BOTH_DTYPES
def test_gates_that_do_not_read_the_state_take_one_iteration(dtype, getkey):
    case, lengths, resets = CASE["sru"], np.array([300, 0, 200]), np.zeros((300, 3), bool)
    resets[77] = True
    for v, w in ((0.0, 1.0), (1.0, 0.0)):
        arguments = draw(case, getkey, 300, (3,), dtype, v=v, w=w)
        for reverse in (False, True):
            found = solve(case.cell, arguments, lengths, resets, reverse)
            assert found.is_solved and found.count == 1
    assert 2 <= solve(case.cell, draw(case, getkey, 300, (3,), dtype)).count <= 12


def test_the_scan_takes_over_where_newtons_method_does_not_end(getkey):
    """In float64: in float32 such a sequence magnifies the rounding of any two programs to 1e-4."""
    case = CASE["sru"]
    arguments = draw(case, getkey, 400, v=2.0, w=2.0, scale=2.0)
    found = solve(case.cell, arguments)
    assert not found.is_solved and found.count == MAX_ITERATIONS
    check(case, arguments, getkey)


def growing(case):
    """c_t = 4 c_{t-1} + x_t: 4^64 is inf in float32."""

    def update(carry, gates, tap):
        cell = 4 * carry.cell + gates.candidate + tap.cell
        return SRUCarry(cell), cell

    return case._replace(cell=case.cell._replace(update=update))


def test_products_of_slopes_overflow_where_no_state_and_no_gradient_does(getkey):
    """Zeros until the last steps, and a loss that reads the first ones: inf times zero is no 0."""
    case = growing(CASE["sru"])
    arguments = draw(case, getkey, 200, dtype=jnp.float32)
    carry = jax.tree.map(jnp.zeros_like, arguments.carry)
    params = jax.tree.map(jnp.ones_like, arguments.params)
    late = (jnp.arange(200) >= 190)[:, None, None]
    arguments = arguments._replace(params=params, xs=arguments.xs * late, carry=carry)
    readout = case.readout(getkey(), 200, (2,), jnp.float32)
    early = (jnp.arange(200) < 10)[:, None, None]
    readout = readout.of_outputs()._replace(ys=1e-6 * readout.ys * early)
    assert not solve(case.cell, arguments).is_solved
    found, expected = (run(engine, case.cell, arguments, readout) for engine in (parallel, plain))
    assert jnp.all(expected[0][1][1][190:] != 0) and jnp.all(expected[1].xs[:10] != 0)
    tree_allclose(found, expected)


def test_states_that_overflow_do_so_as_in_the_scan(getkey):
    case = growing(CASE["sru"])
    arguments = draw(case, getkey, 200, dtype=jnp.float32)
    found, expected = (e(case.cell, arguments, None, None, False) for e in (parallel, plain))
    assert jnp.isinf(expected[1][-1]).all()
    tree_allclose(found, expected)


# Second derivatives


def hessian_vector(gradient):
    """H g, by a gradient of a gradient."""

    def half_square(arguments):
        leaves = jax.tree.leaves(gradient(arguments))
        return sum(jnp.vdot(leaf, leaf) for leaf in leaves) / 2

    return jax.grad(half_square)


SECOND = {"jacfwd": jax.jacfwd, "jacrev": jax.jacrev, "grad": hessian_vector}
RAGGED = np.array([5, 0, 3])
RESETS = np.zeros((5, 3), bool)
RESETS[[0, 2], [0, 2]] = RESETS[3, 0] = True


@pytest.mark.parametrize("v", [0.0, 1.0])
@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize(
    "lengths, resets, reverse",
    [
        (None, None, False),
        pytest.param(RAGGED, RESETS, False, marks=pytest.mark.slow),
        (RAGGED, RESETS, True),
    ],
)
def test_second_derivatives(second, v, lengths, resets, reverse, getkey):
    """By every pair of arguments: params, xs, initial carry, recurrent weight, tap."""
    case = CASE["sru"]
    arguments = draw(case, getkey, 5, (3,), v=v)
    readout = case.readout(getkey(), 5, (3,))
    found, expected = (
        second_derivatives(engine, second, lengths is not None, reverse)(arguments, readout)
        for engine in (parallel, plain)
    )
    tree_allclose(found, expected)


@functools.cache
def second_derivatives(engine, second, is_ragged, reverse):
    """Compiled once for all values of the arguments."""
    lengths, resets = (RAGGED, RESETS) if is_ragged else (None, None)

    @jax.jit
    def derivatives(arguments, readout):
        def loss(arguments):
            return readout(*engine(CASE["sru"].cell, arguments, lengths, resets, reverse))

        return SECOND[second](jax.grad(loss))(arguments)

    return derivatives


def test_second_derivatives_where_the_scan_takes_over(getkey):
    case = CASE["sru"]
    arguments = draw(case, getkey, 400, v=2.0, w=2.0, scale=2.0)
    assert not solve(case.cell, arguments).is_solved
    readout = case.readout(getkey(), 400, (2,))

    def derivatives(engine):
        def loss(vector):
            params = arguments.params._replace(recurrent_vector=vector)
            last, ys = engine(case.cell, arguments._replace(params=params), None, None, False)
            return readout(last, ys) / 400

        return jax.jit(jax.jacrev(jax.grad(loss)))(arguments.params.recurrent_vector)

    tree_allclose(derivatives(parallel), derivatives(plain))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("start", [0, 32])
def test_derivatives_stay_finite_where_products_of_slopes_overflow(start, reverse, getkey):
    """32 slopes of 32 (2^160 is inf) in a row, and a loss that reads four steps amid them."""
    slope = jnp.ones((64, 1), jnp.float32).at[start : start + 32].set(32.0)
    middle = ((jnp.arange(64) // 4) == (start + 12) // 4)[:, None]
    constant = jax.random.normal(getkey(), (64, 1), jnp.float32) * middle

    def by_scan(slope, constant, reverse):
        def body(a, step):
            a = step[0] * a + step[1]
            return a, a

        return jax.lax.scan(body, jnp.zeros(1), (slope, constant), reverse=reverse)[1]

    def derivatives(recurrence):
        def loss(slope, constant):
            return jnp.sum(middle * jnp.square(recurrence(slope, constant, reverse)))

        def along(slope, constant):
            gradients = jax.grad(loss, (0, 1))(slope, constant)
            return sum(jnp.vdot(g, constant) for g in gradients)

        @jax.jit
        def every(slope, constant):
            by_both = jax.grad(along, (0, 1))(slope, constant)
            forward = jax.jvp(jax.grad(loss), (slope, constant), (constant, constant))
            return jax.grad(loss, (0, 1))(slope, constant), by_both, forward

        return every(slope, constant)

    assert not jnp.isfinite(linear_recurrence(slope, constant, start == 0)).all()
    found, expected = derivatives(solve_linear), derivatives(by_scan)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))
    tree_allclose(found, expected)


# Padding, transformations, dtypes


def test_padding_is_frozen_bit_by_bit(getkey):
    """Length 0 returns the initial carry; outputs and gradients past a length are zero."""
    case, lengths = CASE["sru"], LENGTHS[3,]
    arguments = draw(case, getkey, 7, (3,))
    padded = np.arange(7)[:, None] >= lengths
    readout = case.readout(getkey(), 7, (3,))
    results = run(parallel, case.cell, arguments, readout, lengths)
    xs = jnp.where(padded[..., None], jnp.nan, arguments.xs)
    tree_equal(run(parallel, case.cell, arguments._replace(xs=xs), readout, lengths), results)
    (_, (last, ys)), gradients = results
    tree_equal(last.cell[1], arguments.carry.cell[1])
    for leaf in (ys, gradients.xs, gradients.tap.cell):
        assert np.all(np.asarray(leaf)[padded] == 0)


def test_vmap_over_weights_some_of_which_the_scan_takes_over(getkey):
    case = CASE["sru"]
    arguments = draw(case, getkey, 400, v=3.0, scale=2.0)
    weights = jnp.array([0.0, 0.2, -0.2, 2.0])
    readout = case.readout(getkey(), 400, (2,))
    readout = jax.tree.map(lambda leaf: leaf / 400, readout)
    solved = jax.vmap(lambda w: solve(case.cell, arguments._replace(recurrent_weight=w)).is_solved)
    assert solved(weights).tolist() == [True, True, True, False]

    def at(engine, w):
        return run(engine, case.cell, arguments._replace(recurrent_weight=w), readout)

    found, expected = (
        jax.vmap(functools.partial(at, engine))(weights) for engine in (parallel, plain)
    )
    tree_allclose(found, expected)


def test_bfloat16_is_iterated_in_float32(getkey):
    """Nearer to the exact result than the scan in bfloat16 is."""
    case = CASE["sru"]
    arguments = draw(case, getkey, 200, dtype=jnp.bfloat16)
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), arguments)
    expected = plain(case.cell, exact, None, None, False)
    (last, ys), scanned = (e(case.cell, arguments, None, None, False) for e in (parallel, plain))
    assert last.cell.dtype == ys.dtype == jnp.bfloat16
    tree_allclose((last, ys), expected)
    errors = [jnp.abs(y.astype(jnp.float64) - expected[1]).mean() for y in (ys, scanned[1])]
    assert errors[0] < errors[1]


def test_segments(getkey):
    """Each segment of a long sequence is solved by itself."""
    case = CASE["sru"]
    arguments = draw(case, getkey, 23)
    readout = case.readout(getkey(), 23, (2,))
    segments = functools.partial(parallel, checkpoint_every=5)
    found, expected = (run(e, case.cell, arguments, readout) for e in (segments, plain))
    tree_allclose(found, expected)


@pytest.mark.parametrize(
    "cell, options, message",
    [
        (sru(3), {"method": "fast"}, "method is 'fast'; allowed: scan, parallel"),
        (
            lstm(3),
            {},
            "method is 'parallel' and the cell lstm; allowed: a cell whose recurrence is "
            "element-wise: sru, indrnn, min_gru",
        ),
        (sru(3), {"adjoint": "autodiff"}, "adjoint with method 'parallel' is 'autodiff';"),
        (
            sru(3),
            {"max_carry_norm": 1.0},
            "max_carry_norm is given with method 'parallel';",
        ),
    ],
)
def test_what_does_not_run_parallel_is_one_line(cell, options, message, getkey):
    params = cell.init(getkey(), 3, jnp.float64)
    with raises_one_line(message):
        unroll(cell, params, jnp.zeros((5, 2, 3)), **{"method": "parallel", **options})


def test_a_held_gate_runs_parallel(getkey):
    cell = hold_gates(sru(3), forget=0.9)
    params = cell.init(getkey(), 3, jnp.float64)
    xs = jax.random.normal(getkey(), (50, 2, 3), jnp.float64)
    tree_allclose(unroll(cell, params, xs, method="parallel"), unroll(cell, params, xs))
