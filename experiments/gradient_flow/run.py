"""Config -> dataset: one jitted, vmapped call a block of weights, spread over all local devices."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.gradient_flow import theory
from experiments.gradient_flow.config import Config
from rnn_jax.cells import CELLS, Cell, initializers
from rnn_jax.data.stdlib_source import random_windows, stdlib_source
from rnn_jax.gradient_flow import GradientFlow, gradient_flow
from rnn_jax.regimes import horizon, slope
from rnn_jax.sweep import chunk_size, make_sweep, saved_bytes
from rnn_jax.types import Array, Key

RECURRENT_INIT = {
    "orthogonal": initializers.orthogonal,
    "gaussian": initializers.gaussian,
    "identity": initializers.identity,
    "scalar": initializers.identity,
}
MEANINGS = {  # name: (dims beside cell, recurrent_weight and seed; long name; units)
    "loss": ((), "loss, sum over the batch", "nats or arbitrary"),
    "log_carry_norm": (("time",), "ln ‖dL/dcarry_t‖, mean over sequences where it is not 0", "nat"),
    "log_carry_norm_spread": (("time",), "its standard deviation over sequences", "nat"),
    "zero_fraction": (("time",), "part of the sequences whose gradient is exactly 0", "1"),
    "leaf_log_norm": (("leaf", "time"), "the same for each part of the carry", "nat"),
    "log_weight_share": (("step",), "ln mean |part of dL/dw that enters at step t|", "nat"),
    "slope": ((), "least-squares slope against T - t, mean over sequences not 0", "nat per step"),
    "horizon": ((), "steps back to a change by a factor e, median over sequences", "steps"),
}


def num_blocks(config: Config) -> int:
    """Count the blocks of a sweep: cells × seeds × groups of weights."""
    groups = -(-len(config.weights) // config.block_size)
    return len(config.cells) * config.num_seeds * groups


def run(config: Config, on_block: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Compute the whole sweep; ``on_block`` is called as each block is finished."""
    leaves = _leaf_names(config)
    sizes = {
        "cell": len(config.cells),
        "recurrent_weight": len(config.weights),
        "seed": config.num_seeds,
        "time": config.num_steps + 1,
        "step": config.num_steps,
        "leaf": len(leaves),
    }
    found = {
        name: np.full([sizes[d] for d in _all_dims(name)], np.nan, config.dtype)
        for name in MEANINGS
    }
    with jax.default_matmul_precision(config.precision):
        for cell_index, seed, first, block in _blocks(config):
            last = first + block["loss"].shape[0]
            for name, values in block.items():
                if name == "leaf_log_norm":
                    for leaf, of_leaf in values.items():
                        found[name][cell_index, first:last, seed, leaves.index(leaf)] = of_leaf
                else:
                    found[name][cell_index, first:last, seed] = values
            on_block()
    return _dataset(config, leaves, found)


def make_cell(config: Config, index: int) -> Cell:
    """Make the index-th cell of the sweep."""
    name = config.cells[index]
    if name == "elman":
        return CELLS[name](config.hidden_size, activation=config.activation)
    return CELLS[name](config.hidden_size)


def _blocks(config: Config) -> Iterator[tuple[int, int, int, dict]]:
    """Yield (cell index, seed, first weight's index, what was measured there)."""
    for cell_index in range(len(config.cells)):
        cell = make_cell(config, cell_index)
        swept = None
        for seed in range(config.num_seeds):
            draws = draw(config, cell, seed)
            if swept is None:
                points = min(config.block_size, len(config.weights))
                chunk = chunk_size(saved_bytes(cell, *draws[:2]), points)
                swept = make_sweep(_measure(config, cell), chunk)
            for first in range(0, len(config.weights), config.block_size):
                weights = config.weights[first : first + config.block_size]
                flow = jax.device_get(swept(jnp.asarray(weights, config.dtype), *draws))
                yield cell_index, seed, first, _summarize(config, flow)


def draw(config: Config, cell: Cell, seed: int) -> tuple:
    """Draw (params, xs, initial carry, projection or readout, targets) of one seed.

    Every cell sees the same texts, embedding and readout at the same seed.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(
        ("params", "text", "embedding", "noise", "carry", "loss"))}  # fmt: skip
    dtype = jnp.dtype(config.dtype)
    shape = (config.num_steps, config.batch_size)
    targets = jnp.zeros(shape, jnp.int32)
    kernel_init = initializers.glorot_uniform
    if config.input == "text":
        window = random_windows(
            stdlib_source(), keys["text"], config.batch_size, config.num_steps + 1
        )
        embedding = jax.random.normal(keys["embedding"], (256, config.input_size), dtype)
        xs, targets = embedding[window[:-1]], jnp.asarray(window[1:], jnp.int32)
    elif config.input == "noise":  # z_t itself: each unit its own noise
        kernel_init = initializers.identity()
        noise = jax.random.normal(keys["noise"], (*shape, config.hidden_size), dtype)
        xs = config.noise_variance**0.5 * noise
    else:
        xs = jnp.zeros((*shape, config.input_size), dtype)
    params = cell.init(
        keys["params"],
        xs.shape[-1],
        dtype,
        kernel_init=kernel_init,
        recurrent_init=RECURRENT_INIT[config.recurrent_matrix](config.gain),
    )
    carry = cell.initial_carry((config.batch_size,), dtype)
    leaves, tree = jax.tree.flatten(carry)
    carry_keys = jax.random.split(keys["carry"], len(leaves))
    carry = tree.unflatten(
        [config.initial_state * jax.random.normal(k, c.shape, dtype)
         for k, c in zip(carry_keys, leaves, strict=True)]
    )  # fmt: skip
    return params, xs, carry, _loss_weights(config, keys["loss"], dtype), targets


def _loss_weights(config: Config, key: Key, dtype) -> Array:
    """Draw the projection [B, H] of the last state, or the readout [H, 256] of every output."""
    if config.loss == "last_state":
        return jax.random.normal(key, (config.batch_size, config.hidden_size), dtype)
    return initializers.gaussian()(key, (config.hidden_size, 256), dtype)


def _measure(config: Config, cell: Cell) -> Callable[..., GradientFlow]:
    """Make the function of one sweep point."""

    def measure(weight, params, xs, carry, loss_weights, targets):
        def loss(last_carry, ys):
            if config.loss == "last_state":
                return jnp.sum(last_carry[0] * loss_weights)
            log_probabilities = jax.nn.log_softmax(ys @ loss_weights)
            picked = jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)
            return -jnp.sum(picked) / config.num_steps

        return gradient_flow(cell, params, xs, loss, initial_carry=carry, recurrent_weight=weight)

    return measure


def _summarize(config: Config, flow) -> dict:
    """Reduce a block [N, ...] over its sequences, on the host: the same bits on any devices."""
    mean = _mean_where_alive(flow.log_carry_norm)
    alive = flow.log_carry_norm > -np.inf
    over_time = np.moveaxis(flow.log_carry_norm, 1, 0)
    largest = np.max(
        flow.log_weight_share, axis=-1, keepdims=True, initial=np.finfo(mean.dtype).min
    )
    with np.errstate(divide="ignore"):
        shares = np.log(np.mean(np.exp(flow.log_weight_share - largest), axis=-1)) + largest[..., 0]
    return {
        "loss": flow.loss,
        "log_carry_norm": mean,
        "log_carry_norm_spread": _std(flow.log_carry_norm, alive),
        "zero_fraction": np.mean(~alive & ~np.isnan(flow.log_carry_norm), axis=-1),
        "leaf_log_norm": {
            name: _mean_where_alive(leaf) for name, leaf in flow.leaf_log_norms._asdict().items()
        },
        "log_weight_share": shares,
        "slope": _mean_where_alive(jax.device_get(slope(over_time, config.drop_first))),
        "horizon": np.median(jax.device_get(horizon(over_time)), axis=-1),
    }


def _mean_where_alive(log_norm: np.ndarray) -> np.ndarray:
    """Mean over the sequences whose gradient is not exactly zero; -inf where all are."""
    dead = log_norm == -np.inf
    count = np.sum(~dead, axis=-1)
    total = np.sum(np.where(dead, 0, log_norm), axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf).astype(log_norm.dtype)


def _std(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Standard deviation over the last axis; nan where nothing is left."""
    count = np.sum(where, axis=-1)
    kept = np.where(where, values, 0)
    mean = np.sum(kept, axis=-1, keepdims=True) / np.maximum(count, 1)[..., None]
    squares = np.sum(np.where(where, (values - mean) ** 2, 0), axis=-1)
    return np.where(count > 0, np.sqrt(squares / np.maximum(count, 1)), np.nan)


def _leaf_names(config: Config) -> list[str]:
    """Name the parts of all cells' carries, each once."""
    names = [make_cell(config, i).initial_carry(())._fields for i in range(len(config.cells))]
    return list(dict.fromkeys(name for fields in names for name in fields))


def _all_dims(name: str) -> tuple[str, ...]:
    return ("cell", "recurrent_weight", "seed", *MEANINGS[name][0])


def _dataset(config: Config, leaves: list[str], found: dict[str, np.ndarray]) -> xr.Dataset:
    """Put what was found beside its coordinates, units and theory's slope."""
    variables = {
        name: (
            _all_dims(name),
            values,
            {"long_name": MEANINGS[name][1], "units": MEANINGS[name][2]},
        )
        for name, values in found.items()
    }
    expected = [[theory.slope(config, c, w) for w in config.weights] for c in config.cells]
    dims = ("cell", "recurrent_weight")
    variables["theory_slope"] = (
        dims,
        np.array([[value for value, _ in row] for row in expected]),
        {"long_name": "slope that theory gives, nan where it gives none", "units": "nat per step"},
    )
    variables["theory_relation"] = (
        dims,
        np.array([[relation for _, relation in row] for row in expected], dtype="U1"),
        {"long_name": "measured slope = exact theory, ≈ theory at large H, ≤ a bound"},
    )
    steps = np.arange(config.num_steps + 1)
    coordinates = {
        "cell": list(config.cells),
        "recurrent_weight": ("recurrent_weight", list(config.weights), {"long_name": "w"}),
        "seed": np.arange(config.num_seeds),
        "time": ("time", steps, {"long_name": "t; 0 is the initial carry", "units": "steps"}),
        "step": ("step", steps[1:], {"long_name": "t", "units": "steps"}),
        "leaf": leaves,
    }
    attributes = {
        "title": "Gradient norm at every time step against the recurrent weight",
        "config": json.dumps(asdict(config)),
        "text": stdlib_source().source if config.input == "text" else "none",
    }
    return xr.Dataset(variables, coordinates, attributes)
