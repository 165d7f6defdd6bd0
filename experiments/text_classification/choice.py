"""Which models there are, and which learning rate of each is shown.

It is chosen on the validation split: the highest mean over seeds of the validation accuracy at the
best epoch, where a training without one counts as 0; of equals the lowest rate. The test split
chooses nothing.
"""

import numpy as np
import xarray as xr

from experiments.text_classification.config import CONVOLUTION, YARDSTICKS
from rnn_jax.cells import CELLS, gate_names


def networks(dataset: xr.Dataset) -> list[str]:
    """List the models that are trained step by step."""
    return [str(model) for model in dataset["model"].values if model not in YARDSTICKS]


def gated_cells(dataset: xr.Dataset) -> list[str]:
    """List the recurrent networks with gates: with more than a candidate."""
    recurrent = [name for name in networks(dataset) if name != CONVOLUTION]
    return [name for name in recurrent if gate_names(CELLS[name](1)) != ("candidate",)]


def chosen_rates(dataset: xr.Dataset) -> dict[str, float]:
    """Choose the learning rate of every network; the rule is the module's."""
    chosen = {}
    rates = np.sort(dataset["learning_rate"].values)
    for network in networks(dataset):
        accuracy = dataset["best_validation_accuracy"].sel(model=network, learning_rate=rates)
        of_seeds = np.nan_to_num(accuracy.transpose("learning_rate", "seed").values)
        chosen[network] = float(rates[np.argmax(of_seeds.mean(axis=1))])
    return chosen
