"""Texts that come in pieces, as bytes: where they stop, and which characters can be shown."""

import codecs
from collections.abc import Iterable, Iterator, Sequence


def until(pieces: Iterable[Sequence[bytes]], stop: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Cut texts that come in pieces before the first occurrence of any stop string.

    Bytes that may be the beginning of one are held back until the next piece, or the end, tells.
    The source is not asked for more once every text has ended.

    Args:
      pieces: the next bytes of each text, of as many texts every time.
      stop: strings, none of them empty; none at all: nothing is cut.
    Returns:
      What can be shown of each text; b"" of one that has ended.
    Raises:
      ValueError: an empty stop string, or something else than bytes; one line, at once.
    """
    if isinstance(stop, bytes | str) or not all(isinstance(s, bytes) and s for s in stop):
        raise ValueError(f"stop is {stop!r}; allowed: a list of bytes, none of them empty")

    def cut():
        held: list[bytes | None] = []  # None: the text has ended
        for piece in pieces:
            held = held or [b""] * len(piece)
            pairs = [_cut(text, more, stop) for text, more in zip(held, piece, strict=True)]
            held = [rest for _, rest in pairs]
            yield tuple(shown for shown, _ in pairs)
            if held and all(rest is None for rest in held):
                return
        if any(held):
            yield tuple(_before(rest or b"", stop) for rest in held)

    return cut()


def _cut(held: bytes | None, more: bytes, stop: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    """Part a text into what can be shown and what is held back, None after a stop string."""
    if held is None:
        return b"", None
    text, longest = held + more, max(map(len, stop), default=0)
    for place in range(len(text) if stop else 0):
        if any(text.startswith(s, place) for s in stop):
            return text[:place], None
        # an earlier beginning goes before a later string that is whole: chunks change nothing
        if len(text) - place < longest and any(s.startswith(text[place:]) for s in stop):
            return text[:place], text[place:]
    return text, b""


def _before(text: bytes, stop: Sequence[bytes]) -> bytes:
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def decode(pieces: Iterable[Sequence[bytes]]) -> Iterator[tuple[str, ...]]:
    """Decode texts of UTF-8 that come in pieces; a character comes when its last byte does.

    What is no UTF-8 becomes U+FFFD.
    """
    decoders = []
    for piece in pieces:
        decoders = decoders or [codecs.getincrementaldecoder("utf-8")("replace") for _ in piece]
        yield tuple(d.decode(more) for d, more in zip(decoders, piece, strict=True))
    rest = tuple(d.decode(b"", final=True) for d in decoders)
    if any(rest):
        yield rest
