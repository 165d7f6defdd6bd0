"""Figures of the loss cliff of one unit, from the dataset of ``experiments.cliff``."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rnn_jax.plotting.style import label_powers_of_ten, series_style, without_grid

STYLES = {  # clip: colour, marker and dash
    "none": {**series_style(6), "linestyle": ":"},
    "value": {**series_style(1), "linestyle": "--"},
    "global-norm": {**series_style(0), "linestyle": "-"},
    "percentile": {**series_style(2), "linestyle": "-."},
}
LABELS = {
    "none": "no clip",
    "value": "by value",
    "global-norm": "by global norm",
    "percentile": "by percentile of the norms",
}


def surface_plane(dataset: xr.Dataset) -> Figure:
    """Draw the loss in the (w, b) plane, the wall, and each path in a panel of its own."""
    figure, grid = plt.subplots(
        2, 2, figsize=(9.0, 7.2), sharex=True, sharey=True, layout="constrained"
    )
    for axes, clip in zip(grid.flat, dataset["path"].values, strict=True):
        image = _image(axes, dataset["surface_loss"], "bias", "Greys", vmin=0.0)
        wall = dataset["wall"].values
        axes.plot(dataset["weight"].values, wall, color="#CC79A7", linestyle="--", linewidth=1.2)
        w, b, loss = _path(dataset, clip)
        style = STYLES[clip]
        axes.plot(w, b, color=style["color"], linewidth=0.7)
        axes.plot(w, b, color=style["color"], marker=style["marker"], markersize=3, linestyle="")
        axes.plot(w[0], b[0], "o", color="white", markeredgecolor="black", markersize=9)
        _mark_leaving(axes, w, b)
        jump = np.hypot(np.diff(w), np.diff(b)).max(initial=0.0)
        axes.set_title(
            f"{LABELS[clip]}\nlast E = {loss[-1]:.1e}, largest jump = {jump:.2g}", fontsize=10
        )
    figure.supxlabel("recurrent weight w", fontsize=10)
    figure.supylabel("bias b", fontsize=10)
    figure.colorbar(image, ax=grid, label="loss E = (σ(x$_T$) − 0.7)²")
    figure.suptitle(
        "Descent beside the wall (dashed line); the same start (circle), rate and steps"
    )
    return figure


def surface_3d(dataset: xr.Dataset) -> Figure:
    """Draw the loss as a surface, and on it two paths as far as they stay over the grid."""
    figure = plt.figure(figsize=(8.0, 6.2), layout="constrained")
    axes = figure.add_subplot(projection="3d", computed_zorder=False)
    w, b = np.meshgrid(dataset["weight"].values, dataset["bias"].values, indexing="ij")
    axes.plot_surface(
        w, b, dataset["surface_loss"].values, cmap="cividis", alpha=0.85, linewidth=0,
        rcount=100, ccount=100, zorder=0,
    )  # fmt: skip
    for order, clip in enumerate(("global-norm", "none")):  # more would hide each other
        at_w, at_b, loss = _path(dataset, clip)
        outside = _outside(dataset, at_w, at_b)
        at_w, at_b, loss = (np.where(outside, np.nan, a) for a in (at_w, at_b, loss))
        style = {**STYLES[clip], "linestyle": "-", "linewidth": 0.5, "markersize": 4}
        axes.plot(at_w, at_b, loss, label=LABELS[clip], zorder=1 + order, **style)
    axes.set_xlabel("w")
    axes.set_ylabel("b")
    axes.set_zlabel("loss E")
    axes.view_init(elev=38, azim=-60)
    axes.legend(loc="upper left")
    axes.set_title("The wall, and the paths while they stay here")
    return figure


def gradient_norm_plane(dataset: xr.Dataset) -> Figure:
    """Draw log10 of the gradient norm: in the (w, b) plane, and against distance from the wall."""
    figure, (plane, near) = plt.subplots(1, 2, figsize=(10.0, 4.4), layout="constrained")
    both = [_finite(dataset["surface_log_norm"]), _finite(dataset["near_log_norm"])]
    limits = {
        "vmin": max(-4.0, min(float(values.min()) for values in both)),
        "vmax": max(float(values.max()) for values in both),
    }
    _image(plane, both[0], "bias", "cividis", **limits)
    plane.set_ylabel("bias b")
    plane.set_title("The plane: the wall is thinner than a pixel", fontsize=10)
    image = _image(near, both[1], "distance", "cividis", **limits)
    near.set_yscale("symlog", linthresh=1e-9, linscale=0.5)
    near.set_yticks([-1e-1, -1e-3, -1e-5, -1e-7, 0, 1e-7, 1e-5, 1e-3, 1e-1])
    near.set_ylabel("distance from the wall, b − b*(w)")
    near.set_title("Beside the wall, distance on a logarithmic scale", fontsize=10)
    bar = figure.colorbar(image, ax=[plane, near], label="gradient norm ‖(dE/dw, dE/db)‖")
    label_powers_of_ten(bar.ax.yaxis)
    figure.supxlabel("recurrent weight w", fontsize=10)
    return figure


def thresholds(dataset: xr.Dataset) -> Figure:
    """Draw final loss, share that came down and largest jump against the threshold."""
    figure, grid = plt.subplots(
        3, 2, figsize=(9.0, 9.0), sharex="col", sharey="row", layout="constrained"
    )
    rows = {
        "final_loss": "last loss E (band: quartiles)",
        "came_down": "share of starts that came down",
        "largest_jump": "largest jump (band: quartiles)",
    }
    for axes_row, (name, label) in zip(grid, rows.items(), strict=True):
        for axes, clips in zip(axes_row, (("value", "global-norm"), ("percentile",)), strict=True):
            for clip in clips:
                one = dataset.sel(clip=clip)
                _draw_levels(axes, one["threshold"].values, one[f"sweep_{name}"].values, clip)
            _draw_reference(axes, dataset[f"unclipped_{name}"].values)
            axes.set_yscale("linear" if name == "came_down" else "log")
        axes_row[0].set_ylabel(label)
    for axes in grid[1]:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    grid[0, 0].set_xscale("log")
    grid[2, 0].set_xlabel("threshold c")
    grid[2, 1].set_xlabel("percentile of the last norms")
    drawn = [line for axes in grid[1] for line in axes.get_lines()]
    lines = {line.get_label(): line for line in drawn}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
    figure.suptitle("Clips against their thresholds (lines: median or share over all starts)")
    return figure


def _image(axes, values: xr.DataArray, upwards: str, colours: str, **limits):
    """Draw an image over w and the dimension ``upwards``."""
    w, y = values["weight"].values, values[upwards].values
    drawn = axes.pcolormesh(
        w, y, values.transpose(upwards, "weight").values, cmap=colours, shading="nearest", **limits
    )
    axes.set_xlim(w.min(), w.max())
    axes.set_ylim(y.min(), y.max())
    without_grid(axes)
    return drawn


def _finite(values: xr.DataArray) -> xr.DataArray:
    return values.where(np.isfinite(values))


def _path(dataset: xr.Dataset, clip) -> list[np.ndarray]:
    one = dataset.sel(path=clip)
    return [one[f"path_{name}"].values for name in ("w", "b", "loss")]


def _mark_leaving(axes, w: np.ndarray, b: np.ndarray) -> None:
    """Say where a path ends that leaves the picture."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    if left <= w[-1] <= right and low <= b[-1] <= high:
        axes.plot(w[-1], b[-1], "*", color="#E69F00", markeredgecolor="black", markersize=13)
        return
    axes.text(
        0.97, 0.04, f"thrown off to w = {w[-1]:.1f}, b = {b[-1]:.1f}",
        transform=axes.transAxes, ha="right", va="bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9},
    )  # fmt: skip


def _outside(dataset: xr.Dataset, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Find the steps that are not over the grid."""
    (left, right), (low, high) = (dataset[name].values[[0, -1]] for name in ("weight", "bias"))
    return (w < left) | (w > right) | (b < low) | (b > high)


def _draw_levels(axes, levels: np.ndarray, values: np.ndarray, clip: str) -> None:
    """Draw [level, start]: a share as it is, else the median and a band of quartiles."""
    style = {**STYLES[clip], "label": LABELS[clip], "markersize": 4, "linewidth": 1.3}
    if values.dtype == bool:
        axes.plot(levels, values.mean(axis=1), **style)
        return
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1)
    axes.plot(levels, middle, **style)
    axes.fill_between(levels, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _draw_reference(axes, values: np.ndarray) -> None:
    """Draw the unclipped starts: a line across."""
    middle = values.mean() if values.dtype == bool else np.median(values)
    axes.axhline(middle, color="black", linestyle=":", linewidth=1.6, label=LABELS["none"])
