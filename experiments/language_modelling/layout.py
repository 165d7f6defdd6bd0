"""Config -> how the dataset is laid out and cut, and what of a training's log goes where in it."""

import functools
import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import xarray as xr

from experiments.language_modelling.config import Config, Point
from experiments.language_modelling.corpus import Corpus, load_corpus
from experiments.language_modelling.networks import build_model
from rnn_jax.data.texts import SPLITS
from rnn_jax.models import layer_names
from rnn_jax.results import Blocks, unknown_variables

CUT = ("point", "learning_rate", "seed")
MEANINGS = {  # name: (dims beside those; long name; units)
    "train_loss": (("row",), "training loss, mean since the row before", "nat per token"),
    "validation_loss": (("row",), "loss on pieces of the validation split", "nat per token"),
    "validation_row_bits": (("row",), "loss on pieces of the validation split", "bit per byte"),
    "gradient_norm_before_clip": (("row",), "‖gradient‖ before the clip, mean over steps", "1"),
    "gradient_norm_after_clip": (("row",), "‖gradient‖ after the clip, mean over steps", "1"),
    "clipped_steps": (("row",), "steps that the clip changed", "1"),
    "best_row": ((), "row of the lowest validation loss, of equals the latest", "1"),
    "validation_bits": ((), "validation loss at the best row", "bit per byte"),
    "test_loss": ((), "test loss at the best row, the state carried through", "nat per token"),
    "test_bits": ((), "the same by the bytes of the test split", "bit per byte"),
    "test_accuracy": ((), "part of the test tokens that were the most probable", "1"),
    "alone_bits": ((), "size of the test split compressed by itself", "bit per byte"),
    "skipped_steps": ((), "steps whose gradient was not finite", "1"),
    "stopped_at": ((), "step at which too many such in a row ended it; nan: none did", "1"),
    "num_parameters": ((), "parameters", "1"),
}
FLOW = (
    ("row", "layer", "time"),
    "ln ‖d(loss of the token after the last)/dcarry_t‖, median over places of the validation split",
    "nat",
)
SAMPLE = (("temperature", "place"), "text that the network wrote, token by token", "1")
COORDINATES = {
    "point": "network, or yardstick",
    "row": "measurement on the validation split; 0 is before training",
    "time": "time step t; 0 is the initial carry",
    "layer": "recurrent layer, from below",
    "seed": "index of the draw of parameters, order of documents and dropout",
    "learning_rate": "highest learning rate",
    "temperature": "temperature of a sample",
    "place": "place in a sample",
}


@functools.lru_cache(maxsize=2)
def plan(config: Config) -> Blocks:
    """Lay the dataset out and cut it: a block is a point at one learning rate and seed."""
    corpus = load_corpus(config)
    coordinates = _coordinates(config)
    meanings: dict[str, tuple] = dict(MEANINGS)
    if "layer" in coordinates:
        meanings["log_carry_norm"] = FLOW
    if "temperature" in coordinates:
        meanings["sample_tokens"] = SAMPLE
    streams = corpus.streams
    template = xr.Dataset(
        unknown_variables(meanings, coordinates, CUT),
        {
            **{
                dim: (dim, values, {"long_name": COORDINATES[dim]})
                for dim, values in coordinates.items()
            },
            **_of_points(config, corpus),
        },
        {
            "title": "Language models: learning curves, bits per byte, gradient flow, samples",
            "config": json.dumps(asdict(config)),
            "text": corpus.reader.source,
            "encoding": corpus.reader.encoding.to_json(),
            "vocabulary_size": corpus.reader.encoding.size,
            "num_bytes": json.dumps({name: streams[name].num_bytes for name in SPLITS}),
            "num_tokens": json.dumps({name: len(streams[name].tokens) for name in SPLITS}),
        },
    )
    return Blocks(template, dict.fromkeys(CUT, 1))


def _coordinates(config: Config) -> dict[str, np.ndarray]:
    coordinates: dict[str, np.ndarray] = {
        "point": np.array([point.name for point in config.points], object),
        "learning_rate": np.array(config.learning_rates),
        "seed": np.arange(config.num_seeds),
        "row": np.arange(config.num_validations + 1),
    }
    if config.flow_length:
        model = build_model(config, config.cells[0], load_corpus(config).reader.encoding.size)
        coordinates |= {
            "layer": np.array(layer_names(model), object),
            "time": np.arange(config.flow_length + 1),
        }
    if config.sample_temperatures:
        coordinates |= {
            "temperature": np.array(config.sample_temperatures),
            "place": np.arange(config.sample_tokens),
        }
    return coordinates


def _of_points(config: Config, corpus: Corpus) -> dict[str, tuple]:
    """Make the coordinates that say what each point is."""
    points, a_step = config.points, config.batch_tokens
    steps = np.array([point.num_steps or np.nan for point in points])
    sizes = [
        build_model(config, point.cell, corpus.reader.encoding.size).hidden_size
        if point.cell
        else np.nan
        for point in points
    ]
    part = np.arange(config.num_validations + 1) / config.num_validations
    comparisons = ("equal_tokens", "equal_time", "window_study")

    def of(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(point, name) for point in points], kind)

    return {
        "kind": ("point", of("kind", object), {"long_name": "network, n-gram or compressor"}),
        "cell": ("point", of("cell", object), {"long_name": "recurrent cell"}),
        "window": ("point", of("window", int), {"long_name": "tokens between cuts of gradients"}),
        "rows_at_once": (
            "point",
            np.array([config.rows_of(p) if p.cell else np.nan for p in points]),
            {"long_name": "B, rows of the text that are read side by side"},
        ),
        "num_steps": ("point", steps, {"long_name": "training steps"}),
        "tokens": ("point", steps * a_step, {"long_name": "tokens read in training"}),
        "hidden_size": ("point", np.array(sizes), {"long_name": "units of a layer"}),
        **{
            name: ("point", of(name, int), {"long_name": f"whether in the comparison {name}"})
            for name in comparisons
        },
        "row_tokens": (
            ("point", "row"),
            a_step * steps[:, None] * part,
            {"long_name": "tokens read"},
        ),
    }


def block(config: Config, index: int) -> tuple[Point, float, int]:
    """Return point, learning rate and seed of a block."""
    every = itertools.product(config.points, config.learning_rates, range(config.num_seeds))
    return next(itertools.islice(every, index, None))


def fill(config: Config, scalars: dict, rows: Iterable[dict] = ()) -> dict[str, np.ndarray]:
    """Put the rows of a training's log into the arrays of its block; what is not known is nan.

    Args:
      config: the config.
      scalars: values by name, of variables without a row; a sample too.
      rows: of the log.
    """
    whole = plan(config)
    values = {name: np.full(whole.shape(name, 0), np.nan) for name in whole.names}
    for name, value in scalars.items():
        values[name][0, 0, 0] = value
    taken = {
        "train_loss": "train_loss",
        "validation_loss": "validation_loss",
        "gradient_norm_before_clip": "train_gradient_norm_before_clip",
        "gradient_norm_after_clip": "train_gradient_norm_after_clip",
        "clipped_steps": "train_clipped_steps",
    }
    place = 0
    for row in rows:
        if row["event"] == "stretch":
            place = row["stretch"]
            for name, key in taken.items():
                values[name][0, 0, 0, place] = row[key]
            values["validation_row_bits"][0, 0, 0, place] = load_corpus(config).bits_per_byte(
                "validation", row["validation_loss"]
            )
        elif row["event"] == "flow":  # stands before the row of its stretch
            where = place + 1 if row["step"] else 0
            values["log_carry_norm"][0, 0, 0, where] = row["log_carry_norm"]
        elif row["event"] == "stopped":
            values["stopped_at"][0, 0, 0] = row["stopped_at"]
        if "skipped_steps" in row:
            values["skipped_steps"][0, 0, 0] = row["skipped_steps"]
    return values
