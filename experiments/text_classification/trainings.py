"""Config -> the training of a block: what, on what, and how."""

import functools
import json
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np

from experiments.sharing import placement_of
from experiments.text_classification.config import Config
from experiments.text_classification.corpus import Reader, flow_batch, load_corpus
from experiments.text_classification.layout import num_steps
from experiments.text_classification.networks import build_model
from rnn_jax.config import text_hash
from rnn_jax.models import layer_flows, layer_names
from rnn_jax.training import Plan, Training, classification, evaluate, make_optimizer

UNRELATED = (  # to what a single training comes to
    "models", "learning_rates", "num_seeds", "timing_lengths", "timing_rounds", "tensorboard"
)  # fmt: skip


def training_name(model: str, learning_rate: float, seed: int) -> str:
    """Name the folder of a training."""
    return f"{model}-rate{learning_rate!r}-seed{seed}"  # in full: two rates are two folders


def belongs_to(config: Config, reader: Reader, name: str) -> str:
    """Hash what a training's checkpoints depend on."""
    settings = asdict(config)
    for unrelated in UNRELATED:
        del settings[unrelated]
    return text_hash(json.dumps([settings, reader, name]))


def make_training(config: Config, model: str, rate: float, seed: int, folder: Path) -> Training:
    """Make the training of a block; ``folder`` is that of all trainings."""
    corpus = load_corpus(config)
    network = build_model(config, model, corpus.reader)
    name = training_name(model, rate, seed)
    probe = None
    if config.flow_every and layer_names(network):
        probe = functools.partial(measure_flow, network, flow_batch(config, corpus))
    task = classification(network)
    return Training(
        task=task,
        optimizer=make_optimizer(config.optimizer, num_steps(config, corpus)),
        learning_rate=rate,
        batches=corpus.batches["train"],
        validate=lambda params: evaluate(task, params, corpus.batches["validation"]),
        plan=Plan(
            num_epochs=config.num_epochs,
            log_every=config.log_every,
            probe_every=config.flow_every,
            checkpoint_every=config.checkpoint_every,
            patience=config.patience,
        ),
        key=jax.random.fold_in(jax.random.key(config.seed), seed),
        order_seed=int(np.random.SeedSequence([config.seed, seed]).generate_state(1)[0]),
        folder=folder / name,
        belongs_to=belongs_to(config, corpus.reader, name),
        keep_last=config.keep_checkpoints,
        probe=probe,
        placement=placement_of(config.batch_size),
    )


def measure_flow(network, batch, params) -> np.ndarray:
    """Measure ln ‖d(loss of a text)/dcarry_t‖ [layers, T+1], median over the texts."""
    flows = layer_flows(network, params, batch.tokens, batch.lengths, batch.labels)
    return np.median(np.asarray(flows, np.float64), axis=-1)
