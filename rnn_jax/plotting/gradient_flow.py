"""Figures of a recurrent-weight sweep, from the dataset of ``experiments.gradient_flow``."""

import math

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rnn_jax.plotting.labels import cell_label
from rnn_jax.plotting.style import (
    label_powers_of_ten,
    panel_grid,
    series_style,
    without_grid,
)

LN10 = math.log(10.0)


def norm_against_time(dataset: xr.Dataset) -> Figure:
    """Draw the norm relative to the last step's against steps before the end, a line a weight."""
    figure, panels = _panels(dataset)
    weights = dataset["recurrent_weight"].values
    colours = ScalarMappable(Normalize(weights.min(), weights.max()), "viridis")
    relative = _relative_norm(dataset)
    steps_back = dataset.sizes["time"] - 1 - dataset["time"].values
    for axes, cell in panels:
        for weight in weights:
            curve = relative.sel(cell=cell, recurrent_weight=weight).values
            axes.plot(steps_back, curve, color=colours.to_rgba(weight), linewidth=1.3)
        axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        label_powers_of_ten(axes.yaxis)
    _label(figure, "steps before the end, T − t", "‖dL/dcarry$_t$‖ / ‖dL/dcarry$_T$‖")
    figure.colorbar(colours, ax=[axes for axes, _ in panels], label="recurrent weight w")
    figure.suptitle("Gradient norm through time (geometric mean over sequences and seeds)")
    return figure


def norm_by_weight_and_time(dataset: xr.Dataset) -> Figure:
    """Draw the relative norm as a heat map, weight × steps before the end."""
    relative = _relative_norm(dataset)
    finite = np.abs(relative.values[np.isfinite(relative.values)])
    limit = max(10.0, float(finite.max(initial=0.0)))
    relative = relative.clip(-limit, limit)  # a gradient of exactly zero is drawn as the lowest
    return _heat_maps(
        dataset,
        relative.sel(time=slice(None, None, -1)),
        SymLogNorm(linthresh=1.0, vmin=-limit, vmax=limit),
        "PuOr",
        "decades of ‖dL/dcarry$_t$‖ / ‖dL/dcarry$_T$‖",
        "Where the gradient vanishes (orange) and where it explodes (purple)",
    )


def slope_against_weight(dataset: xr.Dataset) -> Figure:
    """Draw the slope of the log-norm against the weight, its range over seeds, theory's line."""
    figure, axes = plt.subplots(figsize=(7.2, 4.6))
    weights = dataset["recurrent_weight"].values
    for i, cell in enumerate(dataset["cell"].values):
        slopes = dataset["slope"].sel(cell=cell).values
        slopes = np.where(np.isfinite(slopes), slopes, np.nan)
        mean, low, high = slopes.mean(axis=1), slopes.min(axis=1), slopes.max(axis=1)
        style = series_style(i)
        axes.plot(weights, mean, label=cell_label(cell), markersize=5, linewidth=1.3, **style)
        axes.fill_between(weights, low, high, color=style["color"], alpha=0.2, linewidth=0)
        theory = dataset["theory_slope"].sel(cell=cell).values
        relations = [r for r in dataset["theory_relation"].sel(cell=cell).values if r]
        if relations:
            words = {"=": "exact theory", "≈": "theory, large H", "≤": "upper bound"}
            label = f"{cell_label(cell)}: {words[str(relations[-1])]}"
            axes.plot(weights, theory, color="black", linestyle="--", linewidth=1.2, label=label)
    axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("recurrent weight w")
    axes.set_ylabel("slope of ln‖dL/dcarry$_t$‖ per step back (nat)")
    axes.set_title("Growth of the gradient per step (band: range over seeds)")
    has_room = len(dataset["cell"]) <= 5
    axes.legend(**{} if has_room else {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)})
    return figure


def weight_share(dataset: xr.Dataset) -> Figure:
    """Draw which steps dL/dw comes from: the part of Σ|share| in the last T - t + 1 steps."""
    shares = dataset["log_weight_share"].sel(step=slice(None, None, -1))
    sizes = xr.apply_ufunc(np.exp, shares - shares.max("step"))
    parts = (sizes.cumsum("step") / sizes.sum("step")).mean("seed")
    return _heat_maps(
        dataset,
        parts,
        Normalize(0.0, 1.0),
        "cividis",
        "part of Σ|share of dL/dw| up to here",
        "Which steps dL/dw comes from (white line: half of it)",
        half_line=True,
    )


def _relative_norm(dataset: xr.Dataset) -> xr.DataArray:
    """log10 of the norm relative to the last step's, mean over seeds."""
    log_norm = dataset["log_carry_norm"].mean("seed")
    return (log_norm - log_norm.isel(time=-1)) / LN10


def _panels(dataset: xr.Dataset):
    """One panel a cell, two a row; returns (figure, [(axes, cell)])."""
    cells = dataset["cell"].values
    figure, grid = panel_grid(len(cells), 4.2, 2.9)
    panels = list(zip(grid, cells, strict=True))
    for axes, cell in panels:
        axes.set_title(cell_label(cell))
    return figure, panels


def _heat_maps(dataset, values, norm, colours, label, title, half_line=False) -> Figure:
    """One image a cell: steps before the end across, weight upwards."""
    figure, panels = _panels(dataset)
    weights = dataset["recurrent_weight"].values
    order = np.argsort(weights)
    for axes, cell in panels:
        image = values.sel(cell=cell).transpose("recurrent_weight", ...).values[order]
        steps_back = np.arange(image.shape[1])
        drawn = axes.pcolormesh(
            steps_back, weights[order], image, norm=norm, cmap=colours, shading="nearest"
        )
        if half_line and min(image.shape) > 1:
            axes.contour(steps_back, weights[order], image, [0.5], colors="white", linewidths=1.5)
        if np.isnan(image).all():
            axes.text(0.5, 0.5, "nothing: dL/dw = 0", ha="center", transform=axes.transAxes)
        without_grid(axes)
    _label(figure, "steps before the end, T − t", "recurrent weight w")
    colour_bar = figure.colorbar(drawn, ax=[axes for axes, _ in panels], label=label)
    if isinstance(norm, SymLogNorm):
        colour_bar.ax.yaxis.set_major_formatter("{x:g}")
    if half_line:
        colour_bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.suptitle(title)
    return figure


def _label(figure: Figure, x_label: str, y_label: str) -> None:
    figure.supxlabel(x_label, fontsize=10)
    figure.supylabel(y_label, fontsize=10)
