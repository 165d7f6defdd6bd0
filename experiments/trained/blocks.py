"""A block that is a training: from its last checkpoint to its test, with all that watches it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax

from experiments import command, sharing
from experiments.experiment import Workplace
from experiments.trained.at_once import MOST, Watch, on_devices
from rnn_jax.cells import param_count
from rnn_jax.devices import make_room
from rnn_jax.results import ANEW, RunDirectoryError
from rnn_jax.training import (
    CheckpointError,
    Progress,
    StoppedError,
    Training,
    best_epoch,
    restore_params,
    train,
)
from rnn_jax.types import Params

PARTLY = "others up to their last checkpoint"
TRAININGS = "trainings"  # their folder in a run directory
making = threading.Lock()  # two threads would make, and trace, the same network twice


def on_all_devices(
    compute: Callable[[int, Path, Watch], dict],
    wanted: Iterable[int],
    workplace: Workplace,
    precision: str,
) -> Iterator[tuple[int, dict]]:
    """Compute the wanted blocks, several at once: yields (index, values) of each as it ends.

    Args:
      compute: (index, folder of all trainings, who watches) -> values of the block.
      wanted: indices.
      workplace: of the run.
      precision: of matrix products.
    """
    watch, folder = Watch(workplace), workplace.directory / TRAININGS
    at_once = MOST if sharing.batch_shards() == 1 else 1

    def work(index: int) -> dict:
        with jax.default_matmul_precision(precision):
            return compute(index, folder, watch)

    try:
        with command.before_leaving(watch.stop_and_wait):
            for index, values in on_devices(work, wanted, watch.stop, at_once):
                watch.done(index)
                yield index, values
    except CheckpointError as error:
        raise RunDirectoryError(f"{error}; {ANEW}") from None
    except StoppedError as error:
        raise RunDirectoryError(
            f"{error}, with the process that was; the same commands go on"
        ) from None


def train_and_test(
    training: Training,
    index: int,
    watch: Watch,
    *,
    test: Callable[[Params], dict[str, Any]],
    words: Callable[[Progress], str],
    on_row: Callable[[dict], None] = lambda row: None,
    tensorboard: bool = False,
) -> tuple[list[dict], dict[str, Any]]:
    """Train to the end; then test the best epoch of the validation split.

    Args:
      training: the training; make it under ``making``.
      index: its block.
      watch: who watches all trainings.
      test: of the best parameters, what is found of them.
      words: what is said of a training that goes on.
      on_row: called with every new row of its log.
      tensorboard: write TensorBoard files.
    Returns:
      (rows of the log; best_epoch, best_validation_accuracy, best_validation_loss, num_parameters
      and what ``test`` found: nothing where no epoch has a result).
    """
    name = training.folder.name
    watch.begin(index, name)

    def report(progress: Progress) -> None:
        watch.report(index, name, words(progress), progress)

    def warn(line: str) -> None:
        watch.say(name, line)

    kept = training.checkpoints(warn).steps()
    if kept:
        warn(f"goes on from step {kept[-1]}")
    write, close = _row_writer(training, watch, on_row, tensorboard)
    try:
        for _ in range(2):
            try:
                rows = train(training, report, write, warn, lambda: watch.should_stop(index))
            finally:
                watch.left(index)
            best = best_epoch(rows, training.plan)
            if best is None:
                return rows, {}
            checkpoints = training.checkpoints(warn)
            params = restore_params(checkpoints, training.task, training.optimizer, best["step"])
            if params is not None:
                return rows, {
                    "best_epoch": best[training.plan.unit],
                    "best_validation_accuracy": best["validation_accuracy"],
                    "best_validation_loss": best["validation_loss"],
                    "num_parameters": param_count(params),
                    **test(params),
                }
            warn("its best checkpoint is not whole; trained again")
            checkpoints.clear()
            if training.placement.is_shared:
                break  # at the next start: the others have gone on
        raise CheckpointError(f"{training.folder}: its best checkpoint is not kept")
    finally:
        close()
        make_room()


def _row_writer(
    training: Training, watch: Watch, also: Callable[[dict], None], tensorboard: bool
) -> tuple[Callable[[dict], None], Callable[[], None]]:
    """Make what is called with every row of a training's log, and what ends it."""
    write, close = (lambda row: None), (lambda: None)
    if tensorboard:
        from rnn_jax.training.tensorboard import tensorboard_writer

        write, close = tensorboard_writer(training.folder / "tensorboard")
    started, unit = time.perf_counter(), training.plan.unit
    train_step: Any = training.train_step()

    def on_row(row: dict) -> None:
        write(row)
        also(row)
        if row["event"] == unit:
            watch.log(
                event=unit,
                training=training.folder.name,
                tokens=row["train_tokens"],
                seconds=time.perf_counter() - started,  # since this start
                compiled_steps=train_step._cache_size(),  # of this network, on all devices
                **{unit: row[unit]},
            )

    return on_row, close
