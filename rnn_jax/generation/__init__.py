"""Generation: what a language model would go on with.

sampling.py      logits -> a token: temperature, top-k, top-p
writing.py       a prompt in one unroll, then one step a token, in jitted chunks
pieces.py        the bytes as they come: stop strings, characters in several pieces
"""

from rnn_jax.generation.pieces import decode, until
from rnn_jax.generation.sampling import (
    Sampling,
    check_sampling,
    keep_top_k,
    keep_top_p,
    sample,
    scale,
)
from rnn_jax.generation.writing import Continuation, generate, prefill, stream

__all__ = [
    "Continuation",
    "Sampling",
    "check_sampling",
    "decode",
    "generate",
    "keep_top_k",
    "keep_top_p",
    "prefill",
    "sample",
    "scale",
    "stream",
    "until",
]
