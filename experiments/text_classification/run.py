"""Config -> dataset: one training a block, several at once, one on every local device."""

import concurrent.futures
import functools
import itertools
import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from experiments.experiment import Workplace
from experiments.text_classification import yardsticks
from experiments.text_classification.config import CONVOLUTION, YARDSTICKS, Config
from experiments.text_classification.corpus import (
    Corpus,
    Reader,
    flow_batch,
    load_corpus,
    write_reader,
)
from rnn_jax.cells import param_count
from rnn_jax.config import text_hash
from rnn_jax.models import ConvClassifier, TextClassifier, layer_flows, layer_names
from rnn_jax.results import ANEW, Blocks, RunDirectoryError, unknown
from rnn_jax.training import (
    CheckpointError,
    Plan,
    Progress,
    Training,
    best_epoch,
    classification,
    evaluate,
    make_optimizer,
    make_train_step,
    restore_params,
    train,
)

TRAININGS = "trainings"
CUT = ("model", "learning_rate", "seed")
MEANINGS = {  # name: (dims beside model, learning_rate and seed; long name; units)
    "train_loss": (("epoch",), "loss on the training split as it was learned", "nat per text"),
    "train_accuracy": (("epoch",), "accuracy on the training split as it was learned", "1"),
    "validation_loss": (("epoch",), "loss on the validation split", "nat per text"),
    "validation_accuracy": (("epoch",), "accuracy on the validation split", "1"),
    "best_epoch": ((), "epoch of the highest validation accuracy, of equals the latest", "1"),
    "best_validation_accuracy": ((), "validation accuracy at the best epoch", "1"),
    "best_validation_loss": ((), "validation loss at the best epoch", "nat per text"),
    "test_accuracy": ((), "test accuracy at the best epoch", "1"),
    "test_loss": ((), "test loss at the best epoch", "nat per text"),
    "loss": (("row",), "training loss, mean since the row before", "nat per text"),
    "accuracy": (("row",), "training accuracy, mean since the row before", "1"),
    "gradient_norm_before_clip": (("row",), "‖gradient‖ before the clip, mean over steps", "1"),
    "gradient_norm_after_clip": (("row",), "‖gradient‖ after the clip, mean over steps", "1"),
    "largest_gradient_norm": (("row",), "largest ‖gradient‖ before the clip", "1"),
    "clipped_steps": (("row",), "steps that the clip changed", "1"),
    "skipped_steps": ((), "steps whose gradient was not finite", "1"),
    "stopped_at": ((), "step at which too many such in a row ended it; nan: none did", "1"),
    "num_parameters": ((), "parameters", "1"),
}
FLOW = (
    ("flow_row", "layer", "time"),
    "ln ‖d(loss of a text)/dcarry_t‖, median over the texts of the fixed batch",
    "nat",
)
COORDINATES = {
    "row": "row of the log",
    "flow_row": "measurement of the gradient through time",
    "time": "time step t of the fixed batch; 0 is the initial carry",
    "layer": "recurrent layer, from below, and direction",
    "seed": "index of the draw of parameters, data order and dropout",
    "learning_rate": "highest learning rate",
    "epoch": "pass over the training split",
}


def build_model(config: Config, name: str, reader: Reader):
    """Build the Linen module of a network."""
    vocabulary_size, num_classes = reader.encoding.size, len(reader.class_names)
    if name == CONVOLUTION:
        return ConvClassifier(
            vocabulary_size=vocabulary_size,
            num_classes=num_classes,
            embedding_size=config.embedding_size,
            num_filters=config.hidden_size,
            dropout=config.dropout,
            dtype=config.dtype,
        )
    return TextClassifier(
        vocabulary_size=vocabulary_size,
        num_classes=num_classes,
        cell=name,
        hidden_size=config.hidden_size,
        embedding_size=config.embedding_size,
        num_layers=config.num_layers,
        is_bidirectional=config.bidirectional,
        dropout=config.dropout,
        pooling=config.pooling,
        recurrent_init=config.recurrent_init,
        recurrent_gain=config.recurrent_gain,
        forget_bias=config.forget_bias,
        dtype=config.dtype,
    )


def check(config: Config) -> None:
    """Refuse what only the data can refuse, and what is not installed."""
    corpus = load_corpus(config)
    make_optimizer(config.optimizer, num_steps(config, corpus))
    if config.tensorboard:
        from rnn_jax.training.tensorboard import tensorboard_writer

        tensorboard_writer(Path())
    yardsticks.warn_if_missing(config)


def num_steps(config: Config, corpus: Corpus) -> int:
    """Count the steps of a training."""
    return config.num_epochs * corpus.batches["train"].num_batches


@functools.lru_cache(maxsize=2)
def plan(config: Config) -> Blocks:
    """Lay the dataset out and cut it: a block is a model at one learning rate and seed."""
    corpus = load_corpus(config)
    coordinates = _coordinates(config, corpus)
    meanings = MEANINGS | ({"log_carry_norm": FLOW} if "layer" in coordinates else {})
    variables: dict[str, tuple] = {}
    for name, (dims, meaning, units) in meanings.items():
        all_dims = (*CUT, *dims)
        shape = (len(coordinates[dim]) for dim in all_dims)
        attributes = {"long_name": meaning, "units": units}
        variables[name] = (all_dims, unknown(shape, "float64"), attributes)
    splits = {name: len(split.texts) for name, split in corpus.data.splits.items()}
    template = xr.Dataset(
        variables,
        {
            **{
                dim: (dim, values, {"long_name": COORDINATES.get(dim, dim)})
                for dim, values in coordinates.items()
            },
            "row_step": ("row", log_steps(config, corpus), {"long_name": "training step"}),
        },
        {
            "title": "Text classification: learning curves and gradient flow",
            "config": json.dumps(asdict(config)),
            "text": corpus.source,
            "class_names": json.dumps(corpus.reader.class_names),
            "texts": json.dumps(splits),
            "vocabulary_size": corpus.reader.encoding.size,
            "median_length": int(np.median(np.diff(corpus.encoded["train"].starts))),
            "padding": corpus.batches["train"].padding,
            "cut_texts": corpus.encoded["train"].num_cut,
        },
    )
    if "layer" in coordinates:
        steps = ("flow_row", flow_steps(config, corpus), {"long_name": "training step"})
        template = template.assign_coords(flow_step=steps)
    return Blocks(template, dict.fromkeys(CUT, 1))


def log_steps(config: Config, corpus: Corpus) -> np.ndarray:
    """List the steps at which the log has a row."""
    return _steps(config, corpus, config.log_every)


def flow_steps(config: Config, corpus: Corpus) -> np.ndarray:
    """List the steps at which the gradient through time is measured."""
    return np.insert(_steps(config, corpus, config.flow_every), 0, 0)


def _steps(config: Config, corpus: Corpus, every: int) -> np.ndarray:
    """List the multiples of a number, and the ends of epochs."""
    total = num_steps(config, corpus)
    an_epoch = corpus.batches["train"].num_batches
    return np.union1d(np.arange(every, total + 1, every), np.arange(an_epoch, total + 1, an_epoch))


def _coordinates(config: Config, corpus: Corpus) -> dict[str, np.ndarray]:
    coordinates: dict[str, np.ndarray] = {
        "model": np.array(config.models, object),
        "learning_rate": np.array(config.learning_rates),
        "seed": np.arange(config.num_seeds),
        "epoch": np.arange(1, config.num_epochs + 1),
        "row": np.arange(len(log_steps(config, corpus))),
    }
    recurrent = [model for model in config.networks if model != CONVOLUTION]
    if recurrent and config.flow_every:
        coordinates |= {
            "flow_row": np.arange(len(flow_steps(config, corpus))),
            "layer": np.array(
                layer_names(build_model(config, recurrent[0], corpus.reader)), object
            ),
            "time": np.arange(flow_batch(config, corpus).tokens.shape[1] + 1),
        }
    return coordinates


def networks_of(config: Config) -> list[tuple[str, float, int]]:
    """List (network, learning rate, seed) of all trainings."""
    seeds = range(config.num_seeds)
    return list(itertools.product(config.networks, config.learning_rates, seeds))


def point(config: Config, index: int) -> tuple[str, float, int]:
    """Return model, learning rate and seed of a block."""
    points = itertools.product(config.models, config.learning_rates, range(config.num_seeds))
    return next(itertools.islice(points, index, None))


def training_name(model: str, learning_rate: float, seed: int) -> str:
    """Name the folder of a training."""
    return f"{model}-rate{learning_rate:g}-seed{seed}"


def belongs_to(config: Config, source: str, name: str) -> str:
    """Hash what a training's checkpoints depend on."""
    settings = asdict(config)
    for unrelated in ("models", "learning_rates", "num_seeds", "timing_lengths", "timing_rounds"):
        del settings[unrelated]
    return text_hash(json.dumps([settings, source, name]))


def make_training(config: Config, model: str, rate: float, seed: int, folder: Path) -> Training:
    """Make the training of a block; ``folder`` is that of all trainings."""
    corpus = load_corpus(config)
    network = build_model(config, model, corpus.reader)
    name = training_name(model, rate, seed)
    probe = None
    if config.flow_every and layer_names(network):
        probe = functools.partial(measure_flow, network, flow_batch(config, corpus))
    return Training(
        task=classification(network),
        optimizer=make_optimizer(config.optimizer, num_steps(config, corpus)),
        learning_rate=rate,
        batches=corpus.batches["train"],
        validation=corpus.batches["validation"],
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
        belongs_to=belongs_to(config, corpus.source, name),
        keep_last=config.keep_checkpoints,
        probe=probe,
    )


def measure_flow(network, batch, params) -> np.ndarray:
    """Measure ln ‖d(loss of a text)/dcarry_t‖ [layers, T+1], median over the texts."""
    flows = layer_flows(network, params, batch.tokens, batch.lengths, batch.labels)
    return np.median(np.asarray(flows, np.float64), axis=-1)


def blocks(
    config: Config, wanted: Iterable[int], workplace: Workplace
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Train the wanted blocks, one on every local device at a time; yields each as it ends."""
    folder = workplace.directory / TRAININGS
    folder.mkdir(parents=True, exist_ok=True)
    write_reader(folder, load_corpus(config).reader)
    plan(config)  # before threads would do it twice
    free: queue.Queue = queue.Queue()
    for device in jax.local_devices():
        free.put(device)
    watch = _Watch(workplace)

    def work(index: int) -> dict[str, np.ndarray]:
        device = free.get()
        try:
            with jax.default_device(device), jax.default_matmul_precision(config.precision):
                return compute(config, index, folder, watch)
        finally:
            free.put(device)

    pool = concurrent.futures.ThreadPoolExecutor(free.qsize())
    pending = {pool.submit(work, index): index for index in wanted}
    try:
        while pending:
            # with a pause: a signal is seen at once
            done, _ = concurrent.futures.wait(pending, 0.1, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                index = pending.pop(future)
                try:
                    values = future.result()
                except CheckpointError as error:
                    raise RunDirectoryError(f"{error}; {ANEW}") from None
                watch.done(index)
                yield index, values
    finally:
        watch.stop()
        pool.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """Another training failed: end this one too."""


class _Watch:
    """What the trainings that go on at once tell whoever watches; one a process."""

    def __init__(self, workplace: Workplace):
        self._workplace, self._lock, self._is_stopped = workplace, threading.Lock(), False
        self._parts: dict[int, float] = {}
        self._reads = [(time.perf_counter(), 0)]

    def report(self, index: int, name: str, num_epochs: int, progress: Progress) -> None:
        if self._is_stopped:
            raise _Stopped
        with self._lock:
            self._parts[index] = progress.step / progress.num_steps
            self._reads = [*self._reads[-20:], (time.perf_counter(), progress.num_tokens)]
            (first, _), (last, _) = self._reads[0], self._reads[-1]
            speed = sum(tokens for _, tokens in self._reads[1:]) / max(last - first, 1e-9)
            words = (
                f"{name} epoch {progress.epoch}/{num_epochs}: loss {progress.loss:.3f}, "
                f"accuracy {progress.accuracy:.3f}; {speed / 1000:.0f}k tokens/s"
            )
            self._workplace.report(sum(self._parts.values()), words)

    def log(self, **row) -> None:
        self._workplace.log(**row)

    def say(self, name: str, line: str) -> None:
        self._workplace.say(f"{name}: {line}")

    def done(self, index: int) -> None:
        with self._lock:
            self._parts.pop(index, None)

    def stop(self) -> None:
        self._is_stopped = True


def compute(config: Config, index: int, folder: Path, watch: _Watch) -> dict[str, np.ndarray]:
    """Compute a block: a training, or the fit of a yardstick."""
    model, rate, seed = point(config, index)
    if model in YARDSTICKS:
        # it has neither learning rates nor seeds: the first block is it, the others stay unknown
        is_first = rate == config.learning_rates[0] and seed == 0
        scalars = yardsticks.fit(config, model, load_corpus(config).data) if is_first else {}
        return fill(config, scalars)
    training = make_training(config, model, rate, seed, folder)
    name = training.folder.name
    report, on_row, warn = _writers(config, index, name, training, watch)
    for _ in range(2):
        rows = train(training, report, on_row, warn)
        best = best_epoch(rows)
        if best is None:
            return fill(config, {}, rows)
        checkpoints = training.checkpoints(warn)
        params = restore_params(checkpoints, training.task, training.optimizer, best["step"])
        if params is not None:
            test = evaluate(training.task, params, load_corpus(config).batches["test"])
            scalars = {
                "test_accuracy": test.correct / test.targets,
                "test_loss": test.loss / test.targets,
                "best_epoch": best["epoch"],
                "best_validation_accuracy": best["validation_accuracy"],
                "best_validation_loss": best["validation_loss"],
                "num_parameters": param_count(params),
            }
            return fill(config, scalars, rows)
        warn("its best checkpoint is not whole; trained again")
        checkpoints.clear()
    raise CheckpointError(f"{training.folder}: its best checkpoint is not kept")


def _writers(config: Config, index: int, name: str, training: Training, watch: _Watch):
    """Make what a training calls: (report, on_row, warn)."""
    step = make_train_step(training.task, training.optimizer, config.patience)
    write = None
    if config.tensorboard:
        from rnn_jax.training.tensorboard import tensorboard_writer

        write = tensorboard_writer(training.folder / "tensorboard")
    started = time.perf_counter()

    def on_row(row: dict) -> None:
        if write:
            write(row)
        if row["event"] == "epoch":
            programs = step._cache_size()  # ty: ignore
            watch.log(
                event="epoch",
                training=name,
                epoch=row["epoch"],
                tokens=row["train_tokens"],
                seconds=time.perf_counter() - started,  # since this start
                compiled_steps=programs,  # of this model, on all devices
            )

    def report(progress: Progress) -> None:
        watch.report(index, name, config.num_epochs, progress)

    return report, on_row, functools.partial(watch.say, name)


def fill(config: Config, scalars: dict, rows: Iterable[dict] = ()) -> dict[str, np.ndarray]:
    """Put the rows of a training's log into the arrays of its block; what is not known is nan."""
    whole = plan(config)
    values = {name: np.full(whole.shape(name, 0), np.nan) for name in whole.names}
    for name, value in scalars.items():
        values[name][0, 0, 0] = value
    places = {int(step): i for i, step in enumerate(whole.template["row_step"].values)}
    flow_places = {}
    if "flow_step" in whole.template.coords:
        flow_places = {int(s): i for i, s in enumerate(whole.template["flow_step"].values)}
    for row in rows:
        if row["event"] == "steps":
            for name in set(row) & set(values):
                if name != "skipped_steps":
                    values[name][0, 0, 0, places[row["step"]]] = row[name]
            values["skipped_steps"][0, 0, 0] = row["skipped_steps"]
        elif row["event"] == "epoch":
            for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
                values[name][0, 0, 0, row["epoch"] - 1] = row[name]
        elif row["event"] == "flow":
            values["log_carry_norm"][0, 0, 0, flow_places[row["step"]]] = row["log_carry_norm"]
        elif row["event"] == "stopped":
            values["stopped_at"][0, 0, 0] = row["step"]
    return values
