"""Byte n-grams, interpolated: how far counts go, which need no recurrence and no gradient.

P_k(w | h) = (a(hw) + mass(h) P_{k-1}(w | h')) / total(h), where h' is h without its first byte,
P_0 = 1/256, and a context that was never seen leaves P_{k-1} as it is. A smoothing says what the
three are; either way they sum to one over the 256 bytes, and no byte has probability zero.

- witten-bell (Witten and Bell 1991): a is the count c(hw), mass the number of different bytes that
  follow h, total the number of times that h was read plus mass.
- kneser-ney, modified and interpolated (Chen and Goodman 1998): a is the count less a discount,
  one each for counts of 1, 2 and more; mass is what was taken off, total what was counted. Below
  the highest order a count is that of the different bytes that precede hw.

Documents are joined, so a context may run over the border of two. A text is read from its own
beginning, where contexts are shorter.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

MAX_ORDER = 6
SMOOTHINGS = ("witten-bell", "kneser-ney")
FALLBACK = (0.5, 1.0, 1.5)  # KenLM's discounts where counts of counts give none

Text = bytes | np.ndarray | Sequence[bytes]  # [n] uint8 if an array; documents if a sequence


class Level(NamedTuple):
    """What training text says of n-grams of one length; codes are sorted."""

    grams: np.ndarray  # [n] uint64, the bytes of hw, the first one highest
    kept: np.ndarray  # [n] a(hw)
    contexts: np.ndarray  # [m] uint64, the bytes of h
    mass: np.ndarray  # [m]
    total: np.ndarray  # [m]


def bits(train: Text, text: Text, order: int, smoothing: str) -> np.ndarray:
    """Return the bits of every byte of ``text`` given up to ``order - 1`` before it: [n] float64.

    Raises:
      ValueError: one line, if the order, the smoothing or the kind of a text is not allowed.
    """
    *_, last = bits_by_order(train, text, order, smoothing)
    return last


def bits_per_byte(train: Text, text: Text, max_order: int, smoothing: str) -> list[float]:
    """Return the mean bits of a byte of ``text`` for the orders 1 to ``max_order``, in one pass.

    Raises:
      ValueError: as ``bits`` does, and if the text is empty.
    """
    text = _as_bytes("text", text)
    if not len(text):
        raise ValueError("the text has 0 bytes; allowed: at least 1")
    return [float(found.mean()) for found in bits_by_order(train, text, max_order, smoothing)]


def bits_by_order(train: Text, text: Text, max_order: int, smoothing: str) -> Iterator[np.ndarray]:
    """Yield what ``bits`` returns for the orders 1 to ``max_order``, each made from the last."""
    if not 1 <= max_order <= MAX_ORDER:
        raise ValueError(f"the order is {max_order}; allowed: 1 to {MAX_ORDER}")
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"the smoothing is {smoothing!r}; allowed: {', '.join(SMOOTHINGS)}")
    train, text = _as_bytes("train", train), _as_bytes("text", text)
    lower = np.full(len(text), 1 / 256)  # probability of each byte, one order down
    train_codes, text_codes = np.zeros(len(train), np.uint64), np.zeros(len(text), np.uint64)
    for order in range(1, max_order + 1):
        shorter, text_codes = text_codes, _append(text_codes, text, order)
        train_codes = _append(train_codes, train, order)
        grams, counts = np.unique(train_codes, return_counts=True)
        if smoothing == "witten-bell":
            top = lower = _interpolate(_witten_bell(grams, counts), text_codes, lower)
        else:
            if order > 1:  # each n-gram that is there is one more byte before its last ones
                endings = grams & np.uint64(256 ** (order - 1) - 1)
                level = _kneser_ney(*np.unique(endings, return_counts=True))
                lower = _interpolate(level, shorter, lower)
            top = _interpolate(_kneser_ney(grams, counts), text_codes, lower)
        yield -np.log2(top)


def _as_bytes(name: str, text: Text) -> np.ndarray:
    """Return a text as [n] uint8, documents joined."""
    if isinstance(text, np.ndarray):
        if text.dtype != np.uint8 or text.ndim != 1:
            raise ValueError(f"{name} is {text.dtype} {list(text.shape)}; allowed: uint8 [n]")
        return text
    documents: list[Any] = [text] if isinstance(text, bytes | str) else list(text)
    for document in documents:
        if not isinstance(document, bytes):
            kind = type(document).__name__
            raise ValueError(
                f"{name} is made of {kind}; allowed: bytes, a list of bytes, uint8 [n]"
            )
    return np.frombuffer(b"".join(documents), np.uint8)


def _append(codes: np.ndarray, text: np.ndarray, order: int) -> np.ndarray:
    """Append its next byte to every n-gram of a text; the last n-gram has none and goes."""
    following = text[order - 1 :]
    return (codes[: len(following)] << np.uint64(8)) | following


def _witten_bell(grams: np.ndarray, counts: np.ndarray) -> Level:
    contexts, starts = np.unique(grams >> np.uint64(8), return_index=True)
    kept = counts.astype(np.float64)
    mass = np.diff(starts, append=len(grams)).astype(np.float64)
    return Level(grams, kept, contexts, mass, _sums(kept, starts) + mass)


def _kneser_ney(grams: np.ndarray, counts: np.ndarray) -> Level:
    contexts, starts = np.unique(grams >> np.uint64(8), return_index=True)
    taken = _discounts(counts)[np.minimum(counts, 3) - 1]
    return Level(grams, counts - taken, contexts, _sums(taken, starts), _sums(counts, starts))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Return what is taken off a count of 1, of 2, of 3 and more: Chen and Goodman's estimates.

    Where they have none, as in very little text or among so few n-grams as the single bytes are,
    the three are ``FALLBACK``.
    """
    n1, n2, n3, n4 = ((counts == value).sum() for value in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return np.array(FALLBACK)
    y = n1 / (n1 + 2 * n2)
    found = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return found if (found > 0).all() else np.array(FALLBACK)  # each is below its count anyway


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sum of each run of values, as float64."""
    return np.add.reduceat(values, starts, dtype=np.float64) if len(starts) else np.zeros(0)


def _interpolate(level: Level, codes: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Return the probabilities [n] of a text's bytes one order up.

    Args:
      level: of the n-grams of this order.
      codes: those of the text; the first bytes end none, so theirs stay as they are.
      lower: [n], the probabilities one order down.
    """
    gram, is_gram = _find(level.grams, codes)
    context, is_context = _find(level.contexts, codes >> np.uint64(8))
    gram, context = gram[is_gram], context[is_context]
    kept = np.zeros(len(codes))
    kept[is_gram] = level.kept[gram]
    probabilities = lower.copy()
    ends = np.flatnonzero(is_context) + len(lower) - len(codes)
    mixed = kept[is_context] + level.mass[context] * lower[ends]
    probabilities[ends] = mixed / level.total[context]
    return probabilities


def _find(codes: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (the place of each one asked for among sorted codes, whether it is there)."""
    if not len(codes):
        return np.zeros(len(asked), np.int64), np.zeros(len(asked), bool)
    place = np.minimum(np.searchsorted(codes, asked), len(codes) - 1)
    return place, codes[place] == asked
