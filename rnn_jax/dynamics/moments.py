"""Activations f and their slopes f' under a Gaussian pre-activation y = √q z, z ~ N(0, 1).

All have slope 1 at 0, relu on one side of it. With s = πq/2, Φ and φ the normal distribution and
its density, a = 1/√q:

    name       f(y)                   E f²                              E f'²
    tanh       tanh y                 by quadrature                     by quadrature
    erf        erf(√π y/2)            (2/π) arcsin(s / (1 + s))         1 / √(1 + 2s)
    hard_tanh  max(-1, min(1, y))     q (p - 2aφ(a)) + 1 - p            p = 2Φ(a) - 1
    relu       max(0, y)              q / 2                             p = ½
    identity   y                      q                                 p = 1

The slope of the last three is 1 with probability p and 0 else: all that is asked of them is closed.
E ln f'² is -πq/2 for erf and by quadrature for tanh; averages over the slopes of these two
are by quadrature. The arcsin is that of Williams (1996), "Computing with infinite networks",
https://papers.nips.cc/paper/1197-computing-with-infinite-networks.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


class Activation(NamedTuple):
    """What mean-field theory asks of an activation.

    Attributes:
      square: q -> E f².
      slope_square: q -> E f'².
      log_slope: q -> E[ln f'²; f' ≠ 0], the mean over the units whose slope is not 0.
      decay: y -> -ln f'(y)², even and increasing in |y|; None where the slope is 0 or 1.
      reach: its inverse, s >= 0 -> y >= 0.
    """

    square: Callable[[float], float]
    slope_square: Callable[[float], float]
    log_slope: Callable[[float], float]
    decay: Function | None = None
    reach: Function | None = None

    def living(self, q: float) -> float:
        """Return the share of units whose slope is not 0."""
        return self.slope_square(q) if self.decay is None else 1.0

    def mean_over_slopes(self, function: Function, log_t: np.ndarray, q: float) -> np.ndarray:
        """E[function(ln(t f'²)); f' ≠ 0] for every t: log_t [...] -> [...].

        ``function`` turns near 0 and is plain 36 away from it, as 1 / (1 + e^-u) and ln(1 + e^u).
        """
        if self.decay is None or self.reach is None:
            return self.slope_square(q) * function(log_t)
        # where the decay is near ln t: a panel of its own, however narrow in z
        start, end = np.maximum(log_t - _WINDOW, 0.0), np.maximum(log_t, 0.0) + _WINDOW
        log_t, decay = log_t[..., None, None], self.decay
        panels = (self.reach(start), self.reach(end), np.full_like(end, math.inf))
        return _expect(lambda y: function(log_t - decay(y)), q, panels)


_WINDOW = 36.0  # e^-36 is below the rounding of 1
_LARGEST = 12.0  # standard deviations; the density beyond is 1e-32


@functools.cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes of Gauss and Legendre on [0, 1], and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return (nodes + 1.0) / 2.0, weights / 2.0


def _expect(function: Function, q: float, panels: tuple) -> np.ndarray:
    """E function(√q z), even in z, by quadrature from 0 to each of these |y| in turn."""
    root = math.sqrt(q) or 1e-300
    ends = np.minimum(np.stack([np.zeros_like(panels[0]), *panels], axis=-1) / root, _LARGEST)
    nodes, weights = _legendre()
    width = np.diff(ends)[..., None]
    z = ends[..., :-1, None] + width * nodes
    density = math.sqrt(2.0 / math.pi) * np.exp(-0.5 * z**2)
    return np.sum(width * weights * density * function(root * z), axis=(-2, -1))


def _tanh_mean(function: Function, q: float) -> float:
    return float(_expect(function, q, (20.0, math.inf)))  # tanh(20) rounds to 1


def _tanh_decay(y: np.ndarray) -> np.ndarray:
    """4 ln cosh y."""
    y = np.abs(y)
    return 4.0 * (y + np.log1p(np.exp(-2.0 * y)) - math.log(2.0))


def _tanh_reach(s: np.ndarray) -> np.ndarray:
    """Solve 4 ln cosh y = s: the area cosine of e^(s/4), without its overflow."""
    return s / 4.0 + np.log1p(np.sqrt(-np.expm1(-s / 2.0)))


def _hard_tanh_linear(q: float) -> float:
    """P(|y| < 1)."""
    return math.erf(1.0 / math.sqrt(2.0 * q)) if q else 1.0


def _hard_tanh_square(q: float) -> float:
    if q == 0.0:
        return 0.0
    edge = math.sqrt(2.0 / (math.pi * q)) * math.exp(-0.5 / q)  # 2aφ(a)
    return q * (_hard_tanh_linear(q) - edge) + math.erfc(1.0 / math.sqrt(2.0 * q))


ACTIVATIONS = {
    "tanh": Activation(
        square=lambda q: _tanh_mean(lambda y: np.tanh(y) ** 2, q),
        slope_square=lambda q: _tanh_mean(lambda y: np.exp(-_tanh_decay(y)), q),
        log_slope=lambda q: -_tanh_mean(_tanh_decay, q),
        decay=_tanh_decay,
        reach=_tanh_reach,
    ),
    "erf": Activation(
        square=lambda q: 2.0 / math.pi * math.asin(math.pi * q / (2.0 + math.pi * q)),
        slope_square=lambda q: 1.0 / math.sqrt(1.0 + math.pi * q),
        log_slope=lambda q: -math.pi * q / 2.0,
        decay=lambda y: math.pi * y**2 / 2.0,
        reach=lambda s: np.sqrt(2.0 * s / math.pi),
    ),
    "hard_tanh": Activation(_hard_tanh_square, _hard_tanh_linear, lambda q: 0.0),
    "relu": Activation(lambda q: q / 2.0, lambda q: 0.5, lambda q: 0.0),
    "identity": Activation(lambda q: q, lambda q: 1.0, lambda q: 0.0),
}
UNBOUNDED = ("relu", "identity")  # f(c y) = c f(y) for c > 0: E f² is in proportion to q
