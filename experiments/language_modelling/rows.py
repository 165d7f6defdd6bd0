"""Dataset -> one row a point: what a network, an n-gram or a compressor came to, and its costs."""

import math
from functools import partial

import numpy as np
import xarray as xr

from experiments.language_modelling.choice import chosen_rates, labels, of_point, of_seeds
from experiments.language_modelling.times import seconds_per_token
from experiments.wording import mean, median, spread, three_digits
from rnn_jax.results import Row


def summary_rows(dataset: xr.Dataset, points: list[str]) -> list[Row]:
    """Return one row a point, a network at its chosen learning rate, in the order given.

    point; label; kind: network, n-gram or compressor; cell; window: T; rows_at_once: B;
    learning_rate: nan of a yardstick; test_bits: bits per byte of the test split, its _std (n - 1),
    _median and _best over seeds; alone_bits: of a compressor that has not read the training text;
    validation_bits, its _std; test_loss: nat per token, mean over seeds; perplexity: its
    exponential; test_accuracy; num_parameters; hidden_size; tokens: read in training; step_ms:
    median time of a training step; seconds: of a training, steps times step_ms; skipped_steps: of
    all seeds; stopped: trainings that were ended early; seeds; seeds_with_result. nan: not known.
    """
    rates, names = chosen_rates(dataset), labels(dataset, points)
    return [summarise(dataset, p, rates.get(p, math.nan)) | {"label": names[p]} for p in points]


def summarise(dataset: xr.Dataset, point: str, rate: float) -> Row:
    """Sum up a network at a learning rate; a yardstick (rate nan) has one value and no seeds."""
    values = partial(of_seeds, dataset, point=point, rate=rate)
    test, validation, loss = map(values, ("test_bits", "validation_bits", "test_loss"))
    kind = of_point(dataset, "kind", point)
    is_network = kind == "network"
    known = test[~np.isnan(test)]
    tokens, a_token = float(of_point(dataset, "tokens", point)), seconds_per_token(dataset, point)
    batch_tokens = dataset["step_seconds"].attrs["batch_tokens"] if "step_seconds" in dataset else 0
    return {
        "point": point,
        "label": point,
        "kind": kind,
        "cell": of_point(dataset, "cell", point),
        "window": float(of_point(dataset, "window", point)) if is_network else math.nan,
        "rows_at_once": float(of_point(dataset, "rows_at_once", point)),
        "learning_rate": rate,
        "test_bits": mean(test),
        "test_bits_std": spread(test) if is_network else math.nan,
        "test_bits_median": median(test) if is_network else math.nan,
        "test_bits_best": float(known.min()) if known.size and is_network else math.nan,
        "alone_bits": mean(values("alone_bits")) if kind == "compressor" else math.nan,
        "validation_bits": mean(validation),
        "validation_bits_std": spread(validation),
        "test_loss": mean(loss),
        "perplexity": _perplexity(mean(loss)),
        "test_accuracy": mean(values("test_accuracy")),
        "num_parameters": mean(values("num_parameters")),
        "hidden_size": float(of_point(dataset, "hidden_size", point)) if is_network else math.nan,
        "tokens": tokens,
        "step_ms": 1e3 * a_token * batch_tokens,
        "seconds": tokens * a_token,
        "skipped_steps": float(np.nansum(values("skipped_steps"))) if is_network else math.nan,
        "stopped": int(np.isfinite(values("stopped_at")).sum()),
        "seeds": dataset.sizes["seed"] if is_network else 0,
        "seeds_with_result": known.size if is_network else 0,
    }


def _perplexity(loss: float) -> float:
    return math.inf if loss > 700 else math.exp(loss)  # above it is no float


def with_spread(key: str, row: Row) -> str:
    """Write mean ± deviation; of one value there is none."""
    value, deviation = row[key], row[f"{key}_std"]
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" + ("" if math.isnan(deviation) else f" ± {deviation:.3f}")


def count_label(number: float) -> str:
    """Write a number of tokens: 300 000 is 300k, 16 777 216 is 16.8M."""
    if math.isnan(number):
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{three_digits(number / size)}{letter}"
    return f"{number:.0f}"
