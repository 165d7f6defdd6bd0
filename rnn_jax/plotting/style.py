"""One look for every figure: sizes, the colours of the cells, and how huge ranges are labelled.

Colours: Okabe & Ito (2008), then two of Tol's muted scheme (2018), which colour-blind readers tell
apart; each cell has a marker as well.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rnn_jax.files import written_whole

mpl.use("Agg")

_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#999933"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # fewer than colours: a second turn differs


def house_style() -> AbstractContextManager:
    """Return the context in which every figure is drawn and saved."""
    return mpl.rc_context(
        {
            "figure.dpi": 150,
            "savefig.bbox": "tight",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "image.interpolation": "nearest",
        }
    )


def series_style(index: int) -> dict[str, Any]:
    """Colour and marker of the index-th line of a figure: a cell, a clip, a variant."""
    return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}


def label_powers_of_ten(axis) -> None:
    """Label an axis that shows log10 values as powers of ten (ranges beyond what floats hold)."""
    low, high = axis.get_view_interval()
    if high - low < 2:  # room for two labels that differ
        middle = 0.5 * (low + high)
        axis.set_view_interval(middle - 1, middle + 1, ignore=True)
    axis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:.0f}}}$"))


def without_grid(axes: Axes) -> None:
    """Prepare axes for an image."""
    axes.grid(False)
    axes.tick_params(length=3)


def panel_grid(num_panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Lay out panels of that size (inches), two a row."""
    columns = min(2, num_panels)
    rows = -(-num_panels // columns)
    size = (width * columns + 1.0, height * rows + 0.6)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat[num_panels:]:
        axes.set_axis_off()
    return figure, list(grid.flat[:num_panels])


def save_figures(
    drawings: Mapping[str, Callable[[xr.Dataset], Figure]], dataset: xr.Dataset, folder: Path
) -> None:
    """Draw every figure as PNG into ``folder``, in the house's style; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with house_style():
        for name, draw in drawings.items():
            figure = draw(dataset)
            with written_whole(folder / f"{name}.png") as beside:
                figure.savefig(beside, format="png")
            plt.close(figure)
