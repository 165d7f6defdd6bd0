"""Recurrent networks as pure functions, and where their gradients vanish or explode."""

from rnn_jax.cells import (
    CELLS,
    Cell,
    cifg_lstm,
    elman,
    gru,
    hold_gates,
    indrnn,
    layer_norm_lstm,
    leaky_rnn,
    lstm,
    min_gru,
    param_count,
    sru,
    step,
)
from rnn_jax.gradient_flow import GradientFlow, gradient_flow
from rnn_jax.recurrence import gate_values, unroll
from rnn_jax.regimes import horizon, regime, slope

__version__ = "0.1.0"

__all__ = [
    "CELLS",
    "Cell",
    "GradientFlow",
    "cifg_lstm",
    "elman",
    "gate_values",
    "gradient_flow",
    "gru",
    "hold_gates",
    "horizon",
    "indrnn",
    "layer_norm_lstm",
    "leaky_rnn",
    "lstm",
    "min_gru",
    "param_count",
    "regime",
    "slope",
    "sru",
    "step",
    "unroll",
]
