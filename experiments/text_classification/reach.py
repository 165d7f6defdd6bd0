"""Dataset -> how far back through time the gradient of each cell reaches, start and end."""

import math

import numpy as np
import xarray as xr

from experiments.text_classification.choice import chosen_rates
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Column, Row, Table

LEFT = 0.1  # the gradient reaches as far back as at least this part of the last step's is left


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


def reach_of_training(curves: np.ndarray, stopped_at: np.ndarray) -> tuple[int, Row] | None:
    """Measure the reach before and after training, of the seeds that did not stop.

    Args:
      curves: ``ln ‖dL/dcarry_t‖ - ln ‖dL/dcarry_T‖`` [seed, measurement, time].
      stopped_at: [seed], nan of those that did not stop; where all did, all of them count.
    Returns:
      The latest of each seed's last measurement, and T, start_ and end_ steps and decades, seeds;
      None where nothing is known.
    """
    is_known = np.asarray(~np.isnan(curves).any(axis=-1))  # [seed, measurement]
    is_kept = np.asarray(is_known.any(axis=1))
    if not is_kept.any():
        return None
    if (is_kept & np.isnan(stopped_at)).any():
        is_kept = is_kept & np.isnan(stopped_at)
    curves, is_known = curves[is_kept], is_known[is_kept]
    last = [int(np.flatnonzero(known)[-1]) for known in is_known]
    ends = curves[np.arange(len(last)), last]
    row: Row = {"T": curves.shape[-1] - 1}
    for stage, of_seeds in (("start", curves[is_known[:, 0], 0]), ("end", ends)):
        row |= _reach(of_seeds, stage)
    return max(last), row | {"seeds": len(last)}


def reach_table(rows: list[Row]) -> Table:
    """Lay out ``reach_rows``."""
    return Table(
        name="reach",
        title=f"How far back the gradient reaches, of T = {rows[0]['T']} steps",
        rows=rows,
        columns=[
            Column("model", "cell", lambda row: cell_label(row["model"]), is_word=True),
            Column("start_steps", "steps, start", ".0f"),
            Column("end_steps", "steps, end", ".0f"),
            Column("start_decades", "decades, start", "+.1f"),
            Column("end_decades", "decades, end", "+.1f"),
        ],
        note=f"Of layer {rows[0]['layer']}, before and after training. Steps: the furthest step "
        "back at which at least a tenth of the last step's ‖dL/dcarry‖ is left. Decades: log10 of "
        "the norm at t = 0 relative to the last step's.",
    )


def _reach(curves: np.ndarray, stage: str) -> Row:
    """Measure how far back a tenth is left, and what is left at t = 0, of curves [seed, time]."""
    if not len(curves):
        return {f"{stage}_steps": math.nan, f"{stage}_decades": math.nan}
    curve = curves.mean(axis=0)
    furthest = np.flatnonzero(curve >= math.log(LEFT))[0]  # the last step itself is one
    return {
        f"{stage}_steps": int(len(curve) - 1 - furthest),
        f"{stage}_decades": float(curve[0] / math.log(10)),
    }


def flow_curves(dataset: xr.Dataset, network: str, rate: float, layer: str) -> np.ndarray:
    """Give ln ‖dL/dcarry_t‖ - ln ‖dL/dcarry_T‖ [seed, flow_row, time]; nan where not known."""
    point = {"model": network, "learning_rate": rate, "layer": layer}
    flow = dataset["log_carry_norm"].sel(point).transpose("seed", "flow_row", "time").values
    with np.errstate(invalid="ignore"):  # -inf - -inf: the last step's gradient is zero
        return flow - flow[..., -1:]


def top_layer(dataset: xr.Dataset) -> str:
    """Name the topmost layer, of two directions the forward one."""
    layers = [str(layer) for layer in dataset["layer"].values]
    return max(layers, key=lambda name: (int(name.split()[0]), "reverse" not in name))
