"""Figures of text classifiers that learn, from the dataset of ``experiments.text_classification``.

``rates`` is the learning rate shown of each network, by its name: which lines there are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from rnn_jax.plotting.labels import cell_label
from rnn_jax.plotting.style import label_powers_of_ten, panel_grid, series_style

LN10 = math.log(10.0)
NETWORKS = ("elman", "lstm", "gru", "sru", "convolution")  # one colour each in every figure
MOST_CURVES = 6  # training steps of a panel
LEAST_DECADE = -60.0  # below this a gradient is not drawn
# without its yellow end, which is hard to see on white
STEP_COLOURS = ListedColormap(plt.get_cmap("viridis")(np.linspace(0.0, 0.88, 256)))


def learning_curves(dataset: xr.Dataset, rates: Mapping[str, float]) -> Figure:
    """Draw validation accuracy against epoch, and training loss against step, a line a network."""
    figure, (accuracy, loss) = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    epochs, steps = dataset["epoch"].values, dataset["row_step"].values
    stops, largest = [], 0.0
    for network, rate in rates.items():
        style, is_whole = _style(network), _whole(dataset, network, rate)
        of_seeds = _of_seeds(dataset, "validation_accuracy", network, rate, "epoch")
        _line_and_seeds(accuracy, epochs, of_seeds, is_whole, style, label=cell_label(network))
        of_seeds = _of_seeds(dataset, "loss", network, rate, "row")
        _line_and_seeds(loss, steps, of_seeds, is_whole, {**style, "marker": None})
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
    _legend_above(figure, accuracy)
    return figure


def gradient_flow(dataset: xr.Dataset, rates: Mapping[str, float], layer: str) -> Figure:
    """Draw ‖dL/dcarry_t‖ relative to the last step's against T - t: a panel a cell.

    A line a training step; the mean of the logarithm over the seeds that did not stop.
    """
    curves = {name: _flow(dataset, name, rate, layer) for name, rate in rates.items()}
    curves = {name: lines for name, lines in curves.items() if np.isfinite(lines).any()}
    figure, panels = panel_grid(max(1, len(curves)), 4.4, 3.1)
    steps = dataset["flow_step"].values
    shown = np.unique(np.linspace(0, len(steps) - 1, MOST_CURVES).round().astype(int))
    colours = ScalarMappable(Normalize(0, max(1, steps[-1])), STEP_COLOURS)
    steps_back = dataset["time"].values[-1] - dataset["time"].values
    drawn = [lines[shown] for lines in curves.values()]
    low, high = _limits(np.concatenate([d.ravel() for d in drawn])) if drawn else (-1.0, 1.0)
    for axes, (network, lines) in zip(panels, curves.items(), strict=False):
        for i in shown:
            axes.plot(steps_back, lines[i], color=colours.to_rgba(steps[i]), linewidth=1.5)
        axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        axes.set_xlim(-0.02 * steps_back[0], 1.02 * steps_back[0])
        axes.set_ylim(low, high)
        label_powers_of_ten(axes.yaxis)
        axes.set_title(cell_label(network))
    bar = figure.colorbar(colours, ax=panels, label="training step", aspect=30)
    bar.set_ticks(steps[shown])
    figure.supxlabel("steps before the end, T − t", fontsize=11)
    figure.supylabel("‖dL/dcarry$_t$‖ / ‖dL/dcarry$_T$‖", fontsize=11)
    figure.suptitle(f"Gradient through time as the network learns, {_layer(dataset, layer)}")
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
    whole = [
        norm[_whole(dataset, n, rates[n])].ravel() for n, pair in norms.items() for norm in pair
    ]
    low, high = _limits(np.concatenate(whole), 0.15)
    # a training that exploded and stopped leaves the picture, so that the others are seen
    low, high = max(low - 2, _limits(every, 0.15)[0]), min(high + 2, _limits(every, 0.15)[1])
    for axes, (network, (before, after)) in zip(panels, norms.items(), strict=True):
        style = {"color": _style(network)["color"], "marker": None}
        is_whole = _whole(dataset, network, rates[network])
        _line_and_seeds(axes, steps, before, is_whole, style)
        axes.plot(steps, _mean(after[is_whole]), color="black", linestyle="--", linewidth=1.3)
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
        style: dict[str, Any] = {**_style(network), "markersize": 5, "linewidth": 1.5, "capsize": 3}
        axes.errorbar(lengths, middle, errors, label=cell_label(network), **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _ticks_at(axes, lengths)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("length of the texts T (steps)")
    axes.set_ylabel(f"ms per training step of {seconds.attrs['batch_size']} texts")
    device, backend = str(seconds.attrs["device"]), str(seconds.attrs["backend"]).upper()
    axes.set_title(f"On {backend if device.upper() == backend else device}", fontsize=11)
    _legend_above(figure, axes)
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
        style = _style(network)
        points: dict[str, Any] = {**style, "linestyle": "none", "markersize": 4.5, "alpha": 0.55}
        axes.plot(np.tile(beside, len(of_seeds)), of_seeds.ravel(), **points)
        means = _mean_of_known(of_seeds)
        axes.plot(beside, means, color=style["color"], linewidth=1.6)
        if len(rates) == 1:  # no line is seen
            axes.plot(beside, means, color=style["color"], marker="_", markersize=16)
        axes.plot([], [], label=cell_label(network), linewidth=1.6, markersize=5, **style)
    axes.set_xscale("log")
    axes.set_xlim(rates.min() / 1.3, rates.max() * 1.3)
    _ticks_at(axes, rates)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlabel("learning rate (before the schedule lowers it)")
    axes.set_ylabel("accuracy on the validation split, best epoch")
    _legend_above(figure, axes)
    return figure


_CROSS: dict[str, Any] = {"marker": "x", "markersize": 9, "markeredgewidth": 2, "linestyle": "none"}


def _style(network: str) -> dict[str, Any]:
    """Colour and marker, the same in every figure; a cell of one's own comes after ours."""
    return series_style(NETWORKS.index(network) if network in NETWORKS else len(NETWORKS))


def _line_and_seeds(
    axes: Axes, x, of_seeds: np.ndarray, is_whole: np.ndarray, style: dict, label: str = ""
) -> None:
    """Draw the mean over whole trainings, and each of several seeds [seed, x] as a thin line."""
    if len(of_seeds) > 1:
        for curve in of_seeds:
            axes.plot(x, curve, color=style["color"], linewidth=0.7, alpha=0.45)
    axes.plot(x, _mean(of_seeds[is_whole]), label=label, linewidth=1.8, markersize=5, **style)


def _whole(dataset: xr.Dataset, network: str, rate: float) -> np.ndarray:
    """Mark the seeds [seed] that a mean is over: it would jump where one of them stopped.

    All of them where all stopped: their mean ends with the first.
    """
    is_whole = np.isnan(dataset["stopped_at"].sel(model=network, learning_rate=rate).values)
    return is_whole if is_whole.any() else ~is_whole


def _of_seeds(dataset: xr.Dataset, name: str, network: str, rate: float, along: str) -> np.ndarray:
    one = dataset[name].sel(model=network, learning_rate=rate)
    return one.transpose("seed", along).values


def _mean(of_seeds: np.ndarray) -> np.ndarray:
    """Average over seeds, the first axis; nan where one of them is not finite."""
    return np.where(np.isfinite(of_seeds), of_seeds, np.nan).mean(axis=0)


def _mean_of_known(of_seeds: np.ndarray) -> np.ndarray:
    """Average over the seeds that have a value; nan where none has."""
    counts = np.isfinite(of_seeds).sum(axis=0)
    total = np.where(np.isfinite(of_seeds), of_seeds, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _flow(dataset: xr.Dataset, network: str, rate: float, layer: str) -> np.ndarray:
    """Relative norm in decades [flow_row, time]; nan where it is zero or not known."""
    point = {"model": network, "learning_rate": rate, "layer": layer}
    flow = dataset["log_carry_norm"].sel(point).transpose("seed", "flow_row", "time").values / LN10
    flow = np.where(np.isfinite(flow), flow, np.nan)[_whole(dataset, network, rate)]
    decades = _mean(flow - flow[..., -1:])
    return np.where(decades < LEAST_DECADE, np.nan, decades)


def _limits(values: np.ndarray, margin: float = 0.5) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return -1.0, 1.0
    return float(known.min()) - margin, float(known.max()) + margin


def _log10(values: np.ndarray) -> np.ndarray:
    is_shown = np.isfinite(values) & (values > 0)
    return np.where(is_shown, np.log10(np.where(is_shown, values, 1.0)), np.nan)


def _percent(fraction: float, _: int) -> str:
    return f"{100 * fraction:.4g} %"


def _layer(dataset: xr.Dataset, layer: str) -> str:
    return "the recurrent layer" if dataset.sizes["layer"] == 1 else f"layer {layer}"


def _ticks_at(axes: Axes, places: np.ndarray) -> None:
    """Label a logarithmic x axis at these places alone."""
    axes.xaxis.set_major_locator(FixedLocator(places.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend_above(figure: Figure, axes: Axes) -> None:
    """Put the legend of the axes above the figure, where no data are."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 5 if figure.get_figwidth() < 9 else 8) or 1
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)
