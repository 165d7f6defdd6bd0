"""Config -> dataset: one jitted, vmapped call a block of weights, spread over all local devices."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.gradient_flow import clip, theory
from experiments.gradient_flow.config import Config
from experiments.gradient_flow.draw import draw, make_cell, make_loss
from rnn_jax.cells import Cell, gate_names
from rnn_jax.data.stdlib_source import stdlib_source
from rnn_jax.gradient_flow import gradient_flow
from rnn_jax.recurrence import gate_values
from rnn_jax.regimes import horizon, slope
from rnn_jax.sweep import chunk_size, make_sweep, saved_bytes

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
GATE_MEANINGS = {
    "gate_mean": (("gate", "step"), "mean of a gate over sequences and units", "1"),
}


def num_blocks(config: Config) -> int:
    """Count the blocks of a sweep: cells × seeds × groups of weights."""
    groups = -(-len(config.weights) // config.block_size)
    return len(config.cells) * config.num_seeds * groups


def run(config: Config, on_block: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Compute the whole sweep; ``on_block`` is called as each block is finished."""
    coordinates = _coordinates(config)
    meanings = _meanings(config)
    found = {
        name: np.full(
            [len(coordinates[d]) for d in _all_dims(meanings, name)], np.nan, config.dtype
        )
        for name in meanings
    }
    with jax.default_matmul_precision(config.precision):
        for cell_index, seed, first, block in _blocks(config):
            at = (cell_index, slice(first, first + len(block["loss"])), seed)
            for name, values in block.items():
                if isinstance(values, dict):  # by the names of a dim that cells fill in part
                    names = coordinates[meanings[name][0][0]]
                    for key, of_key in values.items():
                        found[name][(*at, names.index(key))] = of_key
                else:
                    found[name][at] = values
            on_block()
    return _dataset(config, coordinates, meanings, found)


def _meanings(config: Config) -> dict:
    """Say what is measured: more where the config asks for more."""
    asked: dict[str, tuple] = dict(MEANINGS)
    if config.gate_means:
        asked |= GATE_MEANINGS
    if clip.is_asked(config):
        asked |= clip.MEANINGS
    return asked


def _blocks(config: Config) -> Iterator[tuple[int, int, int, dict]]:
    """Yield (cell index, seed, first weight's index, what was measured there)."""
    for cell_index in range(len(config.cells)):
        cell = make_cell(config, cell_index)
        sweeps = None
        for seed in range(config.num_seeds):
            draws = draw(config, cell, seed)
            if sweeps is None:
                points = min(config.block_size, len(config.weights))
                chunk = chunk_size(saved_bytes(cell, *draws[:2]), points)
                sweeps = [make_sweep(measure, chunk) for measure in _measures(config, cell)]
            for first in range(0, len(config.weights), config.block_size):
                weights = jnp.asarray(config.weights[first : first + config.block_size])
                flow, *more = [
                    jax.device_get(swept(weights.astype(config.dtype), *draws)) for swept in sweeps
                ]
                block = _summarize(config, flow)
                for values in more:
                    block |= values
                yield cell_index, seed, first, block


def _measures(config: Config, cell: Cell) -> list[Callable]:
    """Make the functions of one sweep point: the gradient flow, and what the config asks beside."""

    def flow(weight, params, xs, carry, loss_weights, targets):
        loss = make_loss(config, loss_weights, targets)
        return gradient_flow(cell, params, xs, loss, initial_carry=carry, recurrent_weight=weight)

    def gate_means(weight, params, xs, carry, loss_weights, targets):
        gates = gate_values(cell, params, xs, initial_carry=carry, recurrent_weight=weight)
        return {"gate_mean": {n: jnp.mean(g, axis=(1, 2)) for n, g in gates._asdict().items()}}

    measures: list[Callable] = [flow]
    if config.gate_means:
        measures.append(gate_means)
    if clip.is_asked(config):
        measures.append(clip.make_measure(config, cell))
    return measures


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


def _names(config: Config, of: Callable[[Cell], tuple[str, ...]]) -> list[str]:
    """Collect the names that the sweep's cells have, each once."""
    names = [of(make_cell(config, i)) for i in range(len(config.cells))]
    return list(dict.fromkeys(name for fields in names for name in fields))


def _coordinates(config: Config) -> dict[str, list]:
    return {
        "cell": list(config.cells),
        "recurrent_weight": list(config.weights),
        "seed": list(range(config.num_seeds)),
        "time": list(range(config.num_steps + 1)),
        "step": list(range(1, config.num_steps + 1)),
        "leaf": _names(config, lambda cell: cell.initial_carry(())._fields),
        "gate": _names(config, gate_names),
        "clip": list(config.clip),
        "threshold": list(config.clip_thresholds),
    }


def _all_dims(meanings: dict, name: str) -> tuple[str, ...]:
    return ("cell", "recurrent_weight", "seed", *meanings[name][0])


COORDINATE_MEANINGS = {
    "recurrent_weight": {"long_name": "w"},
    "time": {"long_name": "t; 0 is the initial carry", "units": "steps"},
    "step": {"long_name": "t", "units": "steps"},
    "threshold": {"long_name": "of the clip: largest entry, norm, or norm by step"},
}


def _dataset(
    config: Config, coordinates: dict[str, list], meanings: dict, found: dict[str, np.ndarray]
) -> xr.Dataset:
    """Put what was found beside its coordinates, units and theory's slope."""
    variables = {
        name: (_all_dims(meanings, name), values, {"long_name": meaning, "units": units})
        for (name, values), (_, meaning, units) in zip(
            found.items(), meanings.values(), strict=True
        )
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
    used = {dim for name in meanings for dim in _all_dims(meanings, name)}
    attributes = {
        "title": "Gradient norm at every time step against the recurrent weight",
        "config": json.dumps(asdict(config)),
        "text": stdlib_source().source if config.input == "text" else "none",
    }
    return xr.Dataset(
        variables,
        {d: (d, v, COORDINATE_MEANINGS.get(d, {})) for d, v in coordinates.items() if d in used},
        attributes,
    )
