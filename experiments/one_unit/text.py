"""The task: does a line of Python begin with `if` or with `elif`? Read word by word, then asked.

Both words are followed by the same thing, a condition and a colon, so that the first word alone
decides: whoever has forgotten it at the end of the line can only guess. Lines in which either word
occurs a second time are left out.
"""

import functools
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from experiments.one_unit.config import Config
from rnn_jax.data.stdlib_source import stdlib_source
from rnn_jax.types import Array

WORD = re.compile(r"\w+|[^\w\s]")
OTHER = "…"  # every word that is not in the alphabet; symbol 0


class Lines(NamedTuple):
    symbols: (
        Array | np.ndarray
    )  # [T, B] int32, time-major; 0 past a line's end, where nothing reads it
    lengths: Array | np.ndarray  # [B] int32
    labels: Array | np.ndarray  # [B], 0: the line begins with words[0], 1: with words[1]


class Task(NamedTuple):
    alphabet: tuple[str, ...]  # symbol k is the word alphabet[k]
    train: Lines
    held_out: Lines
    source: str


@functools.cache
def make_task(config: Config) -> Task:
    """Read the lines, number their words, deal them out to two splits that share none.

    Lines are compared as the network reads them (rare words are one symbol) and without their
    first word: no condition of the held-out split occurs in the training split, under either word.
    """
    corpus = stdlib_source()
    lines = find_lines(corpus.text.tobytes().decode("utf-8", "replace"), config)
    alphabet = make_alphabet(lines, config)
    read = {tuple(encode(line, alphabet)) for line in lines}
    conditions = sorted({line[1:] for line in read})
    order = np.random.default_rng(config.seed).permutation(len(conditions))
    num_held_out = round(config.held_out_fraction * len(conditions))
    groups = order[num_held_out:], order[:num_held_out]
    splits = [_balanced([conditions[i] for i in group], read, alphabet, config) for group in groups]
    return Task(alphabet, *splits, corpus.source)


def split_words(line: str) -> tuple[str, ...]:
    """Split a line: runs of letters, digits and _ are words, every other sign is one by itself."""
    return tuple(WORD.findall(line))


def find_lines(text: str, config: Config) -> list[tuple[str, ...]]:
    """Find the lines that begin with one of the two words, hold neither again, and end with ':'."""
    found = []
    for match in re.finditer(rf"^[ \t]*((?:{'|'.join(config.words)})\b.*:)[ \t]*$", text, re.M):
        line = split_words(match[1])
        has_fitting_length = config.min_length <= len(line) <= config.max_length
        if has_fitting_length and not set(config.words) & set(line[1:]):
            found.append(line)
    return found


def make_alphabet(lines: list[tuple[str, ...]], config: Config) -> tuple[str, ...]:
    """Number the words: 0 is any rare word, then the two that decide, then the most frequent."""
    counts = Counter(word for line in set(lines) for word in line[1:])
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    return (OTHER, *config.words, *frequent)[: config.alphabet_size]


def encode(line: tuple[str, ...], alphabet: tuple[str, ...]) -> list[int]:
    """Turn words into symbols."""
    number = {word: symbol for symbol, word in enumerate(alphabet)}
    return [number.get(word, 0) for word in line]


def _balanced(conditions, read, alphabet, config) -> Lines:
    """Take equally many lines of both classes, in the order of the conditions."""
    first = encode(config.words, alphabet)
    classes = [[(s, *c) for c in conditions if (s, *c) in read] for s in first]
    size = min(config.lines_per_class, *map(len, classes))
    for word, lines in zip(config.words, classes, strict=True):
        if not lines:
            raise ValueError(
                f"words holds {word!r}; allowed: words that begin enough lines with ':'"
            )
    lines = classes[0][:size] + classes[1][:size]
    symbols = np.zeros((config.max_length, len(lines)), np.int32)
    for column, line in enumerate(lines):
        symbols[: len(line), column] = line
    lengths = np.array([len(line) for line in lines], np.int32)
    return Lines(symbols, lengths, np.repeat([0, 1], size))


def hide_first_word(task: Task) -> Task:
    """Make the control: the same lines, their first word read as any rare word."""

    def hide(lines: Lines) -> Lines:
        symbols = np.array(lines.symbols)
        symbols[0] = 0
        return lines._replace(symbols=symbols)

    return task._replace(train=hide(task.train), held_out=hide(task.held_out))


def passage(task: Task, length: int) -> np.ndarray:
    """Make a long text: held-out lines one after another, the two classes in turn, cut there."""
    lines = task.held_out
    columns = np.arange(len(lines.labels)).reshape(2, -1).T.ravel()
    words = np.concatenate([lines.symbols[: lines.lengths[i], i] for i in columns])
    return np.resize(words, length)  # begins again where it is too short
