"""Stacked recurrent layers as plain parameters: the form in which weights come in and go out.

    {"layer_1": {"forward": Params, "reverse": Params}, "layer_2": {...}, ...}

The names are those of the recurrent layers in this package's models, so that layers can take the
place of a model's own: ``params | layers``. A layer without a direction has no entry for it.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from rnn_jax.cells import Cell
from rnn_jax.models.recurrent import FORWARD, REVERSE, layer_key
from rnn_jax.recurrence import unroll
from rnn_jax.types import Array, Carry, Params

Layers = Mapping[str, Mapping[str, Params]]


def layer_keys(layers: Layers) -> list[str]:
    """Name the layers from the input up.

    Raises:
      ValueError: names other than layer_1, layer_2, ..., or a layer that has not one direction at
        least out of forward and reverse; one line.
    """
    form = "{'layer_1': {'forward': params}, ...}"
    if not isinstance(layers, Mapping):
        raise ValueError(f"layers is a {type(layers).__name__}; allowed: {form}")
    keys = [layer_key(layer) for layer in range(len(layers))]
    if not keys or set(keys) != set(layers):
        given = ", ".join(map(str, layers)) or "nothing"
        raise ValueError(f"layers holds {given}; allowed: layer_1, layer_2, ..., as in {form}")
    for key in keys:
        if not isinstance(layers[key], Mapping):
            raise ValueError(f"{key} is a {type(layers[key]).__name__}; allowed: {form}")
        names = set(layers[key])
        if not names or not names <= {FORWARD, REVERSE}:
            given = ", ".join(map(str, names)) or "nothing"
            raise ValueError(f"{key} holds {given}; allowed: {FORWARD}, {REVERSE} or both")
    return keys


def layer_directions(layer: Mapping[str, Params]) -> list[str]:
    """Name the directions that a layer has, in the order of its outputs."""
    return [direction for direction in (FORWARD, REVERSE) if direction in layer]


def unroll_layers(
    cell: Cell,
    layers: Layers,
    xs: Array,
    *,
    initial_carries: Mapping[str, Mapping[str, Carry]] | None = None,
    seq_lengths: Array | None = None,
) -> tuple[dict[str, dict[str, Carry]], Array]:
    """Run stacked layers over a batch: what ``torch.nn.LSTM`` with ``num_layers`` computes.

        y^l_t = [h^{l, forward}_t | h^{l, reverse}_t],    x^{l+1} = y^l

    Args:
      cell: a Cell, the same in all layers.
      layers: their parameters, see above.
      xs: inputs [T, B, I], any number of batch axes.
      initial_carries: carries by layer and direction; None: zeros everywhere.
      seq_lengths: valid steps, integers [B], 0..T; None: all T. A reverse direction begins at the
        last valid step.
    Returns:
      (the carry of every layer and direction after its last step, outputs [T, B, D*H] of the last
      layer by input time, zero past a length; D directions).
    Raises:
      ValueError: names or shapes that do not fit, in one line.
    """
    keys = layer_keys(layers)
    if initial_carries is not None:
        for key in keys:
            if key not in initial_carries or set(initial_carries[key]) != set(layers[key]):
                wanted = "; ".join(f"{k}: {', '.join(layer_directions(layers[k]))}" for k in keys)
                raise ValueError(f"initial_carries has not all of {key}; allowed: {wanted}")
    last: dict[str, dict[str, Carry]] = {}
    for key in keys:
        read = {
            direction: unroll(
                cell,
                layers[key][direction],
                xs,
                initial_carry=initial_carries[key][direction] if initial_carries else None,
                seq_lengths=seq_lengths,
                reverse=direction == REVERSE,
            )
            for direction in layer_directions(layers[key])
        }
        last[key] = {direction: carry for direction, (carry, _) in read.items()}
        xs = jnp.concatenate([ys for _, ys in read.values()], axis=-1)
    return last, xs
