"""Dataset -> tables: slope, horizon and gates by variant; the constant error carousel."""

import json

import numpy as np
import xarray as xr

from experiments.gradient_flow.table import REGIME_COLOURS
from rnn_jax.regimes import regime
from rnn_jax.results import Column, Row, Table


def tables(dataset: xr.Dataset) -> list[Table]:
    """Lay out every variant at the shown weight (the CSV has all weights), and the carousel."""
    weight = json.loads(dataset.attrs["config"])["shown_weight"]
    variants = Table(
        name="table",
        title=f"Gates at w = {weight:g}: slope of ln‖dL/dcarry_t‖ per step back",
        rows=rows(dataset),
        columns=[
            Column("variant", "variant", is_word=True),
            Column("slope", "slope", "+.4f"),
            Column("efold", "steps per factor e", lambda row: _steps(row["efold"])),
            Column("keeping_gate", "keeping gate", ".3f"),
            Column("regime", "regime", is_word=True, colours=REGIME_COLOURS),
        ],
        group=lambda row: row["variant"].split()[0],
        is_shown=lambda row: row["w"] == weight,
    )
    carousel = Table(
        name="carousel",
        title="LSTM, w = 0, constant forget gate f: ‖dL/dc_0‖ / ‖dL/dc_T‖",
        rows=carousel_rows(dataset),
        columns=[
            Column("forget", "f", "g"),
            Column("measured", "measured", ".6g"),
            Column("f^T", "f^T", ".6g"),
            Column("largest_deviation_of_ln", "largest deviation of ln", ".1e"),
        ],
    )
    return [variants, carousel]


def _steps(value: float) -> str:
    return "–" if np.isnan(value) else "> 10000" if value > 1e4 else f"{value:.3g}"


def rows(dataset: xr.Dataset) -> list[Row]:
    """One row a variant and weight: slope and gate as means over seeds, horizon as their median.

    efold: steps in which the gradient changes by a factor e, 1 / |slope|; of the free cell: the
    same cell at the same weight, nothing held, its own biases; horizon: steps back from the end
    until the norm has changed by e (the LSTM's dL/dh_T falls at once and ends it); keeping_gate:
    mean of the forget (GRU: update) gate over time, sequences and units.
    """
    num_steps = dataset.sizes["step"]
    horizons = dataset["horizon"].median("seed")
    slopes = dataset["slope"].mean("seed")
    gates = dataset["gate_mean"].mean(["seed", "step"])
    keeping = [gate for gate in ("forget", "update") if gate in dataset["gate"].values]
    variants = [str(v) for v in dataset["variant"].values]
    table = []
    for variant in variants:
        free = variant.split()[0]
        for weight in dataset["recurrent_weight"].values:
            point = {"variant": variant, "recurrent_weight": weight}
            slope = float(slopes.sel(point))
            of_free = float(slopes.sel(point | {"variant": free})) if free in variants else np.nan
            values = [float(gates.sel(point | {"gate": gate})) for gate in keeping]
            table.append(
                {
                    "variant": variant,
                    "w": float(weight),
                    "slope": slope,
                    "efold": _efold(slope),
                    "efold_of_free_cell": _efold(of_free),
                    "horizon": float(horizons.sel(point)),
                    "keeping_gate": next((v for v in values if np.isfinite(v)), float("nan")),
                    "regime": regime(slope, num_steps),
                }
            )
    return table


def _efold(slope: float) -> float:
    return 1.0 / abs(slope) if slope else float("inf")


def carousel_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a constant forget gate: the gradient at t = 0 beside f^T, the largest deviation."""
    table = []
    for forget in dataset["forget"].values:
        point = dataset.sel(forget=forget)
        deviation = np.abs(point["carousel"] - point["carousel_theory"]).max()
        table.append(
            {
                "forget": float(forget),
                "measured": float(np.exp(point["carousel"].isel(time=0))),
                "f^T": float(np.exp(point["carousel_theory"].isel(time=0))),
                "largest_deviation_of_ln": float(deviation),
            }
        )
    return table
