"""Dataset -> how far back through time the gradient of each cell reaches, start and end."""

import numpy as np
import xarray as xr

from experiments.text_classification.choice import chosen_rates
from experiments.trained.reach import reach_of_training, top_layer
from rnn_jax.results import Row


def reach_rows(dataset: xr.Dataset) -> list[Row]:
    """Return one row a recurrent network: its gradient through time before and after training.

    Of the topmost layer at the chosen learning rate; ln of the norm is averaged over the seeds that
    did not stop, over all where all did.
    stage: start (before the first step) or end (each seed's last measurement) heads the keys:
    _steps: the furthest step back at which at least a tenth of the last step's norm is left, at
    most T; _decades: log10 of the norm at the initial carry relative to the last step's. T;
    end_step: the latest step of those measurements; seeds: how many those are.
    """
    if "log_carry_norm" not in dataset:
        return []
    rows, layer = [], top_layer(dataset)
    for network, rate in chosen_rates(dataset).items():
        curves = flow_curves(dataset, network, rate, layer)
        stopped_at = dataset["stopped_at"].sel(model=network, learning_rate=rate).values
        found = reach_of_training(curves, stopped_at)
        if found is None:
            continue
        last, reach = found
        row = {"model": network, "learning_rate": rate, "layer": layer}
        end = {"end_step": int(dataset["flow_step"].values[last]), "seeds": reach.pop("seeds")}
        rows.append(row | reach | end)
    return rows


def flow_curves(dataset: xr.Dataset, network: str, rate: float, layer: str) -> np.ndarray:
    """Give ln ‖dL/dcarry_t‖ - ln ‖dL/dcarry_T‖ [seed, flow_row, time]; nan where not known."""
    point = {"model": network, "learning_rate": rate, "layer": layer}
    flow = dataset["log_carry_norm"].sel(point).transpose("seed", "flow_row", "time").values
    with np.errstate(invalid="ignore"):  # -inf - -inf: the last step's gradient is zero
        return flow - flow[..., -1:]
