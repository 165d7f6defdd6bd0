"""Config -> a corpus as tokens; and what a trained model needs to read and write others."""

import functools
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.language_modelling.config import Config
from rnn_jax.data import (
    Documents,
    Encoding,
    TokenStream,
    load_corpus_tokens,
    load_documents,
    make_encoding,
)
from rnn_jax.data.windows import whole_line
from rnn_jax.files import parse_json, write_text

READER = "reader.json"
PIECE = 2048  # tokens of the validation split that are read in one go during training


class Reader(NamedTuple):
    """What it takes to read a text as a trained model does; kept beside the trainings."""

    source: str  # of the corpus
    encoding: Encoding


class Corpus(NamedTuple):
    """A corpus as the models read it."""

    documents: Documents
    reader: Reader
    streams: dict[str, TokenStream]  # by split
    validation: TokenStream  # pieces of the validation split, read during training

    def bits_per_byte(self, split: str, nats_per_token: float) -> float:
        """Convert a loss: bits per byte = nats per token / ln 2 · tokens / bytes of the split."""
        stream = self.streams[split]
        return nats_per_token / math.log(2) * len(stream.tokens) / stream.num_bytes


@functools.lru_cache(maxsize=2)
def load_corpus(config: Config) -> Corpus:
    """Read and encode the corpus of a config.

    Raises:
      ValueError: what is wrong with it, in one line.
    """
    documents = read_documents(config)
    encoding = make_encoding(
        config.encoding,
        (document.decode("utf-8", "replace") for document in documents.splits["train"]),
        config.max_vocabulary,
    )
    streams = load_corpus_tokens(documents, encoding)
    validation = spread_pieces(streams["validation"], config.validation_tokens)
    return Corpus(documents, Reader(documents.source, encoding), streams, validation)


def read_documents(config: Config) -> Documents:
    """Read the corpus of a config."""
    return load_documents(config.data, data_dir=config.data_dir, text_column=config.text_column)


def spread_pieces(stream: TokenStream, num_tokens: int) -> TokenStream:
    """Take pieces of a stream, equally far apart: each becomes a document.

    A beginning would be one or two files, and they may be easy ones. Bytes are in proportion.
    """
    total = len(stream.tokens)
    if num_tokens >= total:
        return stream
    length = min(PIECE, num_tokens)
    first = np.linspace(0, total - length, num_tokens // length).astype(int)
    tokens = stream.tokens[first[:, None] + np.arange(length)].ravel()
    starts = np.arange(len(first) + 1) * length
    return TokenStream(tokens, starts, round(stream.num_bytes * len(tokens) / total))


def flow_places(config: Config, corpus: Corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut windows from the validation split, equally far apart, as a network reads them.

    Returns:
      (inputs [B, T], targets [B], the token after each window, resets [B, T]).
    """
    stream, length = corpus.streams["validation"], config.flow_length
    last = len(stream.tokens) - length
    if last < 1:
        raise ValueError(
            f"flow_length is {length} and the validation split has {len(stream.tokens)} tokens; "
            f"allowed: up to {len(stream.tokens) - 1}, or 0 for none"
        )
    first = np.unique(np.linspace(0, last, config.flow_windows).astype(int))
    window, begins = whole_line(stream).cut(
        first, np.full(len(first), length), length, corpus.reader.encoding.size
    )
    return window.inputs, window.targets[:, -1], begins & config.reset_documents


def write_reader(folder: Path, reader: Reader) -> None:
    """Keep a reader in the folder of the trainings."""
    tree = {"source": reader.source, "encoding": json.loads(reader.encoding.to_json())}
    write_text(folder / READER, json.dumps(tree, ensure_ascii=False) + "\n")


def read_reader(folder: Path) -> Reader:
    """Read the reader that is kept there; ValueError: none is, or it cannot be read."""
    path = folder / READER
    try:
        tree = parse_json(path.read_bytes())
        return Reader(tree["source"], Encoding.from_json(json.dumps(tree["encoding"])))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; no training has begun in this run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
