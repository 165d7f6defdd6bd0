"""Config -> texts, encoded and cut into batches; and what a trained model needs to read others."""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.text_classification.config import Config
from rnn_jax.data import (
    Batch,
    Batches,
    Encoded,
    Encoding,
    TextData,
    encode_texts,
    load_texts,
    make_batches,
    make_encoding,
)
from rnn_jax.files import parse_json, write_text

READER = "reader.json"


class Corpus(NamedTuple):
    """A data set as the models read it."""

    data: TextData
    reader: "Reader"
    encoded: dict[str, Encoded]  # by split
    batches: dict[str, Batches]  # by split

    @property
    def source(self) -> str:
        """Say exactly what it is, in a line."""
        return self.data.source


class Reader(NamedTuple):
    """What it takes to read a text as a trained model does; kept beside the trainings."""

    source: str  # of the data
    class_names: tuple[str, ...]
    encoding: Encoding


@functools.lru_cache(maxsize=2)
def load_corpus(config: Config) -> Corpus:
    """Read, encode and batch the texts of a config.

    Raises:
      ValueError: what is wrong with the data, in one line.
    """
    data = read_texts(config)
    encoding = make_encoding(config.encoding, data.splits["train"].texts, config.max_vocabulary)
    encoded = {
        name: encode_texts(encoding, split, config.max_length)
        for name, split in data.splits.items()
    }
    train = make_batches(encoded["train"], config.batch_size)
    batches = {  # one set of shapes for all: what is compiled for one split serves the others
        name: make_batches(split, config.batch_size, bucket_lengths=train.bucket_lengths)
        for name, split in encoded.items()
    }
    return Corpus(data, Reader(data.source, data.class_names, encoding), encoded, batches)


def read_texts(config: Config) -> TextData:
    """Read the texts of a config."""
    return load_texts(
        config.data,
        data_dir=config.data_dir,
        text_column=config.text_column,
        label_column=config.label_column,
    )


def flow_batch(config: Config, corpus: Corpus) -> Batch:
    """Choose the fixed batch: long texts of the validation split, cut to one length, no padding.

    The length is that of the longest tenth; the texts are the first ones that have it.
    """
    encoded = corpus.encoded["validation"]
    lengths = np.diff(encoded.starts)
    length = max(1, int(np.quantile(lengths, 0.9, method="lower")))
    chosen = np.flatnonzero(lengths >= length)[: config.flow_texts]
    tokens = np.zeros((len(chosen), length), np.int32)
    for row, text in enumerate(chosen):
        tokens[row] = encoded.tokens[encoded.starts[text] :][:length]
    return Batch(
        tokens,
        np.full(len(chosen), length, np.int32),
        encoded.labels[chosen],
        np.ones(len(chosen), np.float32),
    )


def write_reader(folder: Path, reader: Reader) -> None:
    """Keep a reader in the folder of the trainings."""
    tree = reader._asdict() | {"encoding": json.loads(reader.encoding.to_json())}
    write_text(folder / READER, json.dumps(tree, ensure_ascii=False) + "\n")


def read_reader(folder: Path) -> Reader:
    """Read the reader that is kept there; ValueError: none is, or it cannot be read."""
    path = folder / READER
    try:
        tree = parse_json(path.read_bytes())
        encoding = Encoding.from_json(json.dumps(tree["encoding"]))
        return Reader(tree["source"], tuple(tree["class_names"]), encoding)
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; no training has begun in this run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
