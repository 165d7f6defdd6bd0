"""Memory tasks: what is drawn, exactly; the loss of a guess without memory, and none better."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import raises_one_line, tree_allclose, tree_equal

from rnn_jax.data.memory_tasks import MEMORY_TASKS, adding, copying, temporal_order

# task, steps, inputs, outputs
SIZES = [
    (adding(2), 2, 2, 1),
    (adding(13), 13, 2, 1),
    (copying(1), 21, 10, 9),
    (copying(7), 27, 10, 9),
    (copying(5, num_symbols=3, num_recalled=2), 9, 5, 4),
    (temporal_order(10), 10, 8, 4),
    (temporal_order(37, num_distractors=1), 37, 5, 4),
]
TASKS = [task for task, *_ in SIZES]
draw = jax.jit(lambda task, key, batch_size: task.draw(key, batch_size), static_argnums=(0, 2))


def many(task, key, batch_size):
    """A batch as numpy arrays; one-hot inputs as symbols."""
    inputs, targets = map(np.asarray, draw(task, key, batch_size))
    if task.name == "adding":
        return inputs, targets
    assert np.isin(inputs, [0, 1]).all() and (inputs.sum(-1) == 1).all()
    return inputs.argmax(-1), targets


def assert_uniform(values, allowed):
    """Whole numbers that take every allowed value, and no other, equally often: chi-square."""
    counts = np.array([np.sum(values == value) for value in allowed])
    assert counts.sum() == values.size
    if len(counts) > 1:
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


# Every task


@pytest.mark.parametrize("task, num_steps, input_size, output_size", SIZES)
def test_sizes(task, num_steps, input_size, output_size, getkey):
    assert (task.num_steps, task.input_size, task.output_size) == (
        num_steps,
        input_size,
        output_size,
    )
    inputs, targets = draw(task, getkey(), 3)
    assert inputs.shape == (num_steps, 3, input_size) and inputs.dtype == jnp.float32
    assert targets.shape == ((num_steps, 3) if task.reads_every_step else (3,))
    assert targets.dtype == (jnp.float32 if task.name == "adding" else jnp.int32)
    assert task.reads_every_step == (task.name == "copying")


@pytest.mark.parametrize("task", [adding(13), copying(7), temporal_order(37)])
def test_a_batch_follows_from_its_key(task, getkey):
    keys = jax.random.split(getkey(), 3)
    batches = [task.draw(key, 5) for key in keys]
    tree_equal(task.draw(keys[0], 5), batches[0])
    tree_equal(draw(task, keys[0], 5), batches[0])
    together = jax.jit(jax.vmap(lambda key: task.draw(key, 5)))(keys)
    tree_equal(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches))
    for one, other in itertools.combinations(batches, 2):
        assert (one.inputs != other.inputs).any() and (one.targets != other.targets).any()


def test_equal_tasks_are_one_static_argument(getkey):
    traced = []

    def count(task, key):
        traced.append(task.name)
        return task.draw(key, 2).targets

    count = jax.jit(count, static_argnums=0)
    key = getkey()
    same = [copying(7), copying(7, 8), copying(length=7, num_recalled=10)]
    for task in [*same, adding(7), adding(7), adding(8)]:
        count(task, key)
    assert traced == ["copying", "adding", "adding"]


def test_the_tasks_by_name():
    for name, make in MEMORY_TASKS.items():
        assert make(20).name == name and make(20).length == 20


# What is drawn


@pytest.mark.parametrize("length", [2, 11, 12])
def test_adding_marks_one_number_in_each_half(length, getkey):
    inputs, targets = many(adding(length), getkey(), 4000)
    values, marks = inputs[..., 0], inputs[..., 1]
    assert (values >= 0).all() and (values < 1).all()
    assert np.isin(marks, [0, 1]).all() and (marks.sum(0) == 2).all()
    half = length // 2
    first, second = marks[:half].argmax(0), half + marks[half:].argmax(0)
    assert_uniform(first, range(half))
    assert_uniform(second, range(half, length))
    sequence = np.arange(4000)
    assert (targets == values[first, sequence] + values[second, sequence]).all()
    assert scipy.stats.kstest(values.ravel(), "uniform").pvalue > 1e-3


def test_the_two_marks_are_independent(getkey):
    inputs, _ = many(adding(8), getkey(), 16000)
    first, second = inputs[:4, :, 1].argmax(0), inputs[4:, :, 1].argmax(0)
    assert_uniform(4 * first + second, range(16))


@pytest.mark.parametrize("length, num_symbols, num_recalled", [(1, 8, 10), (7, 8, 10), (5, 3, 2)])
def test_copying_repeats_its_symbols_in_order(length, num_symbols, num_recalled, getkey):
    task = copying(length, num_symbols, num_recalled)
    inputs, targets = many(task, getkey(), 2000)
    for read, wanted in zip(inputs.T.tolist()[:50], targets.T.tolist(), strict=False):
        symbols, blanks = read[:num_recalled], [0] * num_recalled
        assert read == symbols + [0] * (length - 1) + [num_symbols + 1] + blanks
        assert wanted == blanks + [0] * length + symbols
    for position in range(num_recalled):
        assert_uniform(inputs[position], range(1, num_symbols + 1))


@pytest.mark.parametrize(
    "length, first_places, second_places",
    [(10, [1], [5]), (37, range(3, 7), range(18, 22)), (100, range(10, 20), range(50, 60))],
)
def test_temporal_order_asks_for_the_order_of_two_symbols(
    length, first_places, second_places, getkey
):
    symbols, targets = many(temporal_order(length), getkey(), 4000)
    assert (symbols[0] == 6).all() and (symbols[-1] == 7).all()  # E and B, there alone
    assert (symbols[1:-1] < 6).all()
    places, sequences = np.nonzero(symbols.T < 2)[::-1]
    assert (sequences == np.repeat(np.arange(4000), 2)).all()
    first, second = places.reshape(-1, 2).T
    assert_uniform(first, first_places)
    assert_uniform(second, second_places)
    pairs = symbols.T[sequences, places].reshape(-1, 2)
    order = ["XX", "XY", "YX", "YY"]
    named = ["XY"[one] + "XY"[other] for one, other in pairs.tolist()]
    assert targets.tolist() == [order.index(pair) for pair in named]
    assert_uniform(targets, range(4))
    assert_uniform(symbols[length // 3], range(2, 6))


# Baselines


def test_baselines_are_the_closed_forms():
    assert adding(100).baseline == pytest.approx(1 / 6, abs=1e-15)
    assert temporal_order(100).baseline == pytest.approx(1.386294, abs=5e-7)
    assert copying(100).baseline == pytest.approx(0.173287, abs=5e-7)
    assert copying(200).baseline == pytest.approx(0.0945201, abs=5e-8)
    assert copying(500).baseline == pytest.approx(0.0399893, abs=5e-8)


def test_adding_without_memory(getkey):
    """The constant 1 loses 1/6, another one more; the last step alone is worth 1/(12 T/2)."""
    length, batch_size = 10, 200_000
    task = adding(length)
    inputs, targets = (a.astype(np.float64) for a in many(task, getkey(), batch_size))

    def loss(guess):
        return float(task.loss(jnp.broadcast_to(guess, batch_size)[:, None], jnp.asarray(targets)))

    def standard_error(guess):
        return np.std((targets - guess) ** 2) / math.sqrt(batch_size)

    assert abs(loss(1.0) - task.baseline) < 3 * standard_error(1.0)
    best = targets.mean()  # of all constants, on these draws: a loss of their variance
    assert abs(best - 1) < 3 * math.sqrt(task.baseline / batch_size)
    assert abs(loss(best) - task.baseline) < 3 * standard_error(best)
    assert min(loss(0.9), loss(1.1)) > task.baseline
    value, mark = inputs[-1].T
    of_last_step = 1 + mark * (value - 0.5)
    exact = task.baseline - 1 / (12 * (length / 2))
    assert abs(loss(of_last_step) - exact) < 3 * standard_error(of_last_step)


@pytest.mark.parametrize(
    "task, num_asked, num_equal",
    [(copying(3), 10, 8), (copying(4, 3, 2), 2, 3), (temporal_order(10), 1, 4)],
)
def test_classes_without_memory(task, num_asked, num_equal, getkey):
    """Even chances lose the baseline; the frequencies of these draws gain no more than they must.

    For even classes, 2 x (number of targets) x (that gain) is chi-square distributed, classes - 1
    degrees of freedom a position that is asked: Wilks (1938), doi 10.1214/aoms/1177732360.
    """
    batch_size = 20_000
    inputs, targets = many(task, getkey(), batch_size)
    by_step = targets.reshape(-1, batch_size)
    frequencies = np.stack([(by_step == c).mean(1) for c in range(task.output_size)], axis=-1)
    is_possible = frequencies > 0
    even = is_possible / is_possible.sum(-1, keepdims=True)

    def loss(probabilities):  # [positions, C], the same ones for every sequence
        logits = np.log(np.maximum(probabilities, 1e-300))[:, None].repeat(batch_size, axis=1)
        logits = logits.reshape(*targets.shape, task.output_size)
        return float(task.loss(jnp.asarray(logits), jnp.asarray(targets)))

    assert is_possible.sum(-1).tolist() == [1] * (len(even) - num_asked) + [num_equal] * num_asked
    assert abs(loss(even) - task.baseline) < 1e-12
    gain = 2 * targets.size * (loss(even) - loss(frequencies))
    low, high = scipy.stats.chi2.ppf([0.001, 0.999], num_asked * (num_equal - 1))
    assert low < gain < high
    assert all(np.unique(step).size == 1 for step in inputs[-num_asked:])  # nor do these tell


# Loss and score


def test_adding_loss_and_score():
    task = adding(20)
    targets = jnp.array([0.5, 1.0, 1.5, 0.2], jnp.float32)
    outputs = targets + jnp.array([0.0, 0.039, -0.041, 1.0], jnp.float32)
    tree_allclose(task.loss(outputs[:, None], targets), jnp.float32((0.039**2 + 0.041**2 + 1) / 4))
    assert task.score(outputs[:, None], targets) == 0.5
    assert task.loss(outputs[:, None].astype(jnp.bfloat16), targets).dtype == jnp.float32


@pytest.mark.parametrize("task", [copying(4), temporal_order(10)])
def test_class_loss_and_score(task, getkey):
    targets = draw(task, getkey(), 6).targets
    logits = np.random.default_rng(0).normal(size=(*targets.shape, task.output_size))
    wanted = np.asarray(targets)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(probabilities, wanted[..., None], -1)
    tree_allclose(task.loss(jnp.asarray(logits), targets), jnp.asarray(-np.log(chosen).mean()))
    right = (logits.argmax(-1) == wanted)[-10 if task.reads_every_step else 0 :]
    assert float(task.score(jnp.asarray(logits), targets)) == pytest.approx(right.mean())
    assert 0 < right.mean() < 1


def test_blanks_alone_recall_nothing(getkey):
    task = copying(4)
    targets = draw(task, getkey(), 6).targets
    perfect = 100.0 * jax.nn.one_hot(targets, 9, dtype=jnp.float32)
    assert task.score(perfect, targets) == 1 and task.loss(perfect, targets) < 1e-6
    assert task.score(perfect.at[-1].set(0.0).at[-1, :, 0].set(1.0), targets) == pytest.approx(0.9)
    assert task.score(jnp.zeros_like(perfect), targets) == 0  # the first class, blank


# What is refused


@pytest.mark.parametrize(
    "make, arguments, given",
    [
        (adding, (1,), "length is 1"),
        (adding, (20.0,), "length is 20.0"),
        (adding, ([20],), "length is [20]"),
        (copying, (0,), "length is 0"),
        (copying, (5, 1), "num_symbols is 1"),
        (copying, (5, 8, 0), "num_recalled is 0"),
        (temporal_order, (9,), "length is 9"),
        (temporal_order, (10, 0), "num_distractors is 0"),
    ],
)
def test_what_is_too_small_is_refused(make, arguments, given):
    with raises_one_line(given):
        make(*arguments)


@pytest.mark.parametrize("task", [adding(13), copying(7), temporal_order(37)])
def test_other_shapes_are_refused(task, getkey):
    with raises_one_line("batch_size is 0"):
        task.draw(getkey(), 0)
    targets = draw(task, getkey(), 3).targets
    outputs = jnp.zeros((2, *targets.shape, task.output_size), jnp.float32)
    for measure in (task.loss, task.score):
        with raises_one_line(str(outputs.shape), str(targets.shape)):
            measure(outputs, targets)
