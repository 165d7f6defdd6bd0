"""Data: what the experiments read, from packages and from the machine itself.

sources.py           load_texts: labelled texts by name or path
texts.py             splits by content, no text in two of them
encoding.py          text -> tokens: bytes, characters or words
batching.py          tokens -> batches of like lengths, in an order that follows from a seed
builders/            data sets that TFDS prepares and keeps
labelled_files.py    CSV, TSV, JSON lines
stdlib_source.py     the Python standard library's source as one text
"""

from rnn_jax.data.batching import Batch, Batches, Encoded, make_batches
from rnn_jax.data.encoding import Encoding, cut_text, encode_texts, make_encoding
from rnn_jax.data.sources import load_texts
from rnn_jax.data.texts import TextData, Texts

__all__ = [
    "Batch",
    "Batches",
    "Encoded",
    "Encoding",
    "TextData",
    "Texts",
    "cut_text",
    "encode_texts",
    "load_texts",
    "make_batches",
    "make_encoding",
]
