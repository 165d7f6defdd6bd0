"""Classify texts with a network of a run: a line a text, the probability of every class.

python -m experiments.text_classification predict RUN "some text"; without a text: from --file, or a
line a text from standard input.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import jax
import numpy as np
import tyro

from experiments import running
from experiments.command import set_hint
from experiments.computing import Run
from experiments.text_classification.config import NETWORKS, Config
from experiments.text_classification.corpus import Reader, read_reader
from experiments.text_classification.layout import networks_of
from experiments.text_classification.networks import build_model
from experiments.text_classification.trainings import belongs_to, training_name
from experiments.trained.blocks import TRAININGS
from rnn_jax import config as configs
from rnn_jax.files import read_rows
from rnn_jax.training import (
    ROWS,
    best_epoch,
    checkpoints_in,
    classification,
    make_optimizer,
    restore_params,
)

AT_ONCE = 64  # texts


@dataclass(frozen=True)
class Arguments:
    """Classify texts with a network of a run: prints the probability of every class, by tabs."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory, finished or not"""
    texts: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT")]] = ()
    """texts; none: from --file, else from standard input"""
    file: Path | None = None
    """a file of UTF-8, a text a line"""
    model: str | None = None
    """elman, lstm, ...; None: the network with the highest validation accuracy"""

    def __post_init__(self):
        if self.model is not None and self.model not in NETWORKS:
            raise ValueError(f"model is {self.model!r}; allowed: {', '.join(NETWORKS)}")
        if self.texts and self.file:
            raise ValueError("texts and --file are given; allowed: one of them")


def main(argv: list[str]) -> None:
    """Run the command line."""
    prog = "python -m experiments.text_classification predict"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    set_hint("nothing is kept of a prediction")
    run = running.open_run(arguments.run)
    if run.experiment.name != "text_classification":
        configs.leave(f"{arguments.run} is a run of {run.experiment.name}; allowed: of this one")
    config = cast(Config, run.config)
    jax.config.update("jax_enable_x64", config.dtype == "float64")
    try:
        reader = read_reader(run.directory / TRAININGS)
        name, params = choose(run, reader, arguments.model)
        # a byte of an argument that is no UTF-8 comes as a surrogate
        given = [os.fsencode(text).decode("utf-8", "replace") for text in arguments.texts]
        texts = given or read_texts(arguments.file)
    except ValueError as error:
        configs.leave(str(error), code=1)
    print(f"by {name}; classes: {', '.join(reader.class_names)}", file=sys.stderr)
    model = build_model(config, name.split("-rate")[0], reader)
    print("\t".join([*reader.class_names, "text"]))
    for text, row in zip(texts, probabilities(config, model, params, reader, texts), strict=True):
        line = " ".join(text.splitlines()).replace("\t", " ")
        print("\t".join([*(f"{p:.4f}" for p in row), line]))


def read_texts(path: Path | None) -> list[str]:
    """Read texts, a line each, from a file or standard input; what is no UTF-8 is replaced."""
    where = "standard input" if path is None else str(path)
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}") from None
    text = data.decode("utf-8", "replace")
    if not text:
        raise ValueError(f"{where} is empty; allowed: a text a line")
    lines = text.removesuffix("\n").split("\n")
    replaced = sum("\ufffd" in line for line in lines) if b"\xef\xbf\xbd" not in data else 0
    if replaced:
        print(f"not UTF-8, bytes replaced: {replaced} of {len(lines)} texts", file=sys.stderr)
    return [line.removesuffix("\r") for line in lines]


def choose(run: Run, reader: Reader, model: str | None):
    """Find the training with the highest validation accuracy: its name, its best parameters."""
    config = cast(Config, run.config)
    folder = run.directory / TRAININGS
    found = []
    for name, rate, seed in networks_of(config):
        training = training_name(name, rate, seed)
        try:
            best = best_epoch(read_rows(folder / training / ROWS))
            if best is not None and model in (None, name):
                found.append(
                    (float(best["validation_accuracy"]), name, training, int(best["step"]))
                )
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{folder / training / ROWS} has other rows than a training's"
            ) from None
    optimizer = make_optimizer(config.optimizer, 2**31)  # the state's shapes, whatever the steps
    for _, name, training, step in sorted(found, reverse=True):
        checkpoints = checkpoints_in(
            folder / training,
            belongs_to(config, reader, training),
            warn=lambda line: print(line, file=sys.stderr),
        )
        task = classification(build_model(config, name, reader))
        params = restore_params(checkpoints, task, optimizer, step)
        if params is not None:
            return training, params
    if model not in (None, *config.networks) or not config.networks:
        asked = repr(model) if model else "network"
        raise ValueError(f"there is no {asked} in this run; allowed: {', '.join(config.networks)}")
    asked = f" of {model}" if model else ""
    raise ValueError(
        f"{folder} has no whole checkpoint{asked} of an epoch with a result; the run's own command "
        "goes on, of a finished run with --force"
    )


def probabilities(config: Config, model, params, reader: Reader, texts: list[str]) -> np.ndarray:
    """Return softmax(logits) [N, C]; of a longer text the first ``max_length`` tokens are read."""
    encoded = [reader.encoding.encode(text) for text in texts]
    too_long = sum(len(tokens) > config.max_length for tokens in encoded)
    if too_long:
        print(
            f"cut, as in training, to the first {config.max_length} {reader.encoding.kind}s: "
            f"{too_long} of {len(texts)} texts",
            file=sys.stderr,
        )

    @jax.jit
    def apply(tokens, lengths):
        return jax.nn.softmax(model.apply({"params": params}, tokens, lengths))

    rows = []
    for start in range(0, len(encoded), AT_ONCE):
        some = [tokens[: config.max_length] for tokens in encoded[start : start + AT_ONCE]]
        lengths = np.array([len(tokens) for tokens in some], np.int32)
        longest = 1 << int(max(1, lengths.max()) - 1).bit_length()  # few shapes to compile
        tokens = np.zeros((len(some), longest), np.int32)
        for row, text in enumerate(some):
            tokens[row, : len(text)] = text
        rows.append(np.asarray(apply(tokens, lengths)))
    return np.concatenate(rows)
