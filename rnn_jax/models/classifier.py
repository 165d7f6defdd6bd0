"""Text classifier: embedding, stacked recurrent layers, pooling, readout.

x_t = E[token_t];   y^l = layer_l(y^{l-1}), y^0 = x;   logits = pool(y^L) W + b
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from rnn_jax.checks import check_choice
from rnn_jax.models import pooling
from rnn_jax.models.embedding import TokenEmbedding, check_classifier, check_double
from rnn_jax.models.recurrent import REVERSE, check_recurrent, directions, stacked_layers
from rnn_jax.types import Array

POOLINGS = ("last", "mean", "max", "attention")


class LayerReading(NamedTuple):
    """What went into a layer and what came out."""

    xs: Array  # [T, B, I]
    outputs: tuple[Array, ...]  # [T, B, H] a direction, by input time, zero past a length


class TextClassifier(nn.Module):
    """Recurrent classifier of texts; hashable, so it can be a static argument of ``jax.jit``.

    Padding (any integers) reaches no logit and no gradient, so that a text's logits do not depend
    on its batch. A text of length 0 is read out from zeros: it gives the readout's bias.

    Attributes:
      vocabulary_size: V; tokens are 0..V-1.
      num_classes: C.
      cell: name of a cell in ``rnn_jax.cells.CELLS``.
      hidden_size: H, each direction.
      embedding_size: E.
      num_layers: recurrent layers, one above the other.
      is_bidirectional: each layer reads in both directions; outputs are concatenated, [.., 2H].
      dropout: part of the units that are dropped, after the embedding, between layers and before
        the readout; needs the key "dropout" in training.
      pooling: last, mean, max or attention: see ``pooling.py``.
      recurrent_init: orthogonal, gaussian, identity or uniform: see ``cells.initializers``.
      recurrent_gain: multiplies it.
      forget_bias: initial bias of the gate that keeps the state (GRU: its update gate); None: the
        cell's own. The Elman cell has no such gate and ignores it.
      dtype: float32 or float64, of parameters and logits.
    Raises:
      ValueError: an unknown name, a size below 1, a number out of range; one line, when it is made.
    """

    vocabulary_size: int
    num_classes: int
    cell: str
    hidden_size: int
    embedding_size: int = 64
    num_layers: int = 1
    is_bidirectional: bool = False
    dropout: float = 0.0
    pooling: str = "last"
    recurrent_init: str = "orthogonal"
    recurrent_gain: float = 1.0
    forget_bias: float | None = None
    dtype: str = "float32"

    def __post_init__(self):
        """Check the fields."""
        check_classifier(self)
        check_recurrent(self)
        check_choice("pooling", self.pooling, POOLINGS)
        super().__post_init__()

    def setup(self):
        """Name the parts: embedding, layer_1, layer_2, ..., attention, readout."""
        check_double(self.dtype)
        dtype = jnp.dtype(self.dtype)
        self.embedding = TokenEmbedding(self.vocabulary_size, self.embedding_size, self.dtype)
        self.layers = stacked_layers(self, self.is_bidirectional)
        self.drop = nn.Dropout(self.dropout)
        if self.pooling == "attention":
            size = self.hidden_size * len(directions(self.is_bidirectional))
            self.attention = self.param("attention", pooling.init_attention, size, dtype)
        self.readout = nn.Dense(self.num_classes, dtype=dtype, param_dtype=dtype)

    def __call__(self, tokens: Array, lengths: Array, *, is_training: bool = False) -> Array:
        """Map tokens [B, T] and lengths [B], integers, to logits [B, C]."""
        xs = self.embed(tokens, lengths)
        return self.logits_from(-1, (xs,), lengths, is_training=is_training)

    def embed(self, tokens: Array, lengths: Array) -> Array:
        """Map tokens [B, T] to what the layers read, time-major: [T, B, E]."""
        return jnp.swapaxes(self.embedding(tokens, lengths), 0, 1)

    def read(
        self, below: int, outputs: tuple[Array, ...], lengths: Array, *, is_training: bool = False
    ) -> list[LayerReading]:
        """Run all layers above layer ``below``, whose outputs are given; -1 is the embedding."""
        readings = []
        for layer in self.layers[below + 1 :]:
            xs = self.drop(jnp.concatenate(outputs, axis=-1), deterministic=not is_training)
            outputs = layer(xs, lengths)
            readings.append(LayerReading(xs, outputs))
        return readings

    def logits_from(
        self, below: int, outputs: tuple[Array, ...], lengths: Array, *, is_training: bool = False
    ) -> Array:
        """Return the logits [B, C] as a function of the outputs of layer ``below``."""
        readings = self.read(below, outputs, lengths, is_training=is_training)
        pooled = self._pool(readings[-1].outputs if readings else outputs, jnp.asarray(lengths))
        return self.readout(self.drop(pooled, deterministic=not is_training))

    def _pool(self, outputs: tuple[Array, ...], lengths: Array) -> Array:
        if self.pooling == "last":
            names = directions(self.is_bidirectional)
            ends = [
                pooling.last_pool(ys, lengths, name == REVERSE)
                for name, ys in zip(names, outputs, strict=True)
            ]
            return jnp.concatenate(ends, axis=-1)
        ys = jnp.concatenate(outputs, axis=-1)
        if self.pooling == "attention":
            return pooling.attention_pool(self.attention, ys, lengths)
        return {"mean": pooling.mean_pool, "max": pooling.max_pool}[self.pooling](ys, lengths)
