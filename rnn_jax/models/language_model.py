"""Language model: embedding, stacked recurrent layers, readout; at every step, the next token.

    x_t = E[s_{t-1}];   y^l = layer_l(y^{l-1}), y^0 = x;   P(s_t | before) = softmax(y^L_t W + b)

s_0 is the start symbol, V: read, never predicted. So the first token of a text has a probability
too, and that of the whole text is the product over all of its tokens. Tied: x_t = √E E[s_{t-1}] and
W = P E^T of the V symbols, P a projection to the embedding's size (left out where that is H).

References: Mikolov et al. (2010), Recurrent neural network based language model; Press & Wolf
(2017), Using the output embedding to improve language models, arXiv 1608.05859.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from rnn_jax.cells import CELLS
from rnn_jax.checks import check_whole
from rnn_jax.models.embedding import TokenEmbedding, check_double, check_dropout_and_dtype
from rnn_jax.models.recurrent import check_recurrent, stacked_layers
from rnn_jax.types import Array, Carry

LanguageCarry = tuple[Carry, ...]  # of every layer, from below


class LayerRun(NamedTuple):
    """What went into a layer, what came out, and its carry at the last valid step."""

    xs: Array  # [T, B, I]
    ys: Array  # [T, B, H]
    carry: Carry


class LanguageModel(nn.Module):
    """Recurrent language model; hashable, so it can be a static argument of ``jax.jit``.

    Attributes:
      vocabulary_size: V; it predicts 0..V-1 and reads 0..V, V the start symbol.
      cell: name of a cell in ``rnn_jax.cells.CELLS``.
      hidden_size: H.
      embedding_size: E; what is read of a token is drawn from N(0, 1).
      num_layers: recurrent layers, one above the other.
      is_tied: the readout takes its weights from the embedding.
      dropout: part of the units that are dropped, after the embedding, between layers and before
        the readout; needs the key "dropout" in training.
      recurrent_init: orthogonal, gaussian, identity or uniform: see ``cells.initializers``.
      recurrent_gain: multiplies it.
      forget_bias: initial bias of the gate that keeps the state (GRU: its update gate); None: the
        cell's own. The Elman cell has no such gate and ignores it.
      dtype: float32 or float64, of parameters and logits.
    Raises:
      ValueError: an unknown name, a size below 1, a number out of range; one line, when it is made.
    """

    vocabulary_size: int
    cell: str
    hidden_size: int
    embedding_size: int = 64
    num_layers: int = 1
    is_tied: bool = False
    dropout: float = 0.0
    recurrent_init: str = "orthogonal"
    recurrent_gain: float = 1.0
    forget_bias: float | None = None
    dtype: str = "float32"

    def __post_init__(self):
        """Check the fields."""
        for name in ("vocabulary_size", "embedding_size"):
            check_whole(name, getattr(self, name), 1)
        check_dropout_and_dtype(self)
        check_recurrent(self)
        super().__post_init__()

    @property
    def start(self) -> int:
        """The start symbol, V: what is read before the first token of a text."""
        return self.vocabulary_size

    def setup(self):
        """Name the parts: embedding, layer_1, layer_2, ..., projection, readout."""
        check_double(self.dtype)
        dtype = jnp.dtype(self.dtype)
        self.embedding = TokenEmbedding(
            self.vocabulary_size + 1,
            self.embedding_size,
            self.dtype,
            scale=None if self.is_tied else 1.0,
        )
        self.layers = stacked_layers(self, is_bidirectional=False)
        self.drop = nn.Dropout(self.dropout)
        if not self.is_tied:
            self.readout = nn.Dense(self.vocabulary_size, dtype=dtype, param_dtype=dtype)
            return
        zeros = nn.initializers.zeros
        self.readout_bias = self.param("readout_bias", zeros, (self.vocabulary_size,), dtype)
        if self.embedding_size != self.hidden_size:
            self.projection = nn.Dense(
                self.embedding_size, use_bias=False, dtype=dtype, param_dtype=dtype
            )

    @nn.nowrap
    def initial_carry(self, batch_size: int) -> LanguageCarry:
        """Return the carry of every layer, zeros: Carry of [B, H] each."""
        cell = CELLS[self.cell](self.hidden_size)
        return tuple(
            cell.initial_carry((batch_size,), jnp.dtype(self.dtype)) for _ in range(self.num_layers)
        )

    def __call__(
        self,
        tokens: Array,
        carry: LanguageCarry | None = None,
        *,
        lengths: Array | None = None,
        resets: Array | None = None,
        is_training: bool = False,
    ) -> tuple[LanguageCarry, Array]:
        """Read tokens and predict, at each of them, the one that follows.

        Args:
          tokens: [B, T], integers 0..V.
          carry: what the tokens before left; None: zeros.
          lengths: valid steps [B]; past them the carry is frozen and the logits mean nothing.
          resets: booleans [B, T]: the state is set to zero before such a token is read.
          is_training: with dropout.
        Returns:
          (carry after the last valid step, logits [B, T, V]).
        """
        runs = self.read(-1, self.embed(tokens), carry, lengths, resets, is_training)
        carry = tuple(run.carry for run in runs)
        return carry, jnp.swapaxes(self.logits(runs[-1].ys, is_training), 0, 1)

    def embed(self, tokens: Array) -> Array:
        """Map tokens [B, T] to what the layers read, time-major: [T, B, E]."""
        lengths = jnp.full(tokens.shape[:1], tokens.shape[1], jnp.int32)
        xs = jnp.swapaxes(self.embedding(tokens, lengths), 0, 1)
        return xs * math.sqrt(self.embedding_size) if self.is_tied else xs

    def read(
        self,
        below: int,
        ys: Array,
        carry: LanguageCarry | None = None,
        lengths: Array | None = None,
        resets: Array | None = None,
        is_training: bool = False,
    ) -> list[LayerRun]:
        """Run all layers above layer ``below``, whose outputs [T, B, ..] are ys; -1: the embedding.

        ``carry`` is that of all layers of the model.
        """
        if carry is None:
            carry = self.initial_carry(ys.shape[1])
        resets = None if resets is None else jnp.swapaxes(resets, 0, 1)
        runs = []
        for layer, first in zip(self.layers[below + 1 :], carry[below + 1 :], strict=True):
            xs = self.drop(ys, deterministic=not is_training)
            last, ys = layer.read(xs, lengths, first, resets)
            runs.append(LayerRun(xs, ys, last))
        return runs

    def step(self, tokens: Array, carry: LanguageCarry) -> tuple[LanguageCarry, Array]:
        """Read one token a row, [B], and predict the next: (carry, logits [B, V])."""
        carry, logits = self(tokens[:, None], carry)
        return carry, logits[:, 0]

    def logits(self, ys: Array, is_training: bool = False) -> Array:
        """Map the outputs of the last layer, [.., H], to logits [.., V]."""
        ys = self.drop(ys, deterministic=not is_training)
        if not self.is_tied:
            return self.readout(ys)
        if self.embedding_size != self.hidden_size:
            ys = self.projection(ys)
        return ys @ self.embedding.table()[: self.vocabulary_size].T + self.readout_bias


def check_model_reads(model: LanguageModel, size: int) -> None:
    """Check that a model and an encoding have the same vocabulary size."""
    if model.vocabulary_size != size:
        raise ValueError(
            f"the model predicts {model.vocabulary_size} symbols and the encoding has {size}; "
            "allowed: a model that was trained with this encoding"
        )
