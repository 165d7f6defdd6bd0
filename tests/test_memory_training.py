"""Training on memory tasks: each run is the one that it says, and blocks end where they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from experiments.memory import run
from experiments.memory.config import Config
from experiments.memory.training import Network, Report, settings, train
from rnn_jax import gru, lstm, unroll

SMALL = dict(
    lengths=(10,),
    learning_rates=(0.01, 0.1),
    num_seeds=2,
    max_updates=2,
    evaluate_every=2,
    hidden_size=4,
    batch_size=3,
    test_size=8,
    dtype="float64",
)


def plain_adam(loss, params, batches, rate, clip):
    """Adam (Kingma & Ba 2015) on gradients clipped by global norm, in numpy, leaf by leaf."""
    leaves, tree = jax.tree.flatten(params)
    leaves = [np.asarray(leaf) for leaf in leaves]
    first, second = ([np.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    for t, batch in enumerate(batches, 1):
        gradient = jax.tree.leaves(jax.grad(loss)(tree.unflatten(leaves), batch))
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradient))
        gradient = [np.asarray(g) * min(1.0, clip / norm) for g in gradient]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradient, strict=True)]
        second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradient, strict=True)]
        leaves = [
            leaf - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            for leaf, m, v in zip(leaves, first, second, strict=True)
        ]
    return tree.unflatten(leaves)


@pytest.mark.parametrize(
    "name, clips",
    [("adding", (0.05, 0.0)), pytest.param("copying", (0.05,), marks=pytest.mark.slow)],
)
def test_every_run_is_a_plain_loop_with_its_own_settings(name, clips):
    config = Config(tasks=(name,), variants=("lstm",), clip_norms=clips, **SMALL)
    task, cell = config.task(name, 10), lstm(4)
    (begun, _), (ended, report) = train(config, task, "lstm")

    def loss(params, batch):
        ys = unroll(cell, params.cell, batch.inputs, adjoint="autodiff")[1]
        ys = ys if task.reads_every_step else ys[-1]
        return task.loss(ys @ params.kernel + params.bias, batch.targets)

    listed = settings(config)
    assert len(listed) == len(clips) * 4 == len(ended.learning_rate)
    for i, (clip, rate, _) in enumerate(listed):
        start = jax.tree.map(lambda leaf, i=i: leaf[i], begun.params)
        keys = jax.random.split(jax.random.split(begun.key[i])[1], 2)
        drawn = [task.draw(key, 3) for key in keys]
        batches = [jax.tree.map(lambda a: a.astype(float) if a.dtype == "float32" else a, b)
                   for b in drawn]  # fmt: skip
        assert not np.array_equal(drawn[0].inputs, drawn[1].inputs)
        expected = plain_adam(loss, start, batches, rate, clip)
        for got, want in zip(jax.tree.leaves(ended.params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-9, atol=1e-11)
        after_one = plain_adam(loss, start, batches[:1], rate, clip)
        mean = 0.5 * (loss(start, batches[0]) + loss(after_one, batches[1]))
        np.testing.assert_allclose(report.train_loss[i], mean, rtol=1e-9)


def test_seeds_differ_and_variants_see_the_same_sequences():
    config = Config(tasks=("adding",), variants=("lstm", "gru"), **SMALL)
    task = config.task("adding", 10)
    runs, _ = next(train(config, task, "lstm"))
    kernels = np.asarray(runs.params.cell.recurrent_kernel)
    assert np.array_equal(kernels[0], kernels[2]) and np.array_equal(kernels[1], kernels[3])
    assert not np.array_equal(kernels[0], kernels[1])  # rates first, seeds last
    keys = jax.random.key_data(runs.key)
    assert len({bytes(np.asarray(key)) for key in keys}) == 2
    of_gru, _ = next(train(config, task, "gru"))
    assert np.array_equal(jax.random.key_data(of_gru.key), keys)
    assert isinstance(of_gru.params, Network)
    assert jax.tree.map(jnp.shape, of_gru.params.cell) == jax.tree.map(
        lambda a: (4, *a.shape), gru(4).init(jax.random.key(0), 2)
    )


def scripted(losses):
    """A training whose held-out losses [evaluations, runs] are these; its gradient says when."""

    def train(config, task, variant):
        for number, row in enumerate(losses):
            row = np.asarray(row)
            flow = np.full((len(row), task.num_steps + 1), float(number))
            yield None, Report(row + 5, row * task.baseline, row + 9, flow)

    return train


def test_a_block_ends_once_all_runs_have_solved_it_or_diverged(monkeypatch):
    """Runs: solved at 2 and lost again; diverged at 1; below once, then at 4; solved at 1."""
    losses = [
        [5.0, 5.0, 5.0, 5.0],
        [0.9, np.inf, 0.05, 0.05],
        [0.05, 0.9, 0.9, 0.05],
        [0.05, 0.9, 0.9, 0.9],
        [0.9, 0.9, 0.05, 0.05],
        [0.9, 0.9, 0.05, 0.05],
        [0.0, 0.0, 0.0, 0.0],  # not reached
    ]
    monkeypatch.setattr(run, "train", scripted(losses))
    config = Config(tasks=("adding",), variants=("gru",), **SMALL | dict(max_updates=12))
    ((_, found),) = run.blocks(config, [0])
    shape = (1, 1, 1, 1, 2, 2)  # task, length, variant, clip, rate, seed
    assert found["test_loss"].shape == (*shape, 7)
    of_runs = found["test_loss"].reshape(4, 7) * 6
    np.testing.assert_allclose(of_runs[:, :6], np.array(losses[:6]).T)
    assert np.isnan(of_runs[:, 6]).all()
    np.testing.assert_array_equal(
        found["updates_to_solve"].reshape(4), [2 * 2, np.nan, 4 * 2, 1 * 2]
    )
    np.testing.assert_array_equal(found["updates_to_onset"].reshape(4), [2 * 2, np.nan, 2, 2])
    stages = found["log_carry_norm"].reshape(4, 3, -1)[..., 0]
    np.testing.assert_array_equal(stages[:, 0], 0.0)
    np.testing.assert_array_equal(stages[:, 1], [2, np.nan, 1, 1])
    np.testing.assert_array_equal(stages[:, 2], 5.0)


def test_a_run_that_is_below_once_has_not_solved_it(monkeypatch):
    losses = [[5.0, 0.05, 0.05, 0.05], *[[0.9, 0.05, 0.05, 0.05]] * 6]
    monkeypatch.setattr(run, "train", scripted(losses))
    config = Config(tasks=("adding",), variants=("gru",), **SMALL | dict(max_updates=12))
    ((_, found),) = run.blocks(config, [0])
    assert np.isfinite(found["test_loss"]).all()  # one run never solves it: no early end
    assert np.isnan(found["updates_to_solve"].reshape(4)[0])
    assert (found["updates_to_solve"].reshape(4)[1:] == 0).all()
