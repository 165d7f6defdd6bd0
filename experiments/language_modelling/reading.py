"""A text as a model reads it: its tokens, where in it each stands, and the bits of its parts."""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.language_modelling.colours import Part, shown
from rnn_jax.data.encoding import WORDS, Encoding

MOST_NAMED = 8  # unknown symbols


class Reading(NamedTuple):
    """The bytes of a text, and its n tokens in them."""

    data: bytes  # what is no UTF-8 as U+FFFD, but for byte tokens
    tokens: np.ndarray  # [n] int32
    places: np.ndarray  # [n, 2] int64: token i stands for data[start:stop]
    is_unknown: np.ndarray  # [n] bool
    has_replaced: bool  # whether something was no UTF-8, and the tokens are no bytes
    num_bytes: int  # of the text as it was given

    def piece(self, i: int) -> bytes:
        """What token i stands for."""
        start, stop = self.places[i]
        return self.data[start:stop]

    def line(self, i: int) -> int:
        """The line that token i begins in, from 1."""
        return 1 + self.data.count(b"\n", 0, int(self.places[i, 0]))


def read_bytes(path: Path | None) -> bytes:
    """Read a file, or standard input for None and "-"; a ValueError of one line if that fails."""
    is_given = path is not None and str(path) != "-"
    try:
        return path.read_bytes() if path and is_given else sys.stdin.buffer.read()
    except OSError as error:
        where = path if is_given else "standard input"
        raise ValueError(f"{where}: {error.strerror}; allowed: a file of text") from None


def read_text(encoding: Encoding, data: bytes) -> Reading:
    """Encode a text, and find its tokens in it."""
    has_replaced, num_bytes = False, len(data)
    if encoding.kind != "byte":
        as_text = data.decode("utf-8", "replace").encode("utf-8")
        has_replaced, data = as_text != data, as_text
    tokens = encoding.encode_bytes(data)
    places = _places(encoding, data, tokens)
    is_unknown = (tokens == 0) & (not encoding.is_lossless)
    return Reading(data, tokens, places, is_unknown, has_replaced, num_bytes)


def report_unread(reading: Reading, name: str) -> None:
    """Say on standard error what the model cannot read of a text."""
    if reading.has_replaced:
        print(f"not UTF-8, bytes replaced in {name}", file=sys.stderr)
    unknown = np.flatnonzero(reading.is_unknown)
    if len(unknown):
        symbols = sorted({shown(reading.piece(i)) for i in unknown})
        named = " ".join(symbols[:MOST_NAMED]) + (" ..." if len(symbols) > MOST_NAMED else "")
        print(
            f"unknown, read as one symbol: {len(unknown)} of {len(reading.tokens)} tokens of "
            f"{name}: {named}",
            file=sys.stderr,
        )


def parts_of(reading: Reading, bits: np.ndarray) -> list[Part]:
    """Cut the text at its tokens; tokens that share a character make one part.

    What no token stands for (white space between words) is a part without bits.
    """
    data, places = reading.data, reading.places.tolist()
    parts, end, first = [], 0, 0
    for last, (start, stop) in enumerate(places):
        if start > end:
            parts.append(_gap(data[end:start]))
        end = stop
        is_inside = stop < len(data) and data[stop] & 0xC0 == 0x80  # of a character of UTF-8
        following = places[last + 1 : last + 2]
        if not following or not (is_inside or following == [[stop, stop]]):
            text = data[places[first][0] : stop]
            label = _label(reading, bits, first, last)
            total = float(bits[first : last + 1].sum())
            parts.append(Part(text.decode("utf-8", "replace"), total, label))
            first = last + 1
    return [*parts, _gap(data[end:])] if end < len(data) else parts


def write_any_letter() -> None:
    """Let standard output take letters that the terminal's encoding lacks, as question marks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _gap(text: bytes) -> Part:
    return Part(text.decode("utf-8", "replace"), None, "")


def _label(reading: Reading, bits: np.ndarray, first: int, last: int) -> str:
    """What the page says of a part: its tokens and their bits."""
    place = slice(reading.places[first, 0], reading.places[last, 1])
    label = f"{shown(reading.data[place])}  {bits[first : last + 1].sum():.2f} bits"
    if last > first:
        tokens = [f"{shown(reading.piece(i))} {bits[i]:.2f}" for i in range(first, last + 1)]
        label += f" = {' + '.join(tokens)}"
    return label + (", unknown" if reading.is_unknown[first] else "")


def _places(encoding: Encoding, data: bytes, tokens: np.ndarray) -> np.ndarray:
    """Find where each token begins and ends: bytes [n, 2]."""
    if encoding.kind == "word":
        return _word_places(data.decode("utf-8"))
    if encoding.kind == "character":  # it ends where the next one begins
        lead = np.flatnonzero(np.frombuffer(data, np.uint8) & 0xC0 != 0x80)
        ends = np.append(lead[1:], len(data))[: len(lead)]
    else:
        sizes = {token: len(encoding.piece(token)) for token in np.unique(tokens).tolist()}
        ends = np.cumsum([sizes[token] for token in tokens.tolist()], dtype=np.int64)
    return np.stack([np.append(0, ends)[: len(ends)], ends], axis=1).astype(np.int64)


def _word_places(text: str) -> np.ndarray:
    """Find words as the encoding does, in the text as it was before it was lower-cased.

    A letter may have more letters as a lower one (İ), so places are taken back letter by letter;
    of two tokens in one letter the second has the empty place at its end.
    """
    plain = text.lower().replace("\u2019", "'")
    spans = np.array([word.span() for word in WORDS.finditer(plain)], np.int64).reshape(-1, 2)
    letter = np.repeat(np.arange(len(text)), [len(letter.lower()) for letter in text])
    sizes = [len(letter.encode("utf-8")) for letter in text]
    starts = np.append(0, np.cumsum(sizes, dtype=np.int64))
    if not len(spans):
        return spans
    ends = starts[letter[spans[:, 1] - 1] + 1]
    begins = np.maximum(starts[letter[spans[:, 0]]], np.append(0, ends[:-1]))
    return np.stack([begins, ends], axis=1)
