"""Memory tasks: sequences drawn from a key, with the exact loss of a guess that remembers nothing.

adding          numbers and two marks, one in each half: predict the sum of the marked numbers
copying         symbols, a long blank, a marker: repeat the symbols after it
temporal order  two symbols at far places among distractors: which came, in which order

A task is a value: ``task.draw`` is a pure function of a key, and equal tasks are one static
argument of ``jax.jit``. What a network says is ``outputs``: [num_steps, B, output_size] where the
task is read at every step (copying), else [B, output_size], those of the last step.
"""

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax.data.batching import check_at_least
from rnn_jax.types import Array, Key


class Batch(NamedTuple):
    """B sequences, time-major."""

    inputs: Array  # [num_steps, B, input_size] float32
    targets: Array  # adding [B] float32; temporal order [B] int32; copying [num_steps, B] int32


class MemoryTask(NamedTuple):
    """A task at one length.

    Attributes:
      name: its name in ``MEMORY_TASKS``.
      length: T as the paper of the task counts it.
      num_steps: steps of a sequence.
      input_size: I.
      output_size: 1 number, or the number of classes.
      baseline: loss of the best guess that does not look at the sequence, exact.
      draw: (key, batch_size) -> Batch. ``jax.vmap`` draws for many keys; another batch size is
        another batch.
      loss: (outputs, targets) -> mean loss, a scalar, in float32 at least.
      score: (outputs, targets) -> the share that is right, a scalar.
      reads_every_step: whether outputs are those of all steps, or of the last one alone.
    """

    name: str
    length: int
    num_steps: int
    input_size: int
    output_size: int
    baseline: float
    draw: Callable[[Key, int], Batch]
    loss: Callable[[Array, Array], Array]
    score: Callable[[Array, Array], Array]
    reads_every_step: bool


def adding(length: int) -> MemoryTask:
    """Add two marked numbers.

        inputs[t] = (u_t, m_t),  u_t ~ U[0, 1),  m_t = 1 at t = p and t = q, else 0
        p ~ U{0, ..., floor(T/2) - 1},  q ~ U{floor(T/2), ..., T - 1},  target = u_p + u_q

    Loss: squared error, mean over sequences. Score: the share with |error| < 0.04, the number of
    Hochreiter and Schmidhuber (1997), experiment 4; their target spans 1, this one 2.

    Baseline: the best constant is the mean of the target, 1, and its loss the variance 1/12 + 1/12
    = 1/6. (Who reads the last step alone sees u_q where it is marked, and is better by
    1/(12 (T - floor(T/2))): 0.0017 at T = 100.)

    Source: Arjovsky, Shah, Bengio (2016), arXiv 1511.06464, with the marks as in their code,
    adding_problem.py (T even; with an odd T it never marks the last step), after
    Hochreiter and Schmidhuber (1997), doi 10.1162/neco.1997.9.8.1735.

    Args:
      length: T, at least 2.
    Raises:
      ValueError: one line, for another length.
    """
    check_at_least("length", length, 2)
    return MemoryTask(
        name="adding",
        length=length,
        num_steps=length,
        input_size=2,
        output_size=1,
        baseline=1 / 6,
        draw=_bound(_draw_adding, length),
        loss=_squared_error,
        score=_share_near,
        reads_every_step=False,
    )


def copying(length: int, num_symbols: int = 8, num_recalled: int = 10) -> MemoryTask:
    """Repeat S symbols after T steps: K symbols (classes 1..K), the blank 0, the marker K + 1.

        inputs  = one-hot of  s_1 ... s_S, T - 1 blanks, marker, S blanks
        targets =             T + S blanks, s_1 ... s_S,       s_j ~ U{1, ..., K}

    Both have T + 2S steps; there are K + 2 input symbols, and K + 1 classes since the marker is
    never a target. Loss: cross-entropy in nats, mean over all T + 2S steps and over sequences.
    Score: the share of the S repeated symbols whose class has the largest output.

    Baseline: the blanks are certain, who has forgotten the symbols gives each the probability 1/K,
    and the mean is S ln K / (T + 2S): 10 ln 8 / (T + 20).

    Source: Arjovsky, Shah, Bengio (2016), arXiv 1511.06464, as in their code, memory_problem.py
    of https://github.com/amarshah/complex_RNN, after Hochreiter and Schmidhuber (1997).

    Args:
      length: T, at least 1.
      num_symbols: K, at least 2.
      num_recalled: S, at least 1.
    Raises:
      ValueError: one line, for a smaller number.
    """
    check_at_least("length", length, 1)
    check_at_least("num_symbols", num_symbols, 2)
    check_at_least("num_recalled", num_recalled, 1)
    num_steps = length + 2 * num_recalled
    return MemoryTask(
        name="copying",
        length=length,
        num_steps=num_steps,
        input_size=num_symbols + 2,
        output_size=num_symbols + 1,
        baseline=num_recalled * math.log(num_symbols) / num_steps,
        draw=_bound(_draw_copying, length, num_symbols, num_recalled),
        loss=_cross_entropy,
        score=_share_recalled,
        reads_every_step=True,
    )


def temporal_order(length: int, num_distractors: int = 4) -> MemoryTask:
    """Tell in which order two symbols came: X X, X Y, Y X or Y Y, the classes 0 to 3.

        inputs[0] = E, inputs[T - 1] = B, inputs[p] and inputs[q] = X or Y with probability 1/2,
        p ~ U{floor(T/10), ..., floor(2T/10) - 1},  q ~ U{floor(5T/10), ..., floor(6T/10) - 1},

    everywhere else one of D distractors, each as probable; one-hot in the order X, Y, the
    distractors, E, B. Loss: cross-entropy in nats at the last step, mean over sequences. Score: the
    share whose class has the largest output.

    Baseline: the four classes are equally probable whatever the last input, always B: ln 4.

    Source: Hochreiter and Schmidhuber (1997), doi 10.1162/neco.1997.9.8.1735, experiment 6a (T from
    100 to 110, p from 10 to 20, q from 50 to 60, D = 4). Here T is fixed, and the ranges grow with
    it as in the code of Pascanu, Mikolov, Bengio (2013), arXiv 1211.5063: tempOrder.py of
    https://github.com/pascanur/trainingRNNs, which has neither E nor B.

    Args:
      length: T, at least 10.
      num_distractors: D, at least 1.
    Raises:
      ValueError: one line, for a smaller number.
    """
    check_at_least("length", length, 10)
    check_at_least("num_distractors", num_distractors, 1)
    return MemoryTask(
        name="temporal_order",
        length=length,
        num_steps=length,
        input_size=num_distractors + 4,
        output_size=4,
        baseline=math.log(4),
        draw=_bound(_draw_temporal_order, length, num_distractors),
        loss=_cross_entropy,
        score=_share_right,
        reads_every_step=False,
    )


MEMORY_TASKS = {"adding": adding, "copying": copying, "temporal_order": temporal_order}

_bound = functools.cache(partial)  # one object for equal arguments: equal tasks compile once


def _draw_adding(length: int, key: Key, batch_size: int) -> Batch:
    check_at_least("batch_size", batch_size, 1)
    values_key, first_key, second_key = jax.random.split(key, 3)
    values = jax.random.uniform(values_key, (length, batch_size), jnp.float32)
    half = length // 2
    first = _draw_whole(first_key, (batch_size,), 0, half)
    second = _draw_whole(second_key, (batch_size,), half, length)
    steps = jnp.arange(length)[:, None]
    is_marked = (steps == first) | (steps == second)
    inputs = jnp.stack([values, is_marked.astype(jnp.float32)], axis=-1)
    return Batch(inputs, jnp.sum(jnp.where(is_marked, values, 0), axis=0))


def _draw_copying(
    length: int, num_symbols: int, num_recalled: int, key: Key, batch_size: int
) -> Batch:
    check_at_least("batch_size", batch_size, 1)
    symbols = _draw_whole(key, (num_recalled, batch_size), 1, num_symbols + 1)
    blanks = jnp.zeros((length + num_recalled, batch_size), jnp.int32)
    inputs = jnp.concatenate([symbols, blanks.at[length - 1].set(num_symbols + 1)])
    targets = jnp.concatenate([blanks, symbols])
    return Batch(jax.nn.one_hot(inputs, num_symbols + 2, dtype=jnp.float32), targets)


def _draw_temporal_order(length: int, num_distractors: int, key: Key, batch_size: int) -> Batch:
    check_at_least("batch_size", batch_size, 1)
    distractors_key, first_key, second_key, pair_key = jax.random.split(key, 4)
    start = num_distractors + 2
    symbols = _draw_whole(distractors_key, (length, batch_size), 2, start)
    symbols = symbols.at[0].set(start).at[-1].set(start + 1)
    first = _draw_whole(first_key, (batch_size,), length // 10, 2 * length // 10)
    second = _draw_whole(second_key, (batch_size,), 5 * length // 10, 6 * length // 10)
    x_or_y = _draw_whole(pair_key, (2, batch_size), 0, 2)
    steps = jnp.arange(length)[:, None]
    symbols = jnp.where(steps == first, x_or_y[0], symbols)
    symbols = jnp.where(steps == second, x_or_y[1], symbols)
    inputs = jax.nn.one_hot(symbols, num_distractors + 4, dtype=jnp.float32)
    return Batch(inputs, 2 * x_or_y[0] + x_or_y[1])


def _draw_whole(key: Key, shape: tuple[int, ...], least: int, end: int) -> Array:
    return jax.random.randint(key, shape, least, end, jnp.int32)  # not what x64 makes of int


def _squared_error(outputs: Array, targets: Array) -> Array:
    return jnp.mean(jnp.square(_errors(outputs, targets)))


def _share_near(outputs: Array, targets: Array) -> Array:
    return jnp.mean(jnp.abs(_errors(outputs, targets)) < 0.04, dtype=jnp.float32)


def _errors(outputs: Array, targets: Array) -> Array:
    return _checked(outputs, targets)[..., 0] - targets


def _cross_entropy(outputs: Array, targets: Array) -> Array:
    logits = _checked(outputs, targets)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))


def _share_right(outputs: Array, targets: Array) -> Array:
    return jnp.mean(_is_right(outputs, targets), dtype=jnp.float32)


def _share_recalled(outputs: Array, targets: Array) -> Array:
    is_symbol = targets > 0
    return jnp.mean(_is_right(outputs, targets), dtype=jnp.float32, where=is_symbol)


def _is_right(outputs: Array, targets: Array) -> Array:
    return jnp.argmax(_checked(outputs, targets), axis=-1) == targets


def _checked(outputs: Array, targets: Array) -> Array:
    """Return outputs in float32 at least; what would broadcast against the targets is refused."""
    if outputs.shape[:-1] != targets.shape:
        allowed = f"{targets.shape} and an axis of output_size, as targets"
        raise ValueError(f"outputs have shape {outputs.shape}; allowed: {allowed}")
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
