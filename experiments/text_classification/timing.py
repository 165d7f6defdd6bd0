"""Config -> times of a training step, by network and text length; apart from what is learned.

The networks take turns, so that whatever else the machine does meets all alike; compiling is apart.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.text_classification.config import Config
from experiments.text_classification.corpus import Corpus, load_corpus
from experiments.text_classification.layout import num_steps
from experiments.text_classification.networks import build_model
from rnn_jax.data import Batch
from rnn_jax.results import processor_name
from rnn_jax.sweep import wait
from rnn_jax.training import classification, init_state, make_optimizer, make_train_step

LEAST_SECONDS = 0.05  # of a turn: a short step is repeated
VARIES = "from one measurement to the next"


def num_turns(config: Config) -> int:
    """Count the steps of the progress bar."""
    return len(config.networks) * len(config.timing_lengths) * (1 + config.timing_rounds)


def measure(config: Config, on_step: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Time a training step of B full texts at each length."""
    corpus = load_corpus(config)
    points = [(model, length) for length in config.timing_lengths for model in config.networks]
    seconds = np.full(
        (len(config.networks), len(config.timing_lengths), config.timing_rounds), np.nan
    )
    turns, repeats = {}, {}
    with jax.default_matmul_precision(config.precision):
        for model, length in points:
            turns[model, length] = _turn(config, corpus, model, length)
            turns[model, length](1)  # compiles
            once = turns[model, length](2)
            repeats[model, length] = max(1, round(LEAST_SECONDS / once))
            on_step()
        for turn in range(config.timing_rounds):
            for model, length in points:
                found = turns[model, length](repeats[model, length])
                place = config.networks.index(model), config.timing_lengths.index(length), turn
                seconds[place] = found
                on_step()
    if not points:
        return xr.Dataset()
    device, backend = jax.devices()[0], jax.default_backend()
    attributes = {
        "long_name": "time of a training step of B texts",
        "units": "s",
        "varies": VARIES,
        "device": processor_name() if backend == "cpu" else device.device_kind,
        "backend": backend,
        "batch_size": config.batch_size,
    }
    return xr.Dataset(
        {"step_seconds": (("timed_model", "text_length", "turn"), seconds, attributes)},
        {
            "timed_model": ("timed_model", np.array(config.networks, object)),
            "text_length": ("text_length", np.array(config.timing_lengths)),
        },
    )


def _turn(config: Config, corpus: Corpus, model: str, length: int) -> Callable[[int], float]:
    """Make what runs a number of steps and returns seconds a step."""
    task = classification(build_model(config, model, corpus.reader))
    optimizer: Any = make_optimizer(config.optimizer, num_steps(config, corpus))
    step = make_train_step(task, optimizer, config.patience)
    key = jax.random.key(config.seed)
    draw = np.random.default_rng(config.seed)
    shape = (config.batch_size, length)
    batch = Batch(
        draw.integers(0, corpus.reader.encoding.size, shape).astype(np.int32),
        np.full(config.batch_size, length, np.int32),
        draw.integers(0, len(corpus.reader.class_names), config.batch_size).astype(np.int32),
        np.ones(config.batch_size, np.float32),
    )
    batch = jax.tree.map(jax.numpy.asarray, batch)
    state = init_state(task, optimizer, key, 1e-6)

    def run(times: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(times):
            state = step(state, batch, key)
        wait(state.step, longest=1e-3)
        return (time.perf_counter() - started) / times

    return run
