"""Train a small classifier and a language model, every batch cut over the devices there are.

python shared_training.py DEVICES RANK WORLD PORT OUT EPOCHS: one of WORLD processes, each with so
many CPU devices.
"""

import re
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnn_jax.data.batching import Encoded, make_batches
from rnn_jax.data.token_files import TokenStream
from rnn_jax.data.windows import make_windows
from rnn_jax.models import LanguageModel, TextClassifier
from rnn_jax.training import (
    OptimizerSettings,
    Placement,
    Plan,
    Training,
    classification,
    cut_over,
    evaluate,
    evaluate_stream,
    language_modelling,
    make_optimizer,
    train,
)

NAMES = ("texts", "language")
B, V = 4, 12
SHAPE: Any = {
    "vocabulary_size": V,
    "hidden_size": 6,
    "embedding_size": 6,
    "num_layers": 1,
    "dropout": 0.3,
}


def of_texts(draw) -> dict:
    """A classifier of texts of 1 to 9 tokens; the last batch has rows that only fill it."""
    lengths = draw.integers(1, 10, 22)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens, labels = draw.integers(0, V, starts[-1]), draw.integers(0, 2, 22)
    texts = Encoded(tokens.astype(np.int32), starts, labels.astype(np.int32), 0)
    batches = make_batches(texts, B, bucket_lengths=(9,))
    model: Any = TextClassifier(cell="gru", num_classes=2, **SHAPE)
    task = classification(model)
    return {
        "task": task,
        "batches": batches,
        "validate": lambda params: evaluate(task, params, batches),
    }


def of_language(draw) -> dict:
    """A language model whose state is carried from batch to batch, and reset at documents."""
    tokens = draw.integers(0, V, 200).astype(np.uint8)
    stream = TokenStream(tokens, np.array([0, 90, 150, 200]), 200)
    model: Any = LanguageModel(cell="lstm", **SHAPE)
    return {
        "task": language_modelling(model, B),
        "batches": make_windows(stream, V, B, 8, reset_documents=True, num_batches=6),
        "validate": lambda params: evaluate_stream(model, params, stream, batch_size=4, window=8),
    }


def training(name: str, placement: Placement, folder: Path, num_epochs: int) -> Training:
    """Make one of them: 6 steps an epoch."""
    optimizer = make_optimizer(OptimizerSettings(warmup_steps=2), 50)
    return Training(
        **{"texts": of_texts, "language": of_language}[name](np.random.default_rng(3)),
        optimizer=optimizer,
        learning_rate=0.01,
        plan=Plan(num_epochs, log_every=1, probe_every=4, checkpoint_every=5, score="loss"),
        key=jax.random.key(1),
        order_seed=2,
        folder=folder / name,
        belongs_to=name,
        probe=lambda params: jax.numpy.zeros(2) + jax.tree.leaves(params)[0].ravel()[0],
        placement=placement,
    )


def collectives(of: Training) -> dict[str, set[str]]:
    """List what devices tell each other in a step, by where: in ENTRY or in another computation."""
    placement = of.placement
    with placement.used():
        state, key = placement.put(of.first_state()), placement.everywhere(of.key)
        batch = placement.cut(of.batches.epoch(0, 0)[0])
        text = of.train_step().lower(state, batch, key).compile().as_text()
    found, where = {}, ""
    for line in text.splitlines():
        if line.endswith("{"):
            where = line.removeprefix("%").split(" ")[0]
        names = r"= .*? (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)[-(]"
        if kind := re.search(names, line):
            found.setdefault(where, set()).add(kind.group(1))
    return found


def main(devices: int, rank: int, world: int, port: int, out: str, num_epochs: int) -> None:
    jax.config.update("jax_num_cpu_devices", devices)
    if world > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", world, rank, heartbeat_timeout_seconds=5)
    placement = cut_over(jax.devices(), B)
    for name in NAMES:
        of = training(name, placement, Path(out), num_epochs)
        train(of)
        if world == 1:
            print(name, collectives(of))


if __name__ == "__main__":
    devices, rank, world, port, out, num_epochs = sys.argv[1:]
    main(int(devices), int(rank), int(world), int(port), out, int(num_epochs))
