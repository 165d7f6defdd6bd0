"""Texts as whole numbers: by byte, by byte pairs, by character, by word.

Byte: the bytes of the UTF-8, V = 256; needs no vocabulary. Bpe: bytes, and what is often found
together as one token; see ``bpe.py``. Character: a code point. Word: of the lower-cased text, what
``WORDS`` finds. A vocabulary comes from the training texts alone; of characters and words, what is
not in it is index 0, the unknown symbol. Padding is 0 too: lengths tell it apart.
"""

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.data.batching import Encoded, check_at_least
from rnn_jax.data.bpe import make_bpe_encoder, make_pieces, train_merges
from rnn_jax.data.texts import Texts
from rnn_jax.files import parse_json

KINDS = ("byte", "character", "word", "bpe")
UNKNOWN = "\ufffd"  # how index 0 is decoded

# In order: a line break of HTML, as IMDb's reviews have; a number with its points and commas;
# letters and digits with apostrophes inside (don't, 1990's); any other mark. White space parts.
# In scripts that write no spaces a whole phrase is a word: take characters or bytes there.
WORDS = re.compile(r"<br\s*/?>|\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")


class Encoding(NamedTuple):
    """How a text becomes tokens, and back; ``make_encoding`` makes it."""

    kind: str  # one of KINDS
    vocabulary: tuple[str, ...]
    """() for byte; character, word: symbol of index i + 1; bpe: the merge that makes 256 + i"""

    @property
    def size(self) -> int:
        """V: how many indices there are, the unknown symbol's included."""
        return len(self.vocabulary) + (256 if self.is_lossless else 1)

    @property
    def is_lossless(self) -> bool:
        """Whether every text comes back as it was, and there is no unknown symbol."""
        return self.kind in ("byte", "bpe")

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of a text, [n] int32; an empty text has none."""
        return _encoder(self)(text)

    def encode_bytes(self, data: bytes) -> np.ndarray:
        """Return the tokens of UTF-8; what is not UTF-8 is kept by byte alone, else U+FFFD."""
        return bytes_encoder(self)(data)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        r"""Return the text, words joined by spaces; "\ufffd" for what is unknown or no UTF-8.

        Raises:
          ValueError: one line, if a token is outside 0..V-1.
        """
        # half of a surrogate pair, which JSON can hold, is a character of its own
        otherwise = "replace" if self.is_lossless else "surrogatepass"
        return self.decode_bytes(tokens).decode("utf-8", otherwise)

    def decode_bytes(self, tokens: Sequence[int] | np.ndarray) -> bytes:
        """Return what tokens stand for, as bytes: those that were encoded, if it is lossless.

        Raises:
          ValueError: one line, if a token is outside 0..V-1.
        """
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.size)]
        if wrong.size:
            raise ValueError(f"a token is {wrong[0]}; allowed: 0 to V - 1 = {self.size - 1}")
        if self.kind == "byte":
            return tokens.astype(np.uint8).tobytes()
        pieces, joint = _pieces(self), b" " if self.kind == "word" else b""
        return joint.join([pieces[token] for token in tokens.tolist()])

    def piece(self, token: int) -> bytes:
        """Return what one token stands for: part of a character's UTF-8, if it is lossless."""
        return self.decode_bytes([token])

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Encoding":
        """Read what ``to_json`` wrote; anything else is a ValueError of one line."""
        try:
            tree = parse_json(text)
            kind, symbols = tree["kind"], tree["vocabulary"]
            is_sound = len(tree) == 2 and isinstance(symbols, list) and kind in KINDS
            is_sound &= all(isinstance(symbol, str) and symbol for symbol in symbols)
            is_sound &= len(set(symbols)) == len(symbols)
            is_sound &= kind != "byte" or not symbols
            is_sound &= kind != "bpe" or len(make_pieces(symbols)) == 256 + len(symbols)
            is_sound &= kind != "character" or all(len(symbol) == 1 for symbol in symbols)
        except (ValueError, TypeError, KeyError, AttributeError):
            is_sound = False
        if not is_sound:
            raise ValueError(f"{text[:40]!r} is no encoding; allowed: what Encoding.to_json writes")
        return cls(kind, tuple(symbols))


def make_encoding(
    kind: str, texts: Iterable[str], max_vocabulary: int = 20_000, min_count: int = 2
) -> Encoding:
    """Take the vocabulary from ``texts``: the most frequent symbols, equal counts by the symbol.

    Args:
      kind: one of KINDS.
      texts: those of the training split, at least one.
      max_vocabulary: how many symbols to keep, the unknown one not counted: V is one more. Of
        bpe, V itself, at least 256; of byte, not used.
      min_count: leave out symbols that occur less often. With the default, 2, the training texts
        have unknown symbols too (those that occur once), so their embedding is trained. Of bpe,
        how often a pair must occur to be merged.
    Raises:
      ValueError: one line, if a setting is out of range, or nothing is left to keep.
    """
    if kind not in KINDS:
        raise ValueError(f"the encoding is {kind!r}; allowed: {', '.join(KINDS)}")
    check_at_least("max_vocabulary", max_vocabulary, 256 if kind == "bpe" else 1)
    check_at_least("min_count", min_count, 1)
    if isinstance(texts, str):  # it would pass as an iterable of its characters
        raise ValueError("texts is one string; allowed: several texts, for example a list")
    texts = iter(texts)
    first = list(itertools.islice(texts, 1))
    if not first:
        raise ValueError("there are 0 texts to make a vocabulary of; allowed: at least 1")
    if kind == "byte":
        return Encoding(kind, ())
    texts = itertools.chain(first, texts)
    if kind == "bpe":
        return Encoding(kind, train_merges(texts, max_vocabulary, min_count))
    counts, num_texts = Counter(), 0
    for text in texts:
        num_texts += 1
        counts.update(text if kind == "character" else _words(text))
    kept = [symbol for symbol, count in counts.items() if count >= min_count]
    if not counts:
        raise ValueError(f"the {num_texts} texts have 0 {kind}s; allowed: at least 1")
    if not kept:
        raise ValueError(
            f"min_count is {min_count} and no {kind} occurs so often; "
            f"allowed: 1 to {max(counts.values())}"
        )
    kept.sort(key=lambda symbol: (-counts[symbol], symbol))
    return Encoding(kind, tuple(kept[:max_vocabulary]))


def encode_texts(encoding: Encoding, texts: Texts, max_length: int) -> Encoded:
    """Encode a split; longer texts are cut to their first ``max_length`` tokens, and counted."""
    check_at_least("max_length", max_length, 1)
    encode = _encoder(encoding)
    pieces, num_cut = [np.zeros(0, np.int32)], 0
    for text in texts.texts:
        tokens = encode(text)
        num_cut += len(tokens) > max_length
        pieces.append(tokens[:max_length])
    return Encoded(
        tokens=np.concatenate(pieces),
        starts=np.cumsum([len(piece) for piece in pieces], dtype=np.int64),
        labels=np.asarray(texts.labels, np.int32),
        num_cut=num_cut,
    )


def bytes_encoder(encoding: Encoding) -> Callable[[bytes], np.ndarray]:
    """Return ``encoding.encode_bytes`` for many texts."""
    if encoding.kind == "byte":
        return lambda data: np.frombuffer(data, np.uint8).astype(np.int32)
    encode = _encoder(encoding)
    return lambda data: encode(data.decode("utf-8", "replace"))


def cut_text(kind: str, text: str, max_length: int) -> str:
    """Return what a model reads of a text that is cut to ``max_length`` tokens, as text."""
    if kind == "bpe":
        raise ValueError("the kind is 'bpe', whose tokens need its merges; allowed: the others")
    if kind == "byte":
        return text.encode("utf-8", "replace")[:max_length].decode("utf-8", "ignore")
    if kind == "character":
        return text[:max_length]
    text = _plain(text)
    ends = [word.end() for word in itertools.islice(WORDS.finditer(text), max_length)]
    return text[: ends[-1]] if ends else ""


def _words(text: str) -> list[str]:
    return WORDS.findall(_plain(text))


def _plain(text: str) -> str:
    return text.lower().replace("\u2019", "'")  # ’


@functools.lru_cache(maxsize=8)
def _pieces(encoding: Encoding) -> tuple[bytes, ...]:
    """Return the bytes of every token, of all kinds but byte."""
    if encoding.kind == "bpe":
        return make_pieces(encoding.vocabulary)
    symbols = (UNKNOWN, *encoding.vocabulary)
    return tuple(symbol.encode("utf-8", "surrogatepass") for symbol in symbols)


@functools.lru_cache(maxsize=8)
def _encoder(encoding: Encoding) -> Callable[[str], np.ndarray]:
    """Return text -> [n] int32, its tables made once."""
    kind, vocabulary = encoding
    if kind == "bpe":
        return make_bpe_encoder(vocabulary)
    if kind == "byte":
        # a lone surrogate, which JSON can hold, has no UTF-8
        return lambda text: np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(
            np.int32
        )
    if kind == "character":
        points = np.array([ord(symbol) for symbol in vocabulary], np.int64)
        table = np.zeros(points.max(initial=0) + 2, np.int32)  # by code point, the last: unknown
        table[points] = np.arange(1, len(points) + 1)

        def encode(text: str) -> np.ndarray:
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
            return table[np.minimum(points, len(table) - 1)]

        return encode
    index = {word: i for i, word in enumerate(vocabulary, start=1)}
    return lambda text: np.array([index.get(word, 0) for word in _words(text)], np.int32)
