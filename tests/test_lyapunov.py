"""Lyapunov exponents against closed forms, log determinants, a numpy loop and mean-field theory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE, one_case_a_cell
from helpers import raises_one_line, tree_allclose

from rnn_jax import Cell, elman
from rnn_jax.cells import initializers
from rnn_jax.cells.base import free
from rnn_jax.dynamics import (
    entropy_rate,
    finite_time_exponents,
    jacobian_spectra,
    kaplan_yorke_dimension,
    lyapunov_spectrum,
    step_jacobian,
    trajectory,
)

KEY = jax.random.key(5)
W = 1.3


def silence(num_steps, dtype=jnp.float64):
    """Inputs of an autonomous network."""
    return jnp.zeros((num_steps, 1), dtype)


def elman_network(size, activation, recurrent_init, key=KEY, dtype=jnp.float64):
    cell = elman(size, activation)
    return cell, cell.init(key, 1, dtype, recurrent_init=recurrent_init)


# Closed forms, float64, 1e-10


@pytest.mark.parametrize("w", [0.5, 1.0, 1.5])
def test_orthogonal_linear_network(w):
    """Every exponent is ln w, without error."""
    cell, params = elman_network(6, "identity", initializers.orthogonal())
    found = lyapunov_spectrum(cell, params, silence(30), recurrent_weight=w, key=KEY)
    np.testing.assert_allclose(found.exponents, np.log(w), atol=1e-10)
    np.testing.assert_allclose(found.standard_errors, 0.0, atol=1e-10)


def test_diagonal_linear_network():
    """Exponents are ln |diag|, downwards, once the frame has found its axes."""
    diagonal = jnp.array([0.7, 2.0, 0.3, -1.2])
    cell, params = elman_network(4, "identity", lambda *_: jnp.diag(diagonal))
    found = lyapunov_spectrum(cell, params, silence(130), warmup=100, key=KEY)
    np.testing.assert_allclose(found.exponents, np.log([2.0, 1.2, 0.7, 0.3]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("w", [0.5, 2.5])
def test_scalar_tanh_unit(w):
    """λ is the mean of ln |w (1 - h²)|."""
    cell, params = elman_network(1, "tanh", initializers.identity())
    xs = jax.random.normal(KEY, (50, 1))
    found = lyapunov_spectrum(cell, params, xs, recurrent_weight=w, warmup=10, key=KEY)
    h = np.asarray(trajectory(cell, params, xs, recurrent_weight=w).hidden)[11:, 0]
    tree_allclose(found.exponents, np.log(w * (1 - h**2)).mean(keepdims=True))


class Point(NamedTuple):
    xy: jax.Array


class NoParams(NamedTuple):
    kernel: jax.Array


def plane_map(name, function):
    """A cell whose step is a map of the plane, (x, y) -> (x', y')."""

    def update(carry, gates, tap):
        xy = jnp.stack(function(gates[..., 0], gates[..., 1]), axis=-1) + tap.xy
        return Point(xy), xy

    return Cell(
        name=name,
        hidden_size=2,
        init=lambda key, input_size, dtype=jnp.float64: NoParams(jnp.zeros(input_size, dtype)),
        initial_carry=lambda batch, dtype=jnp.float64: Point(jnp.full((*batch, 2), 0.1, dtype)),
        project_inputs=lambda params, xs: xs,
        project_carry=lambda params, carry, w: w * carry.xy,
        gates=lambda drive, recurrent, hold=free: recurrent,
        update=update,
    )


def exponents_of_map(cell, num_steps, warmup=100, **settings):
    params = cell.init(KEY, 1)
    xs = silence(num_steps + warmup)
    return lyapunov_spectrum(cell, params, xs, warmup=warmup, key=KEY, **settings).exponents


def test_cat_map():
    """[[2, 1], [1, 1]] modulo 1: ln((3 ± √5)/2)."""
    cat = plane_map("cat", lambda x, y: ((2 * x + y) % 1.0, (x + y) % 1.0))
    golden = np.log((3 + np.sqrt(5)) / 2)
    for every in (1, 7):
        found = exponents_of_map(cat, 400, orthonormalize_every=every)
        np.testing.assert_allclose(found, [golden, -golden], atol=1e-10, rtol=0)


def test_henon_map():
    """x' = 1 - 1.4 x² + y, y' = 0.3 x: |det J| is 0.3 everywhere; λ₁ = 0.419 (Sprott 2003)."""
    henon = plane_map("henon", lambda x, y: (1 - 1.4 * x**2 + y, 0.3 * x))
    found = exponents_of_map(henon, 20000)
    np.testing.assert_allclose(found.sum(), np.log(0.3), atol=1e-10, rtol=0)
    np.testing.assert_allclose(found[0], 0.419, atol=0.01, rtol=0)
    np.testing.assert_allclose(kaplan_yorke_dimension(found), 1.258, atol=0.01, rtol=0)


def test_triangular_map():
    """x' = 3x modulo 1, y' = y/5 + cos 4πx (Kaplan & Yorke 1979): ln 3 and -ln 5.

    A tangent (1, v) keeps |v| bounded, so that the error falls as 1/T.
    """
    skew = plane_map("skew", lambda x, y: ((3 * x) % 1.0, 0.2 * y + jnp.cos(4 * jnp.pi * x)))
    found = exponents_of_map(skew, 3000)
    np.testing.assert_allclose(found.sum(), np.log(3 / 5), atol=1e-10, rtol=0)
    np.testing.assert_allclose(found, np.log([3, 1 / 5]), atol=2 / 3000, rtol=0)


# Identities and a numpy loop, every cell


def case_network(case, getkey, num_steps):
    params, carry = case.params(getkey()), case.carry(getkey(), ())
    return params, case.xs(getkey(), num_steps, ()), carry


def jacobians(case, params, xs, carry):
    carries = trajectory(case.cell, params, xs, initial_carry=carry, recurrent_weight=W)
    before = jax.tree.map(lambda leaf: leaf[:-1], carries)
    at = jax.vmap(lambda carry, x: step_jacobian(case.cell, params, carry, x, W))
    return np.asarray(at(before, xs))


@one_case_a_cell
@pytest.mark.parametrize("every", [1, 4])
def test_the_sum_is_the_mean_log_determinant(case, every, getkey):
    """The LSTM's D is 2H; steps left over after the last whole interval count."""
    params, xs, carry = case_network(case, getkey, 35)
    found = lyapunov_spectrum(
        case.cell,
        params,
        xs,
        initial_carry=carry,
        recurrent_weight=W,
        warmup=5,
        orthonormalize_every=every,
        key=KEY,
    )
    steps = jacobians(case, params, xs, carry)[5:]
    assert found.exponents.shape == (sum(leaf.size for leaf in carry),)
    if np.linalg.matrix_rank(steps).min() < steps.shape[-1]:  # h is a function of c alone, say
        assert found.exponents[-1] < -20  # -inf but for rounding
        return
    log_dets = np.linalg.slogdet(steps)[1]
    np.testing.assert_allclose(found.exponents.sum(), log_dets.mean(), atol=1e-8, rtol=0)


def numpy_growth(matrices, warmup, window, every, num_exponents):
    """ln |R_ii| of every QR after the warm-up: a list of (window, steps of the interval, logs)."""
    size = matrices.shape[-1]
    first = jax.random.normal(KEY, (num_exponents, size), jnp.float64)
    frame = np.linalg.qr(np.asarray(first).T)[0]
    found, since = [], 0
    for t, matrix in enumerate(matrices, start=1):
        frame, since = matrix @ frame, since + 1
        ends_part = t == warmup or (t > warmup and (t - warmup) % window == 0)
        if since == every or ends_part:
            frame, triangle = np.linalg.qr(frame)
            logs = np.log(np.abs(np.diag(triangle)))
            if t > warmup:
                found.append(((t - warmup - 1) // window, since, logs))
            since = 0
    return found


@one_case_a_cell
@pytest.mark.parametrize("every", [1, 3])
def test_the_scan_is_a_numpy_loop(case, every, getkey):
    """Two exponents, their errors from batch means, and windows with steps left over."""
    params, xs, carry = case_network(case, getkey, 24)
    matrices = jacobians(case, params, xs, carry)
    settings = dict(
        initial_carry=carry,
        recurrent_weight=W,
        num_exponents=2,
        warmup=4,
        orthonormalize_every=every,
        key=KEY,
    )
    found = lyapunov_spectrum(case.cell, params, xs, **settings)
    growth = numpy_growth(matrices, 4, 20, every, 2)
    exponents = sum(logs for *_, logs in growth) / 20
    order = np.argsort(-exponents)
    tree_allclose(found.exponents, exponents[order])

    whole = np.array([logs / steps for _, steps, logs in growth if steps == every])
    size = {20: 2, 6: 1}[len(whole)]  # 10 batches, 6 of 6
    means = whole[: len(whole) // size * size].reshape(-1, size, 2).mean(axis=1)
    errors = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    tree_allclose(found.standard_errors, errors[order])

    windows = finite_time_exponents(case.cell, params, xs, window=8, **settings)
    expected = np.zeros((2, 2))
    for window, _, logs in numpy_growth(matrices[:20], 4, 8, every, 2):
        expected[window] += logs / 8
    tree_allclose(windows, expected)


def test_windows_average_to_the_exponents(getkey):
    case = CASE["gru"]
    params, xs, _ = case_network(case, getkey, 40)
    found = lyapunov_spectrum(case.cell, params, xs, warmup=10, key=KEY)
    windows = finite_time_exponents(case.cell, params, xs, warmup=10, window=6, key=KEY)
    tree_allclose(jnp.sort(windows.mean(0))[::-1], found.exponents)


def test_vmap_is_separate_calls(getkey):
    """Over params, inputs, weight, first carry and key at once, QRs apart."""
    case = CASE["lstm"]
    networks = [
        (*case_network(case, getkey, 12), w, getkey()) for w in (jnp.float64(0.4), jnp.float64(2.0))
    ]

    def spectrum(params, xs, carry, w, key):
        return lyapunov_spectrum(
            case.cell,
            params,
            xs,
            initial_carry=carry,
            recurrent_weight=w,
            num_exponents=4,
            orthonormalize_every=2,
            key=key,
        )

    def stack(trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    together = jax.vmap(spectrum)(*[stack(parts) for parts in zip(*networks, strict=True)])
    tree_allclose(together, stack([spectrum(*network) for network in networks]))


def test_equal_calls_do_not_trace_again(getkey):
    case = CASE["lstm"]
    cell, calls = case.counting_calls()

    def call(w):
        params, xs, carry = case_network(case, getkey, 8)
        options = dict(initial_carry=carry, recurrent_weight=w, warmup=2, key=getkey())
        lyapunov_spectrum(cell, params, xs, **options)
        finite_time_exponents(cell, params, xs, window=3, **options)

    call(0.5)
    traced = len(calls)
    assert traced > 0
    call(1.5)
    assert len(calls) == traced


# Where there is no number, and digits


def test_dead_units_have_minus_infinity():
    """One ReLU unit of three is always off: the others' exponents are those of a network of two."""
    cell, params = elman_network(3, "relu", initializers.orthogonal())
    positive = jnp.abs(params.recurrent_kernel) + jnp.eye(3)
    params = params._replace(recurrent_kernel=positive, bias=jnp.array([1.0, -1e9, 1.0]))
    found = lyapunov_spectrum(cell, params, silence(40), recurrent_weight=0.5, warmup=5, key=KEY)
    assert found.exponents[2] == -np.inf and np.isnan(found.standard_errors[2])
    two = 0.5 * np.asarray(positive)[np.ix_([0, 2], [0, 2])]
    np.testing.assert_allclose(
        found.exponents[:2].sum(), np.linalg.slogdet(two)[1], atol=1e-10, rtol=0
    )
    all_dead = params._replace(bias=jnp.full(3, -1e9))
    found = lyapunov_spectrum(cell, all_dead, silence(9), key=KEY)
    assert np.all(np.asarray(found.exponents) == -np.inf)
    assert entropy_rate(found.exponents) == 0 and kaplan_yorke_dimension(found.exponents) == 0


def test_a_step_without_two_orthonormalizations_has_no_error():
    cell, params = elman_network(2, "tanh", initializers.orthogonal())
    for steps, every in ((1, 1), (7, 4), (3, 5)):
        found = lyapunov_spectrum(cell, params, silence(steps), orthonormalize_every=every, key=KEY)
        np.testing.assert_allclose(found.exponents, 0.0, atol=1e-10)
        assert np.isnan(found.standard_errors).all()


def test_float32_keeps_its_digits_over_many_steps():
    """ln 1.5 added up 300,000 times: a running sum in float32 would be off by 1e-3."""
    cell, params = elman_network(1, "identity", initializers.identity(), dtype=jnp.float32)
    xs = silence(300_000, jnp.float32)
    found = lyapunov_spectrum(cell, params, xs, recurrent_weight=1.5, key=KEY)
    np.testing.assert_allclose(found.exponents, np.log(1.5), rtol=1e-6)


@pytest.mark.parametrize("memory", [0.0, 0.95])
def test_standard_errors_are_the_spread_over_realizations(memory):
    """A tanh unit driven by noise, white or of a memory of 20 steps, 200 realizations: in 25 %."""
    cell, params = elman_network(1, "tanh", initializers.identity())
    noise = np.asarray(jax.random.normal(KEY, (200, 800, 1)))
    xs = np.zeros_like(noise)
    for t in range(800):
        xs[:, t] = memory * xs[:, t - 1] + np.sqrt(1 - memory**2) * noise[:, t]
    found = jax.vmap(lambda xs: lyapunov_spectrum(cell, params, xs, warmup=20, key=KEY))(xs)
    spread = found.exponents.std(ddof=1)
    np.testing.assert_allclose(found.standard_errors.mean(), spread, rtol=0.25)


# Mean-field theory: anchors computed in float64 by two independent programs

# gain: λ₁, share of exponents > 0, entropy rate / N, Kaplan-Yorke dimension / N, mean exponent
THEORY = {
    1.5: (0.065217, 0.08432, 0.002795, 0.16581, -0.714346),
    2.0: (0.154724, 0.13343, 0.010683, 0.25756, -1.149023),
    3.0: (0.310249, 0.15289, 0.025196, 0.28772, -2.272805),
    5.0: (0.532428, 0.13408, 0.039082, 0.24648, -4.906771),
}


def gaussian_network(size, gain, num_steps, seed=0):
    """What THEORY lists, of one network of float64 from a random state."""
    keys = jax.random.split(jax.random.key(seed), 3)
    cell, params = elman_network(size, "tanh", initializers.gaussian(), keys[0])
    carry = cell.initial_carry(())._replace(hidden=jax.random.normal(keys[1], (size,)))
    exponents = lyapunov_spectrum(
        cell,
        params,
        silence(num_steps),
        initial_carry=carry,
        recurrent_weight=gain,
        warmup=num_steps // 5,
        key=keys[2],
    ).exponents
    return np.array(
        [
            exponents[0],
            np.mean(exponents > 0),
            entropy_rate(exponents) / size,
            kaplan_yorke_dimension(exponents) / size,
            exponents.mean(),
        ]
    )


def assert_near_theory(found, gain, tolerances):
    for name, value, expected, tolerance in zip(
        ("λ₁", "share", "entropy", "dimension", "mean"),
        found,
        THEORY[gain],
        tolerances,
        strict=True,
    ):
        assert abs(value - expected) <= tolerance, f"{name}: {value}, theory {expected}"


# Seen: what small networks miss of λ₁ falls as 1/N, at gain 3 .029 (N = 100) and .009 (256), at
# gain 5 .049 and .016; other numbers are lower too. Networks of 100 units differ by sd .008 in λ₁.


def test_a_hundred_units_are_near_the_theory():
    found = np.mean([gaussian_network(100, 3.0, 1000, seed) for seed in range(3)], axis=0)
    assert_near_theory(found, 3.0, (0.04, 0.03, 0.008, 0.04, 0.15))


@pytest.mark.slow
@pytest.mark.parametrize("gain", THEORY)
def test_256_units_follow_the_theory_over_gains(gain):
    """Four networks each; at gain 1.5, near the edge of chaos, they differ most."""
    found = np.mean([gaussian_network(256, gain, 1000, seed) for seed in range(4)], axis=0)
    near_edge = (0.03, 0.05, 0.0025, 0.09, 0.12)
    assert_near_theory(found, gain, near_edge if gain == 1.5 else (0.03, 0.015, 0.003, 0.03, 0.06))


# Numbers of a spectrum


def test_kaplan_yorke_dimension():
    spectra = jnp.array(
        [[0.5, -1.0], [-1.0, 0.5], [-0.1, -1.0], [0.5, -0.2], [0.5, -0.5], [0.0, -1.0]]
    )
    tree_allclose(kaplan_yorke_dimension(spectra), np.array([1.5, 1.5, 0.0, 2.0, 2.0, 1.0]))
    tree_allclose(
        kaplan_yorke_dimension(jnp.array([0.3, 0.1, -0.6, -1.0])), np.float64(2 + 0.4 / 0.6)
    )
    assert kaplan_yorke_dimension(jnp.array([0.5, -jnp.inf])) == 1.0
    assert np.isnan(kaplan_yorke_dimension(jnp.array([0.5, jnp.nan])))


def test_entropy_rate():
    spectra = jnp.array([[0.5, 0.2, -1.0], [-0.1, -0.2, -jnp.inf]])
    tree_allclose(entropy_rate(spectra), np.array([0.7, 0.0]))


# Errors


@pytest.mark.parametrize(
    ("replaced", "fragments"),
    [
        ({"num_exponents": 4}, ("num_exponents is 4", "D = 3")),
        ({"num_exponents": 0}, ("num_exponents is 0", "at least 1")),
        ({"warmup": 5}, ("warmup is 5", "0 to 4")),
        ({"warmup": -1}, ("warmup is -1",)),
        ({"orthonormalize_every": 0}, ("orthonormalize_every is 0",)),
        ({"window": 0}, ("window is 0",)),
        ({"window": 4, "warmup": 2}, ("window is 4", "1 to 3")),
        ({"key": None}, ("key is None", "PRNG key")),
        ({"xs": jnp.zeros((0, 1))}, ("xs", "(0, 1)")),
        ({"xs": jnp.zeros((5, 2, 1))}, ("xs", "(5, 2, 1)", "vmap")),
        ({"xs": jnp.full((5, 1), jnp.nan)}, ("xs", "nan")),
        ({"recurrent_weight": jnp.inf}, ("recurrent_weight", "inf")),
        ({"initial_carry": (jnp.zeros(3),)}, ("initial_carry", "tuple", "ElmanCarry")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_argument_is_named_in_one_line(replaced, fragments):
    cell, params = elman_network(3, "tanh", initializers.orthogonal())
    settings = {"xs": jnp.zeros((5, 1)), "window": 2, "key": KEY, **replaced}
    xs = settings.pop("xs")
    with raises_one_line(*fragments):
        finite_time_exponents(cell, params, xs, **settings)
    if "window" not in replaced:
        del settings["window"]
        with raises_one_line(*fragments):
            lyapunov_spectrum(cell, params, xs, **settings)


def test_parameters_that_are_not_finite_are_refused():
    cell, params = elman_network(3, "tanh", initializers.orthogonal())
    with raises_one_line("params", "nan"):
        lyapunov_spectrum(cell, params._replace(bias=jnp.full(3, jnp.nan)), silence(5), key=KEY)


def test_known_inputs_in_a_traced_function_are_checked_where_they_are_known(getkey):
    cell = elman(3)
    params = jax.vmap(lambda key: cell.init(key, 2, jnp.float64))(jax.random.split(getkey(), 2))
    xs = jax.random.normal(getkey(), (5, 2), jnp.float64)
    key = getkey()

    def largest(params, xs=xs):
        return lyapunov_spectrum(cell, params, xs, num_exponents=1, key=key).exponents

    assert jax.jit(jax.vmap(largest))(params).shape == (2, 1)
    unknown = xs * jnp.nan
    with raises_one_line("xs", "nan"):
        jax.jit(jax.vmap(lambda params: largest(params, unknown)))(params)


def test_exponents_can_be_differentiated(getkey):
    """By a weight, alone and vmapped, against differences."""
    cell = elman(4)
    params = cell.init(getkey(), 2, jnp.float64)
    xs, key = jax.random.normal(getkey(), (12, 2), jnp.float64), getkey()

    def total(weight):
        found = lyapunov_spectrum(
            cell, params, xs, num_exponents=2, recurrent_weight=weight, key=key
        )
        return found.exponents[0] + 0.5 * found.exponents[1]

    difference = (total(1.2 + 1e-5) - total(1.2 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(total)(1.2), difference, rtol=1e-7)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(total))(jnp.array([1.2]))[0], difference, rtol=1e-7
    )


def test_a_state_that_overflows_is_not_one_that_dies():
    """relu at a gain above √2 grows until it is no number: nan, not -inf; before, it is known."""
    cell, params = elman_network(8, "relu", initializers.gaussian(20.0))
    carry = cell.initial_carry(())._replace(hidden=jnp.ones(8))
    settings = dict(initial_carry=carry, num_exponents=2, key=KEY)
    assert np.isfinite(lyapunov_spectrum(cell, params, silence(50), **settings).exponents[0])
    found = lyapunov_spectrum(cell, params, silence(1000), **settings)
    assert np.isnan(found.exponents).all()
    spectra = jacobian_spectra(cell, params, silence(1000), initial_carry=carry)
    assert np.isnan(spectra.singular_values[-1]).all() and np.isfinite(spectra.eigenvalues[0]).all()
