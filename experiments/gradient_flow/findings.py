"""Dataset -> sentences: what was run, and at which weights each cell's gradient vanishes."""

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from experiments.wording import count
from rnn_jax.plotting.labels import cell_label
from rnn_jax.regimes import REGIMES, regime

WORDS = {"vanishing": "vanishes", "neutral": "is neutral", "exploding": "explodes"}
INPUTS = {
    "text": "windows of text through a random embedding",
    "noise": "white noise",
    "none": "none (zeros)",
}
LOSSES = {
    "last_state": "a random projection of the last state",
    "next_byte": "the cross-entropy of the next byte at every step",
}


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say what was swept and what was held."""
    config = json.loads(dataset.attrs["config"])
    weights = dataset["recurrent_weight"].values
    cells = ", ".join(cell_label(cell) for cell in dataset["cell"].values)
    swept = (
        f"Swept: {cells}; {count(len(weights), 'recurrent weight')} w from {weights.min():g} to "
        f"{weights.max():g}; {count(config['num_seeds'], 'draw')} of parameters, inputs and "
        "loss at each."
    )
    held = (
        f"Held: sequences of T = {config['num_steps']} steps, B = {config['batch_size']} at every "
        f"point, H = {config['hidden_size']} units, {config['recurrent_matrix']} recurrent matrix. "
        f"Input: {INPUTS[config['input']]}. Loss: {LOSSES[config['loss']]}."
    )
    source = [f"Text: {dataset.attrs['text']}."] if config["input"] == "text" else []
    return [swept, held, *source]


def findings(dataset: xr.Dataset) -> list[str]:
    """Say where each cell vanishes and explodes, how it compares, and what a clip does."""
    num_steps = dataset.sizes["step"]
    rule = (
        f"The rule: a gradient vanishes (explodes) where the line fitted to ln‖dL/dcarry_t‖ falls "
        f"(rises) by a factor e or more over the T = {num_steps} steps back, as a mean over "
        "seeds. Between: neutral."
    )
    dataset = dataset.sortby("recurrent_weight")
    cells = [str(cell) for cell in dataset["cell"].values]
    sentences = [rule, *[_of_cell(dataset.sel(cell=cell), cell_label(cell)) for cell in cells]]
    for cell in cells:
        sentences += _theory(dataset.sel(cell=cell), cell_label(cell))
    return sentences + (_clips(dataset) if "clip" in dataset.dims else [])


def _of_cell(one: xr.Dataset, name: str) -> str:
    weights, slopes = one["recurrent_weight"].values, one["slope"].mean("seed", skipna=False).values
    regimes = np.array([regime(slope, one.sizes["step"]) for slope in slopes])
    parts = [f"{WORDS[r]} for w = {ranges(weights, regimes == r)}" for r in REGIMES if r in regimes]
    text = f"{name}: the gradient {_join(parts)}" if parts else f"{name}: no slope is known"
    known = np.flatnonzero(~np.isnan(slopes))
    if len(known) > 1:
        ends = [f"{slopes[i]:+.4f} at w = {weights[i]:g}" for i in known[[0, -1]]]
        text += f"; the slope goes from {ends[0]} to {ends[1]} (nat per step back)"
    elif len(known) == 1:
        text += f"; the slope is {slopes[known[0]]:+.4f} nat per step back"
    if np.isnan(slopes).any():
        text += f"; states overflowed at w = {ranges(weights, np.isnan(slopes))}"
    dead = (one["zero_fraction"].isel(time=0) > 0).any("seed").values
    if dead.any():
        text += f"; exactly zero at t = 0 for some sequences at w = {ranges(weights, dead)}"
    return text + "."


def _theory(one: xr.Dataset, name: str) -> list[str]:
    """Compare with theory where it says something: exact, for large H, or a bound."""
    slopes, theory = one["slope"].mean("seed", skipna=False).values, one["theory_slope"].values
    sentences = []
    for relation in ("=", "≈", "≤"):
        at = (one["theory_relation"].values == relation) & np.isfinite(slopes) & np.isfinite(theory)
        if not at.any():
            continue
        above = slopes[at] - theory[at]
        far = one["recurrent_weight"].values[at][np.argmax(np.abs(above))]
        if relation == "≤":
            over = one["recurrent_weight"].values[at][above > 1e-4]
            verdict = (
                f"is passed at w = {_join([f'{w:g}' for w in over])}" if len(over) else "holds"
            )
            sentences.append(
                f"{name} against theory: the upper bound of the slope {verdict}; it lies "
                f"{-above.max():.3g} to {-above.min():.3g} nat per step above what is measured."
            )
        else:
            kind = "exact theory" if relation == "=" else "theory for large H"
            sentences.append(
                f"{name} against {kind}: the slopes differ by up to {np.abs(above).max():.2g} nat "
                f"per step, most at w = {far:g}."
            )
    return sentences


def _clips(dataset: xr.Dataset) -> list[str]:
    """Say how far each clip turns the gradient at most; no clip turns nothing."""
    sentences = []
    for clip in (str(clip) for clip in dataset["clip"].values if clip != "none"):
        angles = dataset["clip_angle"].sel(clip=clip).mean("seed")
        if np.isnan(angles).all():
            continue
        at = angles.isel(angles.argmax(...))  # ty: ignore[invalid-argument-type]
        sentences.append(
            f"The clip {clip} turns the gradient by up to {np.degrees(float(angles.max())):.1f}° "
            f"({cell_label(at['cell'].item())}, w = {float(at['recurrent_weight']):g}, "
            f"c = {float(at['threshold']):g})."
        )
    return sentences


def ranges(weights: np.ndarray, is_in: np.ndarray) -> str:
    """Write the weights of a mask as runs of neighbours: 0.5 to 1.5, 3."""
    runs: list[list[float]] = []
    for i in np.flatnonzero(is_in):
        if runs and is_in[i - 1]:
            runs[-1] = [runs[-1][0], weights[i]]
        else:
            runs.append([weights[i]])
    return _join([" to ".join(f"{w:g}" for w in run) for run in runs])


def _join(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
