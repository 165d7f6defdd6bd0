"""Evaluate a model of a run on the run's held-out text, or on another corpus.

python -m experiments.language_modelling evaluate RUN --data FOLDER
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from experiments.command import set_hint
from experiments.language_modelling.trained import Trained, open_trained
from rnn_jax import config as configs
from rnn_jax.data import Documents, TokenStream, load_corpus_tokens, load_documents
from rnn_jax.training import Sums, evaluate_stream


@dataclass(frozen=True)
class Arguments:
    """Evaluate a model on a text that is read from its first token to its last.

    Prints a line a number, by tabs.
    """

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory, finished or not"""
    data: str | None = None
    """a corpus, as the run's own --data; None: the run's own"""
    data_dir: str | None = None
    """folder of TFDS data sets; None: its own default, the run's own for the run's own data"""
    text_column: str | None = None
    """of a TFDS data set; None: as the run's own"""
    split: Literal["train", "validation", "test"] = "test"
    """which part of it"""
    batch_size: int = 16
    """rows that are read at once: changes the time, not the result"""
    model: str | None = None
    """a cell (lstm) or a training; None: the best on the validation split"""

    def __post_init__(self):
        if not 1 <= self.batch_size < 2**31:
            raise ValueError(f"batch_size is {self.batch_size}; allowed: 1 to {2**31 - 1}")


def main(argv: list[str]) -> None:
    """Run the command line."""
    prog = "python -m experiments.language_modelling evaluate"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    set_hint("nothing is kept of an evaluation")
    try:
        trained = open_trained(arguments.run, arguments.model)
        documents = load_corpus(trained, arguments)
        stream = load_corpus_tokens(documents, trained.encoding)[arguments.split]
        sums = evaluate_stream(
            trained.model,
            trained.params,
            stream,
            batch_size=min(arguments.batch_size, len(stream.tokens)),
            reset_documents=trained.config.reset_documents,
        )
    except ValueError as error:
        configs.leave(str(error), code=1)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        configs.leave(str(error).splitlines()[0] if str(error) else "out of memory", code=1)
    print(f"by {trained.name}, {trained.encoding.kind} tokens", file=sys.stderr)
    print(f"{arguments.split} of {documents.source}", file=sys.stderr)
    if arguments.data is None and documents.source != trained.source:
        print(f"not the same: the run read {trained.source}", file=sys.stderr)
    rows = [
        ("model", trained.name),
        ("data", documents.name),
        ("split", arguments.split),
        *numbers(trained, stream, sums),
    ]
    print("\n".join(f"{name}\t{value}" for name, value in rows))


def load_corpus(trained: Trained, arguments: Arguments) -> Documents:
    """Read the corpus that is asked for, by default the run's own."""
    config = trained.config
    is_own = arguments.data is None
    return load_documents(
        config.data if arguments.data is None else arguments.data,
        data_dir=arguments.data_dir or (config.data_dir if is_own else None),
        text_column=arguments.text_column or config.text_column,
    )


def numbers(trained: Trained, stream: TokenStream, sums: Sums) -> list[tuple[str, str]]:
    """What the sums over a text come to."""
    nats = float(sums.loss) / len(stream.tokens)
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(nats))
    rows = [
        ("documents", str(len(stream.starts) - 1)),
        ("bytes", str(stream.num_bytes)),
        ("tokens", str(len(stream.tokens))),
    ]
    if not trained.encoding.is_lossless:
        rows.append(("unknown_tokens", str(int(np.count_nonzero(stream.tokens == 0)))))
    return [
        *rows,
        ("nats_per_token", f"{nats:.6f}"),
        ("bits_per_byte", f"{float(sums.loss) / math.log(2) / stream.num_bytes:.6f}"),
        ("perplexity", f"{perplexity:.6g}"),
        ("accuracy", f"{float(sums.correct) / len(stream.tokens):.6f}"),
    ]
