"""A run directory -> a trained language model, ready to be used."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import jax

from experiments import running
from experiments.language_modelling.config import Config, Point
from experiments.language_modelling.corpus import read_reader
from experiments.language_modelling.networks import build_model
from experiments.language_modelling.trainings import belongs_to, run_plan, training_name
from experiments.trained.blocks import TRAININGS
from rnn_jax.data import Encoding
from rnn_jax.files import read_rows
from rnn_jax.models import LanguageModel
from rnn_jax.training import (
    ROWS,
    best_epoch,
    checkpoints_in,
    language_modelling,
    make_optimizer,
    restore_params,
)
from rnn_jax.types import Params


class Trained(NamedTuple):
    """A training's best parameters, and what it takes to use them."""

    name: str  # of the training
    model: LanguageModel
    params: Params
    encoding: Encoding
    config: Config
    source: str  # of the corpus
    directory: Path  # of the run


def open_trained(run: Path, name: str | None = None) -> Trained:
    """Read the parameters of a run's best training; JAX is set up as its config wants.

    Args:
      run: the run directory, finished or not.
      name: a training, a point ("lstm", "lstm window 64") or a cell, of which the best by the
        validation split is taken; None: of all.
    Raises:
      ValueError: one line: nothing is trained there, or nothing by that name.
    """
    opened = running.open_run(run)
    if opened.experiment.name != "language_modelling":
        raise ValueError(f"{run} is a run of {opened.experiment.name}; allowed: of this one")
    config = cast(Config, opened.config)
    folder = opened.directory / TRAININGS
    reader = read_reader(folder)
    jax.config.update("jax_enable_x64", config.dtype == "float64")
    jax.config.update("jax_default_matmul_precision", config.precision)
    candidates = _candidates(config, name)
    found = []
    for training, point in candidates.items():
        rows, plan = read_rows(folder / training / ROWS), run_plan(config, point.num_steps)
        try:
            while best := best_epoch(rows, plan):  # its checkpoint may be in the making
                found.append((float(best["validation_loss"]), training, point, int(best["step"])))
                rows = [row for row in rows if row is not best]
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{folder / training / ROWS} has other rows than a training's"
            ) from None
    size = reader.encoding.size
    for _, training, point, step in sorted(found):
        model: Any = build_model(config, point.cell, size)
        batch_size = config.rows_of(point)
        task = language_modelling(model, batch_size)
        optimizer: Any = make_optimizer(config.optimizer_of(point), point.num_steps)
        checkpoints = checkpoints_in(folder / training, belongs_to(config, reader, training))
        params = restore_params(checkpoints, task, optimizer, step)
        if params is not None:
            source = reader.source
            return Trained(training, model, params, reader.encoding, config, source, run)
    what = f"{len(candidates)} trainings" if len(candidates) > 1 else next(iter(candidates))
    raise ValueError(f"{run} has no result of {what} yet; allowed: a run that has trained")


def _candidates(config: Config, name: str | None) -> dict[str, Point]:
    """List the trainings that go by a name."""
    every = {
        training_name(point, rate, seed): point
        for point in config.points
        if point.kind == "network"
        for rate in config.learning_rates
        for seed in range(config.num_seeds)
    }
    kept = {
        training: point
        for training, point in every.items()
        if name is None or name.lower() in (training, point.name, point.cell)
    }
    if not kept:
        points = [point.name for point in config.points if point.kind == "network"]
        raise ValueError(f"model is {name!r}; allowed: {', '.join(points)}, or a training's name")
    return kept
