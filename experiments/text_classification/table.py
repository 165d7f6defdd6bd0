"""Dataset -> tables: accuracy and cost of each model, every learning rate, reach and times.

Means are over the trainings that have a value; which learning rate is shown: ``choice.py``.
"""

import math

import numpy as np
import xarray as xr

from experiments.text_classification.choice import chosen_rates, networks
from experiments.text_classification.config import YARDSTICKS
from experiments.text_classification.reach import reach_rows
from experiments.text_classification.times import (
    device,
    has_pair,
    pair_table,
    speed,
    times_table,
)
from experiments.trained.reach import reach_table
from experiments.wording import mean, median, spread, three_digits
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Column, Row, Table

MOST_PRINTED_SETTINGS = 20
CHOICE = (
    "Learning rate and epoch are chosen on the validation split (rate: highest mean over seeds, a "
    "training without a result counts as 0); the test split chooses nothing."
)


def tables(dataset: xr.Dataset) -> list[Table]:
    """List what the dataset has: each model, each setting, reach, SRU beside LSTM, times."""
    some = [summary_table(summary_rows(dataset)), cost_table(dataset)]
    if networks(dataset):
        some.append(settings_table(dataset))
    if reach := reach_rows(dataset):
        some.append(reach_table(reach))
    if has_pair(dataset):
        some.append(pair_table(dataset))
    if "step_seconds" in dataset:
        some.append(times_table(dataset))
    return some


def summary_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a model, networks first, each at its chosen learning rate.

    kind: network or yardstick; learning_rate: nan of a yardstick; test_accuracy, its _std (n - 1),
    _median and _best over seeds (fractions); validation_accuracy, its _std; test_loss: nat per
    text; best_epoch: median over seeds; num_parameters; skipped_steps: of all seeds; stopped:
    trainings that were ended early; seeds; seeds_with_result; timed_length: T nearest the median
    length of the training texts; tokens_per_second: B T / median time of a training step of B
    texts of that length. nan: not known.
    """
    rates = chosen_rates(dataset)
    yardsticks = [str(model) for model in dataset["model"].values if model in YARDSTICKS]
    return [
        _setting(dataset, model, rates.get(model, math.nan)) | speed(dataset, model)
        for model in [*rates, *yardsticks]
    ]


def _setting(dataset: xr.Dataset, model: str, rate: float) -> Row:
    """Sum up a network at a learning rate; a yardstick (rate nan) has one value and no seeds."""

    def values(name: str) -> np.ndarray:
        one = dataset[name].sel(model=model)
        return (one if math.isnan(rate) else one.sel(learning_rate=rate)).values.ravel()

    test, validation = values("test_accuracy"), values("best_validation_accuracy")
    is_network = model not in YARDSTICKS
    known = test[~np.isnan(test)]
    return {
        "model": model,
        "kind": "network" if is_network else "yardstick",
        "learning_rate": rate,
        "test_accuracy": mean(test),
        "test_accuracy_std": spread(test),
        "test_accuracy_median": median(test) if is_network else math.nan,
        "test_accuracy_best": float(known.max()) if known.size and is_network else math.nan,
        "validation_accuracy": mean(validation),
        "validation_accuracy_std": spread(validation),
        "test_loss": mean(values("test_loss")),
        "best_epoch": median(values("best_epoch")),
        "num_parameters": mean(values("num_parameters")),
        "skipped_steps": float(np.nansum(values("skipped_steps"))) if is_network else math.nan,
        "stopped": int(np.isfinite(values("stopped_at")).sum()),
        "seeds": dataset.sizes["seed"] if is_network else 0,
        "seeds_with_result": known.size if is_network else 0,
    }


def summary_table(rows: list[Row]) -> Table:
    """Lay out ``summary_rows``; of several runs, where each row has ``data`` and ``config``."""
    is_joined = bool(rows) and "data" in rows[0]
    return Table(
        name="table",
        title="Accuracy in %, loss in nat per text",
        rows=rows,
        columns=[
            Column("model", "model", lambda row: cell_label(row["model"]), is_word=True),
            Column("learning_rate", "rate", "g"),
            Column("test_accuracy", "test", lambda row: _with_spread(row, "test_accuracy")),
            Column(
                "test_accuracy_median", "median", lambda row: percent(row["test_accuracy_median"])
            ),
            Column("test_accuracy_best", "best", lambda row: percent(row["test_accuracy_best"])),
            Column("validation_accuracy", "val.", lambda row: percent(row["validation_accuracy"])),
            Column("test_loss", "loss", ".3f"),
            Column("stopped", "stopped", _stopped),
        ],
        note=f"Test: mean ± standard deviation over seeds, then their median and the best seed, "
        f"which the test split itself picks and which describes the spread, no more. Val.: "
        f"validation, mean. Loss: of the test split, mean. {CHOICE}",
        group=lambda row: (row["data"], row["config"]) if is_joined else row["kind"],
        group_title=_run_title if is_joined else None,
    )


def _run_title(row: Row) -> str:
    settings = f"; {row['settings']}" if row["settings"] else ""
    return f"{row['data']} (config {row['config']}, commit {row['commit']}{settings})"


def cost_table(dataset: xr.Dataset) -> Table:
    """Lay out what each model costs, at its chosen learning rate."""
    keys = ("model", "kind", "num_parameters", "best_epoch", "tokens_per_second", "timed_length")
    every = summary_rows(dataset)
    rows = [{key: row[key] for key in (*keys, "skipped_steps")} for row in every]
    times = [row["timed_length"] for row in rows if row["timed_length"] == row["timed_length"]]
    timed = (
        f"Tokens a second: training steps of {dataset['step_seconds'].attrs['batch_size']} texts "
        f"of T = {times[0]} on {device(dataset)}, median time. "
        if times
        else ""
    )
    return Table(
        name="costs",
        title="What each model costs",
        rows=rows,
        columns=[
            Column("model", "model", lambda row: cell_label(row["model"]), is_word=True),
            Column("num_parameters", "parameters", ".0f"),
            Column("best_epoch", "best epoch", "g"),
            Column(
                "tokens_per_second", "tokens/s", lambda row: three_digits(row["tokens_per_second"])
            ),
            Column("skipped_steps", "skipped", ".0f"),
        ],
        note=f"{timed}Best epoch: median over seeds. Skipped: steps of all seeds whose gradient "
        "was not finite.",
        group=lambda row: row["kind"],
    )


def settings_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a network and learning rate: the keys of ``summary_rows``; is_chosen."""
    rates = chosen_rates(dataset)
    return [
        _setting(dataset, network, float(rate)) | {"is_chosen": bool(rate == rates[network])}
        for network in rates
        for rate in np.sort(dataset["learning_rate"].values)
    ]


def settings_table(dataset: xr.Dataset) -> Table:
    """Lay out every learning rate of every network."""
    rows = settings_rows(dataset)
    return Table(
        name="settings",
        title="Every learning rate: accuracy in %, loss in nat per text",
        rows=rows,
        columns=[
            Column("model", "model", lambda row: cell_label(row["model"]), is_word=True),
            Column("learning_rate", "rate", "g"),
            Column("is_chosen", "", lambda row: "*" if row["is_chosen"] else "", is_word=True),
            Column(
                "validation_accuracy",
                "validation",
                lambda row: _with_spread(row, "validation_accuracy"),
            ),
            Column("test_accuracy", "test", lambda row: _with_spread(row, "test_accuracy")),
            Column("test_loss", "loss", ".3f"),
            Column("stopped", "stopped", _stopped),
        ],
        note=f"Mean ± standard deviation over seeds; *: chosen. {CHOICE}",
        group=lambda row: row["model"],
        is_printed=len(rows) <= MOST_PRINTED_SETTINGS,
    )


def percent(fraction: float) -> str:
    """Write a fraction in %, one decimal."""
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _with_spread(row: Row, key: str) -> str:
    """Write mean ± deviation; of one value, or a yardstick's, there is none."""
    if row["kind"] == "yardstick" or math.isnan(row[f"{key}_std"]):
        return percent(row[key])
    return f"{percent(row[key])} ± {percent(row[f'{key}_std'])}"


def _stopped(row: Row) -> str:
    return f"{row['stopped']} of {row['seeds']}" if row["seeds"] else "–"
