"""Config -> dataset: train, work the short text through, sweep w on a short and a long text."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.one_unit import by_hand, text, training
from experiments.one_unit.config import Config
from experiments.one_unit.training import Trained, Unit
from rnn_jax.cells.elman import ElmanCarry, ElmanParams, elman
from rnn_jax.gradient_flow import gradient_flow
from rnn_jax.recurrence import unroll

STAGES = ("before training", "after training")
WORKED, SWEPT = ("stage",), ("activation", "drive", "recurrent_weight")
TRAINED = ("trained_activation", "clipping", "learning_rate", "seed")
MEANINGS = {  # name: (dims, long name)
    "symbol": (("step",), "the text; a word outside the alphabet is read as …"),
    "z": ((*WORKED, "step"), "z_t, the number of the symbol"),
    "weight": (WORKED, "w"),
    "preactivation": ((*WORKED, "step"), "a_t = w h_{t-1} + z_t, by hand"),
    "hidden": ((*WORKED, "time"), "h_t = f(a_t), by hand"),
    "derivative": ((*WORKED, "step"), "f'(a_t), by hand"),
    "factor": ((*WORKED, "step"), "w f'(a_t) = dh_t/dh_{t-1}, by hand"),
    "product": ((*WORKED, "time"), "dh_T/dh_t, the factors after t multiplied by hand"),
    "log_product": ((*WORKED, "time"), "ln |dh_T/dh_t|, by hand"),
    "flow": ((*WORKED, "time"), "|dh_T/dh_t| by gradient_flow"),
    "tap": ((*WORKED, "time"), "dh_T/dh_t by autodiff: the tap of unroll; t = 0: initial carry"),
    "short_log_gradient": ((*SWEPT, "time"), "ln |dh_T/dh_t|, short text, by hand"),
    "long_log_gradient": ((*SWEPT, "long_time"), "ln |dh_T/dh_t|, long text, by hand"),
    "short_difference": (SWEPT, "largest relative difference, hand and autodiff, short text"),
    "long_difference": (SWEPT, "largest relative difference, hand and autodiff, long text"),
    "loss": ((*TRAINED, "update"), "training loss, mean since the last point, nats"),
    "accuracy": ((*TRAINED, "update"), "part of the held-out lines put into the right class"),
    "trained_weight": ((*TRAINED, "update"), "w"),
    "largest_norm": (TRAINED, "largest norm of the gradient met, before any clip"),
    "hidden_word_accuracy": (
        ("learning_rate", "seed"),
        "the same accuracy where the first word is hidden in training and test: first of "
        "trained_activation, last of clipping",
    ),
    "majority": ((), "part of the held-out lines in the larger class"),
}


def num_blocks(config: Config) -> int:
    """Count: trainings, the one with the first word hidden, the worked text, the sweep."""
    return len(config.trained_activations) * len(config.clips) + 2 + len(config.activations)


def run(config: Config, on_block: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Compute everything; ``on_block`` is called as each block is finished."""
    task = text.make_task(config)
    runs: dict[tuple[str, str], Trained] = {}
    for activation in config.trained_activations:
        for clip in config.clips:
            runs[activation, clip] = training.train(config, activation, clip, task)
            on_block()
    control = training.train(
        config, config.trained_activations[0], config.clips[-1], text.hide_first_word(task)
    )
    on_block()
    found = _stack(config, runs)
    found["hidden_word_accuracy"] = np.asarray(control.accuracy)[..., -1]
    found["majority"] = np.bincount(task.held_out.labels).max() / len(task.held_out.labels)
    units = unit_before(config, task), _best_unit(config, runs)
    found |= work_through(config, task, units)
    on_block()
    found |= sweep(config, task, units[0], on_block)
    return _dataset(config, task, found)


def unit_before(config: Config, task: text.Task) -> Unit:
    """Draw the unit that seed 0 starts from, as ``training.train`` does."""
    key = jax.random.split(jax.random.key(config.seed), config.num_seeds)[0]
    return training.draw_unit(config, jax.random.split(key)[0], len(task.alphabet))


def _best_unit(config: Config, runs: dict[tuple[str, str], Trained]) -> Unit:
    """Take the unit with the lowest training loss at the end; held-out lines have no say."""
    candidates = [runs[config.trained_activations[0], clip] for clip in config.clips]
    losses = np.nan_to_num(np.stack([c.loss[..., -1] for c in candidates]), nan=np.inf)
    clip, *place = np.unravel_index(np.argmin(losses), losses.shape)
    return jax.tree.map(lambda leaf: leaf[tuple(place)], candidates[clip].unit)


class Autodiff(NamedTuple):
    """dh_T/dh_t of the library, t = 0..T."""

    log_flow: np.ndarray  # ln |.| by gradient_flow
    tap: np.ndarray  # the tap of unroll, and the gradient by the initial carry


def autodiff(activation: str, weight: float, drive: np.ndarray, initial_state: float) -> Autodiff:
    """Differentiate h_T by every state through the library, in two ways."""
    cell, one = elman(1, activation=activation), jnp.ones((1, 1), drive.dtype)
    params = ElmanParams(one, one, jnp.zeros(1, drive.dtype))
    xs, start = jnp.asarray(drive)[:, None, None], ElmanCarry(initial_state * one)
    w = jnp.asarray(weight, drive.dtype)
    flow = gradient_flow(cell, params, xs, last_state, initial_carry=start, recurrent_weight=w)
    taps = ElmanCarry(jnp.zeros((len(drive), 1, 1), drive.dtype))

    def of(start, taps):
        ends = unroll(cell, params, xs, initial_carry=start, recurrent_weight=w, carry_tap=taps)
        return last_state(*ends)

    by_start, by_taps = jax.grad(of, argnums=(0, 1))(start, taps)
    tap = np.concatenate([by_start.hidden.ravel(), by_taps.hidden.ravel()])
    return Autodiff(np.asarray(flow.log_carry_norm[:, 0]), tap)


def last_state(last_carry, ys):
    """Return the loss whose gradient by h_t is dh_T/dh_t: h_T itself."""
    del ys
    return jnp.sum(last_carry.hidden)


def drive_of(unit: Unit, symbols) -> np.ndarray:
    """z_t = embedding of the symbol + bias."""
    return np.asarray(unit.embedding)[np.asarray(symbols)] + np.asarray(unit.bias)


def work_through(config: Config, task: text.Task, units: tuple[Unit, Unit]) -> dict:
    """Walk through the short text by hand and by the library, before and after training."""
    words = text.split_words(config.text)
    symbols = text.encode(words, task.alphabet)
    activation = config.trained_activations[0]
    rows = []
    for unit in units:
        drive, weight = drive_of(unit, symbols), float(unit.weight)
        walk = by_hand.walk(activation, weight, drive, config.initial_state)
        library = autodiff(activation, weight, drive, config.initial_state)
        flow = np.exp(library.log_flow)
        rows.append(
            walk._asdict() | {"z": drive, "weight": weight, "flow": flow, "tap": library.tap}
        )
    worked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    shown = [
        word if symbol else f"{word} ({text.OTHER})"
        for word, symbol in zip(words, symbols, strict=True)
    ]
    return worked | {"symbol": np.array(shown)}


def sweep(config: Config, task: text.Task, unit: Unit, on_block: Callable[[], None]) -> dict:
    """Measure ln |dh_T/dh_t| for every f, drive and w, with the numbers per symbol of ``unit``."""
    short = drive_of(unit, text.encode(text.split_words(config.text), task.alphabet))
    texts = {"short": short, "long": drive_of(unit, text.passage(task, config.long_length))}
    found = {f"{name}_{kind}": [] for name in texts for kind in ("log_gradient", "difference")}
    for activation in config.activations:
        for scale in config.drives:
            for weight in config.weights:
                for name, drive in texts.items():
                    point = (activation, weight, scale * drive, scale * config.initial_state)
                    hand, library = by_hand.walk(*point).log_product, autodiff(*point).log_flow
                    found[f"{name}_log_gradient"].append(hand)
                    found[f"{name}_difference"].append(_largest_difference(hand, library))
        on_block()
    shape = (len(config.activations), len(config.drives), len(config.weights), -1)
    stacked = {name: np.array(values).reshape(shape) for name, values in found.items()}
    return {
        name: values[..., 0] if name.endswith("difference") else values
        for name, values in stacked.items()
    }


def _largest_difference(log_hand: np.ndarray, log_library: np.ndarray) -> float:
    """Largest |ratio - 1| of two positive quantities given as logarithms; both 0 is equal."""
    same = log_hand == log_library
    apart = np.subtract(log_library, log_hand, where=~same, out=np.zeros_like(log_hand))
    return float(np.max(np.abs(np.expm1(apart))))


def _stack(config: Config, runs: dict[tuple[str, str], Trained]) -> dict[str, np.ndarray]:
    """Put the trainings side by side: [activation, clip, rate, seed, ...]."""

    def stack(name):
        return np.stack(
            [
                np.stack([getattr(runs[a, c], name) for c in config.clips])
                for a in config.trained_activations
            ]
        )

    found = {name: stack(name) for name in ("loss", "accuracy", "largest_norm")}
    return found | {"trained_weight": stack("weight")}


def _dataset(config: Config, task: text.Task, found: dict) -> xr.Dataset:
    """Put what was found beside its coordinates."""
    variables = {
        name: (dims, found[name], {"long_name": meaning})
        for name, (dims, meaning) in MEANINGS.items()
    }
    updates = np.arange(1, config.num_updates // config.report_every + 1) * config.report_every
    num_steps = len(found["symbol"])
    coordinates = {
        "stage": list(STAGES),
        "step": np.arange(1, num_steps + 1),
        "time": np.arange(num_steps + 1),
        "long_time": np.arange(config.long_length + 1),
        "activation": list(config.activations),
        "drive": list(config.drives),
        "recurrent_weight": list(config.weights),
        "trained_activation": list(config.trained_activations),
        "clipping": list(config.clips),
        "learning_rate": list(config.learning_rates),
        "seed": np.arange(config.num_seeds),
        "update": updates,
    }
    attributes = {
        "title": "One recurrent unit, worked through on text",
        "config": json.dumps(asdict(config)),
        "text": task.source,
        "lines": f"{len(task.train.labels)} to train, {len(task.held_out.labels)} held out",
    }
    return xr.Dataset(variables, coordinates, attributes)
