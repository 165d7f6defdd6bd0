"""Weights of Flax Linen's recurrent cells, in and out.

    SimpleCell                       i (with bias), h                       elman
    LSTMCell, OptimizedLSTMCell      ii if ig io, hi hf hg ho (bias)        lstm
    GRUCell                          ir iz in (bias), hr hz hn (b_hn)       gru

References: flax.linen's recurrent modules,
https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#recurrent
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.traverse_util import unflatten_dict

from rnn_jax.cells import Cell
from rnn_jax.interop.flax_weights import Framework, Layout, layer_of, names, read, write
from rnn_jax.models.layers import layer_directions, layer_key, layer_keys
from rnn_jax.models.recurrent import FORWARD, REVERSE

SIMPLE = Layout(
    "elman",
    {
        "kernel": ("i.kernel",),
        "recurrent_kernel": ("h.kernel",),
        "bias": ("i.bias",),
    },
)
LSTM = Layout(
    "lstm",
    {
        "kernel": names("ii if ig io", "kernel"),
        "recurrent_kernel": names("hi hf hg ho", "kernel"),
        "bias": names("hi hf hg ho", "bias"),
    },
)
GRU = Layout(
    "gru",
    {
        "kernel": names("ir iz in", "kernel"),
        "recurrent_kernel": names("hr hz hn", "kernel"),
        "bias": names("ir iz in", "bias"),
        "recurrent_bias": (None, None, "hn.bias"),
    },
)
LINEN = Framework(
    hidden_size="features",
    layouts={
        nn.SimpleCell: SIMPLE,
        nn.LSTMCell: LSTM,
        nn.OptimizedLSTMCell: LSTM,
        nn.GRUCell: GRU,
    },
    outgoing={"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell},
    rnn=nn.RNN,
    bidirectional=nn.Bidirectional,
)


def from_linen(module: nn.Module, params: Mapping[str, Any]) -> tuple[Cell, Any]:
    """Make a cell and its parameters of a Linen module's.

    Outputs equal Flax's ``nn.RNN(..., keep_order=True)`` and ``nn.Bidirectional``: by input time.
    Past a length Flax goes on, while ``unroll`` gives zeros. Its carry of an LSTM is (cell,
    hidden), here ``LSTMCarry(hidden, cell)``.

    Args:
      module: an ``nn.SimpleCell``, ``LSTMCell``, ``OptimizedLSTMCell`` or ``GRUCell``, an
        ``nn.RNN`` of one, or an ``nn.Bidirectional`` of two RNNs: it tells what weights do not,
        the activation and the hidden size.
      params: its parameters, ``variables["params"]``. Inside a larger model: the part that is this
        module's. In a compact method that is the cell's own, such as ``params["GRUCell_0"]``.
    Returns:
      of a cell (cell, Params); of an RNN (cell, {"forward": Params}), or {"reverse": Params} where
      it has ``reverse=True``; of a Bidirectional (cell, {"forward": Params, "reverse": Params}):
      one layer, ``layers = {"layer_1": ...}`` for ``unroll_layers``. Arrays are numpy's, in the
      dtype given.
    Raises:
      ValueError: an array that does not fit or is missing, by its name; a feature with no equal
        here (another cell, a subclass, ``residual``, another ``gate_fn``, ``carry_init`` or
        ``merge_fn``, a ``dtype`` that is not the weights'); one line.
    """
    return read(LINEN, module, params)


def to_linen(cell: Cell, params: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Make a Linen module and its parameters of a cell's.

    They are used as in ``module.apply({"params": params}, xs)``.

    Args:
      cell: elman (becomes an ``nn.SimpleCell``), lstm (``nn.OptimizedLSTMCell``, whose parameters
        ``nn.LSTMCell`` shares) or gru (``nn.GRUCell``).
      params: its parameters; or one layer, of directions "forward", "reverse" or both: then the
        module is an ``nn.RNN``, with ``keep_order`` where it is reverse, or an
        ``nn.Bidirectional``.
    Returns:
      (module, parameters as a dict of numpy arrays). A GRU's b_hr and b_hz are in b_ir and b_iz.
    Raises:
      ValueError: parameters that do not fit the cell, a cell that Flax has not; one line.
    """
    if not isinstance(params, Mapping):
        kind, settings, arrays = write(LINEN, cell, params)
        return kind(cell.hidden_size, **settings), unflatten_dict(arrays, sep=".")
    layer_keys({layer_key(0): params})
    cells, weights = {}, {}
    for direction in layer_directions(params):
        cells[direction], inner = to_linen(cell, params[direction])
        weights[direction] = {"cell": inner}
    if len(weights) == 2:
        weights = {"forward_rnn": weights[FORWARD], "backward_rnn": weights[REVERSE]}
    else:
        (weights,) = weights.values()
    return layer_of(LINEN, cells), weights
