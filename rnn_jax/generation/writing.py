"""Read a prompt in one unroll, then write on, token by token.

    prefill   carry_n, l_{n+1} = model(start, s_1, ..., s_n)            one unroll of n + 1 steps
    sample    s_t drawn from l_t, as ``sampling.py`` says
    step      carry_t, l_{t+1} = model(s_t, carry_{t-1})                then sample again

Token n of the text (0 is the first, the prompt counts) of sample i is drawn with
fold_in(fold_in(key, i), n): a sample is the same however many others are drawn, in chunks of any
length, and where the text so far is the prompt that is gone on with. The rounding of a matrix
product may depend on the number of its rows, so two tokens that are a tie but for the last bits
may still change places.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.checks import check_whole
from rnn_jax.generation.sampling import PLAIN, Sampling, check_sampling, sample
from rnn_jax.models.language_model import LanguageCarry, LanguageModel
from rnn_jax.models.pooling import last_pool
from rnn_jax.types import Array, Key, Params

Tokens = Array | np.ndarray | Sequence[int]


class Continuation(NamedTuple):
    """What a model knows of a text: all that writing on needs."""

    carry: LanguageCarry  # of [B, H]
    logits: Array  # [B, V], of the next token


def prefill(
    model: LanguageModel, params: Params, prompt: Tokens, lengths: Tokens | None = None
) -> Continuation:
    """Read the start symbol and a prompt in one unroll, padded to a power of two: few compile.

    Args:
      model: the model.
      params: its parameters.
      prompt: tokens [n], or [B, n] of several prompts; n = 0 is legal.
      lengths: tokens of each prompt, [B], 0 to n; None: all n. What follows is never read.
    Raises:
      ValueError: a shape, length or token that does not fit, in one line.
    """
    tokens, lengths = _check_prompt(prompt, lengths, model.vocabulary_size)
    num_rows, longest = tokens.shape
    read = np.zeros((num_rows, 1 << longest.bit_length()), np.int32)
    read[:, 0], read[:, 1 : longest + 1] = model.start, tokens
    return _read(model, params, read, lengths + 1)


@functools.partial(jax.jit, static_argnums=0)
def _read(model, params, tokens, lengths):
    def read(model, tokens, lengths):
        runs = model.read(-1, model.embed(tokens), lengths=lengths)
        logits = model.logits(last_pool(runs[-1].ys, lengths))  # of one step, not of all
        return Continuation(tuple(run.carry for run in runs), logits)

    return model.apply({"params": params}, tokens, lengths, method=read)


def generate(
    model: LanguageModel,
    params: Params,
    prompt: Tokens,
    num_tokens: int,
    key: Key,
    sampling: Sampling = PLAIN,
    *,
    num_samples: int = 1,
    chunk: int = 32,
) -> np.ndarray:
    """Write tokens [num_samples, num_tokens] that follow a prompt; see ``stream``."""
    pieces = stream(
        model, params, prompt, num_tokens, key, sampling, num_samples=num_samples, chunk=chunk
    )
    return np.concatenate([np.zeros((num_samples, 0), np.int32), *pieces], axis=1)


def stream(
    model: LanguageModel,
    params: Params,
    prompt: Tokens,
    num_tokens: int,
    key: Key,
    sampling: Sampling = PLAIN,
    *,
    num_samples: int = 1,
    chunk: int = 32,
) -> Iterator[np.ndarray]:
    """Write tokens that follow a prompt, as they come: [num_samples, c], c = chunk but the last.

    Args:
      model: the model.
      params: its parameters.
      prompt: tokens [n], integers 0..V-1; n = 0 is legal.
      num_tokens: how many to write, 0 or more.
      key: the text follows from it.
      sampling: how a token is drawn.
      num_samples: texts that are written at once, each with keys of its own.
      chunk: steps of one call. It always runs them all, so that only another model, chunk or number
        of samples compiles again, or a first top-k or top-p: their values do not matter.
    Raises:
      ValueError: an argument that does not fit, in one line, before anything is computed.
    """
    check_sampling(sampling)
    check_whole("num_tokens", num_tokens, 0)
    check_whole("num_samples", num_samples, 1)
    check_whole("chunk", chunk, 1)
    if np.ndim(prompt) != 1:
        raise ValueError(f"prompt has shape {np.shape(prompt)}; allowed: [n], one prompt")
    start = prefill(model, params, prompt)
    if not np.isfinite(start.logits).all():
        raise ValueError("the model's logits are not finite; allowed: a model that has a result")

    def chunks():
        state, keys = _spread(start, key, num_samples)
        settings = {"temperature": float(sampling.temperature)}  # 0 is not to compile anew
        if sampling.top_k is not None and sampling.top_k < model.vocabulary_size:
            settings["top_k"] = sampling.top_k
        if sampling.top_p < 1:
            settings["top_p"] = float(sampling.top_p)
        for done in range(0, num_tokens, chunk):
            first = len(prompt) + done
            state, tokens = _write(model, chunk, params, state, keys, first, settings)
            yield np.asarray(tokens).T[:, : num_tokens - done]

    return chunks()


@functools.partial(jax.jit, static_argnums=2)
def _spread(state, key, num_samples):
    """Give every sample the state of the one prompt, and its key."""
    state = jax.tree.map(lambda a: jnp.repeat(a, num_samples, axis=0), state)
    return state, jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_samples))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _write(model, chunk, params, state, keys, first, settings):
    """Run ``chunk`` steps: (state, tokens [chunk, num_samples])."""
    fold_all = jax.vmap(jax.random.fold_in, (0, None))
    sample_all = jax.vmap(functools.partial(sample, sampling=Sampling(**settings)))

    def body(state, position):
        tokens = sample_all(fold_all(keys, position), state.logits).astype(jnp.int32)
        carry, logits = model.apply({"params": params}, tokens, state.carry, method="step")
        return Continuation(carry, logits), tokens

    return jax.lax.scan(body, state, first + jnp.arange(chunk, dtype=jnp.int32))


def _check_prompt(
    prompt: Tokens, lengths: Tokens | None, vocabulary_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens [B, n], 0 past a length, and lengths [B] int32."""
    tokens = np.atleast_2d(np.asarray(prompt))
    if tokens.ndim != 2 or not (np.issubdtype(tokens.dtype, np.integer) or not tokens.size):
        given = f"{tokens.dtype} of shape {np.shape(prompt)}"
        raise ValueError(f"prompt is {given}; allowed: integers [n] or [B, n]")
    num_rows, longest = tokens.shape
    ends = np.full(num_rows, longest) if lengths is None else np.asarray(lengths)
    if ends.shape != (num_rows,) or not np.issubdtype(ends.dtype, np.integer):
        given = f"{ends.dtype} of shape {ends.shape}"
        raise ValueError(f"lengths is {given}; allowed: integers of shape {(num_rows,)}")
    for end in ends[(ends < 0) | (ends > longest)]:
        raise ValueError(f"lengths holds {end}; allowed: 0 to n = {longest}")
    tokens = np.where(np.arange(longest) < ends[:, None], tokens, 0)
    for token in tokens[(tokens < 0) | (tokens >= vocabulary_size)]:
        raise ValueError(f"prompt holds {token}; allowed: 0 to V - 1 = {vocabulary_size - 1}")
    return tokens, ends.astype(np.int32)
