"""Dataset -> tables: the exact points, the paths, the thresholds."""

import numpy as np
import xarray as xr

from rnn_jax.results import Column, Row, Table

SHOWN_LEVELS = 9  # of the thresholds; the CSV holds all
SHOWN_EVERY = 50  # steps of the paths; the CSV holds all


def tables(dataset: xr.Dataset) -> list[Table]:
    """Lay out the points, where the paths end, some of the thresholds; the paths for the files."""
    kept = _evenly(dataset.sizes["level"])
    clip = Column("clip", "clip", is_word=True)
    return [
        Table(
            name="points",
            title="Points with known values",
            rows=points(dataset),
            columns=[
                Column("w", "w", "g"),
                Column("b", "b", ".5f"),
                Column("state", "x_T", ".4f"),
                Column("loss", "E", ".5f"),
                Column("state_by_bias", "dx_T/db", ".4e"),
                Column("loss_by_weight", "dE/dw", ".4e"),
                Column("loss_by_bias", "dE/db", ".4e"),
            ],
        ),
        Table(
            name="path_ends",
            title="Paths from one start",
            rows=path_ends(dataset),
            columns=[
                clip,
                Column("w", "last w", ".3f"),
                Column("b", "last b", ".3f"),
                Column("final_loss", "last E", ".2e"),
                Column("largest_norm", "largest ‖g‖", ".3g"),
                Column("largest_jump", "largest jump", ".3g"),
            ],
        ),
        Table(
            name="thresholds",
            title="Thresholds: median last E, mean late E, share down, median and largest jump",
            rows=thresholds(dataset),
            columns=[
                clip,
                Column("threshold", "threshold", ".3g"),
                Column("median_final_loss", "last E", ".2e"),
                Column("mean_late_loss", "late E", ".2e"),
                Column("came_down", "down", ".0%"),
                Column("median_largest_jump", "jump", ".3g"),
                Column("largest_jump", "largest", ".3g"),
            ],
            group=lambda row: row["clip"],
            is_shown=lambda row: row["clip"] == "none" or row["level"] in kept,
        ),
        Table(
            name="paths",
            title=f"The paths, every {SHOWN_EVERY} updates",
            rows=paths(dataset),
            columns=[
                clip,
                Column("step", "update", "d"),
                Column("w", "w", ".4f"),
                Column("b", "b", ".4f"),
                Column("loss", "E", ".3e"),
                Column("norm_before", "‖g‖ before", ".3g"),
                Column("norm_after", "after", ".3g"),
            ],
            group=lambda row: row["clip"],
            is_shown=lambda row: row["step"] % SHOWN_EVERY == 0,
            is_printed=False,
        ),
    ]


def points(dataset: xr.Dataset) -> list[Row]:
    """One row a point with known values; dx_T/db exact: the closed form, nan off the wall."""
    names = [str(name) for name in dataset.data_vars if str(name).startswith("point_")]
    return [
        {name.removeprefix("point_"): dataset[name].values[i].item() for name in names}
        for i in range(dataset.sizes["point"])
    ]


def paths(dataset: xr.Dataset) -> list[Row]:
    """One row a path and step."""
    names = ("w", "b", "loss", "norm_before", "norm_after")
    return [
        {"clip": str(path), "step": step}
        | {name: dataset[f"path_{name}"].values[i, step].item() for name in names}
        for i, path in enumerate(dataset["path"].values)
        for step in range(dataset.sizes["step"])
    ]


def path_ends(dataset: xr.Dataset) -> list[Row]:
    """One row a path: where it ends, its largest gradient and its largest update."""
    return [
        {
            "clip": str(path),
            "w": float(one["path_w"][-1]),
            "b": float(one["path_b"][-1]),
            "final_loss": float(one["path_loss"][-1]),
            "largest_norm": float(one["path_norm_before"].max()),
            "largest_jump": float(np.hypot(one["path_w"].diff("step"), one["path_b"].diff("step"))
                                  .max()),
        }
        for path in dataset["path"].values
        for one in [dataset.sel(path=path)]
    ]  # fmt: skip


def thresholds(dataset: xr.Dataset) -> list[Row]:
    """One row a clip and threshold, over all starts; the first row is without a clip."""
    rows = [_over_starts("none", 0, float("nan"), dataset, "unclipped")]
    for clip in dataset["clip"].values:
        for level in range(dataset.sizes["level"]):
            one = dataset.sel(clip=clip).isel(level=level)
            rows.append(_over_starts(str(clip), level, float(one["threshold"]), one, "sweep"))
    return rows


def _over_starts(clip: str, level: int, threshold: float, one: xr.Dataset, prefix: str) -> Row:
    return {
        "clip": clip,
        "level": level,
        "threshold": threshold,
        "median_final_loss": float(one[f"{prefix}_final_loss"].median()),
        "mean_late_loss": float(one[f"{prefix}_late_loss"].mean()),
        "came_down": float(one[f"{prefix}_came_down"].mean()),
        "median_largest_jump": float(one[f"{prefix}_largest_jump"].median()),
        "largest_jump": float(one[f"{prefix}_largest_jump"].max()),
    }


def _evenly(levels: int) -> set[int]:
    return set(np.linspace(0, levels - 1, min(levels, SHOWN_LEVELS)).round().astype(int).tolist())
