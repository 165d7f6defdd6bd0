"""One training step: a pure function of (state, batch), jitted, its state donated.

A step whose loss or gradient is not finite changes nothing but its counts. After ``patience`` of
them in a row the training has stopped: no step changes anything any more.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax.checks import check_positive
from rnn_jax.training.losses import Sums, Task
from rnn_jax.training.optimizer import init_optimizer, recorded_norms
from rnn_jax.types import Array, Key, Params


class Totals(NamedTuple):
    """What is summed over steps, of those that were not skipped."""

    sums: Sums
    steps: Array  # int32
    norm_before: Array  # of the gradient, before the clip; summed
    norm_after: Array
    largest_norm: Array  # before the clip
    clipped: Array  # int32, steps on which the clip changed the norm


class TrainState(NamedTuple):
    """All that changes in training, and all that a checkpoint holds.

    The place in the data and every random key follow from ``step``.
    """

    step: Array  # int32, steps taken or skipped
    params: Params
    carried: Any  # from one batch into the next; () where each stands alone
    optimizer: optax.OptState
    skipped: Array  # int32
    skipped_in_a_row: Array  # int32
    stopped_at: Array  # int32, the step at which too many were; 0: none was
    recent: Totals  # since the log's last row
    epoch: Totals  # since the epoch began

    @property
    def is_stopped(self) -> bool:
        """Tell whether so many steps in a row were skipped that none changes anything any more."""
        return int(self.stopped_at) > 0


def init_state(task: Task, optimizer: Any, key: Key, learning_rate: float) -> TrainState:
    """Draw the parameters, and begin."""
    check_positive("learning_rate", learning_rate)
    return _make_init(task, optimizer)(key, learning_rate)


@functools.lru_cache(maxsize=256)
def _make_init(task: Task, optimizer: optax.GradientTransformation) -> Callable:
    def init(key, learning_rate):
        params = task.init(key)
        zero = jnp.zeros((), jnp.int32)
        first = init_optimizer(optimizer, params, learning_rate)
        dtype = recorded_norms(first)[0].dtype
        totals = no_totals(dtype)
        carried = task.first_carry()
        return TrainState(zero, params, carried, first, zero, zero, zero, totals, totals)

    return jax.jit(init)


def no_totals(dtype=jnp.float32) -> Totals:
    """Make totals over no steps."""

    def number():
        return jnp.zeros((), dtype)

    def count():
        return jnp.zeros((), jnp.int32)

    sums = Sums(number(), count(), count(), count())
    return Totals(sums, count(), number(), number(), number(), count())


def make_train_step(
    task: Task,
    optimizer: Any,
    patience: int,
    shardings: Any = None,
) -> Callable[[TrainState, Any, Key], TrainState]:
    """Jit (state, batch, root key) -> state, cached: equal arguments give the same function.

    The dropout key of a step is fold_in(root key, step). ``shardings`` are those of the state
    where several devices share the batch (placement.py).
    """
    return _make_train_step(task, optimizer, patience, shardings)


@functools.lru_cache(maxsize=256)
def _make_train_step(
    task: Task, optimizer: Any, patience: int, shardings: Any
) -> Callable[[TrainState, Any, Key], TrainState]:

    def train_step(state: TrainState, batch: Any, key: Key) -> TrainState:
        def mean_loss(params):
            dropout_key = jax.random.fold_in(key, state.step)
            carried, sums = task.sums(params, state.carried, batch, dropout_key)
            return sums.loss / sums.targets, (carried, sums)

        grads, (carried, sums) = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        norm_before, norm_after = recorded_norms(optimizer_state)
        is_finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm_before)
        goes_on = state.stopped_at == 0
        takes, skips = goes_on & is_finite, goes_on & ~is_finite

        def taken(new, old):
            return jax.tree.map(lambda a, b: jnp.where(takes, a, b), new, old)

        found = Totals(
            sums,
            jnp.ones((), jnp.int32),
            norm_before,
            norm_after,
            norm_before,
            jnp.int32(norm_after != norm_before),
        )
        step = state.step + 1
        in_a_row = jnp.where(takes, 0, state.skipped_in_a_row + skips)
        return TrainState(
            step,
            taken(params, state.params),
            taken(carried, state.carried),
            taken(optimizer_state, state.optimizer),
            state.skipped + skips,
            in_a_row,
            jnp.where(skips & (in_a_row >= patience), step, state.stopped_at),
            taken(_with(state.recent, found), state.recent),
            taken(_with(state.epoch, found), state.epoch),
        )

    return jax.jit(train_step, donate_argnums=0, out_shardings=shardings)


@functools.lru_cache(maxsize=256)
def make_eval_step(task: Task) -> Callable[[Params, Any], Sums]:
    """Jit (params, batch) -> Sums, without dropout; cached.

    Raises:
      ValueError: the task carries a state from batch to batch; one line.
    """
    if jax.tree.leaves(task.first_carry()):
        raise ValueError(
            "the task carries a state from batch to batch; allowed: one whose batches stand alone "
            "(a language model's text: evaluate_stream)"
        )
    return jax.jit(lambda params, batch: task.sums(params, task.first_carry(), batch, None)[1])


def _with(totals: Totals, found: Totals) -> Totals:
    largest = jnp.maximum(totals.largest_norm, found.largest_norm)
    total: Totals = jax.tree.map(lambda a, b: a + b.astype(a.dtype), totals, found)
    return total._replace(largest_norm=largest)
