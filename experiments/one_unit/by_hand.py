"""One recurrent unit with nothing but Python's own arithmetic: forward, factors, product.

    h_t = f(a_t),    a_t = w h_{t-1} + z_t,    dh_T/dh_t = Π_{s=t+1..T} w f'(a_s)

It shares no code with the library, so that the two can be compared.
"""

import math
from typing import NamedTuple

import numpy as np


def _sigmoid(a: float) -> float:
    """1 / (1 + e^-a), in the form that does not overflow."""
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


FUNCTIONS = {
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda a: max(a, 0.0),
    "identity": lambda a: a,
    "erf": lambda a: math.erf(0.5 * math.sqrt(math.pi) * a),
    "hard_tanh": lambda a: max(-1.0, min(1.0, a)),
}
DERIVATIVES = {  # f'(a), written with h = f(a)
    "tanh": lambda a, h: (1 - h) * (1 + h),
    "sigmoid": lambda a, h: h * (1 - h),
    "relu": lambda a, h: 1.0 if a > 0 else 0.0,
    "identity": lambda a, h: 1.0,
    "erf": lambda a, h: math.exp(-0.25 * math.pi * a * a),
    "hard_tanh": lambda a, h: 1.0 if -1 < a < 1 else 0.0,
}


class Walk(NamedTuple):
    """Every number on the way through a text of T symbols."""

    preactivation: np.ndarray  # [T], a_t
    hidden: np.ndarray  # [T+1], h_t; h_0 first
    derivative: np.ndarray  # [T], f'(a_t)
    factor: np.ndarray  # [T], w f'(a_t) = dh_t/dh_{t-1}
    product: np.ndarray  # [T+1], dh_T/dh_t; entry T is 1
    log_product: np.ndarray  # [T+1], ln |dh_T/dh_t|, also where the product leaves float64


def walk(activation: str, weight: float, drive, initial_state: float) -> Walk:
    """Run the unit over the numbers z_1..z_T, then multiply the factors from the end back."""
    function, derivative = FUNCTIONS[activation], DERIVATIVES[activation]
    preactivations, hidden, derivatives = [], [float(initial_state)], []
    for z in drive:
        a = weight * hidden[-1] + float(z)
        h = function(a)
        preactivations.append(a)
        hidden.append(h)
        derivatives.append(derivative(a, h))
    factors = [weight * slope for slope in derivatives]
    products, logs = [1.0], [0.0]
    for factor in reversed(factors):
        products.append(products[-1] * factor)
        logs.append(logs[-1] + (math.log(abs(factor)) if factor else -math.inf))
    rows = (preactivations, hidden, derivatives, factors, products[::-1], logs[::-1])
    return Walk(*map(np.array, rows))
