"""Dataset -> figures; nothing is computed here."""

from pathlib import Path

import xarray as xr

from rnn_jax.plotting import one_unit as figures
from rnn_jax.plotting.style import house_style

FIGURES = {
    "product_along_text": figures.product_along_text,
    "growing_weight": figures.growing_weight,
    "training": figures.training,
}


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    """Draw every figure as PNG into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with house_style():
        for name, draw in FIGURES.items():
            draw(dataset).savefig(folder / f"{name}.png", dpi=90)
