"""Mean-field theory of large random networks x(n+1) = J f(x(n)) + noise, J_ij ~ N(0, g²/N).

The state's entries become Gaussian with variance q, self-consistently:

    q   = g² E f(√q z)² + noise variance,                        z ~ N(0, 1)
    λ₁  = ½ ln(g² E f'(√q z)²)                                   largest Lyapunov exponent
    mean exponent = ln g - ½ + E ln |f'(√q z)|

The Elman form h = f(x) has the same exponents. Per step, natural logarithms.
Everywhere: gain g in (0, 100], noise_variance in [0, 10000], activation "tanh"; else a ValueError.
References: Sompolinsky, Crisanti, Sommers (1988), doi 10.1103/PhysRevLett.61.259; Molgedey,
Schuchhardt, Schuster (1992), doi 10.1103/PhysRevLett.69.3717 (discrete time and noise).
"""

import math
from collections.abc import Callable

import numpy as np

from rnn_jax.checks import check_choice

_NODES = np.linspace(-12.0, 12.0, 24001)  # the trapezoid rule converges geometrically here
_DENSITY = np.exp(-0.5 * _NODES**2)
_DENSITY /= _DENSITY.sum()


def variance(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Solve for q, the variance of the pre-activation; 0 below the edge of chaos without noise."""
    _check(gain, noise_variance, activation)
    if noise_variance == 0.0 and gain <= 1.0:
        return 0.0

    def excess(q):
        return gain**2 * _mean(np.tanh(math.sqrt(q) * _NODES) ** 2) + noise_variance - q

    largest = gain**2 + noise_variance  # tanh² < 1
    # without noise q = 0 solves it too: start above it, where the excess ~ (g² - 1) q is positive
    smallest = noise_variance or largest * 1e-9
    if excess(smallest) <= 0.0:
        return 0.0 if noise_variance == 0.0 else smallest
    return _root(excess, smallest, largest, xtol=1e-14, rtol=1e-14)


def largest_exponent(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """λ₁ = ½ ln(g² E f'(√q z)²), per step; the slope of ln‖dL/dh_t‖ against T - t tends to it."""
    root = math.sqrt(variance(gain, noise_variance, activation))
    return 0.5 * math.log(gain**2 * _mean(np.exp(-4.0 * _log_cosh(root * _NODES))))


def mean_exponent(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Mean of all Lyapunov exponents = mean ln|det J| / N, per step."""
    root = math.sqrt(variance(gain, noise_variance, activation))
    return math.log(gain) - 0.5 - 2.0 * _mean(_log_cosh(root * _NODES))


def edge_of_chaos(noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Gain at which λ₁ = 0: 1 without noise, above it with noise."""
    _check(1.0, noise_variance, activation)
    if noise_variance == 0.0:
        return 1.0
    upper = 2.0
    while largest_exponent(upper, noise_variance, activation) < 0.0:
        upper *= 2.0
    return _root(lambda g: largest_exponent(g, noise_variance, activation), 1.0, upper, xtol=1e-13)


def _root(function: Callable[[float], float], low: float, high: float, **tolerances) -> float:
    """Find where the function changes its sign; scipy is imported only once it is needed."""
    from scipy.optimize import brentq

    return brentq(function, low, high, **tolerances)


def _log_cosh(x: np.ndarray) -> np.ndarray:
    return np.abs(x) + np.log1p(np.exp(-2.0 * np.abs(x))) - math.log(2.0)


def _mean(values: np.ndarray) -> float:
    return float(np.sum(values * _DENSITY))


def _check(gain: float, noise_variance: float, activation: str) -> None:
    check_choice("activation", activation, ("tanh",))
    if not 0.0 < gain <= 100.0:  # beyond, the nodes are too far apart for f'(√q z)
        raise ValueError(f"gain is {gain}; allowed: above 0, up to 100")
    if not 0.0 <= noise_variance <= 1e4:
        raise ValueError(f"noise_variance is {noise_variance}; allowed: 0 to 10000")
