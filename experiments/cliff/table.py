"""Dataset -> tables: the exact points, the paths, the thresholds; CSVs hold every digit."""

import numpy as np
import xarray as xr

from rnn_jax import results

Row = dict[str, str | float | int | bool]
SHOWN_LEVELS = 9  # of the thresholds, in the terminal; the CSV holds all


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
    rows = [_over_starts("none", float("nan"), dataset, "unclipped")]
    for clip in dataset["clip"].values:
        for level in range(dataset.sizes["level"]):
            one = dataset.sel(clip=clip).isel(level=level)
            rows.append(_over_starts(str(clip), float(one["threshold"]), one, "sweep"))
    return rows


def _over_starts(clip: str, threshold: float, one: xr.Dataset, prefix: str) -> Row:
    return {
        "clip": clip,
        "threshold": threshold,
        "median_final_loss": float(one[f"{prefix}_final_loss"].median()),
        "mean_late_loss": float(one[f"{prefix}_late_loss"].mean()),
        "came_down": float(one[f"{prefix}_came_down"].mean()),
        "median_largest_jump": float(one[f"{prefix}_largest_jump"].median()),
        "largest_jump": float(one[f"{prefix}_largest_jump"].max()),
    }


def files(dataset: xr.Dataset) -> dict[str, str]:
    """Write the tables as CSV."""
    tables = (points, paths, path_ends, thresholds)
    return {f"{rows.__name__}.csv": results.to_csv(rows(dataset)) for rows in tables}


def to_rich(dataset: xr.Dataset):
    """Lay the tables out for a terminal; of the thresholds some, evenly spaced."""
    from rich.console import Group

    swept = thresholds(dataset)
    levels = dataset.sizes["level"]
    kept = set(np.linspace(0, levels - 1, min(levels, SHOWN_LEVELS)).round().astype(int))
    some = [row for i, row in enumerate(swept) if i == 0 or (i - 1) % levels in kept]
    return Group(
        _layout("Points with known values", POINT_COLUMNS, points(dataset)),
        _layout("Paths from one start", PATH_COLUMNS, path_ends(dataset)),
        _layout(
            "Thresholds: median last E, mean late E, share down, median and largest jump",
            THRESHOLD_COLUMNS,
            some,
        ),
    )


# column: (heading, format)
POINT_COLUMNS = {
    "w": ("w", "g"),
    "b": ("b", ".5f"),
    "state": ("x_T", ".4f"),
    "loss": ("E", ".5f"),
    "state_by_bias": ("dx_T/db", ".4e"),
    "loss_by_weight": ("dE/dw", ".4e"),
    "loss_by_bias": ("dE/db", ".4e"),
}
PATH_COLUMNS = {
    "clip": ("clip", ""),
    "w": ("last w", ".3f"),
    "b": ("last b", ".3f"),
    "final_loss": ("last E", ".2e"),
    "largest_norm": ("largest ‖g‖", ".3g"),
    "largest_jump": ("largest jump", ".3g"),
}
THRESHOLD_COLUMNS = {
    "clip": ("clip", ""),
    "threshold": ("threshold", ".3g"),
    "median_final_loss": ("last E", ".2e"),
    "mean_late_loss": ("late E", ".2e"),
    "came_down": ("down", ".0%"),
    "median_largest_jump": ("jump", ".3g"),
    "largest_jump": ("largest", ".3g"),
}


def _layout(title: str, columns: dict[str, tuple[str, str]], rows: list[Row]):
    from rich.table import Table

    layout = Table(title=title)
    for name, (heading, _) in columns.items():
        layout.add_column(heading, justify="left" if name == "clip" else "right")
    for i, row in enumerate(rows):
        ends = "threshold" in row and i + 1 < len(rows) and rows[i + 1]["clip"] != row["clip"]
        cells = [_cell(row[name], form) for name, (_, form) in columns.items()]
        layout.add_row(*cells, end_section=ends)
    return layout


def _cell(value, form: str) -> str:
    return "–" if value != value else format(value, form)
