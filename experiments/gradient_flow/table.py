"""Dataset -> tables: slope, theory, horizon and regime by cell and weight; what clips did."""

import json

import numpy as np
import xarray as xr

from rnn_jax.regimes import regime
from rnn_jax.results import Column, Row, Table

CLIP_VALUES = ("norm_before", "norm_after", "clipped_fraction", "clip_angle")
REGIME_COLOURS = {"vanishing": "blue", "exploding": "red", "unknown": "dim"}


def tables(dataset: xr.Dataset) -> list[Table]:
    """List what the dataset has: the sweep, and clips where there are some."""
    some = [sweep_table(dataset)]
    return some + clip_tables(dataset) if "clip" in dataset.dims else some


def sweep_table(dataset: xr.Dataset) -> Table:
    """Lay out one row a cell and weight."""
    num_steps = dataset.sizes["step"]
    held = json.loads(dataset.attrs["config"])["gate"]
    zero_to_none = {"-0.0000": "+0.0000"}

    def theory(row: Row) -> str:
        text = f"{row['theory_slope']:+.4f}"
        relation = row["theory_relation"]
        return f"{relation} {zero_to_none.get(text, text)}" if relation else "–"

    def horizon(row: Row) -> str:
        steps = row["horizon"]
        return "–" if steps != steps else f"> {num_steps}" if steps == np.inf else f"{steps:g}"

    return Table(
        name="table",
        title="Gradient flow: slope of ln‖dL/dcarry_t‖ per step back",
        rows=rows(dataset),
        columns=[
            Column("cell", "cell", is_word=True),
            Column("recurrent_weight", "w", "g"),
            Column("slope", "slope", "+.4f"),
            Column("slope_std", "± seeds", ".4f"),
            Column("theory_slope", "theory", theory),
            Column("horizon", "horizon", horizon),
            Column("zero_fraction", "zero", ".0%"),
            Column("regime", "regime", is_word=True, colours=REGIME_COLOURS),
        ],
        note=f"Held where the cell has it: {', '.join(held)}" if held else "",
        group=lambda row: row["cell"],
    )


def rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a cell and weight.

    slope: mean over seeds, slope_std: its standard deviation (nan: one seed, or not finite);
    horizon: median over seeds; zero_fraction: part of the sequences whose gradient at t = 0 is
    exactly 0 in the working dtype; regime: that of the mean slope over all T steps (rule:
    rnn_jax.regimes.regime). slope nan: the states overflowed.
    """
    swept = ("cell", "recurrent_weight")
    at_start = dataset["zero_fraction"].isel(time=0)
    slopes, horizons, zeros = (
        variable.transpose(*swept, "seed").values
        for variable in (dataset["slope"], dataset["horizon"], at_start)
    )
    theory, relations = (
        dataset[name].transpose(*swept).values for name in ("theory_slope", "theory_relation")
    )
    table = []
    for i, cell in enumerate(dataset["cell"].values):
        for j, weight in enumerate(dataset["recurrent_weight"].values):
            mean = float(np.mean(slopes[i, j]))
            many = slopes.shape[2] > 1 and np.isfinite(mean)
            table.append(
                {
                    "cell": str(cell),
                    "recurrent_weight": float(weight),
                    "slope": mean,
                    "slope_std": float(np.std(slopes[i, j], ddof=1)) if many else np.nan,
                    "theory_relation": str(relations[i, j]),
                    "theory_slope": float(theory[i, j]),
                    "horizon": float(np.median(horizons[i, j])),
                    "zero_fraction": float(np.mean(zeros[i, j])),
                    "regime": regime(mean, dataset.sizes["step"]),
                }
            )
    return table


def clip_tables(dataset: xr.Dataset) -> list[Table]:
    """Lay out every point, and for each cell, clip and threshold where the clip did most."""
    every = clip_rows(dataset)
    names = [Column(key, key, is_word=True) for key in ("cell", "clip")]
    return [
        Table(
            name="clips_at_largest",
            title="Clips: dL/dparams where its norm is largest, and the largest angle over w",
            rows=_where_largest(every),
            columns=[
                *names,
                Column("threshold", "c", "g"),
                Column("recurrent_weight", "at w", "g"),
                Column("norm_before", "‖g‖ before", ".3g"),
                Column("norm_after", "after", ".3g"),
                Column("clipped_fraction", "changed", ".0%"),
                Column("clip_angle", "turned by", lambda row: _degrees(row["clip_angle"])),
            ],
            group=lambda row: row["cell"],
        ),
        Table(
            name="clips",
            title="Clips at every weight: dL/dparams before and after, means over seeds",
            rows=every,
            columns=[
                *names,
                Column("recurrent_weight", "w", "g"),
                Column("threshold", "c", "g"),
                Column("norm_before", "‖g‖ before", ".3g"),
                Column("norm_after", "after", ".3g"),
                Column("clipped_fraction", "changed", ".0%"),
                Column("clip_angle", "turned by", lambda row: _degrees(row["clip_angle"])),
            ],
            group=lambda row: (row["cell"], row["recurrent_weight"]),
            is_printed=False,
        ),
    ]


def clip_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a cell, weight, clip and threshold; means over seeds (norms: of their ln)."""
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


def _where_largest(every: list[Row]) -> list[Row]:
    """Of each cell, clip and threshold the weight of the largest norm; the largest angle of all."""
    groups: dict[tuple, list[Row]] = {}
    for row in every:
        if row["clip"] != "none":
            groups.setdefault((row["cell"], row["clip"], row["threshold"]), []).append(row)
    return [
        max(group, key=lambda row: row["norm_before"])
        | {"clip_angle": max(row["clip_angle"] for row in group)}
        for group in groups.values()
    ]


def _degrees(angle: float) -> str:
    return "–" if angle != angle else f"{np.degrees(angle):.1f}°"
