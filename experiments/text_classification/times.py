"""Dataset -> times of a training step by network and text length; SRU beside LSTM."""

import math
from functools import partial

import numpy as np
import xarray as xr

from experiments.text_classification.choice import chosen_rates, networks
from experiments.wording import device_label, mean, median, spread, three_digits
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Column, Row, Table

CLAIM = (
    "published: an SRU 5 to 9 times faster than cuDNN's LSTM on a GPU (Lei et al. 2018, arXiv "
    "1709.02755)"
)


def times_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a length: <network>_ms of a training step, <network>_tokens_per_second."""
    rows = []
    texts = dataset["step_seconds"].attrs["batch_size"]
    for length in np.sort(dataset["text_length"].values):
        row: Row = {"text_length": int(length)}
        for network in map(str, dataset["timed_model"].values):
            at = dataset["step_seconds"].sel(timed_model=network, text_length=length)
            seconds = median(at.values)
            row |= {
                f"{network}_ms": 1e3 * seconds,
                f"{network}_tokens_per_second": texts * int(length) / seconds,
            }
        rows.append(row)
    return rows


def times_table(dataset: xr.Dataset) -> Table:
    """Lay out ``times_rows``; tokens a second are in the CSV."""
    texts = dataset["step_seconds"].attrs["batch_size"]
    return Table(
        name="times",
        title=f"A training step of {texts} texts of length T, in ms, on {device(dataset)}",
        rows=times_rows(dataset),
        columns=[
            Column("text_length", "T", "d"),
            *[
                Column(f"{name}_ms", cell_label(name), partial(_milliseconds, name))
                for name in map(str, dataset["timed_model"].values)
            ],
        ],
        note=f"Median over {dataset.sizes['turn']} turns. In the CSV also tokens a second: "
        f"{texts} T / time.",
    )


def speed(dataset: xr.Dataset, model: str) -> Row:
    """Give tokens a second at the timed length nearest the texts' median; nan: not timed."""
    unknown = {"timed_length": math.nan, "tokens_per_second": math.nan}
    if "step_seconds" not in dataset or model not in dataset["timed_model"].values:
        return unknown
    lengths = dataset["text_length"].values
    length = int(lengths[np.argmin(np.abs(lengths - dataset.attrs["median_length"]))])
    seconds = dataset["step_seconds"].sel(timed_model=model, text_length=length).values
    tokens = length * dataset["step_seconds"].attrs["batch_size"]
    return {"timed_length": length, "tokens_per_second": tokens / median(seconds)}


def has_pair(dataset: xr.Dataset) -> bool:
    """Say whether both SRU and LSTM are there."""
    return {"sru", "lstm"} <= set(networks(dataset))


def pair_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a timed length (one of nan where nothing is timed): LSTM beside SRU.

    lstm_ms, sru_ms: of a training step, median over turns; ratio: LSTM / SRU, the median of the
    turns' own ratios, ratio_lowest and ratio_highest their range; device; accuracy_difference: SRU
    - LSTM of the test split (a fraction, not of a length), accuracy_difference_std, paired_seeds.
    """
    difference, deviation, count = pair_difference(dataset)
    shared = {
        "device": device(dataset),
        "accuracy_difference": difference,
        "accuracy_difference_std": deviation,
        "paired_seeds": count,
    }
    names = ("text_length", "lstm_ms", "sru_ms", "ratio", "ratio_lowest", "ratio_highest")
    if "step_seconds" not in dataset:
        return [dict.fromkeys(names, math.nan) | shared]
    rows = []
    for length in np.sort(dataset["text_length"].values):
        at = dataset["step_seconds"].sel(text_length=length)
        lstm, sru = (at.sel(timed_model=name).values for name in ("lstm", "sru"))
        ratios = lstm / sru
        ratios = ratios[np.isfinite(ratios)]
        low, high = (ratios.min(), ratios.max()) if ratios.size else (math.nan, math.nan)
        found = (length, 1e3 * median(lstm), 1e3 * median(sru), median(ratios), low, high)
        rows.append({k: float(v) for k, v in zip(names, found, strict=True)} | shared)
    return rows


def pair_table(dataset: xr.Dataset) -> Table:
    """Lay out ``pair_rows``, the published claim beside."""
    rows = pair_rows(dataset)
    one = rows[0]
    accuracy = ""
    if one["paired_seeds"]:
        spread = one["accuracy_difference_std"]
        accuracy = (
            f"SRU − LSTM in test accuracy: {100 * one['accuracy_difference']:+.1f}"
            f"{'' if math.isnan(spread) else f' ± {100 * spread:.1f}'} points "
            f"over {one['paired_seeds']} paired seed{'s' * (one['paired_seeds'] > 1)}. "
        )
    return Table(
        name="sru_against_lstm",
        title="A training step: LSTM / SRU",
        rows=rows,
        columns=[
            Column("text_length", "T", "g"),
            Column("lstm_ms", "LSTM (ms)", partial(_milliseconds, "lstm")),
            Column("sru_ms", "SRU (ms)", partial(_milliseconds, "sru")),
            Column("ratio", "LSTM / SRU", ".2f"),
            Column("ratio_lowest", "range over turns", _range),
        ],
        note=f"{accuracy}{where(dataset)}",
    )


def pair_difference(dataset: xr.Dataset) -> tuple[float, float, int]:
    """Give SRU - LSTM in test accuracy at the chosen rates: mean, deviation, seeds that have both.

    The same seed is the same order of the data.
    """
    rates = chosen_rates(dataset)
    sru, lstm = (
        dataset["test_accuracy"].sel(model=name, learning_rate=rates[name]).values
        for name in ("sru", "lstm")
    )
    differences = sru - lstm
    return mean(differences), spread(differences), int((~np.isnan(differences)).sum())


def where(dataset: xr.Dataset) -> str:
    """Say where the times are from, and what is published about other devices."""
    if "step_seconds" not in dataset:
        return f"Nothing was timed; {CLAIM}."
    if dataset["step_seconds"].attrs["backend"] == "gpu":
        return f"Timed on {device(dataset)}, both cells in JAX; {CLAIM}."
    return f"Timed on {device(dataset)}, both cells in JAX; {CLAIM}, another device."


def device(dataset: xr.Dataset) -> str:
    """Name the device of the times; "" where nothing is timed."""
    if "step_seconds" not in dataset:
        return ""
    return device_label(dataset["step_seconds"].attrs)


def _milliseconds(network: str, row: Row) -> str:
    return three_digits(row[f"{network}_ms"])


def _range(row: Row) -> str:
    if math.isnan(row["ratio_lowest"]):
        return "–"
    return f"{row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f}"
