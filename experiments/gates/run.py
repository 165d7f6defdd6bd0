"""Config -> dataset: one sweep a variant, side by side."""

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import xarray as xr

from experiments.gates.config import Config
from experiments.gradient_flow import run as sweep

KEPT = ["log_carry_norm", "slope", "horizon", "gate_mean"]


def num_blocks(config: Config) -> int:
    """Count the sweeps."""
    return len(config.variants) + len(config.carousel)


def run(config: Config, on_block: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Compute every variant's sweep, and the constant error carousel."""
    parts = []
    for variant in config.variants:
        of_variant = sweep.run(config.sweep(variant))[KEPT].squeeze("cell", drop=False)
        parts.append(of_variant.assign_coords(variant=variant))
        on_block()
    dataset = xr.concat(parts, "variant", join="outer", coords="different", compat="equals")
    curves = []
    for forget in config.carousel:
        settings = config.carousel_sweep(forget)
        gradient = sweep.run(settings)["leaf_log_norm"].sel(leaf="cell").squeeze(drop=True)
        curves.append((gradient - gradient.isel(time=-1)).values)
        on_block()
    steps_back = config.num_steps - dataset["time"].values
    forget = np.array(config.carousel)
    dataset["forget"] = ("forget", forget, {"long_name": "constant forget gate f"})
    dataset["carousel"] = (
        ("forget", "time"),
        np.array(curves),
        {"long_name": "ln ‖dL/dc_t‖ / ‖dL/dc_T‖, LSTM, w = 0, measured", "units": "nat"},
    )
    dataset["carousel_theory"] = (
        ("forget", "time"),
        np.log(forget)[:, None] * steps_back,
        {"long_name": "(T - t) ln f", "units": "nat"},
    )
    dataset.attrs = {
        "title": "What held gates and gate biases do to the gradient",
        "config": json.dumps(asdict(config)),
        "text": parts[0].attrs["text"],
    }
    return dataset
