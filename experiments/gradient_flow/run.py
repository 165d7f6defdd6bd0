"""Config -> dataset: one jitted, vmapped call a block of weights, spread over all local devices."""

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.experiment import Workplace
from experiments.gradient_flow import clip, theory
from experiments.gradient_flow.config import Config
from experiments.gradient_flow.draw import draw, make_cell, make_loss
from rnn_jax.cells import Cell, gate_names
from rnn_jax.data.stdlib_source import stdlib_source
from rnn_jax.devices import wait
from rnn_jax.gradient_flow import gradient_flow
from rnn_jax.recurrence import gate_values
from rnn_jax.regimes import horizon, slope
from rnn_jax.results import Blocks, unknown
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


def run(config: Config, on_block: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Compute the whole sweep in memory; ``on_block`` is called as each block is finished."""
    whole = plan(config)
    found = {name: np.array(whole.template[name].values) for name in whole.names}
    for index, block in blocks(config, range(whole.num_blocks)):
        for name, values in block.items():
            found[name][whole.region(name, index)] = values
        on_block()
    return whole.template.assign({n: whole.template[n].copy(data=v) for n, v in found.items()})


@functools.cache
def plan(config: Config) -> Blocks:
    """Lay the dataset out, with theory's slopes, and cut it: one cell, one seed, some weights."""
    coordinates, meanings = _coordinates(config), _meanings(config)
    variables: dict[str, tuple] = {
        name: (
            _all_dims(meanings, name),
            unknown((len(coordinates[d]) for d in _all_dims(meanings, name)), config.dtype),
            {"long_name": meaning, "units": units},
        )
        for name, (_, meaning, units) in meanings.items()
    }
    used = {dim for name in meanings for dim in _all_dims(meanings, name)}
    attributes = {
        "title": "Gradient norm at every time step against the recurrent weight",
        "config": json.dumps(asdict(config)),
        "text": stdlib_source().source if config.input == "text" else "none",
    }
    template = xr.Dataset(
        variables | _theory(config),
        {d: (d, v, COORDINATE_MEANINGS.get(d, {})) for d, v in coordinates.items() if d in used},
        attributes,
    )
    size = min(config.block_size, len(config.weights))
    return Blocks(template, {"cell": 1, "seed": 1, "recurrent_weight": size})


def blocks(
    config: Config, wanted: Iterable[int], workplace: Workplace | None = None
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Compute the wanted blocks; yields (index, what belongs there), one after another.

    JAX computes a block while the one before is reduced and whoever asked for it writes it.
    """
    whole = plan(config)
    names = {name: whole.template[meaning[0][0]].values.tolist() if meaning[0] else []
             for name, meaning in _meanings(config).items()}  # fmt: skip

    def finish(index: int, measured: list) -> tuple[int, dict[str, np.ndarray]]:
        flow, *more = [jax.device_get(wait(part)) for part in measured]
        values = _summarize(*flow)
        for part in more:
            values |= part
        return index, {
            name: _in_place(values[name], names[name], whole.shape(name, index), config.dtype)
            for name in whole.names
        }

    for number, of_cell in itertools.groupby(wanted, lambda i: whole.place(i)["cell"].start):
        cell, under_way = make_cell(config, number), None
        sweeps: list[Callable] = []
        for index in of_cell:
            place = whole.place(index)
            with jax.default_matmul_precision(config.precision):
                draws = draw(config, cell, place["seed"].start)
                if not sweeps:
                    points = whole.sizes["recurrent_weight"]
                    chunk = chunk_size(saved_bytes(cell, *draws[:2]), points, config.batch_size)
                    sweeps = [make_sweep(measure, chunk) for measure in _measures(config, cell)]
                weights = jnp.asarray(config.weights[place["recurrent_weight"]])
                started = [swept(weights.astype(config.dtype), *draws) for swept in sweeps]
            if under_way:
                yield finish(*under_way)
            under_way = index, started
        if under_way:
            yield finish(*under_way)


def _in_place(values, names: list[str], shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Shape values [N, ...] as their block [cell, N, seed, ...]; parts go to their names."""
    if not isinstance(values, dict):
        return np.asarray(values, dtype).reshape(shape)
    block = np.full(shape, np.nan, dtype)
    for name, part in values.items():
        block[0, :, 0, names.index(name)] = part
    return block


def _meanings(config: Config) -> dict:
    """Say what is measured: more where the config asks for more."""
    asked: dict[str, tuple] = dict(MEANINGS)
    if config.gate_means:
        asked |= GATE_MEANINGS
    if clip.is_asked(config):
        asked |= clip.MEANINGS
    return asked


def _measures(config: Config, cell: Cell) -> list[Callable]:
    """Make the functions of one sweep point: the gradient flow, and what the config asks beside."""

    def flow(weight, params, xs, carry, loss_weights, targets):
        loss = make_loss(config, loss_weights, targets)
        found = gradient_flow(cell, params, xs, loss, initial_carry=carry, recurrent_weight=weight)
        log_norm = found.log_carry_norm
        return found, slope(log_norm, config.drop_first), horizon(log_norm)

    def gate_means(weight, params, xs, carry, loss_weights, targets):
        gates = gate_values(cell, params, xs, initial_carry=carry, recurrent_weight=weight)
        return {"gate_mean": {n: jnp.mean(g, axis=(1, 2)) for n, g in gates._asdict().items()}}

    measures: list[Callable] = [flow]
    if config.gate_means:
        measures.append(gate_means)
    if clip.is_asked(config):
        measures.append(clip.make_measure(config, cell))
    return measures


def _summarize(flow: Any, slopes: np.ndarray, horizons: np.ndarray) -> dict:
    """Reduce a block [N, ...] over its sequences, on the host: the same bits on any devices."""
    mean = _mean_where_alive(flow.log_carry_norm)
    alive = flow.log_carry_norm > -np.inf
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
        "slope": _mean_where_alive(slopes),
        "horizon": np.median(horizons, axis=-1),
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


def _theory(config: Config) -> dict[str, tuple]:
    """Make the variables of what theory expects of the slope."""
    expected = [[theory.slope(config, c, w) for w in config.weights] for c in config.cells]
    dims = ("cell", "recurrent_weight")
    return {
        "theory_slope": (
            dims,
            np.array([[value for value, _ in row] for row in expected]),
            {"long_name": "slope that theory gives, nan where it gives none",
             "units": "nat per step"},
        ),
        "theory_relation": (
            dims,
            np.array([[relation for _, relation in row] for row in expected], dtype="U1"),
            {"long_name": "measured slope = exact theory, ≈ theory at large H, ≤ a bound"},
        ),
    }  # fmt: skip
