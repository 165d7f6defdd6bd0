"""The cells, by name. A new cell joins every experiment by one entry here."""

from rnn_jax.cells.base import Cell, gate_names, hold_gates, param_count, step
from rnn_jax.cells.cifg_lstm import cifg_lstm
from rnn_jax.cells.elman import elman
from rnn_jax.cells.gru import gru
from rnn_jax.cells.indrnn import indrnn
from rnn_jax.cells.layer_norm_lstm import layer_norm_lstm
from rnn_jax.cells.leaky_rnn import leaky_rnn
from rnn_jax.cells.lstm import lstm
from rnn_jax.cells.min_gru import min_gru
from rnn_jax.cells.sru import sru

CELLS = {
    "elman": elman,
    "lstm": lstm,
    "gru": gru,
    "sru": sru,
    "indrnn": indrnn,
    "min_gru": min_gru,
    "leaky_rnn": leaky_rnn,
    "cifg_lstm": cifg_lstm,
    "layer_norm_lstm": layer_norm_lstm,
}

__all__ = [
    "CELLS",
    "Cell",
    "cifg_lstm",
    "elman",
    "gate_names",
    "gru",
    "hold_gates",
    "indrnn",
    "layer_norm_lstm",
    "leaky_rnn",
    "lstm",
    "min_gru",
    "param_count",
    "sru",
    "step",
]
