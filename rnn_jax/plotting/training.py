"""What figures of trainings share: means over seeds, colours, limits, ticks and legends."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnn_jax.plotting.style import label_powers_of_ten, panel_grid, series_style

NETWORKS = (  # one colour and marker each in every figure
    *("elman", "lstm", "gru", "sru", "convolution"),
    *("indrnn", "min_gru", "leaky_rnn", "cifg_lstm", "layer_norm_lstm"),
)
MOST_CURVES = 6  # measurements of a panel
LEAST_DECADE = -60.0  # below this a gradient is not drawn
# without its yellow end, which is hard to see on white
STEP_COLOURS = ListedColormap(plt.get_cmap("viridis")(np.linspace(0.0, 0.88, 256)))


def network_style(network: str) -> dict[str, Any]:
    """Colour and marker, the same in every figure; a cell of one's own comes after ours."""
    return series_style(NETWORKS.index(network) if network in NETWORKS else len(NETWORKS))


def line_and_seeds(
    axes: Axes, x, of_seeds: np.ndarray, is_whole: np.ndarray, style: dict, label: str = ""
) -> None:
    """Draw the mean over whole trainings, and each of several seeds [seed, x] as a thin line."""
    if len(of_seeds) > 1:
        for curve in of_seeds:
            axes.plot(x, curve, color=style["color"], linewidth=0.7, alpha=0.45)
    axes.plot(x, mean_of_all(of_seeds[is_whole]), label=label, linewidth=1.8, markersize=5, **style)


def whole_trainings(stopped_at: np.ndarray) -> np.ndarray:
    """Mark the seeds [seed] that a mean is over: it would jump where one of them stopped.

    All of them where all stopped: their mean ends with the first.
    """
    is_whole = np.isnan(stopped_at)
    return is_whole if is_whole.any() else ~is_whole


def mean_of_all(of_seeds: np.ndarray) -> np.ndarray:
    """Average over seeds, the first axis; nan where one of them is not finite."""
    return np.where(np.isfinite(of_seeds), of_seeds, np.nan).mean(axis=0)


def mean_of_known(of_seeds: np.ndarray) -> np.ndarray:
    """Average over the seeds that have a value; nan where none has."""
    counts = np.isfinite(of_seeds).sum(axis=0)
    total = np.where(np.isfinite(of_seeds), of_seeds, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def relative_decades(log_norms: np.ndarray, is_whole: np.ndarray) -> np.ndarray:
    """Average log10 of the norm relative to the last step's, from ln [seed, ..., time].

    nan where it is zero, not known, or below LEAST_DECADE.
    """
    flow = log_norms / np.log(10.0)
    flow = np.where(np.isfinite(flow), flow, np.nan)[is_whole]
    decades = mean_of_all(flow - flow[..., -1:])
    return np.where(decades < LEAST_DECADE, np.nan, decades)


def flow_panels(
    curves: Mapping[str, np.ndarray], steps_back: np.ndarray, marks: np.ndarray, mark: str
) -> tuple[Figure, list[Axes]]:
    """Draw relative norms in decades against T - t: a panel each, a line a measurement.

    Args:
      curves: title to [measurement, time]; one that is nan throughout has no panel.
      steps_back: T - t [time].
      marks: [measurement], what the colour of a line says.
      mark: what that is, for the colour bar.
    """
    curves = {title: lines for title, lines in curves.items() if np.isfinite(lines).any()}
    figure, panels = panel_grid(max(1, len(curves)), 4.4, 3.1)
    shown = np.unique(np.linspace(0, len(marks) - 1, MOST_CURVES).round().astype(int))
    colours = ScalarMappable(Normalize(0, marks[-1] or 1), STEP_COLOURS)
    drawn = [lines[shown] for lines in curves.values()]
    low, high = limits(np.concatenate([d.ravel() for d in drawn])) if drawn else (-1.0, 1.0)
    for axes, (title, lines) in zip(panels, curves.items(), strict=False):
        for i in shown:
            axes.plot(steps_back, lines[i], color=colours.to_rgba(marks[i]), linewidth=1.5)
        axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(low, high)
        label_powers_of_ten(axes.yaxis)
        axes.set_title(title)
    bar = figure.colorbar(colours, ax=panels, label=mark, aspect=30)
    bar.set_ticks(marks[shown], labels=[f"{value:g}" for value in marks[shown]])
    figure.supxlabel("steps before the end, T − t", fontsize=11)
    figure.supylabel("‖dL/dcarry$_t$‖ / ‖dL/dcarry$_T$‖", fontsize=11)
    return figure, panels


def limits(values: np.ndarray, margin: float = 0.5) -> tuple[float, float]:
    """Enclose what is finite, with a margin."""
    known = values[np.isfinite(values)]
    if not known.size:
        return -1.0, 1.0
    return float(known.min()) - margin, float(known.max()) + margin


def ticks_at(axes: Axes, places: np.ndarray) -> None:
    """Label a logarithmic x axis at these places alone."""
    axes.xaxis.set_major_locator(FixedLocator(places.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put the legend of the axes above the figure, where no data are."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 5 if figure.get_figwidth() < 9 else 8) or 1
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def layer_label(num_layers: int, layer: str) -> str:
    """Name a recurrent layer; the only one needs no number."""
    return "the recurrent layer" if num_layers == 1 else f"layer {layer}"
