"""Dataset -> the table a person reads: slope, horizon and gates by variant."""

import json

import numpy as np
import xarray as xr

from rnn_jax.regimes import regime

COLUMNS = (
    "variant",
    "w",
    "slope",
    "efold",
    "efold_of_free_cell",
    "horizon",
    "keeping_gate",
    "regime",
)


def rows(dataset: xr.Dataset) -> list[dict]:
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
            numbers = (
                variant,
                float(weight),
                slope,
                _efold(slope),
                _efold(of_free),
                float(horizons.sel(point)),
                next((v for v in values if np.isfinite(v)), float("nan")),
                regime(slope, num_steps),
            )
            table.append(dict(zip(COLUMNS, numbers, strict=True)))
    return table


def _efold(slope: float) -> float:
    return 1.0 / abs(slope) if slope else float("inf")


def carousel_rows(dataset: xr.Dataset) -> list[dict]:
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


def to_rich(dataset: xr.Dataset):
    """Lay out the shown weight's rows, and the carousel."""
    from rich.console import Group
    from rich.table import Table

    weight = json.loads(dataset.attrs["config"])["shown_weight"]
    layout = Table(title=f"Gates at w = {weight:g}: slope of ln‖dL/dcarry_t‖ per step back")
    columns = ("variant", "slope", "steps per factor e", "keeping gate", "regime")
    for column in columns:
        is_word = column in ("variant", "regime")
        layout.add_column(column, justify="left" if is_word else "right", no_wrap=True)

    def steps(value):
        return "–" if np.isnan(value) else "> 10000" if value > 1e4 else f"{value:.3g}"

    shown = [row for row in rows(dataset) if row["w"] == weight]
    cells = [row["variant"].split()[0] for row in shown]
    for i, row in enumerate(shown):
        layout.add_row(
            row["variant"],
            f"{row['slope']:+.4f}",
            steps(row["efold"]),
            "–" if np.isnan(row["keeping_gate"]) else f"{row['keeping_gate']:.3f}",
            row["regime"],
            end_section=cells[i] != (cells[i + 1 :] or [""])[0],
        )
    carousel = Table(title="LSTM, w = 0, constant forget gate f: ‖dL/dc_0‖ / ‖dL/dc_T‖")
    for column in ("f", "measured", "f^T", "largest deviation of ln"):
        carousel.add_column(column, justify="right")
    for row in carousel_rows(dataset):
        carousel.add_row(
            f"{row['forget']:g}",
            f"{row['measured']:.6g}",
            f"{row['f^T']:.6g}",
            f"{row['largest_deviation_of_ln']:.1e}",
        )
    return Group(layout, carousel)
