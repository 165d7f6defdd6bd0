"""Score a text: the bits of every token, -log2 P(token | those before it), in colours.

python -m experiments.language_modelling score RUN FILE; without FILE: --text, or standard input.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments.command import set_hint
from experiments.language_modelling.colours import Page, Part, coloured, legend, page, shown
from experiments.language_modelling.reading import (
    Reading,
    parts_of,
    read_bytes,
    read_text,
    report_unread,
    write_any_letter,
)
from experiments.language_modelling.trained import Trained, open_trained
from rnn_jax import config as configs
from rnn_jax.files import write_text
from rnn_jax.training import token_bits

MOST = 10  # surprising tokens
BITS_HEAD = ("line", "byte", "token", "bits", "text")  # byte: where it begins, from 0
BEFORE = 24  # characters that are shown of what stands before such a token


@dataclass(frozen=True)
class Arguments:
    """Score a text: the bits of every token; at a terminal the text in colours.

    Elsewhere, and with NO_COLOR: what it comes to and the most surprising tokens, by tabs.
    """

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory, finished or not"""
    file: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="FILE")]] = None
    """the text, one document; none or -: --text, else standard input"""
    text: str | None = None
    """the text itself"""
    html: Path | None = None
    """writes a page of the text in colours that needs no network: point at a token to read it"""
    bits: Path | None = None
    """writes a row a token, by tabs: line, first byte, index, bits, what it stands for"""
    model: str | None = None
    """a cell (lstm) or a training; None: the best on the validation split"""

    def __post_init__(self):
        if self.file is not None and self.text is not None:
            raise ValueError("FILE and --text are given; allowed: one of them")
        written = [path.resolve() for path in (self.html, self.bits) if path is not None]
        if len(set(written)) < len(written):
            raise ValueError(f"--html and --bits are both {self.html}; allowed: two files")
        if self.file is not None and self.file.resolve() in written:
            raise ValueError(f"{self.file} would be written over; allowed: another file")


class Totals(NamedTuple):
    """What the bits of a text come to."""

    tokens: int
    num_bytes: int
    bits: float

    @property
    def bits_per_byte(self) -> float:
        return self.bits / self.num_bytes

    @property
    def perplexity(self) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp2(self.bits / self.tokens))

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("tokens", str(self.tokens)),
            ("bytes", str(self.num_bytes)),
            ("bits", f"{self.bits:.3f}"),
            ("bits per byte", f"{self.bits_per_byte:.4f}"),
            ("perplexity", f"{self.perplexity:.4g}"),
        ]


def main(argv: list[str]) -> None:
    """Run the command line."""
    prog = "python -m experiments.language_modelling score"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    set_hint("nothing is kept of a score but whole files")
    try:
        name, data = read_given(arguments)
        trained = open_trained(arguments.run, arguments.model)
        reading = read_text(trained.encoding, data)
        if not len(reading.tokens):
            what = f"0 {trained.encoding.kind} tokens" if data else "0 bytes"
            raise ValueError(f"{name} has {what}; allowed: a text of one token or more")
        bits = token_bits(trained.model, trained.params, reading.tokens)
    except ValueError as error:
        configs.leave(str(error), code=1)
    print(f"by {trained.name}, {trained.encoding.kind} tokens", file=sys.stderr)
    report_unread(reading, name)
    totals = Totals(len(bits), reading.num_bytes, float(bits.sum()))
    rows = surprising_rows(reading, bits)
    console = Console(highlight=False, markup=False, emoji=False)
    has_colours = console.is_terminal and not console.no_color and bool(console.color_system)
    parts = parts_of(reading, bits) if arguments.html or has_colours else []
    write_any_letter()
    if has_colours:
        console.print(coloured(parts), soft_wrap=True)
        console.print(legend(), soft_wrap=True)
        for table in (totals.rows(), rows):
            console.print()
            console.print(_aligned(table))
    else:
        print("\n".join("\t".join(row) for row in (*totals.rows(), (), *rows)))
    sys.stdout.flush()
    if arguments.bits is not None:
        write(arguments.bits, bits_table(reading, bits))
    if arguments.html is not None:
        write(arguments.html, html_page(name, trained, totals, parts, rows))


def write(path: Path, text: str) -> None:
    """Write a file and say so; leave with one line if it cannot be written."""
    try:
        write_text(path, text)
    except (OSError, ValueError) as error:  # ValueError: a path that has no name
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        configs.leave(f"{path}: {reason}; allowed: a file that can be written", code=1)
    print(f"written: {path}", file=sys.stderr)


def read_given(arguments: Arguments) -> tuple[str, bytes]:
    """Read the text: (its name, its bytes)."""
    if arguments.text is not None:
        return "--text", os.fsencode(arguments.text)
    data = read_bytes(arguments.file)
    if arguments.file in (None, Path("-")):
        return "standard input", data
    return os.fsencode(arguments.file).decode("utf-8", "replace"), data


def surprising_rows(reading: Reading, bits: np.ndarray) -> list[list[str]]:
    """The most surprising tokens, most bits first; a head, then line, bits, token, text before."""
    rows = [["line", "bits", "token", "after"]]
    for i in np.argsort(-bits, kind="stable")[:MOST]:
        start, _ = reading.places[i]
        before = reading.data[max(0, start - 4 * BEFORE) : start].rpartition(b"\n")[2]
        after = shown(before)[-BEFORE:]
        rows.append([str(reading.line(i)), f"{bits[i]:.2f}", shown(reading.piece(i)), after])
    return rows


def bits_table(reading: Reading, bits: np.ndarray) -> str:
    """A line a token, by tabs; the bits to the last digit."""
    rows: list[str] = ["\t".join(BITS_HEAD)]
    line, end = 1, 0
    for place, token, its_bits in zip(
        reading.places.tolist(), reading.tokens.tolist(), bits.tolist(), strict=True
    ):
        start, stop = place
        line, end = line + reading.data.count(b"\n", end, start), start
        rows.append(f"{line}\t{start}\t{token}\t{its_bits!r}\t{shown(reading.data[start:stop])}")
    return "\n".join(rows) + "\n"


def html_page(
    name: str, trained: Trained, totals: Totals, parts: list[Part], rows: list[list[str]]
) -> str:
    facts = [
        ("model", trained.name),
        ("learned from", trained.source),
        ("encoding", trained.encoding.kind),
        *totals.rows(),
    ]
    title = f"Bits of {name}, by {trained.name}"
    return page(parts, Page(title, facts, "The most surprising tokens", rows))


def _aligned(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table
