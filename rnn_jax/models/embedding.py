"""Tokens -> vectors: the one place where a model reads tokens, and what both models check."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.checks import check_choice, check_whole
from rnn_jax.types import Array


class TokenEmbedding(nn.Module):
    """One vector a token, drawn from N(0, scale²); by default scale² = 1/E: of length about 1.

    What stands past a length, any integer, reaches no value and no gradient. A token outside
    0..V-1 within a length gives nan.
    """

    vocabulary_size: int
    embedding_size: int
    dtype: str = "float32"
    scale: float | None = None

    def setup(self):
        """Draw the table [V, E]."""
        scale = self.embedding_size**-0.5 if self.scale is None else self.scale
        shape = (self.vocabulary_size, self.embedding_size)
        normal = nn.initializers.normal(scale)
        self.embedding = self.param("embedding", normal, shape, jnp.dtype(self.dtype))

    def table(self) -> Array:
        """Return all vectors, [V, E]."""
        return self.embedding

    def __call__(self, tokens: Array, lengths: Array) -> Array:
        """Map tokens [B, T], lengths [B] to [B, T, E], zero past a length.

        Raises:
          ValueError: shapes or dtypes that do not fit, in one line.
        """
        check_tokens(tokens, lengths)
        is_valid = jnp.arange(tokens.shape[1]) < jnp.asarray(lengths)[:, None]
        rows = self.embedding.at[jnp.where(is_valid, tokens, 0)]
        vectors = rows.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        return jnp.where(is_valid[..., None], vectors, 0)


def check_tokens(tokens: Array, lengths: Array) -> None:
    """Check that tokens are integers [B, T] with T at least 1, and lengths integers [B]."""
    if jnp.ndim(tokens) != 2 or not jnp.shape(tokens)[1]:
        raise ValueError(f"tokens has shape {jnp.shape(tokens)}; allowed: [B, T] with T at least 1")
    if jnp.shape(lengths) != jnp.shape(tokens)[:1]:
        batch = jnp.shape(tokens)[:1]
        raise ValueError(f"lengths has shape {jnp.shape(lengths)}; allowed: {batch}, as tokens")
    for name, value in (("tokens", tokens), ("lengths", lengths)):
        if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
            raise ValueError(f"{name} is {jnp.result_type(value)}; allowed: integers")


def check_classifier(model, *sizes: str) -> None:
    """Check the fields that all classifiers have, and the named sizes."""
    for name in ("vocabulary_size", "num_classes", "embedding_size", *sizes):
        check_whole(name, getattr(model, name), 1)
    check_dropout_and_dtype(model)


def check_dropout_and_dtype(model) -> None:
    """Check the two fields that every model has."""
    if not 0 <= model.dropout < 1:
        raise ValueError(f"dropout is {model.dropout}; allowed: from 0, below 1")
    check_choice("dtype", model.dtype, ("float32", "float64"))


def check_double(dtype: str) -> None:
    """Check that JAX has the dtype: float64 needs a setting of the whole process."""
    if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
        raise ValueError(f"dtype is {dtype!r} without jax_enable_x64; allowed: float32")
