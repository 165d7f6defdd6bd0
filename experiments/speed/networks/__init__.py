"""One recurrent layer with I = H in every library: the same function of the same arrays.

networks/LIBRARY.py maps the arrays into its library and has three functions ``training``,
``forward`` and ``one_token`` of (cell, arrays, dtype): each returns a call without arguments, which
is what is timed. ``jax_calls.py`` makes the three for whatever runs on JAX, ``torch_calls.py`` for
whatever runs on PyTorch, so that a library only says what one step and one pass are.

The arrays are in rnn_jax's layout: kernel [H, G*H], recurrent_kernel [H, G*H], bias [G*H], the
GRU's recurrent_bias [3*H]; SRU has a recurrent_vector [2*H] and a bias [2*H]. The state is a tuple:
(hidden,) of Elman and GRU, (hidden, cell) of the LSTM, (cell,) of SRU.
"""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from experiments.speed.jobs import NotOffered

LIBRARIES = (
    "rnn_jax",
    "jax_scan",
    "flax_linen",
    "flax_nnx",
    "equinox",
    "torch",
    "torch_kept",
    "sru",
    "floor",
)
NUM_GATES = {"elman": 1, "lstm": 4, "gru": 3, "sru": 3}
NUM_STATES = {"elman": 1, "lstm": 2, "gru": 1, "sru": 1}
CELLS = tuple(NUM_GATES)
SIZES = ((128, 32, 256), (512, 16, 512), (1000, 64, 64), (256, 1, 128), (64, 128, 1024))  # T, B, H
TOLERANCE = 1e-4  # of float32 results on a small row
PARAMETERS = {"kernel", "recurrent_kernel", "recurrent_vector", "bias", "recurrent_bias"}


def runners(job: str) -> dict[str, Callable]:
    """Library -> runner of this job; a library is imported by the process that runs it."""

    def runner(library):
        def run(row, arrays, dtype):
            network = import_module(f"{__name__}.{library.removesuffix('_kept')}")
            return getattr(network, job)(row[0], arrays, dtype)

        return run

    return {library: runner(library) for library in LIBRARIES}


def sequence_inputs(row: tuple, seed: int) -> dict[str, np.ndarray]:
    """The parameters, xs [T, B, H] and projection [T, B, H]; the loss is sum(ys * projection)."""
    cell, num_steps, batch, hidden = row
    random = np.random.default_rng(seed)
    arrays = _parameters(cell, hidden, random)
    for name in ("xs", "projection"):
        arrays[name] = random.normal(size=(num_steps, batch, hidden))
    return _float32(arrays)


def token_inputs(row: tuple, seed: int) -> dict[str, np.ndarray]:
    """The parameters, one token x [B, H] and the state it meets, state_0 (and state_1) [B, H]."""
    cell, batch, hidden = row
    random = np.random.default_rng(seed)
    arrays = _parameters(cell, hidden, random)
    arrays["x"] = random.normal(size=(batch, hidden))
    for i in range(NUM_STATES[cell]):
        arrays[f"state_{i}"] = 0.5 * random.normal(size=(batch, hidden))
    return _float32(arrays)


def small_sequence(row: tuple) -> tuple:
    cell, num_steps, batch, hidden = row
    return cell, min(num_steps, 6), min(batch, 4), min(hidden, 8)


def small_token(row: tuple) -> tuple:
    cell, batch, hidden = row
    return cell, min(batch, 4), min(hidden, 8)


def split(arrays: dict) -> tuple[dict, dict]:
    """(the parameters, the rest)."""
    parameters = {name: a for name, a in arrays.items() if name in PARAMETERS}
    return parameters, {name: a for name, a in arrays.items() if name not in PARAMETERS}


def look_up(classes: dict, cell: str, library: str):
    """Find a library's class of a cell."""
    if cell not in classes:
        raise NotOffered(f"{library} has no {cell} cell")
    return classes[cell]


def _parameters(cell: str, hidden: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw with standard deviation 1/sqrt(H): no gate is saturated."""
    gates = NUM_GATES[cell] * hidden
    shapes = {"kernel": (hidden, gates), "recurrent_kernel": (hidden, gates), "bias": (gates,)}
    if cell == "gru":
        shapes["recurrent_bias"] = (gates,)
    if cell == "sru":
        shapes = {
            "kernel": (hidden, gates),
            "recurrent_vector": (2 * hidden,),
            "bias": (2 * hidden,),
        }
    drawn = {name: random.normal(size=shape) / hidden**0.5 for name, shape in shapes.items()}
    if cell == "gru":
        drawn["recurrent_bias"][2 * hidden :] = 0.0  # flax.nnx has none inside the reset
    return drawn


def _float32(arrays: dict) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float32) for name, array in arrays.items()}
