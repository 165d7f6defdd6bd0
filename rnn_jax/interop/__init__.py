"""Weights in and out: PyTorch, Flax, the sru package, and files that any of them can read.

pytorch.py       state dicts of nn.RNN, nn.LSTM, nn.GRU, as plain arrays
sru_package.py   state dicts of the sru package's modules, as plain arrays
linen.py nnx.py  parameters of Flax's recurrent cells; flax_weights.py: what both share
flax_cells.py    our cells in Flax's own loops
files.py         safetensors files, with a record of cell, layout and version
layers.py        what all of them check
"""

from rnn_jax.interop.files import LAYOUTS, Weights, load, save
from rnn_jax.interop.flax_cells import LinenCell, NNXCell, linen_cell, nnx_cell
from rnn_jax.interop.linen import from_linen, to_linen
from rnn_jax.interop.nnx import from_nnx, to_nnx
from rnn_jax.interop.pytorch import from_torch, to_torch
from rnn_jax.interop.sru_package import from_sru, to_sru

__all__ = [
    "LAYOUTS",
    "LinenCell",
    "NNXCell",
    "Weights",
    "from_linen",
    "from_nnx",
    "from_sru",
    "from_torch",
    "linen_cell",
    "load",
    "nnx_cell",
    "save",
    "to_linen",
    "to_nnx",
    "to_sru",
    "to_torch",
]
