"""Dataset -> sentences: how far back the gradient reaches in each variant of a cell."""

import json

import numpy as np
import xarray as xr

from experiments.gates import table
from experiments.wording import count
from rnn_jax.plotting.labels import cell_label


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say which variants were run and what was held."""
    config = json.loads(dataset.attrs["config"])
    weights = ", ".join(f"{w:g}" for w in config["weights"])
    cells = dict.fromkeys(cell_label(v.split()[0]) for v in config["variants"])
    return [
        f"Swept: {dataset.sizes['variant']} variants of "
        f"{', '.join(cells)} (the cell "
        f"free, a gate held at a value, or another bias of the gate that keeps the state); "
        f"recurrent weights w = {weights}; {count(config['num_seeds'], 'draw')} of parameters, "
        f"inputs and loss at each.",
        f"Held: sequences of text of T = {config['num_steps']} steps, B = {config['batch_size']} "
        f"at every point, H = {config['hidden_size']} units. Loss: a random projection of the last "
        f"state. Besides, an LSTM without recurrent product (w = 0) with its forget gate constant "
        f"at {', '.join(f'{f:g}' for f in config['carousel'])}.",
    ]


def findings(dataset: xr.Dataset) -> list[str]:
    """Compare the variants of each cell at the shown weight; then the carousel with f^T."""
    weight = json.loads(dataset.attrs["config"])["shown_weight"]
    by_cell: dict[str, list[dict]] = {}
    for row in table.rows(dataset):
        if row["w"] == weight and not np.isnan(row["slope"]):
            by_cell.setdefault(row["variant"].split()[0], []).append(row)
    sentences = [_of_cell(cell, rows, weight) for cell, rows in by_cell.items()]
    carousel = table.carousel_rows(dataset)
    largest = max(row["largest_deviation_of_ln"] for row in carousel)
    sentences.append(
        f"Without recurrent product and with a constant forget gate f the LSTM's gradient decays "
        f"as f^(T-t): ln of the two differs by at most {largest:.1e} over "
        f"{dataset.sizes['step']} steps."
    )
    return sentences


def _of_cell(cell: str, rows: list[dict], weight: float) -> str:
    free = next((row for row in rows if row["variant"] == cell), None)
    longest = max(rows, key=lambda row: row["efold"])
    shortest = min(rows, key=lambda row: row["efold"])
    parts = [f"free, the gradient {_change(free)}"] if free else []
    if longest is not shortest:
        parts.append(f"of {len(rows)} variants, {_settings(longest)} reaches furthest")
        parts[-1] += "" if longest is free else f" ({_change(longest)})"
        parts[-1] += f" and {_settings(shortest)} least"
        parts[-1] += "" if shortest is free else f" ({_change(shortest)})"
    return f"{cell_label(cell)}, w = {weight:g}: {'; '.join(parts)}."


def _settings(row: dict) -> str:
    return row["variant"].partition(" ")[2] or "the free cell"


def _change(row: dict) -> str:
    """Say how fast the gradient changes on its way back."""
    if row["efold"] > 1e4:
        return "keeps its size (more than 10000 steps per factor e)"
    verb = "grows" if row["slope"] > 0 else "shrinks"
    return f"{verb} by a factor e in {row['efold']:.3g} steps"
