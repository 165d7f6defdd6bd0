"""Config -> dataset: a block is one network at one gain, or one network's whole training."""

import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.experiment import Workplace
from experiments.lyapunov.config import Config
from experiments.lyapunov.measure import Measured, measure, measure_random
from experiments.lyapunov.network import read_network
from experiments.memory.training import train
from experiments.memory.variants import read_variant
from rnn_jax.devices import wait
from rnn_jax.dynamics import mean_field
from rnn_jax.results import Blocks, padded, unknown_variables
from rnn_jax.sweep import make_sweep

MEANINGS = {  # name: (dims beside network and gain or evaluation; long name; units)
    "exponents": (("seed", "index"), "Lyapunov exponents, downwards", "nat per step"),
    "standard_errors": (("seed", "index"), "of the exponents, by batch means", "nat per step"),
    "slope": (("seed",), "least-squares slope of ln ‖dL/dcarry_t‖ against T - t", "nat per step"),
}
OF_RANDOM = {"variance": (("seed",), "q, mean square of the pre-activation", "1")}
OF_TRAINED = {"loss": (("seed",), "held-out loss / loss of the best guess without memory", "1")}
THEORY = {  # name: (function of mean_field, long name, units)
    "theory_variance": (mean_field.variance, "q of mean-field theory", "1"),
    "theory_largest": (mean_field.largest_exponent, "its largest exponent", "nat per step"),
    "theory_mean": (mean_field.mean_exponent, "its mean exponent", "nat per step"),
    "theory_positive": (mean_field.positive_fraction, "its share of positive exponents", "1"),
    "theory_entropy": (mean_field.entropy_rate, "its entropy rate / N", "nat per step"),
    "theory_dimension": (mean_field.dimension, "its Kaplan-Yorke dimension / N", "1"),
}


@functools.cache
def plan(config: Config) -> Blocks:
    """Lay the dataset out, with theory where there is one, and cut it."""
    sizes = config.sizes()
    axis = "evaluation" if config.trained else "gain"
    updates = range(0, config.max_updates + 1, config.evaluate_every)
    coordinates = {
        "network": list(config.trained or config.networks),
        axis: list(updates if config.trained else config.gains),
        "seed": list(range(config.num_seeds)),
        "index": list(range(1, (config.num_exponents or max(sizes)) + 1)),
    }
    meanings = MEANINGS | (OF_TRAINED if config.trained else OF_RANDOM)
    size = {"long_name": "D, of the state"}
    known = {"size": ("network", sizes, size)} | ({} if config.trained else _theory(config))
    template = xr.Dataset(
        unknown_variables(meanings, coordinates, ("network", axis)) | known,
        {
            dim: (dim, values, COORDINATE_MEANINGS.get(dim, {}))
            for dim, values in coordinates.items()
        },
        {"title": "Lyapunov exponents", "config": json.dumps(asdict(config))},
    )
    at_once = len(updates) if config.trained else 1
    return Blocks(template, {"network": 1, axis: at_once, "seed": config.num_seeds})


COORDINATE_MEANINGS = {
    "gain": {"long_name": "g, of the recurrent matrix"},
    "evaluation": {"long_name": "updates done", "units": "updates"},
    "index": {"long_name": "i of λ_i, from the largest"},
}


def blocks(
    config: Config, wanted: Iterable[int], workplace: Workplace | None = None
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Compute the wanted blocks; yields (index, what belongs there), one after another."""
    whole = plan(config)
    compute = _trained if config.trained else _random
    for index in wanted:
        if workplace:
            workplace.report(0.0, whole.describe(index))
        with jax.default_matmul_precision(config.precision):
            values = compute(config, index, workplace)
        yield index, {n: _in_place(values[n], whole.shape(n, index)) for n in whole.names}


def _random(config: Config, index: int, _: Workplace | None) -> dict[str, np.ndarray]:
    """Measure every seed of one network at one gain."""
    name, gain = list(itertools.product(config.networks, config.gains))[index]
    gains = np.full(config.num_seeds, gain, config.dtype)
    found, variance = jax.device_get(wait(_swept(config, name)((gains, _keys(config)))))
    return found._asdict() | {"variance": variance}


@functools.cache
def _swept(config: Config, name: str):
    """Compile once for all gains of a network."""
    network = read_network(name, config.hidden_size)
    return make_sweep(partial(measure_random, config, network), chunk_size=1)


def _trained(config: Config, index: int, workplace: Workplace | None) -> dict[str, np.ndarray]:
    """Train one network and measure every seed of it before the first update and at every stop."""
    name, settings = config.trained[index], config.memory(config.trained[index])
    task = settings.task(config.task, config.length)
    cell = read_variant(name, config.hidden_size, task.length).cell
    num_steps = config.warmup + config.num_steps
    root = jax.random.fold_in(jax.random.key(config.seed), 2)  # not what it trains or is tested on
    sequences = task.draw(root, -(-num_steps // task.num_steps)).inputs
    xs = jnp.swapaxes(sequences, 0, 1).reshape(-1, task.input_size)[:num_steps]
    xs = xs.astype(config.dtype)

    def of_run(point):
        params, key = point
        return measure(config, cell, params, xs, cell.initial_carry((), xs.dtype), key)

    swept, found, losses = make_sweep(of_run, chunk_size=1), [], []
    for runs, report in train(settings, task, name):
        measured = swept((runs.params.cell, _keys(config)))
        found.append(jax.device_get(wait(measured)))
        losses.append(report.test_loss / task.baseline)
        if workplace:
            done = len(found) / settings.num_evaluations
            workplace.report(done, f"{name}: {len(found)} of {settings.num_evaluations} measured")
    stacked = {
        field: np.stack([np.asarray(getattr(one, field)) for one in found])
        for field in Measured._fields
    }
    return stacked | {"loss": np.stack(losses)}


def _keys(config: Config) -> jax.Array:
    root = jax.random.fold_in(jax.random.key(config.seed), 3)
    return jax.vmap(partial(jax.random.fold_in, root))(np.arange(config.num_seeds))


def _in_place(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Shape values as their block; nan past the exponents that a network has."""
    return padded(np.asarray(values).reshape(*shape[:-1], -1), shape)


def _theory(config: Config) -> dict[str, tuple]:
    """Make the variables of mean-field theory; nan for networks that have none."""
    networks = [read_network(name, config.hidden_size) for name in config.networks]
    points = [[(network, gain) for gain in config.gains] for network in networks]
    count = config.num_exponents or max(config.sizes())
    fractions = (np.arange(count) + 0.5) / config.hidden_size

    def one(function, network, gain):
        if network.activation not in mean_field.ACTIVATIONS:
            return np.nan
        return function(gain, network.noise_variance, network.activation)

    def spectrum(network, gain):
        values = np.full(count, np.nan)
        if network.activation in mean_field.ACTIVATIONS:
            inside = fractions < 1
            values[inside] = mean_field.spectrum(
                gain, fractions[inside], network.noise_variance, network.activation
            )
        return values

    made: dict[str, tuple] = {
        name: (
            ("network", "gain"),
            [[one(function, *point) for point in row] for row in points],
            {"long_name": meaning, "units": units},
        )
        for name, (function, meaning, units) in THEORY.items()
    }
    made["theory_exponents"] = (
        ("network", "gain", "index"),
        [[spectrum(*point) for point in row] for row in points],
        {"long_name": "exponents of mean-field theory", "units": "nat per step"},
    )
    return made
