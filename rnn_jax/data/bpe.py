"""Byte-level byte pair encoding (Sennrich et al. 2016; Radford et al. 2019), by ``tokenizers``.

Tokens 0 to 255 are the bytes. Token 256 + k stands for merge k: two tokens side by side that become
one. A text is first parted into words by GPT-2's rule, a space with the word it precedes, and no
merge reaches over their borders. In a merge, bytes are written in GPT-2's alphabet, a printable
character for each: "\u0120 t" joins a space and a t.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

CHUNK = 1 << 16  # characters given to ``tokenizers`` at once, whose memory goes with them
BORDER = re.compile(r"(?<=\S)[ \n]")  # a word ends here, whatever follows


def train_merges(texts: Iterable[str], vocabulary_size: int, min_count: int) -> tuple[str, ...]:
    """Merge the pair that occurs most often, again and again; the same texts, the same merges.

    Args:
      texts: those of the training split.
      vocabulary_size: V, the 256 bytes included.
      min_count: a pair that occurs less often is not merged.
    Returns:
      at most V - 256 merges, in their order.
    Raises:
      ValueError: one line, if ``tokenizers`` is not installed.
    """
    tokenizers = _import_tokenizers()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_count,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = _by_words(tokenizers, tokenizers.models.BPE())
    tokenizer.train_from_iterator((chunk for text in texts for chunk in _chunks(text)), trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    made: dict[str, str] = {}  # a second way to the same token is no token of its own
    for left, right in merges:
        made.setdefault(left + right, f"{left} {right}")
    return tuple(made.values())


def make_pieces(merges: Sequence[str]) -> tuple[bytes, ...]:
    """Return the bytes of every token, [V].

    Raises:
      ValueError: one line, if a merge joins what is not there, or makes what there is.
    """
    return tuple(_symbols(merges).values())


def make_bpe_encoder(merges: Sequence[str]) -> Callable[[str], np.ndarray]:
    """Return text -> tokens, [n] int32; half of a surrogate pair, which has no UTF-8, is U+FFFD.

    Raises:
      ValueError: one line, if ``tokenizers`` is not installed.
    """
    tokenizers = _import_tokenizers()
    index = {symbol: token for token, symbol in enumerate(_symbols(merges))}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = _by_words(tokenizers, tokenizers.models.BPE(vocab=index, merges=pairs))

    def encode(text: str) -> np.ndarray:
        parts = [tokenizer.encode(chunk).ids for chunk in _chunks(text)]
        return np.concatenate([np.zeros(0, np.int32), *(np.array(p, np.int32) for p in parts)])

    return encode


def _symbols(merges: Sequence[str]) -> dict[str, bytes]:
    """Return the tokens in their order: how they are written in merges, and their bytes."""
    found = {symbol: bytes([byte]) for byte, symbol in enumerate(_alphabet())}
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left not in found or right not in found or left + right in found:
            raise ValueError(f"a merge is {merge[:40]!r}; allowed: two tokens that make a new one")
        found[left + right] = found[left] + found[right]
    return found


def _alphabet() -> list[str]:
    """Return a character for every byte: itself where it shows, one from U+0100 on elsewhere."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(code) for code in range(0x100, 0x200))
    return [chr(byte) if byte in shown else next(others) for byte in range(256)]


def _chunks(text: str) -> Iterator[str]:
    """Cut a text at borders of words, so that the pieces give the tokens of the whole."""
    if not text.isascii():
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    start = 0
    while start < len(text):
        border = BORDER.search(text, start + CHUNK)
        stop = border.start() if border else len(text)
        yield text[start:stop]
        start = stop


def _by_words(tokenizers: Any, model: Any) -> Any:
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _import_tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ValueError(
            "the encoding is bpe, and tokenizers is not installed; allowed: byte, character, "
            'word, or pip install "rnn-jax[text]"'
        ) from None
    return tokenizers
