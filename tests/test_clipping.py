"""Clips of a gradient tree, against numpy and optax; and the clip at every step of the adjoint."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASE, LENGTHS, every_case, one_case_a_cell
from helpers import compile_as_users_do, raises_one_line, tree_allclose, tree_equal

from rnn_jax import elman, gradient_flow, unroll
from rnn_jax.cells.elman import ElmanCarry
from rnn_jax.clipping import (
    CLIPS,
    clip_by_global_norm,
    clip_by_norm_percentile,
    clip_by_value,
    clip_reports,
    compare,
    gradient_norm,
)

T = 6


def draw(key, dtype=jnp.float64, scale=1.0):
    first, second = jax.random.split(key)
    return {
        "kernel": scale * jax.random.normal(first, (5, 4), dtype),
        "bias": scale * jax.random.normal(second, (4,), dtype),
    }


def flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def clip_once(transformation, gradient):
    clipped, state = jax.jit(transformation.update)(gradient, transformation.init(gradient))
    return clipped, state.report


# By value and by global norm


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("threshold", [0.1, 1.0, 10.0])
def test_by_value_keeps_every_sign_and_every_entry_under_the_threshold(threshold, dtype, getkey):
    gradient = draw(getkey(), dtype)
    clipped, report = clip_once(clip_by_value(threshold), gradient)
    before, after = flat(gradient), flat(clipped)
    limit = float(jnp.asarray(threshold, dtype))
    assert np.array_equal(np.sign(after), np.sign(before)) and np.all(np.abs(after) <= limit)
    assert np.array_equal(after, np.clip(before, -limit, limit))
    tree_equal(clipped, optax.clip(threshold).update(gradient, optax.EmptyState())[0])
    np.testing.assert_allclose(report.clipped_fraction, np.mean(np.abs(before) > limit), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e12])
def test_by_global_norm_keeps_the_direction_and_what_is_under_it(scale, dtype, getkey):
    gradient = draw(getkey(), dtype, scale)
    clipped, report = clip_once(clip_by_global_norm(2.0), gradient)
    before, after = flat(gradient), flat(clipped)
    norm = np.linalg.norm(before)
    if norm <= 2.0:
        tree_equal(clipped, gradient)
        assert report.clipped_fraction == 0 and report.angle == 0
    else:
        np.testing.assert_allclose(np.linalg.norm(after), 2.0, rtol=1e-6)
        assert report.clipped_fraction == 1 and report.angle < 1e-6
    assert 1 - before @ after / norm / np.linalg.norm(after) < 1e-6
    np.testing.assert_allclose(report.norm_before, norm, rtol=1e-6)
    np.testing.assert_allclose(report.norm_after, min(norm, 2.0), rtol=1e-6)
    tree_equal(
        clipped,
        jax.jit(optax.clip_by_global_norm(2.0).update)(gradient, optax.EmptyState())[0],
    )


def test_small_dtypes_are_scaled_in_float32(getkey):
    clipped, report = clip_once(clip_by_global_norm(2.0), draw(getkey(), jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(clipped)} == {jnp.dtype(jnp.bfloat16)}
    assert report.norm_before.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(flat(clipped)), 2.0, rtol=1e-2)


def test_the_angle_is_that_between_before_and_after(getkey):
    gradient = draw(getkey())
    clipped, report = clip_once(clip_by_value(0.3), gradient)
    before, after = flat(gradient), flat(clipped)
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    tree_allclose(report.angle, np.arccos(cosine))
    turned = compare(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
    tree_allclose(turned.angle, np.float64(np.pi / 2))
    tree_allclose(compare(gradient, jax.tree.map(jnp.negative, gradient)).angle, np.float64(np.pi))
    slightly = compare(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-9])).angle
    np.testing.assert_allclose(slightly, 1e-9, rtol=1e-9)


# Zero, inf, nan, and squares out of range


@pytest.mark.parametrize("name", CLIPS)
def test_a_zero_gradient_stays_and_is_not_turned(name):
    zero = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    clipped, report = clip_once(CLIPS[name](1.0), zero)
    tree_equal(clipped, zero)
    tree_equal(report, jax.tree.map(jnp.zeros_like, report))


@pytest.mark.parametrize("name", CLIPS)
def test_a_tree_without_entries_passes(name):
    """As it does in optax, for example where a mask leaves nothing."""
    for empty in ({}, {"a": jnp.zeros((0, 2))}):
        clipped, report = clip_once(CLIPS[name](1.0), empty)
        tree_equal(clipped, empty)
        assert all(float(value) == 0 for value in report)


def test_what_is_no_gradient_is_refused():
    whole = {"a": jnp.arange(3)}
    with raises_one_line("a leaf of int64", "floating"):
        clip_by_value(1.0).update(whole, clip_by_value(1.0).init(whole))
    with raises_one_line("after has shapes (3,)", "(2,)"):
        compare(jnp.ones(2), jnp.ones(3))
    small = jnp.ones(2, jnp.float32)
    with raises_one_line("the threshold is 1e-60", "float32"):
        clip_by_value(1e-60).update(small, clip_by_value(1e-60).init(small))
    assert np.isnan(compare(jnp.ones(2), jnp.zeros(2)).angle)


def test_by_value_cuts_inf_and_keeps_nan():
    gradient = jnp.array([jnp.inf, -jnp.inf, jnp.nan, 0.5, -0.0])
    clipped, report = clip_once(clip_by_value(2.0), gradient)
    np.testing.assert_array_equal(clipped, [2.0, -2.0, np.nan, 0.5, -0.0])
    assert np.signbit(clipped[-1])
    assert report.clipped_fraction == 0.4 and np.isnan(report.norm_before)


@pytest.mark.parametrize("bad", [jnp.inf, -jnp.inf, jnp.nan])
@pytest.mark.parametrize("name", ["global-norm", "percentile"])
def test_by_norm_leaves_a_gradient_that_is_not_finite(name, bad):
    transformation = CLIPS[name](50.0)
    first = jnp.array([0.1, 0.2, 0.3])
    _, state = transformation.update(first, transformation.init(first))
    gradient = jnp.array([1e3, bad, -1e-3])
    clipped, state = jax.jit(transformation.update)(gradient, state)
    np.testing.assert_array_equal(clipped, gradient)
    assert not np.isfinite(state.report.norm_before) and np.isnan(state.report.angle)
    assert state.report.clipped_fraction == 0


def test_squares_that_overflow_or_underflow_change_nothing():
    clip = jax.jit(lambda c, gradient: clip_once(clip_by_global_norm(c), gradient))
    for scale in (6.5e37, 2.2e37, 1e30, 1e-30, 1e-37):
        gradient = jnp.array([3.0, -4.0, 1e-9], jnp.float32) * jnp.float32(scale)
        np.testing.assert_allclose(gradient_norm(gradient), 5 * scale, rtol=1e-6)
        for c in (1e-35, 1e-3, 1.0, 1e35):
            clipped, report = clip(jnp.float32(c), gradient)
            np.testing.assert_allclose(report.norm_after, min(c, 5 * scale), rtol=1e-6)
            if c > 5 * scale:
                tree_equal(clipped, gradient)
            else:
                np.testing.assert_allclose(clipped[:2], [0.6 * c, -0.8 * c], rtol=1e-6)


def test_the_largest_float_is_clipped():
    largest = jnp.finfo(jnp.float32).max
    clipped, report = clip_once(clip_by_global_norm(2.0), jnp.array([largest, -largest]))
    np.testing.assert_allclose(clipped, [2**0.5, -(2**0.5)], rtol=1e-6)
    assert np.isinf(report.norm_before)  # it is above the largest float
    np.testing.assert_allclose(report.norm_after, 2.0, rtol=1e-6)


# Composition


def test_in_a_chain_under_jit_the_reports_come_in_order(getkey):
    params, gradient = draw(getkey()), draw(getkey(), scale=10.0)
    optimizer = optax.chain(clip_by_value(1.0), clip_by_global_norm(2.0), optax.sgd(0.5))
    updates, state = jax.jit(optimizer.update)(gradient, optimizer.init(params), params)
    by_value, by_norm = clip_reports(state)
    expected = np.clip(flat(gradient), -1, 1)
    tree_allclose(by_value.norm_before, np.linalg.norm(flat(gradient)))
    tree_allclose(by_norm.norm_before, np.linalg.norm(expected))
    tree_allclose(flat(updates), -0.5 * expected * 2 / np.linalg.norm(expected))
    assert clip_reports(optax.sgd(1.0).init(params)) == []


def test_vmap_clips_each_gradient_at_each_threshold(getkey):
    gradients = jax.vmap(draw)(jax.random.split(getkey(), 3))
    for clip in (clip_by_value, clip_by_global_norm):

        def at(threshold, gradient, clip=clip):
            return clip_once(clip(threshold), gradient)

        thresholds = jnp.array([0.1, 1.0, 100.0])
        together = jax.vmap(at)(thresholds, gradients)
        for i, threshold in enumerate(thresholds):
            alone = at(float(threshold), jax.tree.map(lambda a, i=i: a[i], gradients))
            tree_allclose(jax.tree.map(lambda a, i=i: a[i], together), alone)


@pytest.mark.parametrize(("percentile", "window"), [(90.0, 10), (50.0, 4), (100.0, 1)])
def test_the_measured_threshold_is_a_percentile_of_the_last_norms(percentile, window, getkey):
    """Against a loop over numpy arrays; an outlier, a zero and a nan on the way."""
    sizes = [
        *np.abs(np.asarray(jax.random.normal(getkey(), (25,)))),
        1e6,
        2.0,
        0.0,
        np.nan,
        3.0,
        1e4,
    ]
    transformation = clip_by_norm_percentile(percentile, window)
    direction = jnp.array([0.6, -0.8])
    state, update = transformation.init(direction), jax.jit(transformation.update)
    seen = []
    for size in sizes:
        np.testing.assert_array_equal(state.recent_norms[: max(0, window - len(seen))], np.nan)
        if seen:
            tree_allclose(state.recent_norms[-len(seen) :], np.array(seen[-window:]))
        clipped, state = update(size * direction, state)
        recent = seen[-window:]
        limit = np.percentile(recent, percentile, method="lower") if recent else np.inf
        tree_allclose(state.threshold, np.float64(limit))
        expected = size if np.isnan(size) else min(size, limit)
        tree_allclose(clipped, expected * np.asarray(direction))
        if np.isfinite(size) and size > 0:
            seen.append(size)


def test_the_percentile_is_numpys_in_float32_too():
    def measured(percentile, recent):
        transformation = clip_by_norm_percentile(percentile, 100)
        state = transformation.init(jnp.zeros(2, jnp.float32))._replace(recent_norms=recent)
        return transformation.update(jnp.ones(2, jnp.float32), state)[1].threshold

    at_all = jax.jit(jax.vmap(measured, in_axes=(0, None)))
    percentiles = np.array([1, 10, 20, 30, 50, 60, 90, 99, 100], np.float32)
    for num_seen in (1, 2, 11, 21, 91, 100):
        sizes = np.random.default_rng(num_seen).permutation(num_seen).astype(np.float32) + 1
        recent = jnp.full((100,), jnp.nan, jnp.float32).at[-num_seen:].set(sizes)
        expected = np.percentile(sizes, percentiles, method="lower")
        np.testing.assert_array_equal(at_all(percentiles, recent), expected)
        for i in (1, 5):  # given as a plain number
            assert measured(float(percentiles[i]), recent) == expected[i]


def test_the_state_can_be_donated_and_carried_by_a_scan():
    params = {"a": jnp.ones(3, jnp.float32)}
    for clip in (clip_by_value(1.0), clip_by_global_norm(1.0), clip_by_norm_percentile(90.0, 5)):
        optimizer = optax.chain(clip, optax.sgd(0.1))

        def step(carry, _, optimizer=optimizer):
            params, state = carry
            gradient = jax.tree.map(lambda a: a.astype(jnp.float64), params)
            updates, state = optimizer.update(gradient, state, params)
            updates = jax.tree.map(lambda a: a.astype(jnp.float32), updates)
            return (optax.apply_updates(params, updates), state), None

        start = jax.tree.map(jnp.copy, params)
        run = jax.jit(
            lambda *carry, step=step: jax.lax.scan(step, carry, None, length=3)[0],
            donate_argnums=(0, 1),
        )
        moved, state = run(start, optimizer.init(start))
        assert np.all(moved["a"] < params["a"]) and clip_reports(state)[0].norm_before > 0


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda: clip_by_value(0.0), "max_abs is 0.0"),
        (lambda: clip_by_global_norm(-1.0), "max_norm is -1.0"),
        (lambda: clip_by_global_norm(float("nan")), "max_norm is nan"),
        (lambda: clip_by_global_norm("1"), "max_norm is '1'"),
        (lambda: clip_by_value([1.0, 2.0]), "max_abs is [1.0, 2.0]"),
        (lambda: clip_by_norm_percentile(101.0), "percentile is 101.0"),
        (lambda: clip_by_norm_percentile(50.0, 0), "window is 0"),
    ],
)
def test_bad_thresholds(make, given):
    with raises_one_line(given):
        make()


# At every step, inside the adjoint


class Given(NamedTuple):
    """Arguments of an unroll, and a loss that reads the last carry and every output."""

    params: Any
    xs: Any
    carry: Any
    weight: Any
    tap: Any
    readout: Any


def draw_given(case, getkey):
    return Given(
        case.params(getkey()), case.xs(getkey(), T, (3,)), case.carry(getkey(), (3,)),
        jnp.float64(1.4), case.zero_tap(T, (3,)), case.readout(getkey(), T, (3,)),
    )  # fmt: skip


def clip_factor(gradient, c):
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(a), axis=-1) for a in gradient))
    return jnp.where(norm > c, c / jnp.where(norm > 0, norm, 1), 1.0)


def scaled(tree, factor):
    return jax.tree.map(lambda a: a * factor[:, None], tree)


@functools.cache
def loop_that_clips(case):
    """Go back step by step with the oracle's vjp and clip the cotangents of each step as it goes.

    (given, lengths, c) -> gradients by (params, initial carry, w), and by the states of t = 1..T.
    """

    def gradient(given, lengths, c):
        pullbacks, carry = [], given.carry
        for t in range(T):
            tap = jax.tree.map(lambda a, t=t: a[t], given.tap)

            def step(params, carry, w, tap, t=t):
                return case.step(jnp, params, carry, given.xs[t], w, tap)[:2]

            (later, _), pullback = jax.vjp(step, given.params, carry, given.weight, tap)
            pullbacks.append(pullback)
            valid = (t < lengths)[:, None]
            carry = jax.tree.map(lambda a, b, v=valid: jnp.where(v, a, b), later, carry)
        adjoint, total, states = given.readout.carry, None, []
        for t in reversed(range(T)):
            is_valid = t < lengths
            cotangents = scaled((adjoint, given.readout.ys[t]), is_valid)
            factor = clip_factor(pullbacks[t](cotangents)[3], c)
            d_params, d_carry, d_weight, state = pullbacks[t](scaled(cotangents, factor))
            step_total = (d_params, d_weight)
            total = step_total if total is None else jax.tree.map(jnp.add, total, step_total)
            adjoint = jax.tree.map(
                lambda new, old, v=is_valid: jnp.where(v[:, None], new, old), d_carry, adjoint
            )
            states.append(state)
        first = scaled(adjoint, clip_factor(adjoint, c))
        return *total, first, jax.tree.map(lambda *a: jnp.stack(a), *reversed(states))

    return jax.jit(gradient)


@functools.cache
def gradient_of_unroll(cell, checkpoint_every=None):
    def loss(given, lengths, c):
        return given.readout(
            *unroll(
                cell,
                given.params,
                given.xs,
                initial_carry=given.carry,
                seq_lengths=lengths,
                recurrent_weight=given.weight,
                checkpoint_every=checkpoint_every,
                carry_tap=given.tap,
                max_carry_norm=c,
            )
        )

    return jax.jit(jax.grad(loss))


def norms_over_leaves(carry):
    return np.sqrt(sum(np.sum(np.square(leaf), axis=-1) for leaf in carry))


@every_case
def test_per_step_is_a_plain_loop_that_clips_as_it_goes(case, getkey):
    """Every gradient, where few steps are clipped and where most are, and in segments."""
    given, lengths = draw_given(case, getkey), LENGTHS[3,]
    settings = [(1.5, None), (0.3, None)]
    if case.name in ("elman_tanh", "lstm"):  # what segments do is the same for every cell
        settings.append((0.3, 4))
    for c, checkpoint_every in settings:
        found = gradient_of_unroll(case.cell, checkpoint_every)(given, lengths, c)
        expected = loop_that_clips(case)(given, lengths, c)
        tree_allclose((found.params, found.weight, found.carry, found.tap), expected)
        for states in (found.tap, found.carry):
            assert norms_over_leaves(states).max() <= c * (1 + 1e-12)


@one_case_a_cell
def test_gradient_flow_clips_as_unroll_does(case, getkey):
    given, lengths, c = draw_given(case, getkey), LENGTHS[3,], 0.5
    of_unroll = gradient_of_unroll(case.cell)(given, lengths, c)
    flow = gradient_flow(
        case.cell,
        given.params,
        given.xs,
        lambda *result: given.readout(*result),
        initial_carry=given.carry,
        seq_lengths=lengths,
        recurrent_weight=given.weight,
        max_carry_norm=c,
    )
    stacked = jax.tree.map(
        lambda first, later: np.concatenate([first[None], later]), of_unroll.carry, of_unroll.tap
    )
    is_past = np.arange(T + 1)[:, None] > lengths
    tree_allclose(flow.carry_norm, np.where(is_past, np.nan, norms_over_leaves(stacked)))
    tree_allclose(jnp.nansum(flow.weight_share), of_unroll.weight)
    before = np.exp(flow.log_carry_norm - flow.log_clip_factor)
    is_clipped = np.asarray(flow.log_clip_factor) < 0
    assert is_clipped.any() and np.all(before[is_clipped] > c)
    assert np.array_equal(np.isnan(flow.log_clip_factor), is_past)


@one_case_a_cell
def test_a_threshold_that_is_never_met_changes_no_bit(case, getkey):
    """In programs as users compile them: bits depend on the compiler's optimizations."""
    given, lengths = draw_given(case, getkey), LENGTHS[3,]
    gradient = gradient_of_unroll(case.cell)
    never_met, no_clip = (
        compile_as_users_do(gradient, given, lengths, c)(given, lengths, c) for c in (1e30, None)
    )
    tree_equal(never_met, no_clip)


def test_float32_clips_across_hundreds_of_decades():
    """A linear network, w = 1.5, 300 steps, a loss gradient of 1e30: every norm is c."""
    cell = elman(8, "identity")
    params = cell.init(jax.random.key(0), 1, jnp.float32)
    xs = jnp.zeros((300, 2, 1), jnp.float32)

    def loss(carry, ys):
        return 1e30 * carry.hidden.sum()

    for c in (1e-20, 0.5, 1e20):
        flow = gradient_flow(cell, params, xs, loss, recurrent_weight=1.5, max_carry_norm=c)
        np.testing.assert_allclose(flow.log_carry_norm, np.log(c), atol=1e-4)
        np.testing.assert_allclose(flow.log_clip_factor[:-1], -np.log(1.5), atol=1e-4)
    flow = gradient_flow(cell, params, xs, loss, recurrent_weight=0.5, max_carry_norm=1.0)
    np.testing.assert_allclose(flow.log_carry_norm[0], 300 * np.log(0.5), rtol=1e-4)


def test_a_gradient_that_is_not_finite_is_not_clipped_and_seen():
    cell = elman(2)
    params, xs = cell.init(jax.random.key(0), 1), jnp.zeros((1, 1), jnp.float32)

    def loss(carry, ys):
        return carry.hidden.sum() * jnp.inf

    def gradient(c):
        return jax.grad(lambda p: loss(*unroll(cell, p, xs, max_carry_norm=c)))(params)

    assert np.all(gradient(1.0).bias == jnp.inf)
    tree_equal(gradient(1.0), gradient(None))


@pytest.mark.parametrize("scale", [1e36, 3e37, 2e38])
@pytest.mark.parametrize("c", [1e-3, 0.25, 100.0])
def test_the_ends_of_float32(scale, c):
    """The loss's gradient near the largest float: unroll and gradient_flow give c at every step."""
    cell = elman(1, "identity")
    params = jax.tree.map(lambda a: jnp.ones_like(a), cell.init(jax.random.key(0), 1))
    params = jax.tree.map(lambda a: a.astype(jnp.float32), params)
    xs, tap = jnp.zeros((5, 1), jnp.float32), ElmanCarry(jnp.zeros((5, 1), jnp.float32))

    def loss(carry, ys):
        return jnp.float32(scale) * carry.hidden.sum()

    flow = gradient_flow(cell, params, xs, loss, max_carry_norm=c)
    np.testing.assert_allclose(flow.carry_norm, c, rtol=1e-5)
    gradient = jax.grad(
        lambda tap: loss(*unroll(cell, params, xs, carry_tap=tap, max_carry_norm=c))
    )(tap)
    np.testing.assert_allclose(gradient.hidden, c, rtol=1e-5)


def test_gradients_of_gradients_are_finite_where_states_get_none(getkey):
    """A threshold that is never met gives the second derivatives of no clip; lengths, length 0."""
    case = CASE["lstm"]
    given, lengths = draw_given(case, getkey), LENGTHS[3,]

    def sharpness(weight, c):
        def of_params(params):
            last, ys = unroll(
                case.cell, params, given.xs, seq_lengths=lengths, recurrent_weight=weight,
                max_carry_norm=c,
            )  # fmt: skip
            return given.readout(last, ys)

        gradient = jax.grad(of_params)(given.params)
        return sum(jnp.sum(leaf**2) for leaf in gradient)

    curvature = jax.jit(jax.grad(sharpness))
    tree_allclose(curvature(given.weight, 1e6), curvature(given.weight, None))
    assert np.isfinite(curvature(given.weight, 0.5))


def test_thresholds_do_not_compile_again_and_can_be_swept(getkey):
    case = CASE["gru"]
    cell, calls = case.counting_calls()
    params, xs = case.params(getkey()), case.xs(getkey(), T, (2,))

    def loss(carry, ys):
        return ys.sum()

    def norms(c):
        return gradient_flow(cell, params, xs, loss, max_carry_norm=c).log_carry_norm

    one, many = norms(0.5), None
    traced = len(calls)
    other = norms(0.25)
    assert len(calls) == traced
    many = jax.vmap(norms)(jnp.array([0.5, 0.25]))
    tree_allclose(many, jnp.stack([one, other]))


@pytest.mark.parametrize("bad", [0.0, -1.0, 1e-320, float("nan"), "1", jnp.ones(2)])
def test_bad_per_step_thresholds(bad, getkey):
    case = CASE["lstm"]
    params, xs = case.params(getkey()), case.xs(getkey(), T, ())
    with raises_one_line("max_carry_norm is"):
        unroll(case.cell, params, xs, max_carry_norm=bad)
    with raises_one_line("max_carry_norm is"):
        gradient_flow(case.cell, params, xs, lambda c, ys: ys.sum(), max_carry_norm=bad)
    with raises_one_line("adjoint with max_carry_norm is 'autodiff'", "fused"):
        unroll(case.cell, params, xs, max_carry_norm=1.0, adjoint="autodiff")
