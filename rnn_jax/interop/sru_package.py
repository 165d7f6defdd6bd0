"""The ``sru`` package's ``SRU`` and ``SRUCell``: their state dicts in and out, as plain arrays.

The package (version 2) computes what this library's SRU does, with a constant s, its ``scale_x``:

    h_t = r c_t + (1 - r) s x_t            where I = D*H, D directions: three matrices
    h_t = r c_t + (1 - r) W_skip x_t       where I ≠ D*H: four, and s is not read

Here s is a fourth block of the kernel, s times the identity: each direction passes on its own H of
the D*H inputs. Where I = H a cell needs ``sru(H, projects_skip=True)`` to have that block; without
it s must be 1 there. The highway bias is the second half of ``bias``.

Layout: weight [I, D*H*k] is [I, D, H, k], the k matrices of a unit side by side (candidate, f, r,
skip); weight_c [2*D*H] is [2, D, H], v_f and v_r; bias [2*D*H] is [2, D, H], b_f and b_r.
Names: rnn_lst.0.weight, ..., or weight, ... in a single ``SRUCell``; rnn_lst.0 is layer_1.
Neither the package nor PyTorch is needed.

References: Lei et al. 2018, https://arxiv.org/abs/1709.02755; the package,
https://github.com/asappresearch/sru (``elementwise_recurrence_naive`` in ops.py, 2.6.0).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.cells import Cell
from rnn_jax.interop.layers import (
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
from rnn_jax.models.recurrent import directions, layer_key
from rnn_jax.types import Params

PARTS = ("weight", "weight_c", "bias", "scale_x")
NO_EQUAL = {  # part of a name: the feature
    "weight_proj": "the projection of projection_size (n_proj); multiplied, weight_proj @ weight "
    "is a weight",
    "layer_norm": "the layer normalization of layer_norm=True",
    "input_to_hidden": "the projection of proj_input_to_hidden_first=True",
    "custom_m": "a module of its own for the inputs (custom_m)",
    "transform_module": "a module of its own for the inputs (SRU++)",
}


def from_sru(
    cell: Cell, state_dict: Mapping[str, Any], *, prefix: str = "", has_skip_term: bool = True
) -> dict[str, dict[str, Params]]:
    """Make layers of the state dict of an ``sru.SRU`` or ``sru.SRUCell``.

    Args:
      cell: sru, of the module's hidden size; ``sru(H, projects_skip=True)`` where a layer with
        I = H has another scale_x than 1, as with the package's own ``rescale=True``.
      state_dict: arrays by name: ``module.state_dict()``, or what a safetensors file holds.
      prefix: what stands before the names, such as ``"encoder.rnn."``; arrays without it are left
        alone. Without a prefix every array must be one of the module's.
      has_skip_term: what the module was made with; where False its skip term is zero, and so is
        the fourth block of the kernel here. ``use_tanh=True`` is not among the weights either, and
        has no equal here.
    Returns:
      layers, as ``unroll_layers`` takes them, of numpy arrays in the dtype given.
    Raises:
      ValueError: a name or shape that does not fit, an array that is missing, a feature that has
        no equal here (projections, layer normalization, own modules); one line.
    """
    check_cell(cell, "the sru package", ("sru",))
    arrays = with_prefix(state_dict, prefix)
    stems = _check_names(arrays, prefix)
    check_one_dtype(arrays)
    bias = arrays[f"{stems[0]}bias"]
    num_directions = 2 if bias.shape == (4 * cell.hidden_size,) else 1
    width = num_directions * cell.hidden_size
    weight = arrays[f"{stems[0]}weight"]
    input_size = weight.shape[0] if weight.ndim else 0
    layers = {}
    for layer, stem in enumerate(stems):
        num_matrices = 4 if has_skip_term and input_size != width else 3
        shapes = (max(input_size, 1), num_matrices * width), (2 * width,), (2 * width,), (1,)
        weights = {part: arrays[stem + part] for part in PARTS}
        if num_matrices == 4 and weights["weight"].shape == (input_size, 3 * width):
            raise ValueError(
                f"{prefix}{stem}weight holds three matrices, as of a module that has no skip term; "
                "allowed: four, or has_skip_term=False"
            )
        for part, shape in zip(PARTS, shapes, strict=True):
            check_shape(prefix + stem + part, weights[part], shape, cell)
        layers[layer_key(layer)] = {
            direction: _params(cell, weights, d, has_skip_term, prefix + stem)
            for d, direction in enumerate(directions(num_directions == 2))
        }
        input_size = width
    check_layers(cell, layers)
    return layers


def to_sru(cell: Cell, layers: Layers, *, prefix: str = "", has_skip_term: bool = True) -> Arrays:
    """Make the state dict of an ``sru.SRU`` of layers.

    For ``sru.SRU(input_size, hidden_size, num_layers, bidirectional=..., rescale=True)``, which
    reads every scale_x; ``rescale=False`` will do where all are 1, as in layers that were made
    here. One layer without ``rnn_lst.0.`` before its names is the state dict of an ``sru.SRUCell``.

    Args:
      cell: sru.
      layers: its parameters.
      prefix: goes before every name.
      has_skip_term: as the module is made; where False the skip term of all layers must be zero.
    Returns:
      numpy arrays, in the package's order. A scale_x that the package does not read is that of the
      other layers, or 1.
    Raises:
      ValueError: layers that do not fit the cell, or a skip term that the module has not: where
        I = D*H, other than a number times the layer's inputs; one line.
    """
    check_cell(cell, "the sru package", ("sru",))
    check_layers(cell, layers)
    keys = layer_keys(layers)
    names = check_directions(layers)
    stack = [[layers[key][name] for name in names] for key in keys]
    blocks = [[_blocks(params, cell.hidden_size) for params in layer] for layer in stack]
    scales = [
        _scale(key, [own[3] for own in layer], has_skip_term)
        for key, layer in zip(keys, blocks, strict=True)
    ]
    one = np.ones(1, blocks[0][0][0].dtype)
    unread = next((scale for scale in scales if scale is not None), one)
    arrays: Arrays = {}
    for number, scale in enumerate(scales):
        used = 4 if scale is None else 3
        matrices = [np.stack(own[:used], axis=-1) for own in blocks[number]]  # [I, H, k] each
        values = (
            np.stack(matrices, axis=1).reshape(len(matrices[0]), -1),
            _halves([params.recurrent_vector for params in stack[number]]),
            _halves([params.bias for params in stack[number]]),
            np.array(unread if scale is None else scale),
        )
        stem = f"{prefix}rnn_lst.{number}."
        arrays |= {stem + part: value for part, value in zip(PARTS, values, strict=True)}
    return arrays


def _check_names(arrays: Arrays, prefix: str) -> list[str]:
    """Check that every layer has every part and nothing else; return what stands before them."""
    for name in arrays:
        for mark, feature in NO_EQUAL.items():
            if mark in name.split("."):
                raise ValueError(f"{prefix}{name} is {feature}; allowed: modules without it")
    is_stack = any(name.startswith("rnn_lst.") for name in arrays)
    found = {tuple(name.split(".")[:2]) for name in arrays}
    stems = [f"rnn_lst.{layer}." for layer in range(len(found))] if is_stack else [""]
    expected = {stem + part: None for stem in stems for part in PARTS}
    for name in arrays:
        if name not in expected:
            raise ValueError(
                f"{prefix}{name} is no weight of sru.SRU; allowed: rnn_lst.0.weight, weight_c, "
                "bias, scale_x, rnn_lst.1. ... without a gap, or a prefix"
            )
    for name in expected:
        if name not in arrays:
            raise ValueError(f"{prefix}{name} is missing; allowed: {', '.join(PARTS)} a layer")
    return stems


def _params(cell: Cell, weights: Arrays, direction: int, has_skip_term: bool, place: str) -> Params:
    """Take one direction out of a layer's weights, as copies: a module may train on in its own."""
    size, input_size = cell.hidden_size, len(weights["weight"])
    num_directions = weights["bias"].size // (2 * size)
    matrices = weights["weight"].reshape(input_size, num_directions, size, -1)[:, direction]
    blocks = [matrices[..., k] for k in range(matrices.shape[-1])]
    if not has_skip_term:
        blocks.append(np.zeros_like(blocks[0]))
    elif len(blocks) == 3:
        blocks.append(_passing_on(input_size, size, direction, weights["scale_x"]))
    passes_on = input_size == size and not dict(cell.arguments)["projects_skip"]
    if passes_on and not _same_bits(blocks[3], np.eye(size, dtype=blocks[3].dtype)):
        given = f"scale_x is {weights['scale_x'][0]}"
        if not has_skip_term:
            given = "weight has no skip term"
        elif matrices.shape[-1] == 4:
            given = "weight projects the skip term"
        raise ValueError(
            f"{place}{given}; allowed with sru({size}): x itself, or sru({size}, "
            "projects_skip=True)"
        )
    kernel = np.concatenate(blocks[:3] if passes_on else blocks, axis=1)
    vector, bias = (
        np.array(weights[part].reshape(2, num_directions, size)[:, direction].reshape(-1))
        for part in ("weight_c", "bias")
    )
    return params_class(cell)(kernel, vector, bias)


def _passing_on(input_size: int, size: int, direction: int, scale: np.ndarray) -> np.ndarray:
    """Make the block [I, H] that passes one direction's share of the inputs on, times s."""
    block = np.zeros((input_size, size), scale.dtype)
    units = np.arange(size)
    block[direction * size + units, units] = scale
    return block


def _blocks(params: Any, size: int) -> list[np.ndarray]:
    """Take the kernel apart, candidate, f, r, skip: the identity where a kernel has but three."""
    kernel = np.asarray(params.kernel)
    blocks = np.split(kernel, kernel.shape[1] // size, axis=1)
    return [*blocks, np.eye(size, dtype=kernel.dtype)][:4]


def _scale(key: str, skips: list[np.ndarray], has_skip_term: bool) -> np.ndarray | None:
    """Return the number s [1] by which a layer scales what it passes on; None: it projects it."""
    input_size, size = skips[0].shape
    if not has_skip_term:
        if any(skip.any() for skip in skips):
            raise ValueError(f"{key} has a skip term; allowed with has_skip_term=False: zero")
        return np.ones(1, skips[0].dtype)
    if input_size != len(skips) * size:
        return None
    scale = skips[0][0, :1]
    for direction, skip in enumerate(skips):
        if not _same_bits(skip, _passing_on(input_size, size, direction, scale)):
            raise ValueError(
                f"{key} projects its skip term, which the sru package does not with {input_size} "
                "inputs and as many outputs; allowed: a fourth block of a number times the identity"
            )
    return scale


def _halves(vectors: list[Any]) -> np.ndarray:
    """Join [2*H] of each direction to [2, D, H], flat."""
    return np.stack([np.reshape(vector, (2, -1)) for vector in vectors], axis=1).reshape(-1)


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()
