"""Dataset -> figures; nothing is computed here."""

import json
from functools import partial
from pathlib import Path

import xarray as xr

from rnn_jax.plotting import gates as figures
from rnn_jax.plotting import style


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    weight = json.loads(dataset.attrs["config"])["shown_weight"]
    drawings = {
        "constant_error": figures.constant_error,
        "efold_against_weight": figures.efold_against_weight,
        "norm_by_variant": partial(figures.norm_by_variant, weight=weight),
        "gate_means": partial(figures.gate_means, weight=weight),
    }
    style.save_figures(drawings, dataset, folder)
