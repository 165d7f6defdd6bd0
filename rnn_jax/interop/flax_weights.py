"""What weights of Flax Linen and NNX share: which array holds which gates, and what has no equal.

Both have the cells ``SimpleCell`` (elman), ``LSTMCell`` and ``OptimizedLSTMCell`` (lstm), and
``GRUCell`` (gru, reset after the product), an ``RNN`` around one and a ``Bidirectional`` of two.
Kernels are [I, H] as here, and gates have the same order (LSTM i, f, g, o; GRU r, z, n): each array
of ours is some of theirs, side by side. A ``Layout`` lists them.

Biases: where products of x and of h are summed, Flax has one bias. So a GRU's b_hr and b_hz are
summed into b_ir and b_iz on the way out, and are zero on the way in.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from flax.traverse_util import flatten_dict

from rnn_jax.cells import CELLS, Cell
from rnn_jax.cells.elman import ACTIVATIONS
from rnn_jax.checks import param_shapes
from rnn_jax.interop.layers import (
    Arrays,
    as_array,
    check_cell,
    check_layers,
    check_one_dtype,
    check_shape,
    described,
)
from rnn_jax.models.layers import layer_key
from rnn_jax.models.recurrent import FORWARD, REVERSE
from rnn_jax.types import Params

FUNCTIONS = {
    **ACTIVATIONS,  # Flax has none that equals erf: the cell's own goes out and comes in
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": jax.nn.identity,
    "hard_tanh": jax.nn.hard_tanh,
}


class Layout(NamedTuple):
    """Where a cell of Flax has what the parameters of a cell here hold."""

    cell: str
    arrays: Mapping[str, tuple[str | None, ...]]  # by field: one name a block; None: it has none


class Framework(NamedTuple):
    """Linen or NNX: both call the parts of their modules the same."""

    hidden_size: str  # the attribute's name
    layouts: Mapping[type, Layout]
    outgoing: Mapping[str, type]  # by the name of a cell here
    rnn: type
    bidirectional: type


def names(dense: str, leaf: str) -> tuple[str, ...]:
    """Name one array of each dense layer: ``names("ii if", "bias")`` is (ii.bias, if.bias)."""
    return tuple(f"{layer}.{leaf}" for layer in dense.split())


def read(framework: Framework, module, params: Any) -> tuple[Cell, Any]:
    """Make a cell and its parameters of a module: see ``from_linen``."""
    if type(module) is framework.rnn:
        return _read_rnn(framework, module, params, "")
    if type(module) is not framework.bidirectional:
        return _read_cell(framework, module, params, "")
    if module.forward_rnn is module.backward_rnn:
        raise ValueError("forward_rnn and backward_rnn are one module; allowed: two")
    if module.merge_fn is not framework.bidirectional.merge_fn:
        raise ValueError(
            f"merge_fn is {module.merge_fn!r}; allowed: Bidirectional's own, which concatenates"
        )
    both = _children(params, "", "forward_rnn", "backward_rnn")
    cells, weights = zip(
        *(_read_rnn(framework, getattr(module, name), both[name], f"{name}.") for name in both),
        strict=True,
    )
    if cells[0] is not cells[1]:
        first, second = map(described, cells)
        raise ValueError(
            f"forward_rnn is {first} and backward_rnn is {second}; allowed: one kind of cell"
        )
    directions = [next(iter(layer.values())) for layer in weights]
    return cells[0], dict(zip((FORWARD, REVERSE), directions, strict=True))


def _read_rnn(framework: Framework, module, params: Any, path: str) -> tuple[Cell, dict]:
    if type(module) is not framework.rnn:
        raise ValueError(f"{path[:-1]} is a {type(module).__name__}; allowed: an RNN of a cell")
    inner = _children(params, path, "cell")["cell"]
    cell, weights = _read_cell(framework, module.cell, inner, f"{path}cell.")
    return cell, {REVERSE if module.reverse else FORWARD: weights}


def _children(params: Any, path: str, *expected: str) -> dict[str, Any]:
    given = list(params) if isinstance(params, Mapping) else [type(params).__name__]
    if set(given) != set(expected):
        where = path[:-1] or "params"
        raise ValueError(
            f"{where} holds {', '.join(map(str, given)) or 'nothing'}; allowed: "
            f"{' and '.join(expected)}, as in variables['params']"
        )
    return {name: params[name] for name in expected}


def _read_cell(framework: Framework, module, params: Any, path: str) -> tuple[Cell, Params]:
    layout = framework.layouts.get(type(module))
    if layout is None:  # a subclass too: it may compute something else
        allowed = ", ".join(kind.__name__ for kind in framework.layouts)
        raise ValueError(
            f"{type(module).__name__} has no equal here; allowed: {allowed}, an RNN of one, a "
            "Bidirectional of two RNNs"
        )
    cell = _cell(layout, module, getattr(module, framework.hidden_size))
    expected = [name for block in layout.arrays.values() for name in block if name]
    arrays = _flat(params, path)
    for name in [*arrays, *expected]:
        if name not in arrays or name not in expected:
            state = "missing" if name in expected else f"no weight of {type(module).__name__}"
            raise ValueError(f"{path}{name} is {state}; allowed: {', '.join(expected)}")
    check_one_dtype({path + name: array for name, array in arrays.items()})
    dtype = arrays[expected[0]].dtype
    if module.dtype is not None and jnp.dtype(module.dtype) != dtype:
        raise ValueError(
            f"{type(module).__name__} computes in {jnp.dtype(module.dtype)} with weights in "
            f"{dtype}; a cell here has one dtype; allowed: dtype=None or {dtype}"
        )
    kernel = arrays[expected[0]]
    shapes = param_shapes(cell, max(kernel.shape[0], 1) if kernel.ndim == 2 else 1)
    fields = {}
    for field, block in layout.arrays.items():
        *rows, columns = getattr(shapes, field).shape
        shape = (*rows, columns // len(block))
        for name in filter(None, block):
            check_shape(path + name, arrays[name], shape, cell)
        parts = [arrays[name] if name else np.zeros(shape, dtype) for name in block]
        fields[field] = np.concatenate(parts, axis=-1)
    return cell, type(shapes)(**fields)


def _flat(params: Any, path: str) -> Arrays:
    if not isinstance(params, Mapping):
        kind = type(params).__name__
        raise ValueError(f"{path[:-1] or 'params'} is a {kind}; allowed: a dict of arrays")
    arrays = flatten_dict(meta.unbox(params))  # boxes hold names of axes for sharding
    return {
        name: as_array(path + name, value)
        for name, value in ((".".join(map(str, keys)), value) for keys, value in arrays.items())
    }


def _cell(layout: Layout, module, hidden_size: int) -> Cell:
    """Make the cell that a module is; what it has beside its weights must have an equal."""
    if getattr(module, "residual", False):
        raise ValueError("residual is True, which has no equal here; allowed: False")
    if module.carry_init not in (None, jax.nn.initializers.zeros):
        raise ValueError(
            f"carry_init is {module.carry_init!r}; allowed: zeros, and unroll(initial_carry=...)"
        )
    activation = _activation("activation_fn", module.activation_fn)
    if layout.cell == "elman":
        return CELLS["elman"](hidden_size, activation)
    gate = _activation("gate_fn", module.gate_fn)
    if (activation, gate) != ("tanh", "sigmoid"):
        raise ValueError(
            f"activation_fn is {activation} and gate_fn is {gate}; allowed: tanh and sigmoid, as "
            f"in {layout.cell}"
        )
    return CELLS[layout.cell](hidden_size)


def _activation(name: str, function: Any) -> str:
    for activation in FUNCTIONS:
        if function is FUNCTIONS[activation] or function is ACTIVATIONS[activation]:
            return activation
    raise ValueError(
        f"{name} is {getattr(function, '__name__', function)!r}, which has no equal here; allowed: "
        f"{', '.join(FUNCTIONS)}, as jax.numpy, jax.nn or rnn_jax.cells.elman has them"
    )


def write(framework: Framework, cell: Cell, params: Params) -> tuple[type, dict, Arrays]:
    """Name the module that a cell is, what it is called with, and its arrays by dotted names."""
    check_cell(cell, "Flax", framework.outgoing)
    check_layers(cell, {layer_key(0): {FORWARD: params}})
    kind = framework.outgoing[cell.name]
    settings: dict[str, Any] = {"param_dtype": np.asarray(params[0]).dtype}
    if cell.name == "elman":
        settings["activation_fn"] = FUNCTIONS[str(dict(cell.arguments)["activation"])]
    layout = framework.layouts[kind].arrays
    fields = {field: np.asarray(value) for field, value in params._asdict().items()}
    if "recurrent_bias" in fields:
        has_own = [name is not None for name in layout["recurrent_bias"]]
        fields["bias"] = _sum_biases(kind, has_own, fields["bias"], fields["recurrent_bias"])
    arrays = {
        name: np.array(block)
        for field, block_names in layout.items()
        for name, block in zip(
            block_names, np.split(fields[field], len(block_names), axis=-1), strict=True
        )
        if name
    }
    return kind, settings, arrays


def _sum_biases(kind: type, has_own: list[bool], first: np.ndarray, second: np.ndarray):
    """Add to a GRU's input biases the recurrent ones that Flax has not."""
    second = np.where(np.repeat(has_own, len(first) // 3), 0, second)
    if np.any(second[2 * len(first) // 3 :]):  # of the candidate: the reset gate scales it
        raise ValueError(
            f"recurrent_bias is not zero in its last third, b_hn, and {kind.__name__} of NNX has "
            "no such bias; allowed: zero"
        )
    return np.where(second == 0, first, first + second)  # where nothing is added, -0.0 stays


def layer_of(framework: Framework, cells: Mapping[str, Any]):
    """Make the module of a layer of its directions' modules."""
    if len(cells) == 2:
        return framework.bidirectional(*[framework.rnn(cells[d]) for d in (FORWARD, REVERSE)])
    (direction,) = cells
    is_reverse = direction == REVERSE
    return framework.rnn(cells[direction], reverse=is_reverse, keep_order=is_reverse)
