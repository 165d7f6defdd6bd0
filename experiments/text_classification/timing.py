"""Config -> times of a training step, by network and text length; apart from what is learned."""

from collections.abc import Callable

import jax
import numpy as np
import xarray as xr

from experiments.text_classification.config import Config
from experiments.text_classification.corpus import Corpus, load_corpus
from experiments.text_classification.layout import num_steps
from experiments.text_classification.networks import build_model
from experiments.trained.step_times import Runner, take_turns, time_attributes, training_steps
from rnn_jax.data import Batch
from rnn_jax.training import classification, make_optimizer


def num_turns(config: Config) -> int:
    """Count the steps of the progress bar."""
    return len(config.networks) * len(config.timing_lengths) * (1 + config.timing_rounds)


def measure(config: Config, on_step: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Time a training step of B full texts at each length."""
    corpus = load_corpus(config)
    points = [(model, length) for length in config.timing_lengths for model in config.networks]
    if not points:
        return xr.Dataset()
    with jax.default_matmul_precision(config.precision):
        runners = {point: _runner(config, corpus, *point) for point in points}
        seconds = take_turns(runners, config.timing_rounds, on_step)
    lengths, networks = config.timing_lengths, config.networks
    seconds = np.swapaxes(seconds.reshape(len(lengths), len(networks), -1), 0, 1)
    attributes = {
        "long_name": "time of a training step of B texts",
        "batch_size": config.batch_size,
        **time_attributes(),
    }
    return xr.Dataset(
        {"step_seconds": (("timed_model", "text_length", "turn"), seconds, attributes)},
        {
            "timed_model": ("timed_model", np.array(networks, object)),
            "text_length": ("text_length", np.array(lengths)),
        },
    )


def _runner(config: Config, corpus: Corpus, model: str, length: int) -> Runner:
    """Make what runs a number of steps."""
    draw = np.random.default_rng(config.seed)
    shape = (config.batch_size, length)
    batch = Batch(
        draw.integers(0, corpus.reader.encoding.size, shape).astype(np.int32),
        np.full(config.batch_size, length, np.int32),
        draw.integers(0, len(corpus.reader.class_names), config.batch_size).astype(np.int32),
        np.ones(config.batch_size, np.float32),
    )
    task = classification(build_model(config, model, corpus.reader))
    optimizer = make_optimizer(config.optimizer, num_steps(config, corpus))
    return training_steps(task, optimizer, config.patience, batch, config.seed)
