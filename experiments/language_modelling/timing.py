"""Config -> times of a training step of every network; apart from what is learned."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.language_modelling.config import Config, Point
from experiments.language_modelling.corpus import load_corpus
from experiments.language_modelling.networks import build_model
from experiments.trained.step_times import Runner, take_turns, time_attributes, training_steps
from rnn_jax.data import make_windows
from rnn_jax.training import language_modelling, make_optimizer


def timed_points(config: Config) -> list[Point]:
    """List the networks whose steps differ: the first point of each cell and window."""
    found: dict[tuple, Point] = {}
    for point in config.points:
        if point.kind == "network":
            found.setdefault((point.cell, point.window), point)
    return list(found.values()) if config.timing_rounds else []


def num_turns(config: Config) -> int:
    """Count the steps of the progress bar."""
    return len(timed_points(config)) * (1 + config.timing_rounds)


def measure(config: Config, on_step: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Time a training step of every network."""
    points = timed_points(config)
    if not points:
        return xr.Dataset()
    with jax.default_matmul_precision(config.precision):
        runners = {point.name: _runner(config, point) for point in points}
        seconds = take_turns(runners, config.timing_rounds, on_step)
    attributes = {
        "long_name": "time of a training step",
        "batch_tokens": config.batch_tokens,
        **time_attributes(),
    }
    return xr.Dataset(
        {"step_seconds": (("timed", "turn"), seconds, attributes)},
        {"timed": ("timed", np.array(list(runners), object))},
    )


def _runner(config: Config, point: Point) -> Runner:
    corpus = load_corpus(config)
    size = corpus.reader.encoding.size
    batch_size = config.rows_of(point)
    windows = make_windows(corpus.streams["train"], size, batch_size, point.window)
    model: Any = build_model(config, point.cell, size)
    task = language_modelling(model, batch_size)
    optimizer: Any = make_optimizer(config.optimizer_of(point), point.num_steps)
    return training_steps(task, optimizer, config.patience, windows.epoch(0, 0)[0], config.seed)
