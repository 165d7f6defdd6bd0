"""Figures of language models that learn; ``experiments.language_modelling`` says what is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rnn_jax.plotting.training import (
    flow_panels,
    legend_above,
    limits,
    line_and_seeds,
    mean_of_all,
    mean_of_known,
    network_style,
    relative_decades,
    ticks_at,
)

BITS = "bits per byte"
LEAST_GAP = 0.055  # between the labels of level lines, of the height of the axes
LOWEST_DECADE = -16.0  # a gradient that falls further leaves the picture, so that others are seen
LEVELS: tuple[dict[str, Any], ...] = (
    {"color": "black", "linestyle": "--"},
    {"color": "dimgray", "linestyle": ":"},
    {"color": "dimgray", "linestyle": "-."},
    {"color": "black", "linestyle": (0, (1, 3))},
)


class Curve(NamedTuple):
    """A quantity of one network by something that grows, or by window."""

    label: str
    cell: str  # its colour
    x: np.ndarray  # [n]
    of_seeds: np.ndarray  # [seed, n]
    is_whole: np.ndarray  # [seed] bool: the mean is over these


class Flow(NamedTuple):
    """The gradient through time of one network as it learns."""

    title: str
    log_norms: np.ndarray  # [seed, measurement, time], ln ‖dL/dcarry_t‖
    is_whole: np.ndarray  # [seed] bool: the mean is over these
    window: int  # of its training


def learning_curves(
    panels: Mapping[str, Sequence[Curve]], levels: Mapping[str, float], ylabel: str
) -> Figure:
    """Draw bits per byte as networks learn: a panel by what x is, a colour a cell.

    Args:
      panels: label of x to the curves over it; x is logarithmic and what is not positive left out.
      levels: name to the height of a labelled level line.
      ylabel: of all panels.
    """
    width = 5.0 * len(panels) + 1.2
    figure, row = plt.subplots(
        1, len(panels), figsize=(width, 4.8), layout="constrained", sharey=True, squeeze=False
    )
    for axes, (xlabel, curves) in zip(row[0], panels.items(), strict=True):
        for curve in curves:
            kept, style = curve.x > 0, network_style(curve.cell)
            x, of_seeds = curve.x[kept], curve.of_seeds[:, kept]
            line_and_seeds(axes, x, of_seeds, curve.is_whole, style, label=curve.label)
        for style, height in zip(_level_styles(len(levels)), levels.values(), strict=True):
            axes.axhline(height, linewidth=1.3, **style)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(_count))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(xlabel)
    every = [curve for curves in panels.values() for curve in curves]
    row[0][0].set_ylim(*_range_of(every, levels))
    row[0][0].set_ylabel(ylabel)
    _name_levels(row[0][-1], levels)
    first = next((axes for axes in row[0] if axes.get_legend_handles_labels()[1]), None)
    if first is not None:
        legend_above(figure, first)
    return figure


def windows(curves: Sequence[Curve]) -> Figure:
    """Draw bits per byte of the test split against the window: points are seeds."""
    figure, axes = plt.subplots(figsize=(6.8, 4.6), layout="constrained")
    for curve in curves:
        style = network_style(curve.cell)
        points: dict[str, Any] = {**style, "linestyle": "none", "markersize": 4.5, "alpha": 0.55}
        axes.plot(np.tile(curve.x, len(curve.of_seeds)), curve.of_seeds.ravel(), **points)
        axes.plot(curve.x, mean_of_known(curve.of_seeds), color=style["color"], linewidth=1.6)
        axes.plot([], [], label=curve.label, linewidth=1.6, markersize=5, **style)
    axes.set_xscale("log", base=2)
    ticks_at(axes, np.unique(np.concatenate([curve.x for curve in curves])))
    axes.set_xlabel("window T of truncated backpropagation (tokens)")
    axes.set_ylabel(f"{BITS}, test split")
    legend_above(figure, axes)
    return figure


def gradient_flow(flows: Sequence[Flow], tokens: np.ndarray, title: str) -> Figure:
    """Draw ‖dL/dcarry_t‖ relative to the last step's against T - t, log-log: a panel a network.

    Args:
      flows: what is drawn; the mean of the logarithm is over whole seeds.
      tokens: read at each measurement [measurement], the colour of a line.
      title: of the figure.
    """
    decades = {flow.title: relative_decades(flow.log_norms, flow.is_whole) for flow in flows}
    steps_back = np.arange(flows[0].log_norms.shape[-1])[::-1]
    kept = steps_back > 0  # of the last step itself it is 1
    drawn = {name: lines[:, kept] for name, lines in decades.items()}
    marks = np.array([float(f"{number:.3g}") for number in tokens / 1e6])
    figure, panels = flow_panels(drawn, steps_back[kept], marks, "tokens read (millions)")
    shown = [flow for flow in flows if np.isfinite(drawn[flow.title]).any()]
    for axes, flow in zip(panels, shown, strict=False):
        axes.set_xscale("log")
        axes.set_xlim(0.93, 1.07 * steps_back[0])
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, LOWEST_DECADE), high)
        if flow.window < steps_back[0]:
            axes.axvline(flow.window, color="dimgray", linewidth=1.2, linestyle="--")
            is_right = flow.window > steps_back[0] ** 0.5
            axes.annotate(
                f"window {flow.window}",
                (flow.window, 0.03),
                xytext=(-4 if is_right else 4, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color="dimgray",
                fontsize=9,
                ha="right" if is_right else "left",
            )
    figure.suptitle(title)
    return figure


def _range_of(curves: Sequence[Curve], levels: Mapping[str, float]) -> tuple[float, float]:
    """Leave out the first falls, which would press together all that comes after them."""
    means = [mean_of_all(curve.of_seeds[curve.is_whole]) for curve in curves]
    means = [mean[np.isfinite(mean)] for mean in means]
    late = [mean[1:] if len(mean) > 2 else mean for mean in means]  # the fall, not its first step
    low, high = limits(np.concatenate([*late, [*levels.values()], [np.nan]]), 0.0)
    margin = 0.06 * max(high - low, 0.1)
    return low - margin, high + margin


def _level_styles(number: int) -> list[dict[str, Any]]:
    return [LEVELS[i % len(LEVELS)] for i in range(number)]


def _name_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Write the names to the right of the axes, moved apart where lines lie close."""
    low, high = axes.get_ylim()
    styles = dict(zip(levels, _level_styles(len(levels)), strict=True))
    names = sorted(levels, key=lambda name: levels[name])
    heights = np.array([(levels[name] - low) / (high - low) for name in names])
    for name, at in zip(names, _apart(heights), strict=True):
        colour = styles[name]["color"]
        axes.annotate(
            f"{name} {levels[name]:.2f}",
            (1.0, levels[name]),
            xytext=(1.05, at),
            xycoords=("axes fraction", "data"),
            textcoords="axes fraction",
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1,
                        "shrinkB": 0, "relpos": (0.0, 0.5)},
        )  # fmt: skip


def _apart(heights: np.ndarray) -> np.ndarray:
    """Move sorted heights as little as keeps LEAST_GAP: the mean of pushing up and of pushing down.

    Both keep the gap, and so does their mean.
    """
    up, down = heights.copy(), heights.copy()
    for i in range(1, len(heights)):
        up[i] = max(up[i], up[i - 1] + LEAST_GAP)
        down[-1 - i] = min(down[-1 - i], down[-i] - LEAST_GAP)
    return 0.5 * (up + down)


def _count(number: float, _: int) -> str:
    """Write 2000000 as 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"
