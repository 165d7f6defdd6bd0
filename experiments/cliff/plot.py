"""Dataset -> figures; nothing is computed here."""

from pathlib import Path

import xarray as xr

from rnn_jax.plotting import cliff as figures
from rnn_jax.plotting import style

FIGURES = {
    "surface_plane": figures.surface_plane,
    "surface_3d": figures.surface_3d,
    "gradient_norm_plane": figures.gradient_norm_plane,
    "thresholds": figures.thresholds,
}


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    style.save_figures(FIGURES, dataset, folder)
