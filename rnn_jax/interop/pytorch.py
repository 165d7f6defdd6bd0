"""PyTorch's ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``: their state dicts in and out, as plain arrays.

PyTorch computes with W [G*H, I], one matrix of G gates over each other:

    z_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh

so that kernel = W_ihᵀ, recurrent_kernel = W_hhᵀ. Gates have the same order here and there (LSTM i,
f, g, o; GRU r, z, n). It has two biases of which only the GRU's candidate reads the second by
itself: on the way in an RNN's and an LSTM's are summed, on the way out the sum is b_ih and b_hh is
zero. What ``nn.RNN`` has as ``nonlinearity`` is not among its weights: the cell says it.

Names: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, and with _reverse behind them for the
other direction; l0 is layer_1. PyTorch itself is not needed.

References: torch.nn.LSTM, https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.cells import Cell
from rnn_jax.interop.layers import (
    RESET_BEFORE,
    Arrays,
    check_cell,
    check_directions,
    check_layers,
    check_one_dtype,
    check_shape,
    params_class,
    with_prefix,
)
from rnn_jax.models.layers import Layers, layer_keys
from rnn_jax.models.recurrent import FORWARD, REVERSE, directions, layer_key
from rnn_jax.types import Params

MODULES = {"elman": ("nn.RNN", 1), "lstm": ("nn.LSTM", 4), "gru": ("nn.GRU", 3)}  # and gates
NAME = re.compile(r"(?P<part>[a-z_]+)_l(?P<layer>0|[1-9][0-9]{0,5})(?P<reverse>_reverse)?")
WEIGHTS, BIASES = ("weight_ih", "weight_hh"), ("bias_ih", "bias_hh")
PARTS = (*WEIGHTS, *BIASES)
SUFFIX = {FORWARD: "", REVERSE: "_reverse"}
PEEPHOLE = re.compile(r"peep|(weight|w)_?c_?[ifo](_|$)|(weight|w)_?p_?[ifo](_|$)", re.IGNORECASE)


def from_torch(
    cell: Cell, state_dict: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, dict[str, Params]]:
    """Make layers of the state dict of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``.

    Args:
      cell: elman, lstm or gru, of the module's hidden size.
      state_dict: arrays by name: ``module.state_dict()``, or what a safetensors file holds.
      prefix: what stands before the names, such as ``"encoder.lstm."``; arrays without it are
        left alone. Without a prefix every array must be one of the module's.
    Returns:
      layers, as ``unroll_layers`` takes them, of numpy arrays in the dtype given. A module without
      biases (``bias=False``) has biases of zero here.
    Raises:
      ValueError: a name or shape that does not fit, an array that is missing, a feature that has
        no equal here (projections, peepholes); one line.
    """
    check_cell(cell, "PyTorch", MODULES)
    arrays = with_prefix(state_dict, prefix)
    if not arrays:
        given = ", ".join(list(state_dict)[:4]) or "nothing"
        raise ValueError(f"state_dict holds {given}; allowed: {prefix}weight_ih_l0, ...")
    matches = {name: NAME.fullmatch(name) for name in arrays}
    for name, match in matches.items():
        if match is None or match["part"] not in PARTS:
            raise ValueError(_refusal(cell, prefix + name))
    found = [match for match in matches.values() if match]
    num_layers = 1 + max(int(match["layer"]) for match in found)
    names = directions(any(match["reverse"] for match in found))
    parts = PARTS if any(match["part"] in BIASES for match in found) else WEIGHTS
    _check_complete(cell, arrays, prefix, num_layers, names, parts)
    check_one_dtype(arrays)
    layers = {}
    input_size = arrays["weight_ih_l0"].shape[-1] if arrays["weight_ih_l0"].ndim else 0
    for layer in range(num_layers):
        layers[layer_key(layer)] = {}
        for direction in names:
            place = f"_l{layer}{SUFFIX[direction]}"
            weights = {part: arrays[part + place] for part in parts}
            for part, shape in _shapes(cell, input_size).items():
                if part in weights:
                    check_shape(prefix + part + place, weights[part], shape, cell)
            layers[layer_key(layer)][direction] = _params(cell, weights)
        input_size = cell.hidden_size * len(names)
    return layers


def to_torch(cell: Cell, layers: Layers, *, prefix: str = "", bias: bool = True) -> Arrays:
    """Make the state dict of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` of layers.

    For PyTorch: ``module.load_state_dict({name: torch.from_numpy(array) ...})``.

    Args:
      cell: elman (tanh or relu), lstm or gru.
      layers: its parameters.
      prefix: goes before every name.
      bias: whether the module has biases; without, those of the layers must be zero.
    Returns:
      numpy arrays, in PyTorch's order.
    Raises:
      ValueError: layers that do not fit the cell, or what PyTorch's module has not; one line.
    """
    check_cell(cell, "PyTorch", MODULES)
    activation = dict(cell.arguments).get("activation", "tanh")
    if activation not in ("tanh", "relu"):
        raise ValueError(f"activation is {activation!r}; allowed in nn.RNN: tanh, relu")
    check_layers(cell, layers)
    names = check_directions(layers)
    arrays: Arrays = {}
    for layer, key in enumerate(layer_keys(layers)):
        for direction in names:
            params = layers[key][direction]
            for field in ("bias", "recurrent_bias"):
                if not bias and np.any(np.asarray(getattr(params, field, 0))):
                    raise ValueError(
                        f"{key}.{direction}.{field} is not zero; allowed with bias=False: zero"
                    )
            kernel, recurrent, first = map(np.asarray, params[:3])
            second = np.asarray(params[3]) if len(params) == 4 else np.zeros_like(first)
            values = (kernel.T, recurrent.T, first, second) if bias else (kernel.T, recurrent.T)
            for part, array in zip(PARTS, values, strict=False):
                name = f"{prefix}{part}_l{layer}{SUFFIX[direction]}"
                arrays[name] = np.array(array, order="C")
    return arrays


def _refusal(cell: Cell, name: str) -> str:
    module = MODULES[cell.name][0]
    if re.search(r"weight_hr_l\d", name):
        return (
            f"{name} is a projection (proj_size), which has no equal here; allowed: an LSTM without"
        )
    if PEEPHOLE.search(name.rsplit(".", 1)[-1]):
        return f"{name} is a peephole, which has no equal here; allowed: {module} as PyTorch has it"
    if name.endswith(PARTS):
        return f"{name} has no layer; allowed: {name}_l0, as {module} names what its cell calls so"
    return (
        f"{name!r} is no weight of {module}; allowed: weight_ih_l0, ..., or a prefix, all that "
        "stands before, its dot too"
    )


def _check_complete(
    cell: Cell,
    arrays: Arrays,
    prefix: str,
    num_layers: int,
    names: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    """Check that every layer and direction has every part."""
    for layer, direction, part in itertools.product(range(num_layers), names, parts):
        name = f"{part}_l{layer}{SUFFIX[direction]}"
        if name in arrays:
            continue
        if cell.name == "gru" and not any(given.startswith("bias_hh") for given in arrays):
            raise ValueError(RESET_BEFORE.format(prefix + name))
        raise ValueError(
            f"{prefix}{name} is missing; allowed: {', '.join(parts)} in {num_layers} layers, "
            f"{' and '.join(names)}"
        )


def _shapes(cell: Cell, input_size: int) -> dict[str, tuple[int, ...]]:
    rows = MODULES[cell.name][1] * cell.hidden_size
    shapes = (rows, input_size), (rows, cell.hidden_size), (rows,), (rows,)
    return dict(zip(PARTS, shapes, strict=True))


def _params(cell: Cell, weights: Arrays) -> Params:
    """Arrange them; always as copies, as a module may go on to train in its own memory."""
    kernel, recurrent = (np.array(weights[part].T, order="C") for part in WEIGHTS)
    zeros = np.zeros(kernel.shape[1], kernel.dtype)
    first, second = (np.array(weights.get(part, zeros)) for part in BIASES)
    biases = (first, second) if cell.name == "gru" else (first + second,)
    return params_class(cell)(kernel, recurrent, *biases)
