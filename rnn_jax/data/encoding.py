"""Texts as whole numbers: by byte, by character, by word.

Byte: the bytes of the UTF-8, V = 256; needs no vocabulary. Character: a code point. Word: of the
lower-cased text, what ``WORDS`` finds. A vocabulary comes from the training texts alone; what is
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
from rnn_jax.data.texts import Texts

KINDS = ("byte", "character", "word")
UNKNOWN = "\ufffd"  # how index 0 is decoded

# In order: a line break of HTML, as IMDb's reviews have; a number with its points and commas;
# letters and digits with apostrophes inside (don't, 1990's); any other mark. White space parts.
# In scripts that write no spaces a whole phrase is a word: take characters or bytes there.
WORDS = re.compile(r"<br\s*/?>|\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")


class Encoding(NamedTuple):
    """How a text becomes tokens, and back; ``make_encoding`` makes it."""

    kind: str  # "byte" | "character" | "word"
    vocabulary: tuple[str, ...]  # of character and word: symbol of index i + 1; () for byte

    @property
    def size(self) -> int:
        """V: how many indices there are, the unknown symbol's included."""
        return 256 if self.kind == "byte" else len(self.vocabulary) + 1

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens of a text, [n] int32; an empty text has none."""
        return _encoder(self)(text)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        r"""Return the text: exact for bytes, words joined by spaces; "\ufffd" for what is unknown.

        Raises:
          ValueError: one line, if a token is outside 0..V-1.
        """
        tokens = np.asarray(tokens, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.size)]
        if wrong.size:
            raise ValueError(f"a token is {wrong[0]}; allowed: 0 to V - 1 = {self.size - 1}")
        if self.kind == "byte":
            return tokens.astype(np.uint8).tobytes().decode("utf-8", "replace")
        symbols = (UNKNOWN, *self.vocabulary)
        joint = " " if self.kind == "word" else ""
        return joint.join(symbols[token] for token in tokens.tolist())

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Encoding":
        """Read what ``to_json`` wrote; anything else is a ValueError of one line."""
        try:
            tree = json.loads(text)
            kind, symbols = tree["kind"], tree["vocabulary"]
            is_sound = len(tree) == 2 and isinstance(symbols, list) and kind in KINDS
            is_sound &= all(isinstance(symbol, str) and symbol for symbol in symbols)
            is_sound &= len(set(symbols)) == len(symbols)
            is_sound &= kind != "byte" or not symbols
            is_sound &= kind != "character" or all(len(symbol) == 1 for symbol in symbols)
        except (ValueError, TypeError, KeyError):
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
      max_vocabulary: how many symbols to keep, the unknown one not counted: V is one more.
      min_count: leave out symbols that occur less often. With the default, 2, the training texts
        have unknown symbols too (those that occur once), so their embedding is trained.
    Raises:
      ValueError: one line, if a setting is out of range, or nothing is left to keep.
    """
    if kind not in KINDS:
        raise ValueError(f"the encoding is {kind!r}; allowed: {', '.join(KINDS)}")
    check_at_least("max_vocabulary", max_vocabulary, 1)
    check_at_least("min_count", min_count, 1)
    if isinstance(texts, str):  # it would pass as an iterable of its characters
        raise ValueError("texts is one string; allowed: several texts, for example a list")
    counts, num_texts = Counter(), 0
    for text in texts:
        num_texts += 1
        if kind == "byte":
            break
        counts.update(text if kind == "character" else _words(text))
    if num_texts == 0:
        raise ValueError("there are 0 texts to make a vocabulary of; allowed: at least 1")
    if kind == "byte":
        return Encoding(kind, ())
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


def cut_text(kind: str, text: str, max_length: int) -> str:
    """Return what a model reads of a text that is cut to ``max_length`` tokens, as text."""
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
def _encoder(encoding: Encoding) -> Callable[[str], np.ndarray]:
    """Return text -> [n] int32, its tables made once."""
    kind, vocabulary = encoding
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
