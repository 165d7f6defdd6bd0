"""Convolutional classifier of texts: the yardstick that has no recurrence.

    c^w_t  = relu(Σ_k W^w_k x_{t+k} + b^w),    k = -⌊(w-1)/2⌋ .. ⌊w/2⌋, for each width w
    logits = [max_t c^w_t]_w W + b

x_t is 0 outside the text, so that windows may reach over its ends and every text has T of them.

References: Kim (2014), Convolutional neural networks for sentence classification, arXiv 1408.5882
(one channel, trained from the start).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.checks import check_whole
from rnn_jax.models.embedding import TokenEmbedding, check_classifier, check_double
from rnn_jax.models.pooling import max_pool
from rnn_jax.types import Array


class ConvClassifier(nn.Module):
    """Convolutional classifier of texts; hashable, and called as ``TextClassifier`` is.

    Padding reaches no logit and no gradient; a text of length 0 gives the readout's bias.

    Attributes:
      vocabulary_size: V; tokens are 0..V-1.
      num_classes: C.
      embedding_size: E.
      num_filters: filters of each width.
      widths: steps that a filter reads.
      dropout: part of the units that are dropped after the embedding and before the readout.
      dtype: float32 or float64.
    Raises:
      ValueError: a size or width below 1, a number out of range; one line, when it is made.
    """

    vocabulary_size: int
    num_classes: int
    embedding_size: int = 64
    num_filters: int = 64
    widths: tuple[int, ...] = (3, 4, 5)
    dropout: float = 0.0
    dtype: str = "float32"

    def __post_init__(self):
        """Check the fields."""
        check_classifier(self, "num_filters")
        if not self.widths or len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths is {self.widths}; allowed: at least one, each once")
        for width in self.widths:
            check_whole("a width", width, 1)
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: Array, lengths: Array, *, is_training: bool = False) -> Array:
        """Map tokens [B, T] and lengths [B], integers, to logits [B, C]."""
        check_double(self.dtype)
        dtype, lengths = jnp.dtype(self.dtype), jnp.asarray(lengths)
        drop = nn.Dropout(self.dropout, deterministic=not is_training)
        embedding = TokenEmbedding(
            self.vocabulary_size, self.embedding_size, self.dtype, name="embedding"
        )
        xs = drop(embedding(tokens, lengths))  # [B, T, E], and so it stays: no time loop here

        def features(width):
            filters = nn.Conv(
                self.num_filters, (width,), dtype=dtype, param_dtype=dtype, name=f"width_{width}"
            )
            return max_pool(jnp.swapaxes(jax.nn.relu(filters(xs)), 0, 1), lengths)

        pooled = drop(jnp.concatenate([features(width) for width in self.widths], axis=-1))
        return nn.Dense(self.num_classes, dtype=dtype, param_dtype=dtype, name="readout")(pooled)
