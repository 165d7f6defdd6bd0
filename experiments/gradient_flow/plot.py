"""Dataset -> figures; nothing is computed here."""

from pathlib import Path

import xarray as xr

from rnn_jax.plotting import gradient_flow as figures
from rnn_jax.plotting.style import house_style

FIGURES = {
    "norm_against_time": figures.norm_against_time,
    "norm_by_weight_and_time": figures.norm_by_weight_and_time,
    "slope_against_weight": figures.slope_against_weight,
    "weight_share": figures.weight_share,
}


def save_figures(dataset: xr.Dataset, folder: Path) -> None:
    """Draw every figure as PNG into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with house_style():
        for name, draw in FIGURES.items():
            draw(dataset).savefig(folder / f"{name}.png")
