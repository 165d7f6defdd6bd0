"""Mean-field theory against the published numbers, and gradient flow against the theory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
from helpers import ACTIVATIONS, raises_one_line

import rnn_jax as rnn
from rnn_jax.cells import initializers
from rnn_jax.cells.elman import ACTIVATIONS as CELL_ACTIVATIONS
from rnn_jax.dynamics import mean_field, moments

QUANTITIES = ("variance", "largest_exponent", "positive_fraction", "entropy_rate", "dimension")
QUANTITIES += ("mean_exponent",)
DIGITS = (6, 6, 5, 6, 5, 6)  # printed after the point
WITHOUT_NOISE = {  # by gain; computed by two independent programs
    1.5: (0.793354, 0.065217, 0.08432, 0.002795, 0.16581, -0.714346),
    2.0: (2.121474, 0.154724, 0.13343, 0.010683, 0.25756, -1.149023),
    3.0: (6.305391, 0.310249, 0.15289, 0.025196, 0.28772, -2.272805),
    5.0: (20.699367, 0.532428, 0.13408, 0.039082, 0.24648, -4.906771),
}
SIMULATED = {  # the last five of these at N = 4096 (D. G. Clark, davidclark1/rnn-lyapunov)
    3.0: (0.309583, 0.152588, 0.025106, 0.287168, -2.273896),
    5.0: (0.531180, 0.133789, 0.038912, 0.245943, -4.909417),
}


def theory(gain):
    return [getattr(mean_field, name)(gain) for name in QUANTITIES]


@pytest.mark.parametrize("gain", WITHOUT_NOISE)
def test_theory_reproduces_the_table(gain):
    for found, expected, digits in zip(theory(gain), WITHOUT_NOISE[gain], DIGITS, strict=True):
        assert abs(found - expected) < 0.51 * 10.0**-digits


@pytest.mark.parametrize("gain", SIMULATED)
def test_theory_meets_a_large_simulation(gain):
    """Within 0.5 %: at N = 4096 the entropy rates differ by 0.36 and 0.44 %, the rest by half."""
    np.testing.assert_allclose(theory(gain)[1:], SIMULATED[gain], rtol=0.005)


@pytest.mark.parametrize("noise, gain", [(0.01, 1.193401), (0.1, 1.409281), (1.0, 1.855589)])
def test_edge_of_chaos_moves_with_noise(noise, gain):
    np.testing.assert_allclose(mean_field.edge_of_chaos(noise), gain, rtol=0, atol=5.1e-7)


def test_below_the_edge_the_fixed_point_is_zero():
    assert mean_field.variance(0.8) == 0.0
    assert math.isclose(mean_field.largest_exponent(0.8), math.log(0.8), rel_tol=1e-12)
    assert math.isclose(mean_field.mean_exponent(0.8), math.log(0.8) - 0.5, rel_tol=1e-12)
    assert mean_field.edge_of_chaos() == 1.0
    for name in ("positive_fraction", "entropy_rate", "dimension"):
        assert getattr(mean_field, name)(0.8) == getattr(mean_field, name)(1.2, 0.1) == 0.0


@pytest.mark.parametrize("name", moments.ACTIVATIONS)
@pytest.mark.parametrize("q", [0.3, 40.0])
def test_moments_are_those_of_the_cells_activation(name, q):
    """By adaptive integration of an oracle of f, and of the slope that the cell has."""
    slope = jax.jit(jax.grad(CELL_ACTIVATIONS[name]))
    kinks = np.array([-1.0, 0.0, 1.0]) / math.sqrt(q)

    def mean(function):
        def integrand(z):
            return function(math.sqrt(q) * z) * math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)

        return scipy.integrate.quad(integrand, -9, 9, points=kinks, epsabs=1e-11, limit=200)[0]

    found, y = moments.ACTIVATIONS[name], np.linspace(-2.3, 2.3, 8)
    np.testing.assert_allclose(
        CELL_ACTIVATIONS[name](jnp.asarray(y)), ACTIVATIONS[name](np, y), atol=1e-14
    )
    assert abs(found.square(q) - mean(lambda y: ACTIVATIONS[name](np, y) ** 2)) < 1e-9
    assert abs(found.slope_square(q) - mean(lambda y: float(slope(y)) ** 2)) < 1e-9
    if found.decay and found.reach:
        log_slope = mean(lambda y: 2 * math.log(float(slope(y)))) if q < 1 else found.log_slope(q)
        assert abs(found.log_slope(q) - log_slope) < 1e-8
        np.testing.assert_allclose(np.exp(-0.5 * found.decay(y)), jax.vmap(slope)(y), rtol=1e-12)
        np.testing.assert_allclose(found.reach(found.decay(y)), abs(y), rtol=1e-12)
        by_panels = found.mean_over_slopes(lambda u: np.exp(np.minimum(u, 0)), np.array(-50.0), q)
        np.testing.assert_allclose(by_panels, math.exp(-50) * found.slope_square(q), rtol=1e-12)


SHARES = scipy.special.expit(np.arange(-35.0, 35.1, 0.5))  # equal steps of ln(x / (1 - x))


@pytest.mark.parametrize(
    "gain, noise, name",
    [
        (0.8, 0.0, "tanh"),
        (5.0, 0.0, "tanh"),
        (100.0, 0.0, "tanh"),
        (1.5, 0.5, "erf"),
        (100.0, 0.0, "erf"),
        (1.5, 0.0, "identity"),
    ],
)
def test_spectrum_has_the_largest_and_the_mean_exponent(gain, noise, name):
    exponents = mean_field.spectrum(gain, SHARES, noise, name)
    assert (np.diff(exponents) < 1e-11).all()
    largest = mean_field.largest_exponent(gain, noise, name)
    np.testing.assert_allclose(exponents[0], largest, rtol=0, atol=1e-11)
    mean = np.sum(exponents * 0.5 * SHARES * (1.0 - SHARES))
    np.testing.assert_allclose(mean, mean_field.mean_exponent(gain, noise, name), rtol=1e-6)


@pytest.mark.parametrize(
    "gain, noise, name",
    [(2.0, 0.3, "tanh"), (2.0, 0.3, "erf"), (2.0, 0.3, "hard_tanh"), (1.5, 0.0, "relu")]
    + [(1.5, 0.0, "identity")],
)
def test_share_entropy_and_dimension_are_integrals_of_the_spectrum(gain, noise, name):
    nodes, weights = (a / 2 for a in np.polynomial.legendre.leggauss(80))

    def integral(start, end):
        shares = start + (end - start) * (nodes + 0.5)
        return (end - start) * weights @ mean_field.spectrum(gain, shares, noise, name)

    share, entropy, dimension = (
        getattr(mean_field, quantity)(gain, noise, name)
        for quantity in ("positive_fraction", "entropy_rate", "dimension")
    )
    assert 0.0 < share < dimension < 1.0
    assert abs(mean_field.spectrum(gain, share, noise, name)) < 1e-11
    np.testing.assert_allclose(integral(0.0, share), entropy, rtol=1e-5)  # the slope is inf at 0
    np.testing.assert_allclose(integral(share, dimension), -entropy, rtol=1e-8)


def test_without_bound_and_with_dead_units():
    """Relu at half of the gain squared; linear networks by Newman's law; hard tanh's dead share."""
    assert mean_field.edge_of_chaos(0.3, "relu") == pytest.approx(math.sqrt(2.0))
    assert mean_field.edge_of_chaos(0.3, "identity") == 1.0
    assert mean_field.edge_of_chaos(0.0, "hard_tanh") == 1.0
    for name in ("erf", "hard_tanh"):
        edge = mean_field.edge_of_chaos(0.1, name)
        assert edge > 1.05 and abs(mean_field.largest_exponent(edge, 0.1, name)) < 1e-12
    assert mean_field.variance(1.0, 0.3, "relu") == pytest.approx(0.6)
    assert mean_field.variance(1.5, 0.0, "relu") == math.inf
    assert mean_field.variance(0.5, 0.3, "identity") == pytest.approx(0.4)
    assert mean_field.variance(1.0, 0.0, "identity") == math.inf
    assert mean_field.mean_exponent(1.2, 0.1, "relu") == -math.inf
    found = mean_field.spectrum(1.2, [[0.1, 0.4], [0.5, 0.9]], 0.1, "relu")
    expected = [[0.5 * math.log(0.72 * 0.8), 0.5 * math.log(0.72 * 0.2)], [-math.inf, -math.inf]]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(mean_field.spectrum(3.0, 0.75, 0.0, "identity"), math.log(1.5))
    # the sum of all finite exponents is positive
    assert mean_field.dimension(1.7, 0.0, "identity") == 1.0
    assert mean_field.dimension(2.4, 0.0, "relu") == 0.5
    alive = moments.ACTIVATIONS["hard_tanh"].slope_square(
        mean_field.variance(5.0, 0.0, "hard_tanh")
    )
    assert mean_field.dimension(5.0, 0.0, "hard_tanh") == alive
    assert mean_field.mean_exponent(5.0, 0.0, "hard_tanh") == -math.inf
    assert mean_field.spectrum(5.0, alive, 0.0, "hard_tanh") == -math.inf


def simulated_exponents(f, slope, gain, noise, count, size=400, num_steps=250, drop=50):
    """The largest exponents of one network with noise, by numpy alone, QR every fifth step."""
    generator = np.random.default_rng(0)
    matrix = gain / math.sqrt(size) * generator.normal(size=(size, size))
    state = generator.normal(size=size)
    basis = generator.normal(size=(size, count))
    total = np.zeros(count)
    for step in range(1, num_steps + 1):
        basis = matrix @ (slope(state)[:, None] * basis)
        state = matrix @ f(state) + math.sqrt(noise) * generator.normal(size=size)
        if step % 5 == 0:
            basis, triangle = np.linalg.qr(basis)
            total += np.log(np.abs(np.diag(triangle))) if step > drop else 0.0
    return total / (num_steps - drop)


@pytest.mark.parametrize(
    "name, f, slope, count",
    [
        (
            "erf",
            lambda y: scipy.special.erf(math.sqrt(math.pi) / 2 * y),
            lambda y: np.exp(-math.pi * y**2 / 4),
            120,
        ),
        ("hard_tanh", lambda y: np.clip(y, -1, 1), lambda y: (np.abs(y) < 1) * 1.0, 60),
    ],
)
def test_simulation_gives_the_spectrum(name, f, slope, count):
    """N = 400, 200 steps: all within 0.03 but the last 20 of the basis, which settle slowest."""
    found = simulated_exponents(f, slope, 3.0, 0.5, count)
    shares = (np.arange(count) + 0.5) / 400
    expected = mean_field.spectrum(3.0, shares, 0.5, name)
    np.testing.assert_allclose(found[:-20], expected[:-20], rtol=0, atol=0.03)


def test_simulation_gives_the_variance():
    """A network of 2000 units with noise, its own few lines of numpy."""
    generator = np.random.default_rng(1)
    size, gain, noise = 2000, 1.5, 0.1
    matrix = gain / math.sqrt(size) * generator.normal(size=(size, size))
    state = generator.normal(size=size)
    variances = []
    for step in range(60):
        state = matrix @ np.tanh(state) + math.sqrt(noise) * generator.normal(size=size)
        variances += [np.var(state)] if step >= 20 else []
    assert abs(np.mean(variances) - mean_field.variance(gain, noise)) < 0.04


@pytest.mark.parametrize(
    "arguments",
    [(math.nan,), (101.0,), (0.0,), (-1.0,), (1.0, -0.1), (1.0, math.inf), (1.0, 0.0, "swish")],
)
def test_wrong_settings_are_refused(arguments):
    for name in QUANTITIES:
        with raises_one_line():
            getattr(mean_field, name)(*arguments)
    with raises_one_line():
        mean_field.spectrum(arguments[0], [0.5], *arguments[1:])


@pytest.mark.parametrize("fractions", [0.0, 1.0, [0.5, math.nan], [[-0.1]]])
def test_fractions_outside_are_refused(fractions):
    with raises_one_line("fractions", "above 0, below 1"):
        mean_field.spectrum(2.0, fractions)


@pytest.mark.parametrize("gain", [0.8, 3.0])
def test_slope_of_the_gradient_tends_to_the_largest_exponent(gain):
    """H = 256, 8 networks, 200 steps, the first 20 dropped: mean slope within 0.03."""
    cell = rnn.elman(256)

    def measure(key):
        params_key, state_key, loss_key = jax.random.split(key, 3)
        params = cell.init(params_key, 1, jnp.float32, recurrent_init=initializers.gaussian())
        start = type(cell.initial_carry(()))(jax.random.normal(state_key, (256,), jnp.float32))
        direction = jax.random.normal(loss_key, (256,), jnp.float32)
        flow = rnn.gradient_flow(
            cell,
            params,
            jnp.zeros((200, 1), jnp.float32),
            lambda last, ys: last.hidden @ direction,
            initial_carry=start,
            recurrent_weight=gain,
        )
        return rnn.slope(flow.log_carry_norm, drop_first=20)

    slopes = jax.lax.map(measure, jax.random.split(jax.random.key(0), 8))
    assert abs(float(slopes.mean()) - mean_field.largest_exponent(gain)) < 0.03


def test_large_gains_reach_their_asymptote():
    """q -> g², and E sech⁴(√q z) -> (4/3) / √(2π q): the integral over the real line."""
    expected = 0.5 * math.log(100.0**2 * (4 / 3) / math.sqrt(2 * math.pi * 100.0**2))
    assert abs(mean_field.largest_exponent(100.0) - expected) < 0.01
    assert math.isfinite(mean_field.mean_exponent(100.0))
