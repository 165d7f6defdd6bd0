"""Figures of text classifiers that learn, from the dataset of ``experiments.text_classification``.

``rates`` is the learning rate shown of each network, by its name: which lines there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from rnn_jax.plotting.labels import cell_label
from rnn_jax.plotting.style import label_powers_of_ten, panel_grid
from rnn_jax.plotting.training import (
    flow_panels,
    layer_label,
    legend_above,
    limits,
    line_and_seeds,
    mean_of_all,
    mean_of_known,
    network_style,
    relative_decades,
    ticks_at,
    whole_trainings,
)


def learning_curves(dataset: xr.Dataset, rates: Mapping[str, float]) -> Figure:
    """Draw validation accuracy against epoch, and training loss against step, a line a network."""
    figure, (accuracy, loss) = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    epochs, steps = dataset["epoch"].values, dataset["row_step"].values
    stops, largest = [], 0.0
    for network, rate in rates.items():
        style, is_whole = network_style(network), _whole(dataset, network, rate)
        of_seeds = _of_seeds(dataset, "validation_accuracy", network, rate, "epoch")
        line_and_seeds(accuracy, epochs, of_seeds, is_whole, style, label=cell_label(network))
        of_seeds = _of_seeds(dataset, "loss", network, rate, "row")
        line_and_seeds(loss, steps, of_seeds, is_whole, {**style, "marker": None})
        stopped_at = dataset["stopped_at"].sel(model=network, learning_rate=rate).values
        for curve, is_stopped in zip(of_seeds, np.isfinite(stopped_at), strict=True):
            known = np.flatnonzero(np.isfinite(curve))
            if is_stopped and len(known):
                stops.append((steps[known[-1]], curve[known[-1]], style["color"]))
            elif len(known):
                largest = max(largest, curve[known].max())
    if stops and 0 < 2 * largest < loss.get_ylim()[1]:  # what exploded does not hide the others
        loss.set_ylim(-0.08 * largest, 2 * largest)
    for step, value, colour in stops:
        loss.plot(step, min(value, loss.get_ylim()[1]), color=colour, clip_on=False, **_CROSS)
    for i, name in enumerate(str(m) for m in dataset["model"].values if m not in rates):
        values = dataset["best_validation_accuracy"].sel(model=name).values
        if np.isfinite(values).any():
            style = {"color": ("black", "dimgray")[i % 2], "linestyle": ("--", ":")[i % 2]}
            accuracy.axhline(values[np.isfinite(values)][0], linewidth=1.5, label=name, **style)
    if stops:
        accuracy.plot([], [], color="black", label="stopped (right)", **_CROSS)
    accuracy.yaxis.set_major_formatter(FuncFormatter(_percent))
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    accuracy.set_xlabel("epoch")
    accuracy.set_ylabel("accuracy on the validation split")
    loss.set_xlim(0, 1.02 * steps[-1])
    loss.set_xlabel("training step")
    loss.set_ylabel("training loss (nat per text)")
    legend_above(figure, accuracy)
    return figure


def gradient_flow(dataset: xr.Dataset, rates: Mapping[str, float], layer: str) -> Figure:
    """Draw ‖dL/dcarry_t‖ relative to the last step's against T - t: a panel a cell.

    A line a training step; the mean of the logarithm over the seeds that did not stop.
    """
    curves = {cell_label(name): _flow(dataset, name, rate, layer) for name, rate in rates.items()}
    steps_back = dataset["time"].values[-1] - dataset["time"].values
    figure, panels = flow_panels(curves, steps_back, dataset["flow_step"].values, "training step")
    for axes in panels:
        axes.set_xlim(-0.02 * steps_back[0], 1.02 * steps_back[0])
    place = layer_label(dataset.sizes["layer"], layer)
    figure.suptitle(f"Gradient through time as the network learns, {place}")
    return figure


def gradient_norm(dataset: xr.Dataset, rates: Mapping[str, float]) -> Figure:
    """Draw the norm of the whole gradient before and after the clip: a panel a network."""
    figure, panels = panel_grid(len(rates), 4.4, 2.8)
    steps = dataset["row_step"].values
    norms = {
        network: [
            _log10(_of_seeds(dataset, f"gradient_norm_{place}_clip", network, rate, "row"))
            for place in ("before", "after")
        ]
        for network, rate in rates.items()
    }
    every = np.concatenate([norm.ravel() for pair in norms.values() for norm in pair])
    of_whole = [
        norm[_whole(dataset, n, rates[n])].ravel() for n, pair in norms.items() for norm in pair
    ]
    low, high = limits(np.concatenate(of_whole), 0.15)
    # a training that exploded and stopped leaves the picture, so that the others are seen
    low, high = max(low - 2, limits(every, 0.15)[0]), min(high + 2, limits(every, 0.15)[1])
    for axes, (network, (before, after)) in zip(panels, norms.items(), strict=True):
        style = {"color": network_style(network)["color"], "marker": None}
        is_whole = _whole(dataset, network, rates[network])
        line_and_seeds(axes, steps, before, is_whole, style)
        axes.plot(steps, mean_of_all(after[is_whole]), color="black", linestyle="--", linewidth=1.3)
        axes.set_title(cell_label(network))
        axes.set_xlim(0, 1.02 * steps[-1])
        axes.set_ylim(low, high)
        label_powers_of_ten(axes.yaxis)
    handles = [
        plt.Line2D([], [], color="dimgray", linewidth=1.8, label="before the clip"),
        plt.Line2D([], [], color="black", linestyle="--", linewidth=1.3, label="after the clip"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    figure.supxlabel("training step", fontsize=11)
    figure.supylabel("norm of the whole gradient", fontsize=11)
    return figure


def time_against_length(dataset: xr.Dataset) -> Figure:
    """Draw the time of a training step against the length of the texts, with its range."""
    figure, axes = plt.subplots(figsize=(6.8, 4.8), layout="constrained")
    seconds = dataset["step_seconds"].sortby("text_length")
    lengths = seconds["text_length"].values
    for network in map(str, seconds["timed_model"].values):
        of_turns = 1e3 * seconds.sel(timed_model=network).transpose("turn", "text_length").values
        of_turns = of_turns[np.isfinite(of_turns).all(axis=1)]
        if not len(of_turns):
            continue
        middle = np.median(of_turns, axis=0)
        errors = np.stack([middle - of_turns.min(axis=0), of_turns.max(axis=0) - middle])
        style: dict[str, Any] = {
            **network_style(network),
            "markersize": 5,
            "linewidth": 1.5,
            "capsize": 3,
        }
        axes.errorbar(lengths, middle, errors, label=cell_label(network), **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks_at(axes, lengths)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("length of the texts T (steps)")
    axes.set_ylabel(f"ms per training step of {seconds.attrs['batch_size']} texts")
    device, backend = str(seconds.attrs["device"]), str(seconds.attrs["backend"]).upper()
    axes.set_title(f"On {backend if device.upper() == backend else device}", fontsize=11)
    legend_above(figure, axes)
    return figure


def accuracy_by_rate(dataset: xr.Dataset, networks: Sequence[str]) -> Figure:
    """Draw validation accuracy at the best epoch against learning rate: points are seeds."""
    figure, axes = plt.subplots(figsize=(6.8, 4.8), layout="constrained")
    dataset = dataset.sortby("learning_rate")
    rates = dataset["learning_rate"].values
    for i, network in enumerate(networks):
        accuracy = dataset["best_validation_accuracy"].sel(model=network)
        of_seeds = accuracy.transpose("seed", "learning_rate").values
        beside = rates * 1.035 ** (i - 0.5 * (len(networks) - 1))  # points do not hide each other
        style = network_style(network)
        points: dict[str, Any] = {**style, "linestyle": "none", "markersize": 4.5, "alpha": 0.55}
        axes.plot(np.tile(beside, len(of_seeds)), of_seeds.ravel(), **points)
        means = mean_of_known(of_seeds)
        axes.plot(beside, means, color=style["color"], linewidth=1.6)
        if len(rates) == 1:  # no line is seen
            axes.plot(beside, means, color=style["color"], marker="_", markersize=16)
        axes.plot([], [], label=cell_label(network), linewidth=1.6, markersize=5, **style)
    axes.set_xscale("log")
    axes.set_xlim(rates.min() / 1.3, rates.max() * 1.3)
    ticks_at(axes, rates)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlabel("learning rate (before the schedule lowers it)")
    axes.set_ylabel("accuracy on the validation split, best epoch")
    legend_above(figure, axes)
    return figure


_CROSS: dict[str, Any] = {"marker": "x", "markersize": 9, "markeredgewidth": 2, "linestyle": "none"}


def _whole(dataset: xr.Dataset, network: str, rate: float) -> np.ndarray:
    return whole_trainings(dataset["stopped_at"].sel(model=network, learning_rate=rate).values)


def _of_seeds(dataset: xr.Dataset, name: str, network: str, rate: float, along: str) -> np.ndarray:
    one = dataset[name].sel(model=network, learning_rate=rate)
    return one.transpose("seed", along).values


def _flow(dataset: xr.Dataset, network: str, rate: float, layer: str) -> np.ndarray:
    """Relative norm in decades [flow_row, time]; nan where it is zero or not known."""
    point = {"model": network, "learning_rate": rate, "layer": layer}
    flow = dataset["log_carry_norm"].sel(point).transpose("seed", "flow_row", "time").values
    return relative_decades(flow, _whole(dataset, network, rate))


def _log10(values: np.ndarray) -> np.ndarray:
    is_shown = np.isfinite(values) & (values > 0)
    return np.where(is_shown, np.log10(np.where(is_shown, values, 1.0)), np.nan)


def _percent(fraction: float, _: int) -> str:
    return f"{100 * fraction:.4g} %"
