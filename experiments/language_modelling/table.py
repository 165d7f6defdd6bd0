"""Dataset -> tables: bits per byte at equal tokens, at equal time and by window; costs; rates.

Means are over the trainings that have a value; which learning rate is shown: ``choice.py``.
"""

import math
from functools import partial

import numpy as np
import xarray as xr

from experiments.language_modelling.choice import (
    chosen_rates,
    has_seeds,
    labels,
    networks,
    yardsticks,
)
from experiments.language_modelling.reach import reach_rows
from experiments.language_modelling.rows import count_label, summarise, summary_rows, with_spread
from experiments.language_modelling.times import device
from experiments.trained.reach import reach_table
from experiments.wording import three_digits
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Column, Row, Table

MOST_PRINTED_SETTINGS = 20
YARDSTICKS = ("n-gram", "compressor")
CHOICE = (
    "The learning rate is chosen on the validation split (lowest mean over seeds of bits per byte, "
    "a training without a result counts as infinite); the test split chooses nothing."
)
SEEDS = (
    "Test: mean ± standard deviation over seeds, then their median and the best seed, which the "
    "test split itself picks and which describes the spread, no more."
)


def tables(dataset: xr.Dataset) -> list[Table]:
    """List what the dataset has: equal tokens, equal time, windows, reach, costs, every rate."""
    some = [equal_tokens_table(dataset)]
    if networks(dataset, "equal_time"):
        some.append(equal_time_table(dataset))
    if networks(dataset, "window_study"):
        some.append(windows_table(dataset))
    if reach := reach_rows(dataset, "equal_tokens"):
        some.append(reach_table(reach))
    if networks(dataset):
        some += [costs_table(dataset), settings_table(dataset)]
    return some


def equal_tokens_table(dataset: xr.Dataset) -> Table:
    """Lay out networks at equal tokens, n-grams and compressors."""
    points = networks(dataset, "equal_tokens")
    points += [point for kind in YARDSTICKS for point in yardsticks(dataset, kind)]
    rows = summary_rows(dataset, points)
    columns = [*_columns(dataset), *_losses()]
    note = f"{_seeds(dataset)} nat/token: the mean; perpl.: perplexity, its exponential. {CHOICE}"
    if any(row["kind"] == "compressor" for row in rows):
        columns.append(Column("alone_bits", "alone", ".3f"))
        note += (
            " Compressors: what the test text adds to the packed training text; alone: the test "
            "text packed by itself."
        )
    return Table(
        name="table",
        title=f"Bits per byte of the test split{_at_tokens(rows)}, beside yardsticks",
        rows=rows,
        columns=columns,
        note=note,
        group=lambda row: row["kind"],
    )


def equal_time_table(dataset: xr.Dataset) -> Table:
    """Lay out networks that were given the same time; yardsticks stand in the other table."""
    rows = summary_rows(dataset, networks(dataset, "equal_time"))
    where = f" Seconds: steps times the median time of one on {device(dataset)}."
    return Table(
        name="equal_time",
        title="Bits per byte of the test split, at equal time of training",
        rows=rows,
        columns=[
            *_columns(dataset),
            Column("test_loss", "nat/token", ".3f"),
            Column("tokens", "tokens", lambda row: count_label(row["tokens"])),
            Column("seconds", "s", lambda row: three_digits(row["seconds"])),
        ],
        note=f"{_seeds(dataset)}{where if device(dataset) else ''} {CHOICE}",
    )


def windows_table(dataset: xr.Dataset) -> Table:
    """Lay out the windows, and how far back the gradient reaches after training with each."""
    points = networks(dataset, "window_study")
    keys = ("end_steps", "end_decades")
    measured = {row["point"]: row for row in reach_rows(dataset, "window_study")}
    rows = [
        row | {key: measured.get(row["point"], {}).get(key, math.nan) for key in keys}
        for row in summary_rows(dataset, points)
    ]
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    rows.sort(key=lambda row: (cells.index(row["cell"]), row["window"]))
    lengths = {row["T"] for row in measured.values()}
    note = f"{_seeds(dataset)} {CHOICE} B: rows read at once, as many tokens a step."
    if lengths:
        of = ", ".join(map(str, sorted(lengths)))
        note += (
            f" Reach, after training: the furthest step back, of {of}, at which at least a tenth "
            "of the last step's ‖dL/dcarry‖ is left; L: loss of the token after it. Decades: log10 "
            "of the norm at t = 0 relative to the last step's."
        )
    return Table(
        name="windows",
        title=f"Windows of T tokens{_at_tokens(rows)}: bits per byte, reach of the gradient",
        rows=rows,
        columns=[
            Column("label", "", lambda row: cell_label(row["cell"]), is_word=True),
            Column("window", "T", ".0f"),
            Column("rows_at_once", "B", ".0f"),
            *_columns(dataset)[1:],
            Column("end_steps", "reach", ".0f"),
            Column("end_decades", "decades", "+.1f"),
        ],
        note=note,
        group=lambda row: row["cell"],
    )


def costs_table(dataset: xr.Dataset) -> Table:
    """Lay out what each network costs, at its chosen learning rate."""
    where = f"Median time of a step on {device(dataset)}; seconds: of a training, that times steps."
    return Table(
        name="costs",
        title="What each network costs",
        rows=summary_rows(dataset, networks(dataset)),
        columns=[
            Column("label", "", is_word=True),
            Column("learning_rate", "rate", "g"),
            Column("window", "T", ".0f"),
            Column("hidden_size", "H", ".0f"),
            Column("num_parameters", "parameters", ".0f"),
            Column("tokens", "tokens", lambda row: count_label(row["tokens"])),
            Column("step_ms", "ms/step", lambda row: three_digits(row["step_ms"])),
            Column("seconds", "s", lambda row: three_digits(row["seconds"])),
        ],
        note=f"{where if device(dataset) else ''} {CHOICE}".strip(),
    )


def settings_table(dataset: xr.Dataset) -> Table:
    """Lay out every learning rate of every network: the keys of ``summary_rows``; is_chosen."""
    points, rates = networks(dataset), chosen_rates(dataset)
    names = labels(dataset, points)
    rows = [
        summarise(dataset, point, float(rate))
        | {"label": names[point], "is_chosen": bool(rate == rates[point])}
        for point in points
        for rate in np.sort(dataset["learning_rate"].values)
    ]
    return Table(
        name="settings",
        title="Every learning rate: bits per byte",
        rows=rows,
        columns=[
            Column("label", "", is_word=True),
            Column("learning_rate", "rate", "g"),
            Column("is_chosen", "", lambda row: "*" if row["is_chosen"] else "", is_word=True),
            Column("validation_bits", "validation", partial(with_spread, "validation_bits")),
            Column("test_bits", "test", partial(with_spread, "test_bits")),
            Column("stopped", "stopped", lambda row: f"{row['stopped']} of {row['seeds']}"),
        ],
        note=f"Mean ± standard deviation over seeds; *: chosen. {CHOICE}",
        group=lambda row: row["point"],
        is_printed=len(rows) <= MOST_PRINTED_SETTINGS,
    )


def _columns(dataset: xr.Dataset) -> list[Column]:
    some = [Column("label", "", is_word=True)]
    some.append(Column("test_bits", "test", partial(with_spread, "test_bits")))
    if has_seeds(dataset):
        some.append(Column("test_bits_median", "median", ".3f"))
        some.append(Column("test_bits_best", "best", ".3f"))
    return some


def _seeds(dataset: xr.Dataset) -> str:
    return SEEDS if has_seeds(dataset) else "One seed each: no spread is known."


def _losses() -> list[Column]:
    return [Column("test_loss", "nat/token", ".3f"), Column("perplexity", "perpl.", ".2f")]


def _at_tokens(rows: list[Row]) -> str:
    """Say after how many tokens, where that is one number."""
    tokens = {row["tokens"] for row in rows if row["kind"] == "network"}
    return f" after {count_label(tokens.pop())} tokens" if len(tokens) == 1 else ""
