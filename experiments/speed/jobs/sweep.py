"""The main job: how long the gradient is at every step, for every recurrent weight of a sweep.

    ln ‖dL/dcarry_t‖  [N, T+1, B],   t = 0..T,   L = <projection, h_T>   (SRU: c_T)

carry_t is h_t; for the LSTM (h_t, c_t), both parts' total derivatives in one norm; for the SRU c_t.
Cells as in ``rnn_jax.cells``. The N recurrent weights w lie evenly in 0.5 to 1.5; parameters and
inputs are the same for all of them, so the inputs are projected once. Elman cells read the inputs
as they are: h_t = tanh(x_t + w R h_{t-1}).
"""

from collections.abc import Callable
from importlib import import_module

import numpy as np

TITLE = "Gradient norms of a sweep over the recurrent weight"
COLUMNS = ("cell", "N", "T", "B", "H")
ROWS = (
    ("elman", 64, 256, 32, 64),
    ("elman", 256, 200, 1, 1),
    ("elman", 1024, 1000, 64, 1),
    ("elman", 256, 256, 8, 32),
    ("elman", 16, 256, 32, 256),
    ("lstm", 64, 256, 32, 64),
    ("gru", 64, 256, 32, 64),
    ("sru", 64, 256, 32, 64),
)
TOLERANCE = 1e-4
BLOCKS = {"elman": 1, "lstm": 4, "gru": 3, "sru": 3}  # of the kernel, in rnn_jax's order


def inputs(row: tuple, seed: int) -> dict[str, np.ndarray]:
    cell, num_weights, num_steps, batch, hidden = row
    random = np.random.default_rng(seed)
    blocks = BLOCKS[cell]

    def orthogonal():
        return np.linalg.qr(random.normal(size=(hidden, hidden)))[0]

    arrays = {
        "weights": np.linspace(0.5, 1.5, num_weights),
        "xs": 0.5 * random.normal(size=(num_steps, batch, hidden)),
        "projection": random.normal(size=(batch, hidden)),
    }
    if cell == "sru":
        arrays["recurrent_vector"] = random.choice([-1.0, 1.0], 2 * hidden)
    else:
        arrays["recurrent_kernel"] = np.hstack([orthogonal() for _ in range(blocks)])
    if cell != "elman":
        arrays["kernel"] = random.normal(size=(hidden, blocks * hidden)) / hidden**0.5
        arrays["bias"] = 0.1 * random.normal(size=(2 if cell == "sru" else blocks) * hidden)
    if cell == "gru":
        arrays["recurrent_bias"] = 0.1 * random.normal(size=blocks * hidden)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def small(row: tuple) -> tuple:
    """Few steps: at w > 1 rounding errors grow from step to step."""
    cell, num_weights, num_steps, batch, hidden = row
    return cell, min(num_weights, 8), min(num_steps, 8), min(batch, 4), hidden


def _runner(module: str, name: str) -> Callable:
    """Import late: JAX and PyTorch are never in one process."""

    def prepare(row, arrays, dtype):
        return getattr(import_module(f"experiments.speed.jobs.{module}"), name)(row, arrays, dtype)

    return prepare


RUNNERS = {
    "rnn_jax": _runner("sweep_jax", "rnn_jax"),
    "jax_scan": _runner("sweep_jax", "jax_scan"),
    "torch": _runner("sweep_torch", "torch"),
    "torch_kept": _runner("sweep_torch", "torch"),
    "torch_adjoint": _runner("sweep_torch_adjoint", "torch_adjoint"),
    "floor": _runner("sweep_jax", "floor"),
}
