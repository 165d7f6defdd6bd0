"""Config -> the training of a block: what, on what, and how."""

import functools
import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.language_modelling.config import Config, Point
from experiments.language_modelling.corpus import Reader, flow_places, load_corpus
from experiments.language_modelling.networks import build_model
from experiments.sharing import placement_of
from rnn_jax.config import text_hash
from rnn_jax.data import make_windows
from rnn_jax.models import prediction_flows
from rnn_jax.training import (
    Plan,
    Sums,
    Training,
    evaluate_stream,
    language_modelling,
    make_optimizer,
)

EVALUATED_ROWS, EVALUATED_WINDOW = 32, 256  # of a batch in evaluation: they change no result
PURPOSE = zlib.crc32(b"training")  # of a key: no sample, which have keys 0, 1, ..., shares it


def training_name(point: Point, rate: float, seed: int) -> str:
    """Name the folder of a training."""
    return f"{point.cell}-window{point.window}-steps{point.num_steps}-rate{rate!r}-seed{seed}"


def belongs_to(config: Config, reader: Reader, name: str) -> str:
    """Hash what a training's checkpoints depend on."""
    what = [asdict(config), reader.source, reader.encoding.to_json(), name]
    return text_hash(json.dumps(what))


def run_plan(config: Config, num_steps: int) -> Plan:
    """Say how long a training is: as many stretches as there are validations."""
    stretch = num_steps // config.num_validations
    return Plan(
        num_epochs=config.num_validations,
        log_every=max(1, min(50, stretch)),
        probe_every=stretch if config.flow_length else 0,
        checkpoint_every=config.checkpoint_every,
        patience=config.patience,
        unit="stretch",
        score="loss",
    )


def make_training(config: Config, point: Point, rate: float, seed: int, folder: Path) -> Training:
    """Make the training of a block; ``folder`` is that of all trainings."""
    corpus = load_corpus(config)
    size = corpus.reader.encoding.size
    model: Any = build_model(config, point.cell, size)
    name = training_name(point, rate, seed)
    plan = run_plan(config, point.num_steps)
    batch_size = config.rows_of(point)
    windows = make_windows(
        corpus.streams["train"],
        size,
        batch_size,
        point.window,
        reset_documents=config.reset_documents,
        num_batches=point.num_steps // config.num_validations,
    )
    probe = None
    if config.flow_length:
        probe = functools.partial(_measure_flow, model, *flow_places(config, corpus))
    return Training(
        task=language_modelling(model, batch_size),
        optimizer=make_optimizer(config.optimizer_of(point), point.num_steps),
        learning_rate=rate,
        batches=windows,
        validate=functools.partial(evaluate_on, config, model, corpus.validation),
        plan=plan,
        key=jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), PURPOSE), seed),
        order_seed=int(np.random.SeedSequence([config.seed, seed]).generate_state(1)[0]),
        folder=folder / name,
        belongs_to=belongs_to(config, corpus.reader, name),
        keep_last=config.keep_checkpoints,
        probe=probe,
        placement=placement_of(batch_size),
    )


def evaluate_on(config: Config, model, stream, params) -> Sums:
    """Add up the loss over a stream, its state reset as in training."""
    return evaluate_stream(
        model,
        params,
        stream,
        batch_size=EVALUATED_ROWS,
        window=EVALUATED_WINDOW,
        reset_documents=config.reset_documents,
    )


def _measure_flow(model, inputs, targets, resets, params) -> np.ndarray:
    """Measure ln ‖d(loss of the target)/dcarry_t‖ [layers, T+1], median over places."""
    flows = prediction_flows(model, params, inputs, targets, resets)
    return np.median(np.asarray(flows, np.float64), axis=-1)
