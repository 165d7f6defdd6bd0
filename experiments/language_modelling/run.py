"""Config -> dataset: a block is a training, or the measurement of a yardstick."""

import functools
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from experiments.experiment import Workplace
from experiments.language_modelling import compressors, ngrams
from experiments.language_modelling.config import Config, Point
from experiments.language_modelling.corpus import load_corpus, write_reader
from experiments.language_modelling.layout import block, fill, plan
from experiments.language_modelling.networks import build_model
from experiments.language_modelling.trainings import evaluate_on, make_training
from experiments.trained.at_once import Watch
from experiments.trained.blocks import TRAININGS, making, on_all_devices, train_and_test
from rnn_jax.generation import Sampling, generate
from rnn_jax.training import Progress
from rnn_jax.types import Params

_counting = threading.Lock()  # n-grams of all orders are counted together, once


def check(config: Config) -> None:
    """Refuse what only the data can refuse, and what is not installed."""
    corpus = load_corpus(config)
    for point in config.points:
        if point.kind == "network":
            make_training(config, point, config.learning_rates[0], 0, Path())
    if config.tensorboard:
        from rnn_jax.training.tensorboard import tensorboard_writer

        tensorboard_writer(Path())
    encoding, stream = corpus.reader.encoding, corpus.streams["train"]
    each = stream.num_bytes / len(stream.tokens)
    if encoding.kind != "byte":
        every = itertools.chain.from_iterable(corpus.documents.splits.values())
        others = sum(data.decode("utf-8", "replace").encode() != data for data in every)
        if others:
            print(f"no UTF-8, read as U+FFFD: bytes in {others} documents", file=sys.stderr)
    print(
        f"read: {corpus.reader.source}; {encoding.size} symbols, {each:.2f} bytes a token",
        file=sys.stderr,
    )


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
    point, rate, seed = block(config, index)
    corpus = load_corpus(config)
    if point.kind != "network":
        # it has neither learning rates nor seeds: the first block is it, the others stay unknown
        if rate != config.learning_rates[0] or seed:
            return fill(config, {})
        return fill(config, measure_yardstick(config, point))
    with making:
        training = make_training(config, point, rate, seed, folder)
        training.train_step()
    model = build_model(config, point.cell, corpus.reader.encoding.size)
    name = training.folder.name

    def test(params: Params) -> dict:
        found = evaluate_on(config, model, corpus.streams["test"], params)
        loss = float(found.mean_loss)
        return {
            "test_loss": loss,
            "test_bits": corpus.bits_per_byte("test", loss),
            "test_accuracy": float(found.accuracy),
            **_samples(config, model, params),
        }

    def words(progress: Progress) -> str:
        part = progress.step / progress.num_steps
        bits = corpus.bits_per_byte("train", progress.loss)
        return f"{part:.0%}: {bits:.3f} bits per byte (training)"

    def on_row(row: dict) -> None:
        if row["event"] == "stretch":
            bits = corpus.bits_per_byte("validation", row["validation_loss"])
            tokens = row["step"] * config.batch_tokens
            watch.say(name, f"{tokens / 1e6:.2f} M tokens: {bits:.3f} bits per byte (validation)")

    rows, scalars = train_and_test(
        training,
        index,
        watch,
        test=test,
        words=words,
        on_row=on_row,
        tensorboard=config.tensorboard,
    )
    if scalars:
        scalars["best_row"] = scalars.pop("best_epoch")
        loss = scalars.pop("best_validation_loss")
        scalars["validation_bits"] = corpus.bits_per_byte("validation", loss)
        del scalars["best_validation_accuracy"]
    return fill(config, scalars, rows)


def _samples(config: Config, model, params: Params) -> dict[str, np.ndarray]:
    """Write a text at each temperature, from an empty prompt, as ``generate --seed`` would."""
    if not config.sample_temperatures:
        return {}
    texts = [
        generate(
            model,
            params,
            np.zeros(0, np.int32),
            config.sample_tokens,
            sample_key(config),
            Sampling(temperature),
        )[0]
        for temperature in config.sample_temperatures
    ]
    return {"sample_tokens": np.stack(texts)}


def sample_key(config: Config) -> jax.Array:
    """Return the key of samples: that of ``generate --seed`` with the config's seed."""
    return jax.random.key(config.seed)


def measure_yardstick(config: Config, point: Point) -> dict[str, float]:
    """Measure an n-gram or a compressor on the bytes of the test split."""
    documents = load_corpus(config).documents
    train, test = (b"".join(documents.splits[name]) for name in ("train", "test"))
    if point.kind == "n-gram":
        order, smoothing = point.name.split("-gram ")
        with _counting:
            bits = _ngram_bits(config, smoothing.lower())
        return {"test_bits": bits[int(order) - 1]}
    found = compressors.bits_per_byte(point.name, train, test)
    alone = compressors.bits_per_byte(point.name, b"", test)
    return {"test_bits": np.nan if found is None else found,
            "alone_bits": np.nan if alone is None else alone}  # fmt: skip


@functools.lru_cache(maxsize=4)
def _ngram_bits(config: Config, smoothing: str) -> list[float]:
    documents = load_corpus(config).documents
    most = max(int(p.name[0]) for p in config.points if p.kind == "n-gram")
    return ngrams.bits_per_byte(
        documents.splits["train"], documents.splits["test"], most, smoothing
    )
