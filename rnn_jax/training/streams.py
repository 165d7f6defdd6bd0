"""How well a language model predicts a text: exact to the last token, whatever the batch size.

A text of N tokens is read in B rows of ceil(N / B), side by side, and each row must begin with the
carry that the row before it ends with. So the rows are read from zero carries first, then again
from the carries that were found, and so on: after pass k the first k rows are those of one reading
from the first token to the last, and so after B passes are all. A network that forgets is there
sooner: it ends when no carry, or no row's loss, has moved.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.checks import check_whole
from rnn_jax.data.token_files import TokenStream
from rnn_jax.data.windows import text_windows
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.training.losses import Sums
from rnn_jax.types import Params

UNMOVED = 1e-7  # nats a token, and of a carry: what is left of the difference between two passes


def evaluate_stream(
    model: LanguageModel,
    params: Params,
    stream: TokenStream,
    *,
    batch_size: int = 32,
    window: int = 256,
    reset_documents: bool = False,
) -> Sums:
    """Add up the loss over every token of a text, the state carried from its first to its last.

    Args:
      model: the language model.
      params: its parameters.
      stream: the text, at least one token.
      batch_size: B, rows that are read side by side; changes the time, not the result.
      window: steps of a call.
      reset_documents: the state is zero at the beginning of every document.
    Returns:
      Sums: loss in nats, in double precision; one target a token.
    """
    check_whole("batch_size", batch_size, 1)
    windows = text_windows(
        stream, model.vocabulary_size, batch_size, window, reset_documents=reset_documents
    )
    num_tokens = len(stream.tokens)
    first = model.initial_carry(batch_size)
    before = None
    for _ in range(batch_size):
        last, losses, correct = _read_rows(model, params, first, windows)
        if before is not None and np.abs(losses - before).sum() <= UNMOVED * num_tokens:
            break
        begins = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0).at[0].set(0), last)
        if _is_close(begins, first):
            break
        before, first = losses, begins
    totals: Any = (losses.sum(), correct, num_tokens, num_tokens)
    return Sums(*totals)


def token_bits(
    model: LanguageModel, params: Params, tokens: np.ndarray, *, window: int = 256
) -> np.ndarray:
    """Measure the surprise of each token of one document, -log2 P(s_t | s_1 .. s_{t-1}).

    Args:
      model: the language model.
      params: its parameters.
      tokens: [n], whole numbers 0..V-1, n from 0 on; read from the start symbol.
      window: steps of a call.
    Returns:
      [n] float64, bits; their sum is -log2 of the probability of the document.
    """
    tokens = np.asarray(tokens)
    if not len(tokens):
        return np.zeros(0)
    stream = TokenStream(tokens, np.array([0, len(tokens)]), 0)
    carry, found = model.initial_carry(1), []
    for part in text_windows(stream, model.vocabulary_size, 1, window):
        carry, losses, _ = _window_losses(model, params, carry, part)
        found.append(np.asarray(losses, np.float64)[0, : part.lengths[0]])
    return np.concatenate(found) / np.log(2)


def _read_rows(model, params, carry, windows) -> tuple:
    """Read all windows of all rows: (last carry, losses of the rows [B] float64, correct)."""
    losses, correct = 0.0, 0
    for part in windows:
        carry, found, right = _window_losses(model, params, carry, part)
        losses = losses + np.asarray(found, np.float64).sum(1)
        correct += int(right)
    return carry, losses, correct


@functools.partial(jax.jit, static_argnums=0)
def _window_losses(model, params, carry, window):
    result: Any = model.apply(
        {"params": params}, window.inputs, carry, lengths=window.lengths, resets=window.resets
    )
    carry, logits = result
    is_valid = jnp.arange(window.targets.shape[1]) < window.lengths[:, None]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, window.targets)
    correct = jnp.sum(is_valid & (jnp.argmax(logits, -1) == window.targets), dtype=jnp.int32)
    return carry, jnp.where(is_valid, losses, 0), correct


def _is_close(begins, first) -> bool:
    leaves = zip(jax.tree.leaves(begins), jax.tree.leaves(first), strict=True)
    return all(np.allclose(a, b, rtol=UNMOVED, atol=UNMOVED) for a, b in leaves)
