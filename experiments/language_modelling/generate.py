"""Write a text: what a model of a run goes on with after a prompt.

python -m experiments.language_modelling generate RUN --prompt "def "
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from experiments.command import set_hint
from experiments.language_modelling.colours import SAFE
from experiments.language_modelling.reading import (
    read_bytes,
    read_text,
    report_unread,
    write_any_letter,
)
from experiments.language_modelling.trained import Trained, open_trained
from rnn_jax import config as configs
from rnn_jax import generation
from rnn_jax.data.encoding import Encoding
from rnn_jax.generation import Sampling, check_sampling
from rnn_jax.models.language_model import check_model_reads

CHUNK = 32  # tokens that are shown at once
BETWEEN = "\n----------\n"  # samples


@dataclass(frozen=True)
class Arguments:
    """Write a text after a prompt, as it comes; standard output holds nothing else."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory, finished or not"""
    prompt: str = ""
    """what to go on from (--prompt="--x" where it begins with a dash); empty: the beginning of a
    document"""
    prompt_file: Path | None = None
    """a file that holds it; -: standard input"""
    num_tokens: int = 1000
    """to write, at most"""
    temperature: float = 0.8
    """1: as the model predicts; below, safer; 0: always the most probable token"""
    top_k: int | None = None
    """draw from the so many most probable tokens only"""
    top_p: float = 1.0
    """draw from the fewest most probable tokens that have this probability together"""
    num_samples: int = 1
    """texts; several are shown once all are written"""
    stop: tuple[str, ...] = ()
    """a text ends before the first of these strings"""
    seed: int = 0
    """the same seed, the same text"""
    model: str | None = None
    """a cell (lstm) or a training; None: the best on the validation split"""

    def __post_init__(self):
        if self.prompt and self.prompt_file is not None:
            raise ValueError("--prompt and --prompt-file are given; allowed: one of them")
        check_sampling(self.sampling)
        limits = {"num_tokens": (0, 2**31 - 1), "num_samples": (1, 10_000), "seed": (0, 2**32 - 1)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: {least} to {most}")
        if "" in self.stop:
            raise ValueError("stop holds an empty string; allowed: one character or more")

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p)


Mark = tuple[float, int]  # seconds, and how many tokens were there then


def main(argv: list[str]) -> None:
    """Run the command line."""
    prog = "python -m experiments.language_modelling generate"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    set_hint("what was written stands")
    try:
        prompt = os.fsencode(arguments.prompt)
        if arguments.prompt_file is not None:
            prompt = read_bytes(arguments.prompt_file)
        trained = open_trained(arguments.run, arguments.model)
        check_model_reads(trained.model, trained.encoding.size)
        reading = read_text(trained.encoding, prompt)
    except ValueError as error:
        configs.leave(str(error), code=1)
    print(
        f"by {trained.name}, {trained.encoding.kind} tokens, seed {arguments.seed}", file=sys.stderr
    )
    report_unread(reading, "the prompt")
    write_any_letter()
    marks, shown = [(time.perf_counter(), 0)], reading.data.decode("utf-8", "replace")
    with quietly_interrupted(lambda: _end(marks)):
        texts = write(trained, reading.tokens, arguments, marks)
        if arguments.num_samples == 1:
            _put(shown)
            for (text,) in texts:
                _put(text)
        else:
            pieces = [[shown] * arguments.num_samples, *texts]
            _put(BETWEEN.join(map("".join, zip(*pieces, strict=True))))
    _end(marks)


def write(
    trained: Trained, prompt: np.ndarray, arguments: Arguments, marks: list[Mark]
) -> Iterator[tuple[str, ...]]:
    """Write the texts, piece by piece, whole characters of each; ``marks`` grows with them."""
    chunks = generation.stream(
        trained.model,
        trained.params,
        prompt,
        arguments.num_tokens,
        jax.random.key(arguments.seed),
        arguments.sampling,
        num_samples=arguments.num_samples,
        chunk=CHUNK,
    )
    pieces = pieces_of(trained.encoding, chunks, marks, begins=not len(prompt))
    stop = [os.fsencode(text) for text in arguments.stop]
    return generation.decode(generation.until(pieces, stop))


def pieces_of(
    encoding: Encoding, chunks: Iterator[np.ndarray], marks: list[Mark], begins: bool
) -> Iterator[list[bytes]]:
    """Turn tokens [num_samples, c] into bytes; a word follows a space but where a text begins."""
    for tokens in chunks:
        marks.append((time.perf_counter(), marks[-1][1] + tokens.shape[1]))
        joint = b" " if encoding.kind == "word" and not begins else b""
        yield [joint + encoding.decode_bytes(row) for row in tokens]
        begins = False


@contextlib.contextmanager
def quietly_interrupted(end: Callable[[], None]) -> Generator[None]:
    """Have ctrl-C end the process here, after ``end()``, without another word."""

    def stop(number, _):
        signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(Exception):
            end()
        os._exit(128 + number)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _put(text: str) -> None:
    """Show a piece at once; a terminal is spared control characters."""
    sys.stdout.write(text.translate(SAFE) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _end(marks: list[Mark]) -> None:
    if sys.stdout.isatty():
        _put("\n")
    print(time_taken(marks), file=sys.stderr, flush=True)


def time_taken(marks: list[Mark]) -> str:
    """Say how many tokens were written, and what they took after the first, which compile."""
    (begin, _), *later = marks
    if not later:
        return "0 tokens"
    (first, num_first), (last, num_tokens) = later[0], later[-1]
    words = [f"{num_tokens} tokens"]
    words.append(f"prompt, compilation and the first {num_first}: {first - begin:.2f} s")
    if num_tokens > num_first:
        rest, seconds = num_tokens - num_first, last - first
        words.append(f"the other {rest}: {seconds:.2f} s, {1000 * seconds / rest:.2f} ms a token")
    return "; ".join(words)
