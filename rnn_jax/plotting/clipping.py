"""Figures of what clips leave of a gradient, from the dataset of ``experiments.gradient_flow``."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rnn_jax.plotting.labels import cell_label
from rnn_jax.plotting.style import series_style, without_grid

LINES = ("-", "--", ":", "-.")
LABELS = {"none": "no clip", "value": "by value", "global-norm": "by global norm"}
LABELS["per-step"] = "per step"


def clip_by_weight_and_time(dataset: xr.Dataset) -> Figure:
    """Draw what is left of each step's part of the gradient: a row a cell, a column a clip."""
    threshold = _middle_threshold(dataset)
    cells, clips = dataset["cell"].values, dataset["clip"].values
    figure, grid = plt.subplots(
        len(cells),
        len(clips),
        figsize=(2.6 * len(clips) + 1.4, 2.1 * len(cells) + 0.9),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    norms = dataset["step_norm"].sel(threshold=threshold)
    with np.errstate(divide="ignore"):
        logs = xr.apply_ufunc(np.log10, norms).mean("seed").sortby("recurrent_weight")
    logs = logs.sel(step=slice(None, None, -1)).clip(-10, 10)
    steps_back = np.arange(dataset.sizes["step"])
    for row, cell in zip(grid, cells, strict=True):
        for axes, clip in zip(row, clips, strict=True):
            image = logs.sel(cell=cell, clip=clip).transpose("recurrent_weight", "step")
            weights = image["recurrent_weight"].values
            drawn = axes.pcolormesh(
                steps_back, weights, image, norm=Normalize(-10, 10), cmap="PuOr", shading="nearest"
            )
            without_grid(axes)
            axes.set_title(f"{cell_label(cell)}, {LABELS[clip]}", fontsize=9)
    figure.supxlabel("steps before the end, T − t", fontsize=10)
    figure.supylabel("recurrent weight w", fontsize=10)
    bar = figure.colorbar(
        drawn, ax=grid, label="log$_{10}$ of the norm of step t's part", aspect=35
    )
    bar.ax.set_yticks([-10, -5, 0, 5, 10], ["≤ −10", "−5", "0", "5", "≥ 10"])
    figure.suptitle(f"What a clip at {threshold:g} leaves of each step's part of dL/dparams")
    return figure


def clip_against_weight(dataset: xr.Dataset) -> Figure:
    """Draw the gradient's norm and how far it is turned against w: colour a clip, dashes a c."""
    cells = dataset["cell"].values
    figure, grid = plt.subplots(
        2,
        len(cells),
        figsize=(2.9 * len(cells) + 1.0, 5.6),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    means = dataset[["norm_before", "norm_after", "clip_angle"]].sortby("recurrent_weight")
    weights = means["recurrent_weight"].values
    for column, cell in zip(grid.T, cells, strict=True):
        of_cell = means.sel(cell=cell)
        before = _geometric_mean(of_cell["norm_before"].isel(clip=0, threshold=0))
        column[0].plot(weights, before, color="black", linewidth=1.5, label="before")
        for i, clip in enumerate(c for c in dataset["clip"].values if c != "none"):
            for line, threshold in zip(LINES, dataset["threshold"].values, strict=False):
                point = of_cell.sel(clip=clip, threshold=threshold)
                style = {**series_style(i), "linestyle": line, "markersize": 3, "linewidth": 1.2}
                label = f"{LABELS[clip]}, c = {threshold:g}"
                after = _geometric_mean(point["norm_after"])
                column[0].plot(weights, after, label=label, **style)
                column[1].plot(weights, np.degrees(point["clip_angle"].mean("seed")), **style)
        column[0].set_yscale("log")
        column[0].set_title(cell_label(cell))
        column[0].set_ylim(0.3, 1e9)  # the norm before the clip goes on: its size is in the tables
        column[1].set_ylim(-4, 94)
    grid[0, 0].set_ylabel("‖dL/dparams‖ (cut off at 10$^9$)")
    grid[1, 0].set_ylabel("angle turned (degrees)")
    figure.supxlabel("recurrent weight w", fontsize=10)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=9.5)
    figure.suptitle("The gradient by the parameters, before and after a clip at c")
    return figure


def _middle_threshold(dataset: xr.Dataset) -> float:
    thresholds = np.sort(dataset["threshold"].values)
    return float(thresholds[len(thresholds) // 2])


def _geometric_mean(norms: xr.DataArray) -> xr.DataArray:
    """Over seeds: norms span decades."""
    with np.errstate(divide="ignore"):
        logs = xr.apply_ufunc(np.log, norms)
    return xr.apply_ufunc(np.exp, logs.mean("seed"))
