"""Dataset -> how far back through time the gradient of the last token's loss reaches."""

import math

import numpy as np
import xarray as xr

from experiments.language_modelling.choice import chosen_rates, networks, of_point
from experiments.trained.reach import reach_of_training, top_layer
from rnn_jax.results import Row


def reach_rows(dataset: xr.Dataset, comparison: str) -> list[Row]:
    """Return one row a network whose gradient through time was measured; of the topmost layer.

    As in text classification: start_ and end_ steps (the furthest back at which a tenth of the last
    step's norm is left) and decades (log10 of the norm at t = 0 relative to the last step's), T of
    the measurement, seeds. start: nan unless the first row is from before training; end_tokens:
    read at the last measurement. point; model: its cell; window: T of its training.
    """
    if "log_carry_norm" not in dataset:
        return []
    rates, layer, rows = chosen_rates(dataset), top_layer(dataset), []
    for point in networks(dataset, comparison):
        place = {"point": point, "learning_rate": rates[point]}
        stopped_at = dataset["stopped_at"].sel(place).values
        found = reach_of_training(flow_curves(dataset, point, rates[point], layer), stopped_at)
        if found is None:
            continue
        last, reach = found
        tokens = dataset["row_tokens"].sel(point=point).values
        if tokens[0] != 0:
            reach |= {"start_steps": math.nan, "start_decades": math.nan}
        named = {"point": point, "model": of_point(dataset, "cell", point)} | {
            "window": int(of_point(dataset, "window", point)),
            "learning_rate": rates[point],
            "layer": layer,
        }
        rows.append(named | reach | {"end_tokens": float(tokens[last])})
    return rows


def flow_curves(dataset: xr.Dataset, point: str, rate: float, layer: str) -> np.ndarray:
    """Give ln ‖dL/dcarry_t‖ - ln ‖dL/dcarry_T‖ [seed, row, time]; nan where not known.

    First times that no row has are left out.
    """
    place = {"point": point, "learning_rate": rate, "layer": layer}
    flow = dataset["log_carry_norm"].sel(place).transpose("seed", "row", "time").values
    is_known = ~np.isnan(flow).all(axis=(0, 1))
    flow = flow[..., int(np.argmax(is_known)) :]
    with np.errstate(invalid="ignore"):  # -inf - -inf: the last step's gradient is zero
        return flow - flow[..., -1:]
