"""Train all runs of one task and variant at once: one jitted program, vmapped over the runs.

A run is one clip norm, one learning rate and one seed: Adam on a cell with a linear read-out.
Between evaluations the updates are one scan; new sequences are drawn inside it.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.memory.config import Config
from experiments.memory.variants import Variant, read_variant
from rnn_jax.cells import initializers
from rnn_jax.cells.base import multiply
from rnn_jax.data.memory_tasks import Batch, MemoryTask
from rnn_jax.devices import wait
from rnn_jax.gradient_flow import gradient_flow
from rnn_jax.recurrence import unroll
from rnn_jax.sweep import chunk_size, make_sweep, saved_bytes
from rnn_jax.types import Array, Key, Params

FLOW_SEQUENCES = 32  # of those held out; the gradient's norm is a mean over them


class Network(NamedTuple):
    """A cell with a linear read-out of its outputs."""

    cell: Params
    kernel: Array  # [H, output_size]
    bias: Array  # [output_size]


class Run(NamedTuple):
    """One run: what is trained, and the settings that are its own; all arrays."""

    params: Network
    optimizer_state: Any
    key: Key  # of the sequences to come
    clip_norm: Array  # [], inf: no clip
    learning_rate: Array  # []
    train_loss: Array  # [], mean over the updates since the last evaluation; nan before the first


class Report(NamedTuple):
    """What is measured at an evaluation."""

    train_loss: Array  # [], of the run
    test_loss: Array  # []
    score: Array  # [], share right of the held-out sequences
    log_carry_norm: Array  # [num_steps + 1], ln ‖dL/dcarry_t‖, mean over sequences


def settings(config: Config) -> list[tuple[float, float, int]]:
    """List the runs of a task and variant: (clip norm, learning rate, seed)."""
    norms = [norm or np.inf for norm in config.clip_norms]
    return list(itertools.product(norms, config.learning_rates, range(config.num_seeds)))


def train(config: Config, task: MemoryTask, variant: str) -> Iterator[tuple[Run, Report]]:
    """Yield (runs, reports), a leading axis over ``settings``, before the first update and then at
    every evaluation until the budget is spent.

    Every variant is given the same sequences at the same seed.
    """
    made = read_variant(variant, config.hidden_size, task.length)
    norms, rates, seeds = (np.array(column) for column in zip(*settings(config), strict=True))
    root = jax.random.key(config.seed)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(root, 0)))(seeds)
    dtype = jnp.dtype(config.dtype)
    test = _draw(task, dtype, jax.random.fold_in(root, 1), config.test_size)

    shapes = jax.eval_shape(partial(_begin, task, made, dtype), keys[0], rates[0], norms[0])
    xs = jax.eval_shape(lambda key: _draw(task, dtype, key, config.batch_size), keys[0]).inputs
    chunk = _chunk_size(saved_bytes(made.cell, shapes.params.cell, xs), len(seeds))
    begin = make_sweep(lambda point: _begin(task, made, dtype, *point), chunk)
    evaluate = make_sweep(partial(_evaluate, task, made), chunk)
    advance = make_sweep(partial(_advance, config, task, made), chunk)

    runs = begin((keys, rates.astype(dtype), norms.astype(dtype)))
    for number in range(config.num_evaluations):
        runs = advance(runs) if number else runs
        yield runs, jax.device_get(wait(evaluate(runs, test)))


def _chunk_size(bytes_a_run: int, num_runs: int) -> int:
    """Choose how many runs to vmap: chunks of one size, an even number of them.

    So two devices, or four, wait for each other least. How many there are has no part in it.
    """
    most = chunk_size(bytes_a_run, num_runs)
    num_chunks = 2 * math.ceil(num_runs / (2 * most))
    return math.ceil(num_runs / num_chunks)


def _begin(
    task: MemoryTask, variant: Variant, dtype, key: Key, rate: Array, clip_norm: Array
) -> Run:
    cell_key, kernel_key, sequences_key = jax.random.split(key, 3)
    shape = (variant.cell.hidden_size, task.output_size)
    params = Network(
        variant.cell.init(cell_key, task.input_size, dtype, **variant.init),
        initializers.glorot_uniform(kernel_key, shape, dtype),
        jnp.zeros(task.output_size, dtype),
    )
    state = _optimizer(rate, clip_norm).init(params)
    return Run(params, state, sequences_key, clip_norm, rate, jnp.full((), jnp.nan, dtype))


def _optimizer(rate: Array, clip_norm: Array) -> optax.GradientTransformation:
    largest = jnp.finfo(clip_norm.dtype).max  # no clip; of a norm that overflows nothing is left
    clip = optax.clip_by_global_norm(jnp.minimum(clip_norm, largest))
    return optax.chain(clip, optax.adam(rate))


def _draw(task: MemoryTask, dtype, key: Key, batch_size: int) -> Batch:
    batch = task.draw(key, batch_size)
    return jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float32 else a, batch)


def _loss_of(task: MemoryTask, params: Network, targets: Array) -> Callable:
    """Make the loss (last carry, outputs of the cell) -> scalar."""

    def loss(last_carry, ys):
        return task.loss(_read_out(task, params, ys), targets)

    return loss


def _read_out(task: MemoryTask, params: Network, ys: Array) -> Array:
    ys = ys if task.reads_every_step else ys[-1]
    return multiply(ys, params.kernel) + params.bias


def _advance(config: Config, task: MemoryTask, variant: Variant, run: Run) -> Run:
    """Train up to the next evaluation."""
    optimizer = _optimizer(run.learning_rate, run.clip_norm)

    def loss(params, batch):
        last_carry, ys = unroll(variant.cell, params.cell, batch.inputs)
        return _loss_of(task, params, batch.targets)(last_carry, ys)

    def update(state, key):
        params, optimizer_state = state
        batch = _draw(task, params.kernel.dtype, key, config.batch_size)
        value, gradient = jax.value_and_grad(loss)(params, batch)
        change, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, change), optimizer_state), value

    next_key, key = jax.random.split(run.key)
    state, losses = jax.lax.scan(
        update, (run.params, run.optimizer_state), jax.random.split(key, config.evaluate_every)
    )
    return run._replace(
        params=state[0], optimizer_state=state[1], key=next_key, train_loss=jnp.mean(losses)
    )


def _evaluate(task: MemoryTask, variant: Variant, run: Run, test: Batch) -> Report:
    """Measure held-out loss and score, and the gradient of the loss by the state at every step."""
    params = run.params
    _, ys = unroll(variant.cell, params.cell, test.inputs)
    outputs = _read_out(task, params, ys)
    some = Batch(test.inputs[:, :FLOW_SEQUENCES], test.targets[..., :FLOW_SEQUENCES])
    loss = _loss_of(task, params, some.targets)
    log_norms = gradient_flow(variant.cell, params.cell, some.inputs, loss).log_carry_norm
    return Report(
        run.train_loss,
        task.loss(outputs, test.targets),
        task.score(outputs, test.targets),
        _mean_where_alive(log_norms),
    )


def _mean_where_alive(log_norms: Array) -> Array:
    """Mean over sequences whose gradient is not exactly zero; -inf where all are."""
    is_zero = log_norms == -jnp.inf
    total = jnp.sum(jnp.where(is_zero, 0, log_norms), axis=-1)
    count = jnp.sum(~is_zero, axis=-1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), -jnp.inf)
