"""What is learned: a loss in nats, as sums with counts, so that batches of any size add up."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax.models.language_model import LanguageModel
from rnn_jax.types import Array, Key, Params


class Sums(NamedTuple):
    """Metrics over any number of targets; add them leaf by leaf, divide at the end."""

    loss: Array  # nats, summed over targets
    correct: Array  # int32, targets that were the most probable
    targets: Array  # int32
    tokens: Array  # int32, read

    @property
    def mean_loss(self) -> Array:
        """Nats per target."""
        return self.loss / self.targets

    @property
    def accuracy(self) -> Array:
        """Part of the targets that is right."""
        return self.correct / self.targets


class Task(NamedTuple):
    """Pure functions; hashable, so that equal tasks compile once.

    Attributes:
      init: key -> params.
      sums: (params, carried, batch, dropout key or None) -> (carried, Sums). With a key the model
        is in training; the gradient of ``sums.loss`` over ``sums.targets`` is what an optimizer is
        given.
      first_carry: what is carried into the first batch: a tree of arrays; () where each batch
        stands alone.
    """

    init: Callable[[Key], Params]
    sums: Callable[[Params, Any, Any, Key | None], tuple[Any, Sums]]
    first_carry: Callable[[], Any] = tuple


@functools.lru_cache(maxsize=256)
def classification(model) -> Task:
    """Make the task of a Linen classifier, (tokens, lengths) -> logits: cross-entropy in nats.

    L = -ln softmax(logits)[label], summed over the texts of a ``data.Batch`` whose weight is 1.
    """

    def init(key):
        tokens, lengths = jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32)
        return model.init(key, tokens, lengths)["params"]

    def sums(params, carried, batch, dropout_key):
        is_training = dropout_key is not None
        rngs = {"dropout": dropout_key} if is_training else {}
        logits = model.apply(
            {"params": params}, batch.tokens, batch.lengths, is_training=is_training, rngs=rngs
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        counts = batch.weights > 0
        return carried, Sums(
            jnp.sum(jnp.where(counts, losses, 0)),
            jnp.sum(counts & (jnp.argmax(logits, -1) == batch.labels), dtype=jnp.int32),
            jnp.sum(counts, dtype=jnp.int32),
            jnp.sum(batch.lengths, dtype=jnp.int32),
        )

    return Task(init, sums)


@functools.lru_cache(maxsize=256)
def language_modelling(model: LanguageModel, batch_size: int) -> Task:
    """Make the task of a language model on contiguous windows: cross-entropy in nats.

    L = -Σ ln softmax(logits)[target], summed over the valid steps of a ``data.Window``. The carry
    of a window is the first one of the next, without a gradient between them: truncated
    back-propagation through time (Williams & Peng 1990; Mikolov et al. 2011).
    """

    def init(key):
        return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]

    def sums(params, carried, batch, dropout_key):
        carried, losses, is_right = window_losses(
            model, params, carried, batch, dropout_key=dropout_key
        )
        count = jnp.sum(batch.lengths, dtype=jnp.int32)
        return carried, Sums(jnp.sum(losses), jnp.sum(is_right, dtype=jnp.int32), count, count)

    return Task(init, sums, lambda: model.initial_carry(batch_size))


def window_losses(
    model: LanguageModel,
    params: Params,
    carry: Any,
    window: Any,
    *,
    dropout_key: Key | None = None,
    freeze: bool = False,
) -> tuple[Any, Array, Array]:
    """Read a window: (carry, nats [B, T], whether the target was the most probable [B, T]).

    Past a length losses are 0, and with ``freeze`` the carry is that of the last valid step
    (without it, which costs less, no row that is shorter may be read on).
    """
    is_training = dropout_key is not None
    result: Any = model.apply(
        {"params": params},
        window.inputs,
        carry,
        lengths=window.lengths if freeze else None,
        resets=window.resets,
        is_training=is_training,
        rngs={"dropout": dropout_key} if is_training else {},
    )
    carry, logits = result
    is_valid = jnp.arange(window.targets.shape[1]) < window.lengths[:, None]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets)
    is_right = is_valid & (jnp.argmax(logits, -1) == window.targets)
    return carry, jnp.where(is_valid, losses, 0), is_right


def add(*sums: Sums) -> Sums:
    """Add on the host, in double precision."""
    totals = [
        sum(leaf.item() for leaf in leaves) for leaves in zip(*jax.device_get(sums), strict=True)
    ]
    return Sums(*totals)
