"""Weights of Flax NNX's recurrent cells, in and out.

    SimpleCell            dense_i (with bias), dense_h           elman
    LSTMCell              ii if_ ig io, hi hf hg ho (bias)       lstm
    OptimizedLSTMCell     dense_i, dense_h (bias): i, f, g, o    lstm
    GRUCell               dense_i (bias), dense_h: r, z, n       gru

NNX's GRUCell has no b_hn, the bias that the reset gate scales, though its documentation writes one:
it comes in as zero, and on the way out it must be zero.

References: flax.nnx's recurrent modules,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import unflatten_dict

from rnn_jax.cells import Cell
from rnn_jax.interop.flax_weights import Framework, Layout, layer_of, names, read, write
from rnn_jax.interop.linen import LSTM as SEPARATE
from rnn_jax.models.layers import layer_directions, layer_key, layer_keys

KERNELS = {"kernel": ("dense_i.kernel",), "recurrent_kernel": ("dense_h.kernel",)}
SIMPLE = Layout("elman", {**KERNELS, "bias": ("dense_i.bias",)})
LSTM = Layout("lstm", {**SEPARATE.arrays, "kernel": names("ii if_ ig io", "kernel")})
OPTIMIZED_LSTM = Layout("lstm", {**KERNELS, "bias": ("dense_h.bias",)})
GRU = Layout("gru", {**KERNELS, "bias": ("dense_i.bias",), "recurrent_bias": (None, None, None)})
NNX = Framework(
    hidden_size="hidden_features",
    layouts={
        nnx.SimpleCell: SIMPLE,
        nnx.LSTMCell: LSTM,
        nnx.OptimizedLSTMCell: OPTIMIZED_LSTM,
        nnx.GRUCell: GRU,
    },
    outgoing={"elman": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell},
    rnn=nnx.RNN,
    bidirectional=nnx.Bidirectional,
)


def from_nnx(module: nnx.Module) -> tuple[Cell, Any]:
    """Make a cell and its parameters of an NNX module: see ``from_linen``, whose notes hold here.

    Args:
      module: an ``nnx.SimpleCell``, ``LSTMCell``, ``OptimizedLSTMCell`` or ``GRUCell``, an
        ``nnx.RNN`` of one, or an ``nnx.Bidirectional`` of two RNNs.
    Returns:
      of a cell (cell, Params); of an RNN (cell, {"forward": Params}), or {"reverse": Params} where
      it has ``reverse=True``; of a Bidirectional (cell, {"forward": Params, "reverse": Params}).
      Arrays are numpy's, in the dtype given.
    Raises:
      ValueError: an array that does not fit, by its name; a feature with no equal here, as
        ``from_linen`` lists them (an ``nnx.SimpleCell`` computes in float32 unless it is made with
        ``dtype=None``); one line.
    """
    return read(NNX, module, nnx.to_pure_dict(nnx.state(module, nnx.Param)))


def to_nnx(cell: Cell, params: Any) -> nnx.Module:
    """Make an NNX module that holds a cell's parameters.

    Args:
      cell: elman (becomes an ``nnx.SimpleCell``), lstm (``nnx.OptimizedLSTMCell``) or gru
        (``nnx.GRUCell``).
      params: its parameters; or one layer, of directions "forward", "reverse" or both: then the
        module is an ``nnx.RNN``, with ``keep_order`` where it is reverse, or an
        ``nnx.Bidirectional``.
    Returns:
      the module. Nothing is drawn for it. A GRU's b_hr and b_hz are in b_ir and b_iz.
    Raises:
      ValueError: parameters that do not fit the cell, a cell that Flax has not, a GRU's b_hn that
        is not zero, float64 where JAX does not have it enabled; one line.
    """
    if isinstance(params, Mapping):
        layer_keys({layer_key(0): params})
        cells = {name: to_nnx(cell, params[name]) for name in layer_directions(params)}
        return layer_of(NNX, cells)
    kind, settings, arrays = write(NNX, cell, params)
    dtype = settings["param_dtype"]
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"params are {dtype} and JAX makes no such arrays; allowed: others, or this with "
            'jax.config.update("jax_enable_x64", True)'
        )
    input_size = params.kernel.shape[0]
    module = nnx.eval_shape(  # shapes only
        lambda: kind(input_size, cell.hidden_size, dtype=None, rngs=nnx.Rngs(0), **settings)
    )
    values = {name: jnp.asarray(array) for name, array in arrays.items()}
    nnx.update(module, unflatten_dict(values, sep="."))
    return module
