"""Dataset -> figures; nothing is computed here."""

import json
from functools import partial

import xarray as xr

from experiments.experiment import Picture


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn; curves over time at the shown weight."""
    from rnn_jax.plotting import gates as figures

    weight = json.loads(dataset.attrs["config"])["shown_weight"]
    return {
        "constant_error": Picture(
            "LSTM without recurrent product: dc_T/dc_t against steps before the end, a marker a "
            "constant forget gate f, the line f^(T-t) beside. Only f = 1 loses nothing.",
            figures.constant_error,
        ),
        "efold_against_weight": Picture(
            "Steps in which the gradient changes by a factor e, against the recurrent weight w: a "
            "panel a cell, a line a variant; high is far. Hollow markers: there it grows.",
            figures.efold_against_weight,
        ),
        "norm_by_variant": Picture(
            f"Gradient norm relative to the last step's against steps before the end, at "
            f"w = {weight:g}: a panel a cell, a line a variant.",
            partial(figures.norm_by_variant, weight=weight),
        ),
        "gate_means": Picture(
            f"Mean of the gate that keeps the state (GRU: update) at every step, "
            f"at w = {weight:g}: 1 keeps the whole state, 0 nothing of it.",
            partial(figures.gate_means, weight=weight),
        ),
    }
