"""Mean-field theory of large random networks x(n+1) = J f(x(n)) + noise, J_ij ~ N(0, g²/N).

The state's entries become Gaussian with variance q, self-consistently. With z ~ N(0, 1) and
d = f'(√q z), the slope of a unit:

    q   = g² E f(√q z)² + noise variance
    λ₁  = ½ ln(g² E d²)                                          largest Lyapunov exponent
    mean exponent = ln g - ½ + E ln d

The whole spectrum: a share x of the exponents is above λ(x), where t > 0 solves the second line,
and the sum of those exponents, over N, is Λ(x):

    λ(x) = ½ ln(g² x / t)
    x    = E[t d² / (1 + t d²)]
    Λ(x) = ∫₀ˣ λ = x λ(x) + ½ E ln(1 + t d²) - ½ x

λ(0+) = λ₁, and Λ(1) is the mean exponent. A slope that is 0 or 1, with probability p for 1, gives
λ(x) = ½ ln(g² (p - x)), and -inf from x = p on: the units with slope 0 forget at once. p = 1 is
Newman's law for linear networks. Which moments are closed forms is in ``moments.py``.

The Elman form h = f(x) has the same exponents. Per step, natural logarithms.
Everywhere: gain g in (0, 100], noise_variance in [0, 10000], activation "tanh", "erf",
"hard_tanh", "relu" or "identity" (that of ``elman``); else a ValueError.
References: Sompolinsky, Crisanti, Sommers (1988), doi 10.1103/PhysRevLett.61.259; Molgedey,
Schuchhardt, Schuster (1992), doi 10.1103/PhysRevLett.69.3717 (discrete time and noise); Newman
(1986), doi 10.1007/BF01464285 (linear networks). The spectrum of other slopes was derived for this
project; it agrees with simulations.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from rnn_jax.checks import check_choice
from rnn_jax.dynamics.moments import ACTIVATIONS, UNBOUNDED


def variance(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Solve for q, the variance of the pre-activation; 0 below the edge of chaos without noise.

    inf where the state of relu (g >= √2) or identity (g >= 1) grows without bound.
    """
    _check(gain, noise_variance, activation)
    square = ACTIVATIONS[activation].square
    if activation in UNBOUNDED:
        growth = gain**2 * square(1.0)
        return noise_variance / (1.0 - growth) if growth < 1.0 else math.inf
    if noise_variance == 0.0 and gain <= 1.0:
        return 0.0

    def excess(q):
        return gain**2 * square(q) + noise_variance - q

    largest = gain**2 + noise_variance  # f² < 1
    # without noise q = 0 solves it too: start above it, where the excess ~ (g² - 1) q is positive
    smallest = noise_variance or largest * 1e-9
    if excess(smallest) <= 0.0:
        return 0.0 if noise_variance == 0.0 else smallest
    return _root(excess, smallest, largest)


def largest_exponent(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """λ₁ = ½ ln(g² E d²), per step; the slope of ln‖dL/dh_t‖ against T - t tends to it."""
    q = variance(gain, noise_variance, activation)
    return 0.5 * math.log(gain**2 * ACTIVATIONS[activation].slope_square(q))


def mean_exponent(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Mean of all Lyapunov exponents = mean ln|det J| / N, per step; -inf where a slope is 0."""
    q = variance(gain, noise_variance, activation)
    if ACTIVATIONS[activation].living(q) < 1.0:
        return -math.inf
    return math.log(gain) - 0.5 + 0.5 * ACTIVATIONS[activation].log_slope(q)


def spectrum(
    gain: float,
    fractions: ArrayLike,
    noise_variance: float = 0.0,
    activation: str = "tanh",
) -> np.ndarray:
    """Lyapunov exponents λ(x), per step, that a share x of all exponents is above.

    The i-th largest exponent of N (i = 1..N) is near λ((i - ½) / N).

    Args:
      gain: g.
      fractions: x, each above 0 and below 1, of any shape.
      noise_variance: that of the white noise.
      activation: its name.
    Returns:
      λ, of the shape of fractions; -inf for the share of the units whose slope is 0.
    Raises:
      ValueError: a fraction outside (0, 1), and as everywhere.
    """
    q = variance(gain, noise_variance, activation)
    slopes = ACTIVATIONS[activation]
    x = np.asarray(fractions, np.float64)
    outside = x[~((x > 0.0) & (x < 1.0))]
    if outside.size:
        raise ValueError(f"fractions holds {outside[0]}; allowed: above 0, below 1")
    if slopes.decay is None:
        with np.errstate(divide="ignore"):
            return math.log(gain) + 0.5 * np.log(np.maximum(slopes.living(q) - x, 0.0))
    # bisection: x <= t E d² bounds t from below, a unit 12 standard deviations off from above
    low = np.log(x) - math.log(slopes.slope_square(q))
    high = np.full_like(x, float(slopes.decay(np.asarray(12.0 * math.sqrt(q)))) + 40.0)
    side = np.where(x < 0.5, 1.0, -1.0)  # solve for the smaller of x and 1 - x: no digits are lost
    wanted = np.minimum(x, 1.0 - x)
    for _ in range(60):
        middle = 0.5 * (low + high)
        found = slopes.mean_over_slopes(lambda u: _logistic(side[..., None, None] * u), middle, q)
        is_low = side * (found - wanted) < 0.0
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return math.log(gain) + 0.5 * (np.log(x) - middle)


def positive_fraction(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Return the share of exponents above 0, the x at which λ(x) = 0; 0 up to the edge of chaos."""
    q = variance(gain, noise_variance, activation)
    return _sum_above(gain, q, activation, _log_t_at_zero(gain, q, activation))[0]


def entropy_rate(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Sum of the positive exponents over N, the largest Λ(x): in nats per step and unit."""
    q = variance(gain, noise_variance, activation)
    return _sum_above(gain, q, activation, _log_t_at_zero(gain, q, activation))[1]


def dimension(gain: float, noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Kaplan-Yorke dimension over N: the x > 0 at which Λ(x) = 0; 0 up to the edge of chaos.

    Where the sum of all finite exponents is not negative it is their share: for identity
    (g >= √e) 1, for relu (g >= √(2e)) ½, for hard_tanh (g² p >= e) p.
    """
    q = variance(gain, noise_variance, activation)
    slopes = ACTIVATIONS[activation]
    living = slopes.living(q)
    sum_of_finite = 0.5 * (living * (math.log(gain**2 * living) - 1.0) + slopes.log_slope(q))
    if sum_of_finite > -_ROUNDING:
        return living

    def total(log_t):
        return _sum_above(gain, q, activation, log_t)[1]

    start = _log_t_at_zero(gain, q, activation)
    if start == -math.inf:
        return 0.0
    end = start + 1.0
    while total(end) > 0.0:
        end += end - start
    return _sum_above(gain, q, activation, _root(total, start, end))[0]


def edge_of_chaos(noise_variance: float = 0.0, activation: str = "tanh") -> float:
    """Gain at which λ₁ = 0; with noise above 1, but for identity (1) and relu (√2)."""
    _check(1.0, noise_variance, activation)
    if activation in UNBOUNDED:
        return 1.0 / math.sqrt(ACTIVATIONS[activation].slope_square(1.0))
    if noise_variance == 0.0:
        return 1.0
    upper = 2.0
    while largest_exponent(upper, noise_variance, activation) < 0.0:
        upper *= 2.0
    return _root(lambda g: largest_exponent(g, noise_variance, activation), 0.5, upper)


_ROUNDING = 1e-12  # what is nearer to 0 counts as 0


def _log_t_at_zero(gain: float, q: float, activation: str) -> float:
    """Ln t at the exponent 0; -inf where none is positive."""
    slopes = ACTIVATIONS[activation]
    if 0.5 * math.log(gain**2 * slopes.slope_square(q)) < _ROUNDING:
        return -math.inf

    def exponent(log_t):
        return math.log(gain) + 0.5 * (math.log(_share_above(q, activation, log_t)) - log_t)

    return _root(exponent, -60.0, 2.0 * math.log(gain))  # from λ₁ to below 0, since x < 1


def _share_above(q: float, activation: str, log_t: float) -> float:
    """x = E[t d² / (1 + t d²)]."""
    return float(ACTIVATIONS[activation].mean_over_slopes(_logistic, np.asarray(log_t), q))


def _sum_above(gain: float, q: float, activation: str, log_t: float) -> tuple[float, float]:
    """Return x and Λ(x) at this ln t."""
    if log_t == -math.inf:
        return 0.0, 0.0
    x = _share_above(q, activation, log_t)
    volume = float(ACTIVATIONS[activation].mean_over_slopes(_softplus, np.asarray(log_t), q))
    return x, 0.5 * (x * (2.0 * math.log(gain) + math.log(x) - log_t - 1.0) + volume)


def _softplus(u: np.ndarray) -> np.ndarray:
    """ln(1 + e^u)."""
    return np.logaddexp(0.0, u)


def _logistic(u: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-u), to the last digits on both sides."""
    return np.exp(-np.logaddexp(0.0, -u))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where the function changes its sign; scipy is imported only once it is needed."""
    from scipy.optimize import brentq

    return brentq(function, low, high, xtol=1e-14, rtol=1e-14, maxiter=1000)


def _check(gain: float, noise_variance: float, activation: str) -> None:
    check_choice("activation", activation, ACTIVATIONS)
    if not 0.0 < gain <= 100.0:
        raise ValueError(f"gain is {gain}; allowed: above 0, up to 100")
    if not 0.0 <= noise_variance <= 1e4:
        raise ValueError(f"noise_variance is {noise_variance}; allowed: 0 to 10000")
