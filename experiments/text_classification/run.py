"""Config -> dataset: a block is a training, or the fit of a yardstick."""

import functools
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from experiments.experiment import Workplace
from experiments.sharing import placement_of
from experiments.text_classification import yardsticks
from experiments.text_classification.config import YARDSTICKS, Config
from experiments.text_classification.corpus import load_corpus, write_reader
from experiments.text_classification.layout import fill, num_steps, plan, point
from experiments.text_classification.trainings import make_training
from experiments.trained.at_once import Watch
from experiments.trained.blocks import TRAININGS, making, on_all_devices, train_and_test
from rnn_jax.training import (
    Progress,
    evaluate,
    make_eval_step,
    make_optimizer,
)
from rnn_jax.types import Params

_fitting = threading.Lock()  # warnings are switched off for the whole process meanwhile


def check(config: Config) -> None:
    """Refuse what only the data can refuse, and what is not installed."""
    corpus = load_corpus(config)
    make_optimizer(config.optimizer, num_steps(config, corpus))
    placement_of(config.batch_size)
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
    yield from on_all_devices(
        functools.partial(compute, config), wanted, workplace, config.precision
    )


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
    with making:
        training = make_training(config, model, rate, seed, folder)
        training.train_step()
        make_eval_step(training.task)

    def test(params: Params) -> dict[str, float]:
        found = evaluate(training.task, params, load_corpus(config).batches["test"])
        return {
            "test_accuracy": float(found.accuracy),
            "test_loss": float(found.mean_loss),
        }

    def words(progress: Progress) -> str:
        return (
            f"epoch {progress.epoch}/{config.num_epochs}: loss {progress.loss:.3f}, "
            f"accuracy {progress.accuracy:.3f}"
        )

    rows, scalars = train_and_test(
        training, index, watch, test=test, words=words, tensorboard=config.tensorboard
    )
    return fill(config, scalars, rows)
