"""Figures of held gates and gate biases, from the dataset of ``experiments.gates``."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from rnn_jax.plotting.labels import cell_label
from rnn_jax.plotting.style import label_powers_of_ten, panel_grid, series_style

LN10 = math.log(10.0)
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))


def constant_error(dataset: xr.Dataset) -> Figure:
    """Draw dc_T/dc_t against T - t for constant forget gates, and f^(T-t) beside."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    steps_back = _steps_back(dataset)
    every = max(1, len(steps_back) // 12)
    for i, forget in enumerate(dataset["forget"].values):
        point = dataset.sel(forget=forget)
        measured, theory = point["carousel"].values / LN10, point["carousel_theory"].values / LN10
        style: dict[str, Any] = {**series_style(i), "linestyle": "none", "markersize": 5}
        axes.plot(steps_back, theory, color="black", linewidth=0.9)
        axes.plot(steps_back[::every], measured[::every], label=f"f = {forget:g}", **style)
    axes.plot([], [], color="black", linewidth=0.9, label="f$^{T−t}$")
    label_powers_of_ten(axes.yaxis)
    axes.set_xlabel("steps before the end, T − t")
    axes.set_ylabel("‖dL/dc$_t$‖ / ‖dL/dc$_T$‖")
    axes.set_title("LSTM without recurrent product, constant forget gate")
    axes.legend()
    return figure


def efold_against_weight(dataset: xr.Dataset) -> Figure:
    """Draw the steps per factor e, 1 / |slope|, against w: a panel a cell, a line a variant."""
    figure, panels = _panels(dataset)
    weights = dataset["recurrent_weight"].values
    slopes = dataset["slope"].mean("seed")
    for axes, cell, variants in panels:
        for i, variant in enumerate(variants):
            slope = slopes.sel(variant=variant).values
            steps = 1.0 / np.maximum(np.abs(slope), 1e-4)
            style = _line(i)
            axes.plot(weights, steps, label=_label(variant), **style)
            grows = slope > 0
            hollow = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
            axes.plot(weights[grows], steps[grows], markerfacecolor="white", markersize=5, **hollow)
        axes.set_yscale("log")
        axes.set_ylim(0.3, 3e6)  # the legend stands above
        axes.set_yticks(10.0 ** np.arange(0, 5))
        axes.set_title(cell_label(cell))
        axes.legend(fontsize=8.5, ncols=3, loc="upper center")
    figure.supxlabel("recurrent weight w", fontsize=10)
    figure.supylabel("steps per factor e, 1 / |slope| (cut off at 10$^4$)", fontsize=10)
    figure.suptitle(
        "How far the gradient reaches (filled: it vanishes or stays, hollow: it explodes)"
    )
    return figure


def norm_by_variant(dataset: xr.Dataset, weight: float) -> Figure:
    """Draw the norm relative to the last step's against T - t at one weight."""
    figure, panels = _panels(dataset)
    log_norm = dataset["log_carry_norm"].sel(recurrent_weight=weight).mean("seed")
    relative = (log_norm - log_norm.isel(time=-1)) / LN10
    steps_back = _steps_back(dataset)
    for axes, cell, variants in panels:
        for i, variant in enumerate(variants):
            style = {**_line(i), "marker": None}
            axes.plot(steps_back, relative.sel(variant=variant), label=_label(variant), **style)
        axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        label_powers_of_ten(axes.yaxis)
        axes.set_title(cell_label(cell))
        axes.legend(fontsize=8.5, ncols=2)
    figure.supxlabel("steps before the end, T − t", fontsize=10)
    figure.supylabel("‖dL/dcarry$_t$‖ / ‖dL/dcarry$_T$‖", fontsize=10)
    figure.suptitle(f"Gradient norm through time at w = {weight:g}")
    return figure


def gate_means(dataset: xr.Dataset, weight: float) -> Figure:
    """Draw the mean of the gate that keeps the state over time: a panel a cell."""
    figure, panels = _panels(dataset)
    means = dataset["gate_mean"].sel(recurrent_weight=weight).mean("seed")
    for axes, cell, variants in panels:
        names = [g for g in ("forget", "update") if _has(means, variants[0], g)]
        if not names:
            axes.set_axis_off()
            axes.text(
                0.5, 0.5, f"{cell_label(cell)}: no such gate", ha="center", transform=axes.transAxes
            )
            continue
        for i, variant in enumerate(variants):
            style = {**_line(i), "marker": None}
            curve = means.sel(variant=variant, gate=names[0])
            axes.plot(dataset["step"], curve, label=_label(variant), **style)
        axes.set_title(f"{cell_label(cell)}: {names[0]}")
        axes.set_ylim(-0.5, 1.05)  # the legend stands below
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.legend(fontsize=8.5, ncols=2)
    figure.supxlabel("step t", fontsize=10)
    figure.supylabel("mean over units and sequences", fontsize=10)
    figure.suptitle(f"The gate that keeps the state, at w = {weight:g}")
    return figure


def _panels(dataset: xr.Dataset):
    """One panel a cell: (figure, [(axes, cell, its variants)])."""
    by_cell: dict[str, list[str]] = {}
    for variant in map(str, dataset["variant"].values):
        by_cell.setdefault(variant.split()[0], []).append(variant)
    figure, grid = panel_grid(len(by_cell), 4.8, 3.2)
    return figure, [(a, c, v) for a, (c, v) in zip(grid, by_cell.items(), strict=True)]


def _line(index: int) -> dict:
    dash = DASHES[index % len(DASHES)]
    return {**series_style(index), "linestyle": dash, "markersize": 4, "linewidth": 1.4}


def _label(variant: str) -> str:
    cell, _, settings = variant.partition(" ")
    return settings or f"{cell_label(cell)}, free"


def _has(means: xr.DataArray, variant: str, gate: str) -> bool:
    if gate not in means["gate"].values:
        return False
    return bool(np.isfinite(means.sel(variant=variant, gate=gate)).any())


def _steps_back(dataset: xr.Dataset) -> np.ndarray:
    return dataset.sizes["time"] - 1 - dataset["time"].values
