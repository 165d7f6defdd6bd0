"""Config -> dataset: a block is a training, or the fit of a yardstick."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.experiment import Workplace
from experiments.text_classification import yardsticks
from experiments.text_classification.at_once import Watch, on_devices
from experiments.text_classification.config import YARDSTICKS, Config
from experiments.text_classification.corpus import load_corpus, write_reader
from experiments.text_classification.layout import fill, num_steps, plan, point
from experiments.text_classification.trainings import TRAININGS, make_training
from rnn_jax.cells import param_count
from rnn_jax.results import ANEW, RunDirectoryError
from rnn_jax.training import (
    CheckpointError,
    Progress,
    Training,
    best_epoch,
    evaluate,
    make_eval_step,
    make_optimizer,
    make_train_step,
    restore_params,
    train,
)

MOST_MAPPINGS = 30_000
_making = threading.Lock()  # two threads would build, and compile, the same network twice
_fitting = threading.Lock()  # warnings are switched off for the whole process meanwhile


def check(config: Config) -> None:
    """Refuse what only the data can refuse, and what is not installed."""
    corpus = load_corpus(config)
    make_optimizer(config.optimizer, num_steps(config, corpus))
    if config.tensorboard:
        from rnn_jax.training.tensorboard import tensorboard_writer

        tensorboard_writer(Path())
    cut = sum(split.num_cut for split in corpus.encoded.values())
    cut_texts = f"; {cut} texts cut to {config.max_length} {config.encoding}s" if cut else ""
    print(f"read: {corpus.source}{cut_texts}", file=sys.stderr)
    yardsticks.warn_if_missing(config)


def blocks(
    config: Config, wanted: Iterable[int], workplace: Workplace
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Compute the wanted blocks, several at once; yields each as it ends."""
    folder = workplace.directory / TRAININGS
    folder.mkdir(parents=True, exist_ok=True)
    write_reader(folder, load_corpus(config).reader)
    plan(config)  # before threads would do it twice
    watch = Watch(workplace)

    def work(index: int) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision(config.precision):
            return compute(config, index, folder, watch)

    try:
        for index, values in on_devices(work, wanted, watch.stop):
            watch.done(index)
            yield index, values
    except CheckpointError as error:
        raise RunDirectoryError(f"{error}; {ANEW}") from None


def compute(config: Config, index: int, folder: Path, watch: Watch) -> dict[str, np.ndarray]:
    """Compute a block."""
    model, rate, seed = point(config, index)
    if model in YARDSTICKS:
        # it has neither learning rates nor seeds: the first block is it, the others stay unknown
        if rate != config.learning_rates[0] or seed:
            return fill(config, {})
        with _fitting:
            say = functools.partial(watch.say, model)
            return fill(config, yardsticks.fit(config, model, load_corpus(config).data, say))
    with _making:
        training = make_training(config, model, rate, seed, folder)
        train_step = make_train_step(training.task, training.optimizer, config.patience)
        make_eval_step(training.task)
    name = training.folder.name
    watch.begin(index, name)

    def report(progress: Progress) -> None:
        watch.report(index, name, config.num_epochs, progress)

    def warn(line: str) -> None:
        watch.say(name, line)

    kept = training.checkpoints(warn).steps()
    if kept:
        watch.say(name, f"goes on from step {kept[-1]}")
    on_row, close = _row_writer(config, training, train_step, watch)
    try:
        rows, scalars = _train_and_test(config, training, report, on_row, warn)
    finally:
        close()
        _make_room()
    return fill(config, scalars, rows)


def _make_room() -> None:
    """Forget compiled programs before their memory mappings come to Linux's limit of 65,530.

    A run of many networks and shapes would: what is needed again is read from the cache on disk.
    """
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def _train_and_test(
    config: Config, training: Training, report: Callable, on_row: Callable, warn: Callable
) -> tuple[list[dict], dict]:
    """Train; evaluate the best epoch on the test split: (rows of the log, what was found)."""
    for _ in range(2):
        rows = train(training, report, on_row, warn)
        best = best_epoch(rows)
        if best is None:
            return rows, {}
        checkpoints = training.checkpoints(warn)
        params = restore_params(checkpoints, training.task, training.optimizer, best["step"])
        if params is not None:
            test = evaluate(training.task, params, load_corpus(config).batches["test"])
            return rows, {
                "test_accuracy": test.correct / test.targets,
                "test_loss": test.loss / test.targets,
                "best_epoch": best["epoch"],
                "best_validation_accuracy": best["validation_accuracy"],
                "best_validation_loss": best["validation_loss"],
                "num_parameters": param_count(params),
            }
        warn("its best checkpoint is not whole; trained again")
        checkpoints.clear()
    raise CheckpointError(f"{training.folder}: its best checkpoint is not kept")


def _row_writer(config: Config, training: Training, train_step: Any, watch: Watch):
    """Make what is called with every row of a training's log, and what ends it."""
    write, close = (lambda row: None), (lambda: None)
    if config.tensorboard:
        from rnn_jax.training.tensorboard import tensorboard_writer

        write, close = tensorboard_writer(training.folder / "tensorboard")
    started = time.perf_counter()

    def on_row(row: dict) -> None:
        write(row)
        if row["event"] == "epoch":
            watch.log(
                event="epoch",
                training=training.folder.name,
                epoch=row["epoch"],
                tokens=row["train_tokens"],
                seconds=time.perf_counter() - started,  # since this start
                compiled_steps=train_step._cache_size(),  # of this network, on all devices
            )

    return on_row, close
