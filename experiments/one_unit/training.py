"""Train the unit: logistic loss of sigmoid(u h_T + d), SGD, the gradient clipped or not.

One jitted scan over the updates, vmapped over seeds and learning rates.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.one_unit.config import Config
from experiments.one_unit.text import Lines, Task
from rnn_jax.cells.elman import ElmanCarry, ElmanParams, elman
from rnn_jax.clipping import CLIPS, gradient_norm
from rnn_jax.recurrence import unroll
from rnn_jax.types import Array, Key


class Unit(NamedTuple):
    """Everything that is trained; the unit's R stays 1, w takes its place."""

    embedding: Array  # [alphabet], z of every symbol, the bias apart
    bias: Array  # []
    weight: Array  # [], w
    slope: Array  # [], u
    offset: Array  # [], d


class Trained(NamedTuple):
    """Learning rates × seeds first."""

    unit: Unit
    loss: Array  # [..., reports], mean over the updates since the last report
    accuracy: Array  # [..., reports], on the held-out lines
    weight: Array  # [..., reports], w
    largest_norm: Array  # [...], of the gradient before any clip, over all updates


def draw_unit(config: Config, key: Key, alphabet_size: int) -> Unit:
    """Draw a unit before training: a random number per symbol, the rest given."""
    embedding = config.embedding_scale * jax.random.normal(key, (alphabet_size,), config.dtype)
    numbers = jnp.array([0.0, config.initial_weight, 1.0, 0.0], config.dtype)
    return Unit(embedding, *numbers)


def elman_params(unit: Unit) -> ElmanParams:
    """Write the unit as an Elman cell of one unit with R = 1."""
    one = jnp.ones((1, 1), unit.embedding.dtype)
    return ElmanParams(unit.embedding[:, None], one, unit.bias[None])


def score(config: Config, activation: str, unit: Unit, lines: Lines) -> Array:
    """Return u h_T + d of every line [B]; above 0 means the second class."""
    dtype = unit.embedding.dtype
    xs = jax.nn.one_hot(lines.symbols, unit.embedding.shape[0], dtype=dtype)
    start = jnp.full((lines.symbols.shape[1], 1), config.initial_state, dtype)
    last, _ = unroll(
        elman(1, activation=activation),
        elman_params(unit),
        xs,
        initial_carry=ElmanCarry(start),
        seq_lengths=jnp.asarray(lines.lengths),
        recurrent_weight=unit.weight,
    )
    return unit.slope * last.hidden[:, 0] + unit.offset


def loss(config: Config, activation: str, unit: Unit, lines: Lines) -> Array:
    """Mean of -ln p(right class), p(second class) = sigmoid(score)."""
    scores = score(config, activation, unit, lines)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(scores, lines.labels))


def accuracy(config: Config, activation: str, unit: Unit, lines: Lines) -> Array:
    """Part of the lines put into the right class; a unit that overflowed (nan) answers class 0."""
    return jnp.mean((score(config, activation, unit, lines) > 0) == lines.labels)


def train(config: Config, activation: str, clip: str, task: Task) -> Trained:
    """Train every seed at every learning rate."""
    rates = jnp.asarray(config.learning_rates, config.dtype)
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    one = partial(_train_one, config, activation, clip, task)
    return jax.device_get(jax.jit(over_seeds_and_rates(one))(rates, keys))


def over_seeds_and_rates(one: Callable) -> Callable:
    """Map f(rate, key) to all pairs: results [rates, seeds, ...]."""
    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))


def _train_one(
    config: Config, activation: str, clip: str, task: Task, rate: Array, key: Key
) -> Trained:
    train_lines, held_out = (Lines(*map(jnp.asarray, part)) for part in (task.train, task.held_out))
    unit_key, order_key = jax.random.split(key)
    unit = draw_unit(config, unit_key, len(task.alphabet))
    sgd = optax.sgd(rate)
    optimizer = sgd if clip == "none" else optax.chain(CLIPS[clip](config.threshold), sgd)

    def update(state, key):
        unit, optimizer_state = state
        picked = jax.random.randint(key, (config.batch_size,), 0, len(train_lines.labels))
        batch = Lines(train_lines.symbols[:, picked], *(part[picked] for part in train_lines[1:]))
        value, gradient = jax.value_and_grad(partial(loss, config, activation))(unit, batch)
        change, optimizer_state = optimizer.update(gradient, optimizer_state, unit)
        unit = optax.apply_updates(unit, change)
        return (unit, optimizer_state), (value, gradient_norm(gradient))

    def report(state, keys):
        state, (losses, norms) = jax.lax.scan(update, state, keys)
        right = accuracy(config, activation, state[0], held_out)
        return state, (jnp.mean(losses), right, state[0].weight, jnp.nanmax(norms))

    shape = (config.num_updates // config.report_every, config.report_every)
    state, (*curves, norms) = jax.lax.scan(
        report, (unit, optimizer.init(unit)), jax.random.split(order_key, shape)
    )
    return Trained(state[0], *curves, jnp.nanmax(norms))
