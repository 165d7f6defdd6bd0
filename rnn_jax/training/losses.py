"""What is learned: a loss in nats, as sums with counts, so that batches of any size add up."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax.types import Array, Key, Params


class Sums(NamedTuple):
    """Metrics over any number of texts; add them leaf by leaf, divide at the end."""

    loss: Array  # nats, summed over targets
    correct: Array  # int32, targets whose most probable class is theirs
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
    """Two pure functions; hashable, so that equal tasks compile once.

    Attributes:
      init: key -> params.
      sums: (params, batch, dropout key or None) -> Sums. With a key the model is in training; the
        gradient of ``sums.loss`` over ``sums.targets`` is what an optimizer is given.
    """

    init: Callable[[Key], Params]
    sums: Callable[[Params, Any, Key | None], Sums]


@functools.lru_cache(maxsize=256)
def classification(model) -> Task:
    """Make the task of a Linen classifier, (tokens, lengths) -> logits: cross-entropy in nats.

    L = -ln softmax(logits)[label], summed over the texts of a ``data.Batch`` whose weight is 1.
    """

    def init(key):
        tokens, lengths = jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32)
        return model.init(key, tokens, lengths)["params"]

    def sums(params, batch, dropout_key):
        is_training = dropout_key is not None
        rngs = {"dropout": dropout_key} if is_training else {}
        logits = model.apply(
            {"params": params}, batch.tokens, batch.lengths, is_training=is_training, rngs=rngs
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        counts = batch.weights > 0
        return Sums(
            jnp.sum(jnp.where(counts, losses, 0)),
            jnp.sum(counts & (jnp.argmax(logits, -1) == batch.labels), dtype=jnp.int32),
            jnp.sum(counts, dtype=jnp.int32),
            jnp.sum(batch.lengths, dtype=jnp.int32),
        )

    return Task(init, sums)


def add(*sums: Sums) -> Sums:
    """Add on the host, in double precision."""
    totals = [
        sum(leaf.item() for leaf in leaves) for leaves in zip(*jax.device_get(sums), strict=True)
    ]
    return Sums(*totals)
