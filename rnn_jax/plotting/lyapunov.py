"""Figures of Lyapunov exponents, from the dataset of ``experiments.lyapunov``.

All exponents and slopes are per step, natural logarithm.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rnn_jax.plotting.gates import DASHES
from rnn_jax.plotting.labels import cell_label, variant_label
from rnn_jax.plotting.style import panel_grid, series_style
from rnn_jax.plotting.training import (
    STEP_COLOURS,
    legend_above,
    limits,
    mean_of_known,
    network_style,
    ticks_at,
)

LOWEST_EXPONENT = -8.0  # drawn; the last of a spectrum are far below
LOWEST_AROUND_0 = -0.3  # drawn beside, where the positive ones are seen
_POINTS: dict[str, Any] = {"linestyle": "none", "markersize": 4, "alpha": 0.6}


def spectrum(dataset: xr.Dataset, networks: list[str]) -> Figure:
    """Draw the exponents against (i - ½) / N: a row a network, a line a gain; theory dashed.

    Left all of them, right those around 0.
    """
    size = (8.8, 3.4 * len(networks) + 0.8)
    figure, grid = plt.subplots(len(networks), 2, figsize=size, squeeze=False, layout="constrained")
    gains = dataset["gain"].values
    colours = STEP_COLOURS(np.linspace(0.0, 0.95, len(gains)) if len(gains) > 1 else [0.5])
    for (left, right), name in zip(grid, networks, strict=True):
        some = dataset.sel(network=name)
        place = (some["index"].values - 0.5) / float(some["size"])
        for gain, colour in zip(gains, colours, strict=True):
            of_seeds = some["exponents"].sel(gain=gain).transpose("seed", "index").values
            theory = some["theory_exponents"].sel(gain=gain).values
            for axes in (left, right):
                measured = mean_of_known(of_seeds)
                axes.plot(place, measured, color=colour, linewidth=1.8, label=f"g = {gain:g}")
                axes.plot(place, theory, color="black", linewidth=0.9, linestyle="--")
        for axes in (left, right):
            axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
            axes.set_ylabel("λ$_i$ per step")
        low, high = limits(some["exponents"].values, 0.1)
        around = some["exponents"].where(some["exponents"] > LOWEST_AROUND_0)
        most = place[around.notnull().any(["gain", "seed"]).values]
        left.set_ylim(max(low, LOWEST_EXPONENT), max(high, 0.1))
        right.set_ylim(LOWEST_AROUND_0, max(high, 0.1))
        right.set_xlim(0.0, float(most.max()) if most.size else 1.0)
        left.set_title(f"{variant_label(name)}, N = {int(some['size'])}")
        right.set_title("around 0")
    left.plot([], [], color="black", linewidth=0.9, linestyle="--", label="theory")
    legend_above(figure, left)
    figure.supxlabel("(i − ½) / N", fontsize=11)
    return figure


def largest_exponent(
    dataset: xr.Dataset, theories: Mapping[str, tuple[Callable[[float], float], float]]
) -> Figure:
    """Draw λ₁ against g: points a seed each, mean-field theory as lines, its edges marked.

    Args:
      dataset: of random networks.
      theories: network -> (λ₁ as a function of g, its edge of chaos).
    """
    figure, axes = plt.subplots(figsize=(6.8, 4.4), layout="constrained")
    gains = dataset["gain"].values
    dense = np.geomspace(gains.min() / 1.1, min(100.0, gains.max() * 1.1), 50)
    for i, (name, (theory, edge)) in enumerate(theories.items()):
        style = series_style(i)
        axes.plot(dense, list(map(theory, dense)), color=style["color"], linewidth=1.3)
        _draw_seeds(axes, dataset, name, style)
        if dense[0] < edge < dense[-1]:
            axes.axvline(edge, color=style["color"], linewidth=1.0, linestyle=":")
        axes.plot([], [], label=variant_label(name), linewidth=1.3, markersize=5, **style)
    _gain_axis(axes, gains)
    axes.set_xlabel("gain g")
    axes.set_ylabel("λ₁ per step")
    legend_above(figure, axes)
    return figure


def gated(dataset: xr.Dataset, networks: list[str]) -> Figure:
    """Draw λ₁ against g: a panel a cell, a line a beginning of it."""
    by_cell = _by_cell(networks)
    figure, panels = panel_grid(len(by_cell), 4.6, 3.4)
    gains = dataset["gain"].values
    for axes, (cell, names) in zip(panels, by_cell.items(), strict=True):
        for i, name in enumerate(names):
            style = _line(series_style(i), i)
            of_seeds = _largest(dataset, name, "gain")
            words = name.partition(" ")[2] or "its own bias"
            axes.plot(gains, mean_of_known(of_seeds), label=words, linewidth=1.4, **style)
            _draw_seeds(axes, dataset, name, style)
        _gain_axis(axes, gains)
        low, high = axes.get_ylim()
        legend_rows = -(-len(names) // 3)
        axes.set_ylim(low, high + 0.16 * legend_rows * (high - low))  # the legend stands above
        axes.set_title(cell_label(cell))
        axes.legend(fontsize=8.5, ncols=3, loc="upper center")
    figure.supxlabel("gain g", fontsize=11)
    figure.supylabel("λ₁ per step", fontsize=11)
    return figure


def slope(dataset: xr.Dataset) -> Figure:
    """Draw the gradient's slope against λ₁, a point a network and seed; their difference below."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(5.6, 6.6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    everything = dataset["exponents"].isel(index=0)
    for cell, names in _by_cell(map(str, dataset["network"].values)).items():
        x = everything.sel(network=names).values.ravel()
        y = dataset["slope"].sel(network=names).transpose(*everything.dims).values.ravel()
        x, y = (a[np.isfinite(x) & np.isfinite(y)] for a in (x, y))
        style = network_style(cell) | _POINTS
        above.plot(x, y, label=cell_label(cell), **style)
        below.plot(x, y - x, **style)
    ends = limits(everything.values, 0.05)
    above.plot(ends, ends, color="black", linewidth=0.9, linestyle="--", zorder=0)
    below.axhline(0.0, color="black", linewidth=0.9, linestyle="--", zorder=0)
    above.set_ylabel("slope of ln‖dL/dcarry$_t$‖ against T − t")
    below.set_ylabel("slope − λ₁")
    below.set_xlabel("λ₁ per step")
    legend_above(figure, above)
    return figure


def training(dataset: xr.Dataset, begins_below: float) -> Figure:
    """Draw λ₁, and below it loss / baseline, against updates: a line a network.

    A ring is the first measurement with a loss (mean over seeds) below ``begins_below``.
    """
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6.8, 6.4), sharex=True, layout="constrained"
    )
    updates = dataset["evaluation"].values
    for names in _by_cell(map(str, dataset["network"].values)).values():
        for i, name in enumerate(names):
            style = _line(network_style(name.split()[0]), i)
            losses = dataset["loss"].sel(network=name).transpose("seed", "evaluation").values
            begun = np.flatnonzero(mean_of_known(losses) < begins_below)[:1]
            for axes, of_seeds in ((above, _largest(dataset, name, "evaluation")), (below, losses)):
                for one in of_seeds:
                    axes.plot(updates, one, color=style["color"], linewidth=0.6, alpha=0.5)
                mean = mean_of_known(of_seeds)
                label = variant_label(name)
                axes.plot(updates, mean, label=label, linewidth=1.6, **style)
                ring: dict[str, Any] = {"color": style["color"], "markerfacecolor": "none"}
                axes.plot(updates[begun], mean[begun], "o", markersize=12, **ring)
    above.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
    above.set_ylabel("λ₁ per step")
    for level, dash in ((1.0, ":"), (begins_below, "--")):
        below.axhline(level, color="black", linewidth=0.8, linestyle=dash)
    below.set_yscale("log")
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    below.set_ylabel("held-out loss / baseline")
    below.set_xlabel("updates")
    legend_above(figure, above)
    return figure


def _largest(dataset: xr.Dataset, network: str, axis: str) -> np.ndarray:
    """Take λ₁ [seed, axis] of one network."""
    largest = dataset["exponents"].isel(index=0).sel(network=network)
    return largest.transpose("seed", axis).values


def _draw_seeds(axes: Axes, dataset: xr.Dataset, network: str, style: dict) -> None:
    """Draw λ₁ of every seed as a point."""
    of_seeds = _largest(dataset, network, "gain")
    x = np.tile(dataset["gain"].values, len(of_seeds))
    axes.plot(x, of_seeds.ravel(), **(style | _POINTS))


def _line(style: dict[str, Any], index: int) -> dict[str, Any]:
    return style | {"linestyle": DASHES[index % len(DASHES)], "markersize": 4}


def _gain_axis(axes: Axes, gains: np.ndarray) -> None:
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(gains.min() / 1.1, gains.max() * 1.1)
    ticks_at(axes, gains)


def _by_cell(networks: Iterable[str]) -> dict[str, list[str]]:
    by_cell: dict[str, list[str]] = {}
    for name in networks:
        by_cell.setdefault(name.split()[0], []).append(name)
    return by_cell
