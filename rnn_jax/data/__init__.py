"""Data: what the experiments read, from packages and from the machine itself.

sources.py           load_texts: labelled texts by name or path
texts.py             splits by content, no text in two of them
encoding.py          text -> tokens: bytes, byte pairs (bpe.py), characters or words
batching.py          tokens -> batches of like lengths, in an order that follows from a seed
corpora.py           load_documents: a corpus for language modelling by name or path
documents.py         its documents in three splits that share none
token_files.py       its tokens, kept in files and read as memory maps
windows.py           tokens -> windows that follow each other, for truncated backpropagation
memory_tasks.py      adding, copying, temporal order: sequences drawn from a key
builders/            data sets that TFDS prepares and keeps
labelled_files.py    CSV, TSV, JSON lines
stdlib_source.py     the Python standard library's source as one text
"""

from rnn_jax.data.batching import Batch, Batches, Encoded, make_batches
from rnn_jax.data.corpora import load_documents
from rnn_jax.data.documents import Documents
from rnn_jax.data.encoding import Encoding, cut_text, encode_texts, make_encoding
from rnn_jax.data.sources import load_texts
from rnn_jax.data.texts import TextData, Texts
from rnn_jax.data.token_files import TokenStream, load_corpus_tokens, open_tokens, prepare_tokens
from rnn_jax.data.windows import TextWindows, Window, Windows, make_windows, text_windows

__all__ = [
    "Batch",
    "Batches",
    "Documents",
    "Encoded",
    "Encoding",
    "TextData",
    "TextWindows",
    "Texts",
    "TokenStream",
    "Window",
    "Windows",
    "cut_text",
    "encode_texts",
    "load_corpus_tokens",
    "load_documents",
    "load_texts",
    "make_batches",
    "make_encoding",
    "make_windows",
    "open_tokens",
    "prepare_tokens",
    "text_windows",
]
