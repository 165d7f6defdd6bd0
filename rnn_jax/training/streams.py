"""How well a language model predicts a text: as in one reading, whatever the batch size.

A text of N tokens is read in B rows of ceil(N / B), side by side, and each row must begin with the
carry that the row before it ends with. So the rows are read from zero carries first, then again
from the carries that were found, and so on. A row is final once the carry it begins with has not
moved between two passes and all rows before it are final: pass k makes at least k of them so, and
of a network that forgets all of them soon. What is left after a few passes is read token by token.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.checks import check_whole
from rnn_jax.data.token_files import TokenStream
from rnn_jax.data.windows import text_windows
from rnn_jax.models.language_model import LanguageModel
from rnn_jax.training.losses import Sums, window_losses
from rnn_jax.types import Params

MOST_PASSES = 4  # then one reading from the last final row on costs less
UNMOVED = 8  # a carry is where it was, to so many times the last digit


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
      batch_size: B, rows that are read side by side (fewer where a row would be shorter than a
        window); changes the time, not the result. On a CPU few are quick, on a GPU many.
      window: steps of a call.
      reset_documents: the state is zero at the beginning of every document.
    Returns:
      Sums: loss in nats, in double precision; one target a token.
    """
    check_whole("batch_size", batch_size, 1)
    check_whole("window", window, 1)
    batch_size = min(batch_size, -(-len(stream.tokens) // window) or 1)  # rows of a window at least
    windows = text_windows(
        stream, model.vocabulary_size, batch_size, window, reset_documents=reset_documents
    )
    carry = model.initial_carry(batch_size)
    for _ in range(MOST_PASSES):
        last, losses, correct = _read_rows(model, params, carry, windows)
        begins = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0).at[0].set(0), last)
        num_final = _num_final(begins, carry)
        if num_final == batch_size:
            break
        carry = begins
    loss, right = losses[:num_final].sum(), correct[:num_final].sum()
    begin = num_final * windows.row_length
    num_tokens = len(stream.tokens)
    if begin < num_tokens:
        rest = dataclasses.replace(windows, batch_size=1, first_token=begin)
        carry = jax.tree.map(lambda leaf: leaf[num_final : num_final + 1], begins)
        _, losses, correct = _read_rows(model, params, carry, rest)
        loss, right = loss + losses.sum(), right + correct.sum()
    totals: Any = (loss, int(right), num_tokens, num_tokens)
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
        found.append((losses, part.lengths[0]))
    nats = [losses[0, :length] for losses, length in jax.device_get(found)]
    return np.concatenate(nats).astype(np.float64) / np.log(2)


def _read_rows(model, params, carry, windows) -> tuple[Any, np.ndarray, np.ndarray]:
    """Read all windows of all rows: (last carry, losses [B] float64, how many were right [B])."""
    found = []
    for part in windows:  # nothing waits for the device before the end
        carry, *measured = _window_losses(model, params, carry, part)
        found.append(measured)
    losses, correct = zip(*jax.device_get(found), strict=True)
    losses = np.concatenate(losses, 1).sum(1, dtype=np.float64)
    return carry, losses, np.concatenate(correct, 1).sum(1)


@functools.partial(jax.jit, static_argnums=0)
def _window_losses(model, params, carry, window):
    return window_losses(model, params, carry, window, freeze=True)


def _num_final(begins, carry) -> int:
    """Count the rows, from the first on, whose carry is where it was a pass before."""
    is_same = np.ones(len(jax.tree.leaves(carry)[0]), bool)
    for new, old in zip(*map(jax.tree.leaves, jax.device_get((begins, carry))), strict=True):
        tolerance = UNMOVED * np.finfo(new.dtype).eps
        is_same &= np.isclose(new, old, tolerance, tolerance, equal_nan=True).all(-1)
    return len(is_same) if is_same.all() else int(np.argmin(is_same))
