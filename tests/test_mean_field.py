"""Mean-field theory against the published numbers, and gradient flow against the theory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line

import rnn_jax as rnn
from rnn_jax.cells import initializers
from rnn_jax.dynamics import mean_field

# g: q, largest exponent, mean exponent (computed by two independent programs)
WITHOUT_NOISE = {
    1.5: (0.793354, 0.065217, -0.714346),
    2.0: (2.121474, 0.154724, -1.149023),
    3.0: (6.305391, 0.310249, -2.272805),
    5.0: (20.699367, 0.532428, -4.906771),
}


@pytest.mark.parametrize("gain", WITHOUT_NOISE)
def test_theory_reproduces_the_table(gain):
    found = (
        mean_field.variance(gain),
        mean_field.largest_exponent(gain),
        mean_field.mean_exponent(gain),
    )
    np.testing.assert_allclose(found, WITHOUT_NOISE[gain], rtol=0, atol=5.1e-7)


@pytest.mark.parametrize("noise, gain", [(0.01, 1.193401), (0.1, 1.409281), (1.0, 1.855589)])
def test_edge_of_chaos_moves_with_noise(noise, gain):
    np.testing.assert_allclose(mean_field.edge_of_chaos(noise), gain, rtol=0, atol=5.1e-7)


def test_below_the_edge_the_fixed_point_is_zero():
    assert mean_field.variance(0.8) == 0.0
    assert math.isclose(mean_field.largest_exponent(0.8), math.log(0.8), rel_tol=1e-12)
    assert math.isclose(mean_field.mean_exponent(0.8), math.log(0.8) - 0.5, rel_tol=1e-12)
    assert mean_field.edge_of_chaos() == 1.0


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
    [(math.nan,), (101.0,), (0.0,), (-1.0,), (1.0, -0.1), (1.0, math.inf), (1.0, 0.0, "relu")],
)
def test_wrong_settings_are_refused(arguments):
    with raises_one_line():
        mean_field.largest_exponent(*arguments)


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
