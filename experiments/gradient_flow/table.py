"""Dataset -> the table a person reads: slope, theory, horizon and regime by cell and weight."""

import numpy as np
import xarray as xr

from rnn_jax.regimes import regime

CLIP_VALUES = ("norm_before", "norm_after", "clipped_fraction", "clip_angle")
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


def clip_rows(dataset: xr.Dataset) -> list[dict]:
    """One row a cell, weight, clip and threshold; means over seeds (norms: of their logarithm)."""
    places = ("cell", "recurrent_weight", "clip", "threshold")
    points = dataset[list(CLIP_VALUES)].transpose("seed", *places)
    means = {}
    for name in CLIP_VALUES:
        values = points[name].values
        if name.startswith("norm"):
            with np.errstate(divide="ignore"):
                means[name] = np.exp(np.mean(np.log(values), axis=0))
        else:
            means[name] = np.mean(values, axis=0)
    return [
        {p: dataset[p].values[i].item() for p, i in zip(places, index, strict=True)}
        | {name: float(values[index]) for name, values in means.items()}
        for index in np.ndindex(means["norm_before"].shape)
    ]


def to_rich(table: list[dict[str, str]], note: str = ""):
    """Lay the rows out for a terminal; ``note`` ends the title."""
    from rich.table import Table

    styles = {"vanishing": "blue", "exploding": "red", "neutral": "default", "unknown": "dim"}
    layout = Table(title=f"Gradient flow: slope of ln‖dL/dcarry_t‖ per step back{note}")
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


def clips_to_rich(table: list[dict]):
    """Lay out, for each cell, clip and threshold, the weights at which the clip did most."""
    from rich.table import Table

    layout = Table(
        title="Clips: dL/dparams where its norm is largest, and the largest angle over w"
    )
    for column in ("cell", "clip", "c", "at w", "‖g‖ before", "after", "changed", "turned by"):
        layout.add_column(column, justify="left" if column in ("cell", "clip") else "right")
    groups: dict[tuple, list[dict]] = {}
    for row in table:
        if row["clip"] != "none":
            groups.setdefault((row["cell"], row["clip"], row["threshold"]), []).append(row)
    keys = list(groups)
    for i, key in enumerate(keys):
        top = max(groups[key], key=lambda row: row["norm_before"])
        angle = max(row["clip_angle"] for row in groups[key])
        layout.add_row(
            *key[:2],
            f"{key[2]:g}",
            f"{top['recurrent_weight']:g}",
            f"{top['norm_before']:.3g}",
            f"{top['norm_after']:.3g}",
            f"{top['clipped_fraction']:.0%}",
            f"{np.degrees(angle):.1f}°",
            end_section=i + 1 == len(keys) or keys[i + 1][0] != key[0],
        )
    return layout
