"""Slope, horizon and regime, on courses that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line, tree_allclose

from rnn_jax import horizon, regime, slope


def course(rate, num_steps, end=0.7):
    """ln of a norm that grows by ``rate`` a step back from ``end`` at T."""
    return end + rate * jnp.arange(num_steps, -1, -1, dtype=jnp.float64)


@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.25])
def test_slope_of_a_line_is_its_rate(rate):
    tree_allclose(slope(course(rate, 50)), jnp.float64(rate))


def test_slope_is_least_squares_of_what_is_kept():
    noise = np.random.default_rng(0).normal(size=(31, 4))
    steps_back = np.arange(30, -1, -1.0)
    fitted = np.polyfit(steps_back[10:], noise[10:], 1)[0]
    tree_allclose(slope(jnp.asarray(noise), drop_first=10), jnp.asarray(fitted))


def test_slope_knows_lengths_and_zeros():
    short = course(-0.2, 20).at[15:].set(jnp.nan)
    dead = course(-0.2, 20).at[:5].set(-jnp.inf)
    nothing = jnp.full(21, jnp.nan)
    found = slope(jnp.stack([short, dead, nothing], axis=-1))
    tree_allclose(found, jnp.array([-0.2, -jnp.inf, jnp.nan]))


def test_slope_refuses_to_drop_everything():
    with raises_one_line("9", "8"):
        slope(course(1.0, 9), drop_first=9)
    with raises_one_line("-1"):
        slope(course(1.0, 9), drop_first=-1)


@pytest.mark.parametrize(
    "rate, steps", [(-0.11, 10), (0.11, 10), (-1.0, 1), (3.0, 1), (0.001, np.inf)]
)
def test_horizon_counts_to_a_factor_e(rate, steps):
    tree_allclose(horizon(course(rate, 60)), jnp.float64(steps))


def test_horizon_starts_at_the_last_known_step():
    short = course(-0.26, 20).at[15:].set(jnp.nan)
    dead = jnp.zeros(21).at[:5].set(-jnp.inf)
    nothing = jnp.full(21, jnp.nan)
    found = horizon(jnp.stack([short, dead, nothing], axis=-1))
    tree_allclose(found, jnp.array([4.0, 16.0, jnp.nan]))


def test_both_work_under_jit_and_vmap():
    courses = jnp.stack([course(-0.3, 40), course(0.2, 40)])
    tree_allclose(jax.jit(jax.vmap(slope))(courses), jnp.array([-0.3, 0.2]))
    tree_allclose(jax.jit(jax.vmap(horizon))(courses), jnp.array([4.0, 5.0]))


def test_regime_asks_for_a_factor_e_over_the_sequence():
    names = [regime(value, 100) for value in (-0.011, -0.009, 0.009, 0.011, -np.inf, np.nan)]
    assert names == ["vanishing", "neutral", "neutral", "exploding", "vanishing", "unknown"]


def test_no_gradient_at_all_has_no_horizon():
    tree_allclose(horizon(jnp.full(9, -jnp.inf)), jnp.float64(jnp.nan))
