"""Tokens of a corpus: encoded once, kept in files, read as memory maps.

A folder holds train.bin, validation.bin and test.bin, flat and little endian, and corpus.json,
which says what they are. It is written beside its place and renamed, so it is whole or not there;
of two processes that make the same one, the second takes the first's.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.documents import Documents
from rnn_jax.data.encoding import Encoding, bytes_encoder
from rnn_jax.data.texts import SPLITS
from rnn_jax.files import parse_json, remove, written_whole

HEAD = "corpus.json"
FILES = (HEAD, *(f"{split}.bin" for split in SPLITS))
FORMAT = 1  # the number changes with what is in the files
DTYPES = ("|u1", "<u2", "<u4")
ABANDONED = 24 * 3600.0  # seconds


class TokenStream(NamedTuple):
    """A split as tokens, flat: document d is tokens[starts[d] : starts[d + 1]], none is empty."""

    tokens: np.ndarray  # [N] unsigned, a memory map where it comes from files
    starts: np.ndarray  # [D + 1] int64
    num_bytes: int  # of the text that was encoded

    def bits_per_byte(self, nats: float) -> float:
        """Convert a loss summed over all tokens: bits of each byte of the text."""
        return float(nats) / math.log(2) / self.num_bytes


def load_corpus_tokens(documents: Documents, encoding: Encoding) -> dict[str, TokenStream]:
    """Return the tokens of a corpus by split, from the user's cache; made if they are not there.

    The cache is $XDG_CACHE_HOME or ~/.cache, then rnn_jax/corpora. Where it cannot be written, the
    tokens stay in memory.

    Raises:
      ValueError: one line, if no token is in a split.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        what = json.dumps(_what(documents, encoding)).encode()
        folder = home / "rnn_jax" / "corpora" / hashlib.sha256(what).hexdigest()[:16]
        return prepare_tokens(documents, encoding, folder)
    except (OSError, RuntimeError):  # no right, no room, no home (RuntimeError)
        return encode_documents(documents, encoding)


def prepare_tokens(
    documents: Documents, encoding: Encoding, folder: Path
) -> dict[str, TokenStream]:
    """Open the tokens in ``folder``; encode and write them, if they are not there or damaged.

    Raises:
      ValueError: one line: no token is in a split, or the folder holds other files.
      OSError: the folder cannot be written.
    """
    what = _what(documents, encoding)
    with contextlib.suppress(ValueError):
        return open_tokens(folder, what)
    if folder.exists() and not _is_ours(folder, what):
        raise ValueError(
            f"{folder} holds something else; allowed: this corpus's own tokens, or no such folder"
        )
    remove(folder)
    streams = encode_documents(documents, encoding)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    try:
        with written_whole(folder) as beside:
            _write(beside, streams, what)
    except OSError:
        if not folder.exists():  # if it does, another process was first
            raise
    with contextlib.suppress(ValueError):
        return open_tokens(folder, what)
    return streams  # another process made it anew at this moment


def open_tokens(folder: Path, what: dict | None = None) -> dict[str, TokenStream]:
    """Open the tokens of the three splits as memory maps; all bytes are checked.

    Args:
      folder: that of ``prepare_tokens``.
      what: the source and the encoding that corpus.json must name; None: any.
    Raises:
      ValueError: one line, if the folder is not whole, or holds something else.
    """
    try:
        head = parse_json((folder / HEAD).read_bytes())
        is_sound = what is None or {name: head[name] for name in what} == what
        streams = {split: _open(folder / f"{split}.bin", head["splits"][split]) for split in SPLITS}
    except (OSError, ValueError, TypeError, KeyError, IndexError, OverflowError):
        is_sound, streams = False, {}
    if not is_sound:
        raise ValueError(f"{folder} has no such tokens, whole; allowed: what prepare_tokens writes")
    return streams


def encode_documents(documents: Documents, encoding: Encoding) -> dict[str, TokenStream]:
    """Encode a corpus, in memory; a document without a token is left out of ``starts``.

    Raises:
      ValueError: one line, if no token is in a split.
    """
    encode = bytes_encoder(encoding)
    dtype = next(kind for kind in ("<u1", "<u2", "<u4") if encoding.size <= 256 ** int(kind[2]))
    streams = {}
    for split in SPLITS:
        _check_utf8(documents, split, encoding)
        parts = [encode(data).astype(dtype) for data in documents.splits[split]]
        parts = [part for part in parts if len(part)]
        if not parts:
            raise ValueError(
                f"{documents.name}: the {split} split has 0 tokens by {encoding.kind}; "
                "allowed: at least 1"
            )
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        streams[split] = TokenStream(np.concatenate(parts), starts, documents.num_bytes(split))
    return streams


def _check_utf8(documents: Documents, split: str, encoding: Encoding) -> None:
    """Refuse byte pairs of what is no UTF-8: they would be those of another, longer text."""
    if encoding.kind != "bpe":
        return
    for number, data in enumerate(documents.splits[split]):
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{documents.name}: document {number} of {split} is no UTF-8 (byte {error.start}); "
                "allowed: UTF-8, or the encoding byte"
            ) from None


def _what(documents: Documents, encoding: Encoding) -> dict:
    """Name all that decides what the tokens are; what a letter is changes with Python's tables."""
    return {
        "format": FORMAT,
        "source": documents.source,
        "encoding": encoding.to_json(),
        "python": "" if encoding.kind == "byte" else platform.python_version(),
    }


def _is_ours(folder: Path, what: dict) -> bool:
    """Tell whether a folder holds these tokens and nothing else; they may be damaged."""
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    if not names <= set(FILES) or len(names) < len(FILES) - 1:
        return False
    try:
        head = parse_json((folder / HEAD).read_bytes())
        return {name: head[name] for name in what} == what
    except (OSError, ValueError, TypeError, KeyError):
        return True


def _write(folder: Path, streams: dict[str, TokenStream], what: dict) -> None:
    folder.mkdir(exist_ok=True)
    head = {}
    for split, stream in streams.items():
        data = stream.tokens.tobytes()
        (folder / f"{split}.bin").write_bytes(data)
        head[split] = {
            "dtype": stream.tokens.dtype.str,
            "num_tokens": len(stream.tokens),
            "num_bytes": stream.num_bytes,
            "sha256": hashlib.sha256(data).hexdigest(),
            "starts": stream.starts.tolist(),
        }
    (folder / HEAD).write_text(json.dumps({**what, "splits": head}), "utf-8")


def _open(path: Path, head: dict) -> TokenStream:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != head["sha256"]:
        raise ValueError(f"{path} is damaged; allowed: what was written")
    if head["dtype"] not in DTYPES:  # of objects, bytes would be taken for addresses
        raise ValueError(f"{path} is of dtype {head['dtype']!r}; allowed: {', '.join(DTYPES)}")
    tokens = np.memmap(path, head["dtype"], mode="r")
    starts = np.array(head["starts"], np.int64)
    if not len(tokens) == head["num_tokens"] == starts[-1]:
        raise ValueError(f"{path} has {len(tokens)} tokens; allowed: {head['num_tokens']}")
    if starts[0] != 0 or np.any(np.diff(starts) < 1) or int(head["num_bytes"]) < 1:
        raise ValueError(f"{path} has documents without a token; allowed: one or more in each")
    return TokenStream(tokens, starts, int(head["num_bytes"]))


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left beside ``folder``; what is young may be in the making."""
    for path in folder.parent.glob(f".{folder.name}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                remove(path)
