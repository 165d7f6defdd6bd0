"""Figures of one recurrent unit on text, from the dataset of ``experiments.one_unit``."""

import math

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from rnn_jax.plotting.style import label_powers_of_ten, series_style

LN10 = math.log(10.0)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
CLIP_LABELS = {"none": "no clip", "value": "by value", "global-norm": "by global norm",
               "percentile": "by percentile"}  # fmt: skip


def product_along_text(dataset: xr.Dataset) -> Figure:
    """Draw h_t, the factors w f'(a_t) and their product dh_T/dh_t under each symbol of the text."""
    figure, panels = plt.subplots(3, 1, figsize=(7.6, 7.2), sharex=True, layout="constrained")
    time, step = dataset["time"].values, dataset["step"].values
    for i, stage in enumerate(dataset["stage"].values):
        at = dataset.sel(stage=stage)
        style = series_style(i) | {"linestyle": DASHES[i]}
        label = f"{stage}, w = {float(at['weight']):.2f}"
        panels[0].plot(time, at["hidden"], label=label, **style)
        panels[1].plot(step, at["factor"], **style)
        panels[2].plot(time, at["log_product"] / LN10, **style)
    panels[1].axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    panels[0].set_ylabel("state $h_t$")
    panels[1].set_ylabel("factor $w\\,f'(a_t)$")
    panels[2].set_ylabel("product $|dh_T/dh_t|$")
    label_powers_of_ten(panels[2].yaxis)
    words = [str(word).replace("$", r"\$") for word in dataset["symbol"].values]
    panels[2].set_xticks(time, ["$h_0$", *words], fontsize=9)
    panels[2].set_xlabel("symbol read at step t")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def growing_weight(dataset: xr.Dataset) -> Figure:
    """Draw |dh_T/dh_t| against T - t, a line a weight, a panel an f and drive."""
    drives = dataset["drive"].values
    cases = [(f, drives[0]) for f in dataset["activation"].values]
    cases += [("tanh", drive) for drive in drives[1:] if ("tanh", drives[0]) in cases]
    rows = -(-len(cases) // 2)
    figure, grid = plt.subplots(
        rows, 2, figsize=(8.2, 2.7 * rows + 0.9), squeeze=False, sharex=True, layout="constrained"
    )
    for axes in grid.flat[len(cases) :]:
        axes.set_axis_off()
    steps_back = dataset["long_time"].values[::-1]
    weights = _few(dataset["recurrent_weight"].values)
    for axes, (activation, drive) in zip(grid.flat, cases, strict=False):
        curves = dataset["long_log_gradient"].sel(activation=activation, drive=drive) / LN10
        for i, weight in enumerate(weights):
            values = curves.sel(recurrent_weight=weight).values
            values = np.where(np.isfinite(values), values, np.nan)
            style = series_style(i) | {"linestyle": DASHES[i], "markersize": 4}
            every = max(1, len(values) // 6)
            axes.plot(steps_back, values, label=f"w = {weight:g}", markevery=every, **style)
        axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        axes.set_title(_case(activation, drive), fontsize=10)
        label_powers_of_ten(axes.yaxis)
    figure.supxlabel("steps before the end, T − t", fontsize=10)
    figure.supylabel("$|dh_T/dh_t|$", fontsize=10)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(weights), fontsize=9)
    return figure


def training(dataset: xr.Dataset) -> Figure:
    """Draw held-out accuracy and training loss, a line a clip, a column a learning rate."""
    activations, rates = dataset["trained_activation"].values, dataset["learning_rate"].values
    figure, grid = plt.subplots(
        2 * len(activations), len(rates), figsize=(2.1 * len(rates) + 1.6, 3.6 * len(activations)),
        squeeze=False, sharex=True, sharey="row", layout="constrained",
    )  # fmt: skip
    for i, activation in enumerate(activations):
        for j, rate in enumerate(rates):
            at = dataset.sel(trained_activation=activation, learning_rate=rate)
            _curves(grid[2 * i, j], at, "accuracy")
            _curves(grid[2 * i + 1, j], at, "loss")
            grid[2 * i, j].axhline(float(dataset["majority"]), color="black", linestyle=":")
            grid[2 * i, j].set_title(f"{activation}, rate {rate:g}", fontsize=10)
            grid[2 * i, j].set_ylim(0.4, 1.03)
        grid[2 * i, 0].set_ylabel("accuracy")
        grid[2 * i + 1, 0].set_ylabel("loss (nat)")
        grid[2 * i + 1, 0].set_yscale("log")
        grid[2 * i + 1, 0].set_ylim(3e-4, 30)
    figure.supxlabel("updates", fontsize=10)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(handles[0]), fontsize=9)
    return figure


def _curves(axes, at: xr.Dataset, name: str) -> None:
    """Draw the mean over seeds that did not overflow (loss), or over all (accuracy)."""
    updates = at["update"].values
    for i, clip in enumerate(at["clipping"].values):
        curve = at[name].sel(clipping=clip).mean("seed", skipna=True).values
        label = CLIP_LABELS.get(str(clip), str(clip))
        style = series_style(i) | {"linestyle": DASHES[i], "markersize": 4}
        axes.plot(updates, curve, label=label, markevery=(i, max(1, len(updates) // 4)), **style)


def _few(weights: np.ndarray, most: int = len(DASHES)) -> np.ndarray:
    """Pick at most so many weights, evenly, first and last among them."""
    if len(weights) <= most:
        return weights
    return weights[np.unique(np.linspace(0, len(weights) - 1, most).round().astype(int))]


def _case(activation: str, drive: float) -> str:
    text = {1.0: "driven by the text", 0.0: "at rest: $z_t = h_0 = 0$"}
    return f"{activation}, {text.get(float(drive), f'text × {drive:g}')}"
