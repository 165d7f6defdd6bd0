"""Dataset -> figures; nothing is computed here."""

from pathlib import Path

import xarray as xr

from rnn_jax.plotting import clipping, style
from rnn_jax.plotting import gradient_flow as figures

FIGURES = {
    "norm_against_time": figures.norm_against_time,
    "norm_by_weight_and_time": figures.norm_by_weight_and_time,
    "slope_against_weight": figures.slope_against_weight,
    "weight_share": figures.weight_share,
}
CLIP_FIGURES = {
    "clip_by_weight_and_time": clipping.clip_by_weight_and_time,
    "clip_against_weight": clipping.clip_against_weight,
}


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    chosen = FIGURES | CLIP_FIGURES if "clip" in dataset.dims else FIGURES
    style.save_figures(chosen, dataset, folder)
