"""Dataset -> the table a person reads: slope, theory, horizon and regime by cell and weight."""

import csv
import io

import numpy as np
import xarray as xr

from rnn_jax.regimes import regime

COLUMNS = ("cell", "w", "slope", "± seeds", "theory", "horizon", "zero", "regime")


def rows(dataset: xr.Dataset) -> list[dict[str, str]]:
    """One row a cell and weight.

    slope: mean over seeds, ± its standard deviation; horizon: median over seeds; zero: part of the
    sequences whose gradient at t = 0 is exactly 0 in the working dtype; regime: that of the mean
    slope over all T steps (rule: rnn_jax.regimes.regime). nan: the states overflowed.
    """
    num_steps = dataset.sizes["step"]
    table = []
    for cell in dataset["cell"].values:
        for weight in dataset["recurrent_weight"].values:
            point = dataset.sel(cell=cell, recurrent_weight=weight)
            slopes = point["slope"].values
            mean = float(np.mean(slopes))
            many = len(slopes) > 1 and np.isfinite(mean)
            relation = str(point["theory_relation"].values)
            theory = float(point["theory_slope"].round(4)) + 0.0
            horizon = float(np.median(point["horizon"].values))
            zero = float(point["zero_fraction"].isel(time=0).mean())
            values = (
                str(cell),
                f"{weight:g}",
                f"{mean:+.4f}" if mean == mean else "nan",
                f"{np.std(slopes, ddof=1):.4f}" if many else "–",
                f"{relation} {theory:+.4f}" if relation else "–",
                f"> {num_steps}" if horizon == np.inf else f"{horizon:g}",
                f"{zero:.0%}",
                regime(mean, num_steps),
            )
            table.append(dict(zip(COLUMNS, values, strict=True)))
    return table


def to_csv(table: list[dict[str, str]]) -> str:
    """Write the rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_rich(table: list[dict[str, str]]):
    """Lay the rows out for a terminal."""
    from rich.table import Table

    styles = {"vanishing": "blue", "exploding": "red", "neutral": "default", "unknown": "dim"}
    layout = Table(title="Gradient flow: slope of ln‖dL/dcarry_t‖ per step back")
    for column in COLUMNS:
        layout.add_column(column, justify="left" if column in ("cell", "regime") else "right")
    for i, row in enumerate(table):
        last_of_cell = i + 1 == len(table) or table[i + 1]["cell"] != row["cell"]
        style = styles[row["regime"]]
        layout.add_row(
            *[row[c] for c in COLUMNS[:-1]],
            f"[{style}]{row['regime']}[/{style}]",
            end_section=last_of_cell,
        )
    return layout
