"""How far back through time a gradient reaches, before a training and after it."""

import math

import numpy as np
import xarray as xr

from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Column, Row, Table

LEFT = 0.1  # the gradient reaches as far back as at least this part of the last step's is left


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


def top_layer(dataset: xr.Dataset) -> str:
    """Name the topmost layer, of two directions the forward one."""
    layers = [str(layer) for layer in dataset["layer"].values]
    return max(layers, key=lambda name: (int(name.split()[0]), "reverse" not in name))
