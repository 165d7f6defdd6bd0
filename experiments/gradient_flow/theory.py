"""What theory says of the slope of ln‖dL/dcarry_t‖ against T - t, where it says something."""

import math

from experiments.gradient_flow.config import Config
from rnn_jax.dynamics import mean_field

STEEPEST = {"tanh": 1.0, "relu": 1.0, "identity": 1.0, "sigmoid": 0.25}  # max |f'|


def slope(config: Config, cell: str, weight: float) -> tuple[float, str]:
    """Return (slope per step, relation): "=" exact, "≈" for large H, "≤" a bound, "" none (nan).

    For the Elman cell and a loss on the last state alone; g = |w| gain.
      exact: f linear at every state visited, and R orthogonal: ln g.
      large H: gaussian R: ln g (linear), λ₁(g, noise variance) of mean-field theory (tanh).
      bound: singular values of w R are all g, so a step multiplies by at most g max|f'|
      (Pascanu, Mikolov, Bengio 2013, arXiv 1211.5063).
    """
    if cell != "elman" or config.loss != "last_state" or "candidate" in config.held_gates():
        return math.nan, ""
    gain = abs(weight) * config.gain
    log_gain = math.log(gain) if gain else -math.inf
    noise_variance = config.noise_variance if config.input == "noise" else 0.0
    driven = config.input == "text" or noise_variance > 0
    at_rest = not driven and config.initial_state == 0
    linear = config.activation == "identity" or (config.activation == "tanh" and at_rest)
    if config.recurrent_matrix != "gaussian":
        if linear:
            return log_gain, "="
        return log_gain + math.log(STEEPEST[config.activation]), "≤"
    if linear or gain == 0:
        return log_gain, "≈"
    if config.activation == "tanh" and config.input != "text":
        return mean_field.largest_exponent(gain, noise_variance), "≈"
    return math.nan, ""
