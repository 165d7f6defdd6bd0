"""How the loss's gradient flows back through time in every recurrent layer of a model.

The loss as a function of one layer's outputs in one direction (all above it, the other direction
held) is what ``gradient_flow`` needs, so each layer is measured by the adjoint of the sweeps.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from rnn_jax.cells import CELLS
from rnn_jax.gradient_flow import gradient_flow
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.models.embedding import check_tokens
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.models.recurrent import FORWARD, REVERSE, directions, layer_key
from rnn_jax.types import Array, Params


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Name the recurrent layers, from the input up: "1", "2", or "1 forward", "1 reverse", ...

    A model without a recurrence has none: ().
    """
    if not isinstance(model, TextClassifier | LanguageModel):
        return ()
    layers = [str(layer + 1) for layer in range(model.num_layers)]
    if isinstance(model, LanguageModel) or not model.is_bidirectional:
        return tuple(layers)
    return tuple(f"{layer} {name}" for layer in layers for name in directions(True))


def layer_flows(
    model: TextClassifier, params: Params, tokens: Array, lengths: Array, labels: Array
) -> Array:
    """Measure the gradient of each text's own loss with respect to the state at every time step.

    Without dropout. One jitted call: equal models and shapes do not trace again.

    The adjoint through the measured layer is rescaled as it goes. What reaches that layer from the
    layers above is an ordinary gradient: where it leaves the dtype's range (1e-38 in float32), its
    part is 0, or inf and then nan.

    Args:
      model: a TextClassifier.
      params: its parameters, ``model.init(...)["params"]``.
      tokens: [B, T], integers; what stands past a length is not read.
      lengths: [B], integers.
      labels: classes [B], integers.
    Returns:
      [layers and directions as in ``layer_names``, T+1, B]: ln ‖dL_b/dcarry_t‖₂, natural log, L_b
      the cross-entropy of text b in nats (so it does not depend on the batch), the total
      derivative as in ``gradient_flow``. t = 0 is the initial carry; a reverse layer's t counts in
      the order of reading, from the text's end. -inf where the gradient is zero; nan past a
      length.
    Raises:
      ValueError: a model without a recurrence, shapes or labels that do not fit; one line.
    """
    if not isinstance(model, TextClassifier):
        raise ValueError(f"model is a {type(model).__name__}; allowed: a TextClassifier")
    check_tokens(tokens, lengths)
    _check_labels(labels, jnp.shape(lengths), model.num_classes)
    return _layer_flows(model, params, tokens, lengths, labels)


@functools.partial(jax.jit, static_argnums=0)
def _layer_flows(model, params, tokens, lengths, labels):
    variables, cell = {"params": params}, CELLS[model.cell](model.hidden_size)
    lengths = lengths.astype(jnp.int32)

    def flow(layer, index, direction, xs, outputs):
        def turn(a):
            return _reversed(a, lengths) if direction == REVERSE else a

        def loss(last_carry, ys):
            replaced = (*outputs[:index], turn(ys), *outputs[index + 1 :])
            logits = model.apply(variables, layer, replaced, lengths, method="logits_from")
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        cell_params = params[layer_key(layer)][direction]
        return gradient_flow(cell, cell_params, turn(xs), loss, seq_lengths=lengths).log_carry_norm

    with jax.default_matmul_precision(jax.default_matmul_precision.value or "highest"):
        embedded = model.apply(variables, tokens, lengths, method="embed")
        readings = model.apply(variables, -1, (embedded,), lengths, method="read")
        return jnp.stack(
            [
                flow(layer, index, direction, *reading)
                for layer, reading in enumerate(readings)
                for index, direction in enumerate(directions(model.is_bidirectional))
            ]
        )


def prediction_flows(
    model: LanguageModel,
    params: Params,
    tokens: Array,
    targets: Array,
    resets: Array | None = None,
) -> Array:
    """Measure the gradient of the last prediction with respect to the state at every time step.

    A language model reads T tokens from the zero state; L_b is the cross-entropy of the last
    prediction alone, so what is left at step t is what that prediction owes to it.
    (The loss of a whole window would add every step's own loss to what comes from later ones.)

    Args:
      model: a LanguageModel.
      params: its parameters.
      tokens: what is read, [B, T], integers 0..V.
      targets: what the last step is to predict, [B], integers 0..V-1.
      resets: booleans [B, T], as the model takes them: before one the gradient is zero.
    Returns:
      [layers, T+1, B]: ln ‖dL_b/dcarry_t‖₂, as ``layer_flows`` gives it.
    Raises:
      ValueError: another model, shapes or targets that do not fit; one line.
    """
    if not isinstance(model, LanguageModel):
        raise ValueError(f"model is a {type(model).__name__}; allowed: a LanguageModel")
    check_tokens(tokens, jnp.zeros(jnp.shape(tokens)[:1], jnp.int32))
    _check_labels(targets, jnp.shape(tokens)[:1], model.vocabulary_size)
    return _prediction_flows(model, params, tokens, targets, resets)


@functools.partial(jax.jit, static_argnums=0)
def _prediction_flows(model, params, tokens, targets, resets):
    variables, cell = {"params": params}, CELLS[model.cell](model.hidden_size)
    over_time = None if resets is None else jnp.swapaxes(resets, 0, 1)

    def flow(layer, xs):
        def loss(last_carry, ys):
            runs = model.apply(variables, layer, ys, resets=resets, method="read")
            logits = model.apply(variables, (runs[-1].ys if runs else ys)[-1], method="logits")
            return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

        cell_params = params[layer_key(layer)][FORWARD]
        return gradient_flow(cell, cell_params, xs, loss, resets=over_time).log_carry_norm

    with jax.default_matmul_precision(jax.default_matmul_precision.value or "highest"):
        embedded = model.apply(variables, tokens, method="embed")
        runs = model.apply(variables, -1, embedded, resets=resets, method="read")
        return jnp.stack([flow(layer, run.xs) for layer, run in enumerate(runs)])


def _reversed(a: Array, lengths: Array) -> Array:
    """Turn the valid part of each sequence of a [T, B, F] round; its own inverse."""
    times = jnp.arange(a.shape[0])[:, None]
    order = jnp.where(times < lengths, lengths - 1 - times, times)
    return jnp.take_along_axis(a, order[..., None], axis=0)


def _check_labels(labels: Array, shape: tuple[int, ...], num_classes: int) -> None:
    if jnp.shape(labels) != shape or not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        given = f"{jnp.result_type(labels)} of shape {jnp.shape(labels)}"
        raise ValueError(f"labels is {given}; allowed: integers of shape {shape}")
    if not isinstance(labels, Tracer):
        values = np.asarray(labels)
        outside = values[(values < 0) | (values >= num_classes)]
        if outside.size:
            raise ValueError(f"labels holds {outside.flat[0]}; allowed: 0 to {num_classes - 1}")
