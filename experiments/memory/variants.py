"""Variants: a cell and how it begins, written in words, as "lstm chrono" or "elman relu identity".

The first word is the cell. Then, in any order, an activation (Elman, IndRNN, leaky RNN), the law of
the recurrent matrix, ``bias=5`` of the gate that keeps the state (GRU: update), or ``chrono``: that
bias drawn for time scales up to the length of the task. What is not said is the cell's own.
"""

import math
from typing import Any, NamedTuple

from rnn_jax.cells import CELLS, Cell, initializers
from rnn_jax.cells.base import memory_bias_keyword
from rnn_jax.cells.elman import ACTIVATIONS

MATRICES = {
    "orthogonal": initializers.orthogonal,
    "gaussian": initializers.gaussian,
    "identity": initializers.identity,
    "uniform": initializers.uniform,
}
ACTIVATION_WORDS = {name: name for name in ACTIVATIONS if name not in MATRICES}
ACTIVATION_WORDS["linear"] = "identity"  # which as a word is the matrix


class Variant(NamedTuple):
    cell: Cell
    init: dict[str, Any]  # keywords of the cell's init


def read_variant(text: str, hidden_size: int, length: int) -> Variant:
    """Make the cell of a variant, and the keywords of its init; ValueError of one line."""
    name, *words = text.split() or [""]
    if name not in CELLS:
        raise ValueError(f"variant {text!r} has the cell {name!r}; allowed: {', '.join(CELLS)}")
    settings: dict[str, Any] = {}
    init: dict[str, Any] = {}
    for word in words:
        target, key, value = _read_word(text, name, word, length)
        if key in (settings if target == "cell" else init):
            raise ValueError(f"variant {text!r} says {key} twice; allowed: once")
        (settings if target == "cell" else init)[key] = value
    return Variant(CELLS[name](hidden_size, **settings), init)


def _read_word(text: str, name: str, word: str, length: int) -> tuple[str, str, Any]:
    """Say what a word sets: of the cell or of its init, by keyword, to which value."""
    cell = CELLS[name](1)
    bias_keyword, has_activation = memory_bias_keyword(cell), "activation" in dict(cell.arguments)
    if word in MATRICES:
        return "init", "recurrent_init", MATRICES[word]()
    if has_activation and word in ACTIVATION_WORDS:
        return "cell", "activation", ACTIVATION_WORDS[word]
    if bias_keyword and word == "chrono":
        return "init", bias_keyword, initializers.chrono(max(length, 3))
    if bias_keyword and word.startswith("bias="):
        return "init", bias_keyword, _number(text, word)
    allowed = [*MATRICES]
    allowed += ["bias=number", "chrono"] if bias_keyword else []
    allowed += ACTIVATION_WORDS if has_activation else []
    raise ValueError(f"variant {text!r} says {word!r}; allowed for {name}: {', '.join(allowed)}")


def number_of(word: str) -> float:
    """Read the number of a word such as "bias=5"; nan where there is none."""
    try:
        return float(word.partition("=")[2])
    except ValueError:
        return math.nan


def _number(text: str, word: str) -> float:
    value = number_of(word)
    if not math.isfinite(value):
        raise ValueError(f"variant {text!r} says {word!r}; allowed: bias= and a finite number")
    return value
