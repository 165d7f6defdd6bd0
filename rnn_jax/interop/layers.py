"""What every layout of weights shares: arrays as numpy has them, layers that fit their cell.

Weights are kept as numpy arrays: float64 stays float64 whether or not JAX has it enabled, and
nothing is put on a device. Every function of JAX takes them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cells import Cell
from rnn_jax.cells.base import has_held_gates
from rnn_jax.checks import check_is_cell, param_shapes
from rnn_jax.models.layers import Layers, layer_directions, layer_keys
from rnn_jax.models.recurrent import FORWARD, REVERSE, layer_key
from rnn_jax.types import Params

Arrays = dict[str, np.ndarray]
RESET_BEFORE = (
    "{} is missing: a GRU with one bias has its reset before the product, which has no equal here; "
    "allowed: reset after the product, with both biases"
)
NAME = re.compile(r"layer_([1-9]\d{0,5})\.(forward|reverse)\.([A-Za-z_]\w*)")


def described(cell: Cell) -> str:
    """Write a cell as it is called: ``elman(hidden_size=64, activation='tanh')``."""
    arguments = dict(cell.arguments) or {"hidden_size": cell.hidden_size}
    return f"{cell.name}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def check_cell(cell: Any, library: str, allowed: Iterable[str]) -> None:
    """Check that a library has a cell.

    Raises:
      ValueError: no cell, one that the library has not, or one with held gates; one line.
    """
    check_is_cell(cell)
    if cell.name not in allowed:
        raise ValueError(f"cell is {cell.name}; allowed for {library}: {', '.join(allowed)}")
    if has_held_gates(cell):
        raise ValueError(
            f"cell is {cell.name} with held gates; allowed: none held, as in {library}"
        )


def as_array(name: str, value: Any) -> np.ndarray:
    """Take one weight as a numpy array of floating-point numbers, of any kind, bfloat16 too.

    Raises:
      ValueError: what is no array, or an array of something else; one line.
    """
    try:
        array = np.asarray(value)
        is_floating = jnp.issubdtype(array.dtype, jnp.floating)
    except (TypeError, ValueError, RuntimeError):  # a tensor on a GPU, or one that has a gradient
        kind = type(value).__name__
        raise ValueError(
            f"{name} is a {kind} that numpy does not take; allowed: arrays, as "
            "tensor.numpy(force=True) gives them"
        ) from None
    if not is_floating:
        kind = array.dtype if isinstance(value, np.ndarray | jax.Array) else type(value).__name__
        raise ValueError(f"{name} is {kind}; allowed: an array of floating-point numbers")
    return array


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...], cell: Cell) -> None:
    """Check one array's shape.

    Raises:
      ValueError: another shape; one line.
    """
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {shape}, for {described(cell)}")


def check_one_dtype(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that all weights have the same dtype.

    Raises:
      ValueError: two dtypes, and an array of each; one line.
    """
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name} is {array.dtype} and {first_name} is {first.dtype}; allowed: one dtype"
            )


def params_class(cell: Cell) -> type:
    """Return the NamedTuple of a cell's parameters."""
    return type(param_shapes(cell, 1))


def with_prefix(arrays: Mapping[str, Any], prefix: str) -> Arrays:
    """Take the arrays whose names begin with a prefix, by what follows it.

    Raises:
      ValueError: no mapping, or no arrays of floating-point numbers; one line.
    """
    if not isinstance(arrays, Mapping):
        kind = type(arrays).__name__
        raise ValueError(f"the weights are a {kind}; allowed: a dict of arrays by name")
    return {
        name[len(prefix) :]: as_array(name, value)
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def check_directions(layers: Layers) -> list[str]:
    """Check that every layer has the first one's directions, forward among them; return them.

    Raises:
      ValueError: what modules of PyTorch cannot have; one line.
    """
    keys = layer_keys(layers)
    names = layer_directions(layers[keys[0]])
    for key in keys:
        if layer_directions(layers[key]) != names or FORWARD not in names:
            given = "; ".join(f"{key}: {', '.join(layers[key])}" for key in keys)
            raise ValueError(f"directions are {given}; allowed: in all layers forward, or both")
    return names


def check_layers(cell: Cell, layers: Layers) -> None:
    """Check that layers fit each other and their cell: classes, names, shapes, one dtype.

    Raises:
      ValueError: the first that does not fit, by its name; one line.
    """
    arrays: Arrays = {}
    width = None
    for key in layer_keys(layers):
        for direction in layer_directions(layers[key]):
            params = layers[key][direction]
            expected = params_class(cell)
            if type(params) is not expected:
                raise ValueError(
                    f"{key}.{direction} is {type(params).__name__}; allowed: {expected.__name__}"
                )
            own = {
                f"{key}.{direction}.{field}": as_array(f"{key}.{direction}.{field}", value)
                for field, value in params._asdict().items()
            }
            kernel = own[f"{key}.{direction}.kernel"]
            input_size = width or (kernel.shape[0] if kernel.ndim else 0)
            shapes = param_shapes(cell, max(input_size, 1))
            for (name, array), leaf in zip(own.items(), shapes, strict=True):
                check_shape(name, array, leaf.shape, cell)
            arrays |= own
        width = cell.hidden_size * len(layers[key])
    check_one_dtype(arrays)


def to_named(cell: Cell, layers: Layers, *, prefix: str = "") -> Arrays:
    """Name every array of layers: ``layer_1.forward.kernel``, behind a prefix."""
    check_layers(cell, layers)
    return {
        f"{prefix}{key}.{direction}.{field}": np.asarray(value)
        for key in layer_keys(layers)
        for direction in layer_directions(layers[key])
        for field, value in layers[key][direction]._asdict().items()
    }


def from_named(
    cell: Cell, arrays: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, dict[str, Params]]:
    """Make layers of arrays named as ``to_named`` names them; others than with the prefix stay.

    Raises:
      ValueError: a name that does not fit, is missing or is too many, a shape that does not fit;
        one line.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, array in with_prefix(arrays, prefix).items():
        match = NAME.fullmatch(name)
        if match is None:
            allowed = f"{prefix}layer_1.forward.kernel, ..."
            raise ValueError(f"{prefix + name!r} is no name of a weight; allowed: {allowed}")
        layer, direction, field = match.groups()
        key = layer_key(int(layer) - 1)
        found.setdefault(key, {}).setdefault(direction, {})[field] = array
    expected = params_class(cell)
    layers = {
        key: {
            direction: _params(cell, expected, f"{key}.{direction}", found[key][direction])
            for direction in (FORWARD, REVERSE)
            if direction in found[key]
        }
        for key in sorted(found, key=lambda key: int(key.rsplit("_", 1)[1]))
    }
    check_layers(cell, layers)
    return layers


def _params(cell: Cell, expected: Any, place: str, fields: dict[str, Any]) -> Params:
    if cell.name == "gru" and set(fields) == set(expected._fields) - {"recurrent_bias"}:
        raise ValueError(RESET_BEFORE.format(f"{place}.recurrent_bias"))
    if set(fields) != set(expected._fields):
        raise ValueError(
            f"{place} holds {', '.join(fields)}; allowed: {', '.join(expected._fields)}, for "
            f"{described(cell)}"
        )
    return expected(**fields)
