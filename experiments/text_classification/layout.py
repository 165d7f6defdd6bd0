"""Config -> how the dataset is laid out and cut, and what of a training's log goes where in it."""

import functools
import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import xarray as xr

from experiments.text_classification.config import CONVOLUTION, Config
from experiments.text_classification.corpus import Corpus, flow_batch, load_corpus
from experiments.text_classification.networks import build_model
from rnn_jax.models import layer_names
from rnn_jax.results import Blocks, unknown_variables

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


@functools.lru_cache(maxsize=2)
def plan(config: Config) -> Blocks:
    """Lay the dataset out and cut it: a block is a model at one learning rate and seed."""
    corpus = load_corpus(config)
    coordinates = _coordinates(config, corpus)
    meanings = MEANINGS | ({"log_carry_norm": FLOW} if "layer" in coordinates else {})
    splits = {name: len(split.texts) for name, split in corpus.data.splits.items()}
    template = xr.Dataset(
        unknown_variables(meanings, coordinates, CUT),
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
            "class_counts": json.dumps(_class_counts(corpus)),
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


def _class_counts(corpus: Corpus) -> dict[str, list[int]]:
    """Count the texts of each class, split by split."""
    num_classes = len(corpus.reader.class_names)
    return {
        name: np.bincount(split.labels, minlength=num_classes).tolist()
        for name, split in corpus.data.splits.items()
    }


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


def num_steps(config: Config, corpus: Corpus) -> int:
    """Count the steps of a training."""
    return config.num_epochs * corpus.batches["train"].num_batches


def networks_of(config: Config) -> list[tuple[str, float, int]]:
    """List (network, learning rate, seed) of all trainings."""
    seeds = range(config.num_seeds)
    return list(itertools.product(config.networks, config.learning_rates, seeds))


def point(config: Config, index: int) -> tuple[str, float, int]:
    """Return model, learning rate and seed of a block."""
    points = itertools.product(config.models, config.learning_rates, range(config.num_seeds))
    return next(itertools.islice(points, index, None))


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
            values["stopped_at"][0, 0, 0] = row["stopped_at"]
    return values
