"""Dataset -> figures; nothing is computed here."""

from pathlib import Path

import xarray as xr

from rnn_jax.plotting import one_unit as figures
from rnn_jax.plotting import style

FIGURES = {
    "product_along_text": figures.product_along_text,
    "growing_weight": figures.growing_weight,
    "training": figures.training,
}


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    style.save_figures(FIGURES, dataset, folder)
