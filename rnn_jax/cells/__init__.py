"""The cells, by name. A new cell joins every experiment by one entry here."""

from rnn_jax.cells.base import Cell, gate_names, hold_gates, param_count, step
from rnn_jax.cells.elman import elman
from rnn_jax.cells.gru import gru
from rnn_jax.cells.lstm import lstm
from rnn_jax.cells.sru import sru

CELLS = {"elman": elman, "lstm": lstm, "gru": gru, "sru": sru}

__all__ = [
    "CELLS",
    "Cell",
    "elman",
    "gate_names",
    "gru",
    "hold_gates",
    "lstm",
    "param_count",
    "sru",
    "step",
]
