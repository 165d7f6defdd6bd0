"""Dataset -> figures; nothing is computed here."""

import json
from pathlib import Path

import xarray as xr

from rnn_jax.plotting import gates as figures
from rnn_jax.plotting.style import house_style


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    """Draw every figure as PNG into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = json.loads(dataset.attrs["config"])["shown_weight"]
    with house_style():
        drawn = {
            "constant_error": figures.constant_error(dataset),
            "efold_against_weight": figures.efold_against_weight(dataset),
            "norm_by_variant": figures.norm_by_variant(dataset, weight),
            "gate_means": figures.gate_means(dataset, weight),
        }
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png")
