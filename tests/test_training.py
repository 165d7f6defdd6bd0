"""Training: the optimizer's chain, one step, the loop, what is kept and gone on with."""

import contextlib
import functools
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import raises_one_line, tree_allclose, tree_equal

from rnn_jax.data.batching import Batch, Encoded, make_batches
from rnn_jax.files import read_rows
from rnn_jax.training import (
    CheckpointError,
    OptimizerSettings,
    Plan,
    StoppedError,
    Training,
    best_epoch,
    best_params,
    classification,
    evaluate,
    init_optimizer,
    init_state,
    make_eval_step,
    make_optimizer,
    make_train_step,
    restore_params,
    train,
)
from rnn_jax.training.optimizer import RULES, is_decayed, recorded_norms


class BagOfTokens(nn.Module):
    """Small and quick to compile: the mean of the embeddings, then classes."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens, lengths, *, is_training=False):
        valid = (jnp.arange(tokens.shape[1]) < lengths[:, None])[..., None]
        embedded = jnp.where(valid, nn.Embed(8, 6, dtype=jnp.float32)(tokens), 0)
        mean = embedded.sum(1) / jnp.maximum(lengths, 1)[:, None]
        mean = nn.Dropout(self.dropout, deterministic=not is_training)(mean)
        return nn.Dense(2, dtype=jnp.float32)(mean)


TASK = classification(BagOfTokens())
SETTINGS = OptimizerSettings(clip="global-norm", clip_at=0.3, schedule="cosine", warmup_steps=2)


def texts(num_texts, seed=0):
    """Random texts of up to 9 tokens; the label says whether token 1 is there."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 10, num_texts)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = draw.integers(0, 8, starts[-1]).astype(np.int32)
    labels = [1 in tokens[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return Encoded(tokens, starts, np.array(labels, np.int32), 0)


def training(folder, **changes):
    settings = {
        "task": TASK,
        "optimizer": make_optimizer(SETTINGS, 100),
        "learning_rate": 0.05,
        "batches": make_batches(texts(50), 8),
        "validate": functools.partial(evaluate, TASK, batches=make_batches(texts(20, seed=1), 8)),
        "plan": Plan(num_epochs=3, log_every=3, probe_every=5, checkpoint_every=4, patience=3),
        "key": jax.random.key(5),
        "order_seed": 7,
        "folder": folder,
        "belongs_to": "this",
        "probe": lambda params: params["Dense_0"]["kernel"][:, :1],
    }
    return Training(**settings | changes)


def some_batch(batch_size=8):
    return make_batches(texts(batch_size), batch_size).in_order()[0]


def float32_params(key):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), TASK.init(key))


# The optimizer.


@pytest.mark.parametrize("rule", RULES)
def test_weight_decay_shrinks_kernels_and_nothing_else_at_zero_gradient(rule):
    if rule == "adam":
        rule = "adamw"
    optimizer = make_optimizer(OptimizerSettings(rule=rule, weight_decay=0.1), 10)
    kinds = ("kernel", "recurrent_kernel", "bias", "embedding", "recurrent_vector")
    params = {name: jnp.ones(3) for name in kinds}
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), init_optimizer(optimizer, params, 0.5), params
    )
    after = optax.apply_updates(params, updates)
    expected = {name: np.full(3, 0.95 if "kernel" in name else 1.0) for name in kinds}
    tree_allclose(after, expected)


def test_weight_decay_knows_the_fields_of_a_cell(getkey):
    from rnn_jax import sru

    marks = is_decayed({"cell": sru(3).init(getkey(), 3)})["cell"]
    assert marks._asdict() == {"kernel": True, "recurrent_vector": False, "bias": False}


def test_the_norm_is_recorded_before_and_after_the_clip(getkey):
    optimizer = make_optimizer(OptimizerSettings(rule="sgd", clip="global-norm", clip_at=2.0), 10)
    params = {"kernel": jnp.zeros(4)}
    gradient = {"kernel": jnp.array([3.0, 0.0, 4.0, 0.0])}
    updates, state = optimizer.update(gradient, init_optimizer(optimizer, params, 0.1), params)
    tree_allclose(recorded_norms(state), (5.0, 2.0))
    tree_allclose(updates["kernel"], -0.1 * 2.0 / 5.0 * gradient["kernel"])


def test_the_learning_rate_rises_falls_and_ends_at_zero():
    def rates(schedule, warmup_steps):
        settings = OptimizerSettings(rule="sgd", schedule=schedule, warmup_steps=warmup_steps)
        optimizer = make_optimizer(settings, 10)
        params = {"bias": jnp.zeros(())}
        state, found = init_optimizer(optimizer, params, 2.0), []
        for _ in range(11):
            updates, state = optimizer.update({"bias": jnp.ones(())}, state, params)
            found.append(-float(updates["bias"]))
        return np.array(found, np.float32)  # as the schedules are

    tree_allclose(rates("constant", 4), np.array([0.5, 1.0, 1.5, *[2.0] * 8]))
    tree_allclose(rates("linear", 0), 2.0 * np.arange(10, -1, -1) / 10)
    cosine = 1.0 + np.cos(np.pi * np.arange(9) / 8)
    tree_allclose(rates("cosine", 2), np.array([1.0, 2.0, *cosine]))


def test_settings_that_cannot_be_are_refused():
    for fragment, settings in {
        "momentums": OptimizerSettings(rule="momentums"),
        "clips": OptimizerSettings(clip="clips"),
        "clip_at": OptimizerSettings(clip="value", clip_at=0.0),
        "sine": OptimizerSettings(schedule="sine"),
        "-0.1": OptimizerSettings(rule="sgd", weight_decay=-0.1),
        "adamw": OptimizerSettings(weight_decay=0.1),
        "10": OptimizerSettings(warmup_steps=10),
    }.items():
        with raises_one_line(fragment):
            make_optimizer(settings, 10)
    with raises_one_line("learning_rate"):
        init_optimizer(make_optimizer(OptimizerSettings(), 10), {"bias": jnp.zeros(1)}, 0.0)


# One step.


def test_a_step_lowers_the_loss_by_the_gradient_of_the_mean(getkey):
    optimizer = make_optimizer(OptimizerSettings(rule="sgd"), 10)
    key, batch = getkey(), some_batch()
    state = init_state(TASK, optimizer, key, 0.1)
    before = jax.tree.map(np.array, state.params)

    def mean(params):
        logits = BagOfTokens().apply({"params": params}, batch.tokens, batch.lengths)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(8), batch.labels])

    loss, gradient = jax.value_and_grad(mean)(before)
    state = make_train_step(TASK, optimizer, 3)(state, batch, key)
    tree_allclose(state.params, jax.tree.map(lambda p, g: p - 0.1 * g, before, gradient))
    tree_allclose(state.recent.sums.mean_loss, loss)
    assert float(mean(state.params)) < float(loss)


def test_a_gradient_that_is_not_finite_changes_nothing_but_counts(getkey):
    optimizer = make_optimizer(SETTINGS, 100)
    state = init_state(TASK, optimizer, getkey(), 0.1)
    poisoned = state.params["Dense_0"]["bias"].at[0].set(jnp.nan)
    bad = state._replace(
        params=state.params | {"Dense_0": state.params["Dense_0"] | {"bias": poisoned}}
    )
    step, key, batch = make_train_step(TASK, optimizer, 3), getkey(), some_batch()
    kept = jax.tree.map(np.array, bad)
    for count in (1, 2, 3):
        bad = step(bad, batch, key)
        assert (int(bad.step), int(bad.skipped), int(bad.skipped_in_a_row)) == (count,) * 3
        tree_equal((bad.params, bad.optimizer), (kept.params, kept.optimizer))
        assert int(bad.recent.steps) == 0 and float(bad.recent.sums.loss) == 0
        assert bad.is_stopped == (count == 3)
    # from here on a step that would be good changes nothing either, nor is it counted
    zeros = jax.tree.map(jnp.zeros_like, kept.params)
    after = step(bad._replace(params=zeros), batch, key)
    assert (int(after.stopped_at), int(after.skipped), int(after.recent.steps)) == (3, 3, 0)
    tree_equal(after.params, jax.tree.map(np.zeros_like, kept.params))


def test_one_good_step_ends_the_row_of_bad_ones(getkey):
    optimizer, batch, key = make_optimizer(SETTINGS, 100), some_batch(), getkey()
    state = init_state(TASK, optimizer, getkey(), 0.1)
    state = state._replace(skipped_in_a_row=jnp.int32(2), skipped=jnp.int32(2))
    state = make_train_step(TASK, optimizer, 3)(state, batch, key)
    assert (int(state.skipped), int(state.skipped_in_a_row), int(state.recent.steps)) == (2, 0, 1)


def test_the_state_is_donated_and_another_learning_rate_compiles_nothing(getkey):
    optimizer = make_optimizer(OptimizerSettings(rule="momentum"), 12)
    step = make_train_step(TASK, optimizer, 3)
    for rate in (0.1, 0.2):
        state = init_state(TASK, optimizer, getkey(), rate)
        after = step(state, some_batch(), getkey())
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
        assert float(optax.tree.get(after.optimizer, "learning_rate")) == np.float32(rate)
    assert step._cache_size() == 1
    assert make_train_step(TASK, make_optimizer(OptimizerSettings(rule="momentum"), 12), 3) is step


def test_dropout_follows_the_key_and_the_step(getkey):
    task = classification(BagOfTokens(dropout=0.5))
    params, batch, key = TASK.init(getkey()), some_batch(), getkey()
    sums = jax.jit(task.sums)
    first, second = jax.random.split(key)
    losses = [float(sums(params, (), batch, key)[1].loss) for key in (first, second)]
    assert losses[0] != losses[1]
    tree_equal(sums(params, (), batch, first), sums(params, (), batch, first))
    tree_equal(task.sums(params, (), batch, None), TASK.sums(params, (), batch, None))


def test_metrics_add_up_whatever_the_batch_size(getkey):
    params, encoded = TASK.init(getkey()), texts(23)
    found = [evaluate(TASK, params, make_batches(encoded, size)) for size in (1, 7, 64)]
    logits = [
        BagOfTokens().apply({"params": params}, encoded.tokens[a:b][None], np.array([b - a]))[0]
        if b > a
        else BagOfTokens().apply({"params": params}, np.zeros((1, 1), int), np.array([0]))[0]
        for a, b in zip(encoded.starts[:-1], encoded.starts[1:], strict=True)
    ]
    log_p = jax.nn.log_softmax(jnp.stack(logits))
    for sums in found:
        tree_allclose(
            np.float32(sums.loss), np.float32(-log_p[np.arange(23), encoded.labels].sum())
        )
        assert sums.correct == int((jnp.argmax(log_p, 1) == encoded.labels).sum())
        assert (sums.targets, sums.tokens) == (23, len(encoded.tokens))


def test_rows_that_fill_a_batch_count_for_nothing(getkey):
    params, batch = TASK.init(getkey()), some_batch()
    filled = Batch(*(np.concatenate([a, np.zeros_like(a[:3])]) for a in batch))
    step = make_eval_step(TASK)
    sums, expected = step(params, filled), step(params, batch)
    tree_allclose(sums.loss, expected.loss)
    assert sums[1:] == expected[1:]


# The loop.


class KilledError(Exception):
    pass


def killed_at(*steps):
    left = list(steps)

    def report(progress):
        if left and progress.step >= left[0]:
            left.pop(0)
            raise KilledError

    return report


def read(folder):
    rows = (folder / "metrics.jsonl").read_bytes()
    newest = max((folder / "checkpoints").glob("*.json"), key=lambda path: int(path.stem))
    return rows, newest.name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing stopped: (folder, rows)."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(training(folder))


def final_params(folder):
    optimizer = make_optimizer(SETTINGS, 100)
    checkpoints = training(folder).checkpoints()
    return restore_params(checkpoints, TASK, optimizer, checkpoints.steps()[-1])


def test_the_log_holds_every_step_epoch_and_measurement(whole):
    _, rows = whole
    by_event = {e: [r["step"] for r in rows if r["event"] == e] for e in ("steps", "epoch", "flow")}
    assert by_event["epoch"] == [7, 14, 21]  # 50 texts, 8 a batch
    assert by_event["steps"] == [3, 6, 7, 9, 12, 14, 15, 18, 21]
    assert by_event["flow"] == [0, 5, 7, 10, 14, 15, 20, 21]
    assert all(r["train_targets"] == 50 for r in rows if r["event"] == "epoch")
    assert sum(r["targets"] for r in rows if r["event"] == "steps") == 150
    losses = [r["train_loss"] for r in rows if r["event"] == "epoch"]
    assert losses[2] < losses[0]
    clipped = [r for r in rows if r["event"] == "steps" and r["clipped_steps"]]
    assert clipped and all(
        r["gradient_norm_after_clip"] < r["gradient_norm_before_clip"] for r in clipped
    )


def test_killed_anywhere_it_goes_on_to_the_same_bits(tmp_path, whole):
    report, starts = killed_at(3, 9, 9, 18, 21), 0
    for _ in range(5):
        with pytest.raises(KilledError):
            train(training(tmp_path), report)
        starts += 1
    (tmp_path / "checkpoints" / "99").mkdir()  # what was written whole but for its mark
    rows = train(training(tmp_path))
    assert starts == 5 and rows == whole[1]
    assert read(tmp_path) == read(whole[0])
    tree_equal(final_params(tmp_path), final_params(whole[0]))
    assert not (tmp_path / "checkpoints" / "99").exists()


def test_stopped_after_any_step_it_keeps_that_step_and_goes_on_to_the_same_bits(tmp_path, whole):
    for step in range(1, 22):  # every call takes one step more, and is stopped after it
        with contextlib.nullcontext() if step == 21 else pytest.raises(StoppedError):
            train(training(tmp_path), should_stop=lambda at=step: at < 21)
        assert training(tmp_path).checkpoints().steps()[-1] == step
    assert read(tmp_path) == read(whole[0])
    tree_equal(final_params(tmp_path), final_params(whole[0]))


def test_a_torn_checkpoint_is_never_loaded(tmp_path, whole):
    folder = tmp_path / "torn"
    shutil.copytree(whole[0], folder)
    steps = training(folder).checkpoints().steps()
    for damage, step in (("flip", steps[-1]), ("cut", steps[-2])):
        for path in (folder / "checkpoints" / str(step)).rglob("d/*"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data if damage == "flip" else data[:-1])
    lines = []
    rows = train(training(folder), warn=lines.append)
    assert len(lines) == 2 and all("damaged, not used: checkpoint" in line for line in lines)
    assert rows == whole[1] and read(folder) == read(whole[0])


def test_the_last_and_the_best_are_kept(whole):
    folder, rows = whole
    best = best_epoch(rows)
    accuracies = [row["validation_accuracy"] for row in rows if row["event"] == "epoch"]
    assert best["validation_accuracy"] == max(accuracies)
    checkpoints = training(folder).checkpoints()
    assert checkpoints.steps() == sorted({20, 21, best["step"]})
    params = restore_params(checkpoints, TASK, make_optimizer(SETTINGS, 100), best["step"])
    found = training(folder).validate(params)
    assert found.correct / found.targets == best["validation_accuracy"]


def test_an_old_best_stays_and_of_equals_the_latest(tmp_path):
    checkpoints = training(tmp_path).checkpoints()
    state = init_state(TASK, make_optimizer(SETTINGS, 100), jax.random.key(0), 0.1)
    for step, score in enumerate((0.2, 0.9, 0.9, None, 0.3, 0.1, None), start=1):
        checkpoints.save(state._replace(step=jnp.int32(step)), score)
    assert checkpoints.steps() == [3, 6, 7]


def test_a_checkpoint_of_another_training_is_refused(whole):
    with pytest.raises(CheckpointError, match="belongs to this; allowed: that"):
        train(training(whole[0], belongs_to="that"))


def diverging(folder):
    task = TASK._replace(init=lambda key: jax.tree.map(lambda p: p * jnp.nan, TASK.init(key)))
    plan = Plan(num_epochs=3, log_every=6, checkpoint_every=4, patience=3)
    return training(folder, task=task, plan=plan)


def test_a_training_that_diverges_stops_and_says_so(tmp_path):
    lines = []
    rows = train(diverging(tmp_path), warn=lines.append)
    assert [(r["event"], r["step"]) for r in rows] == [("steps", 6), ("stopped", 6)]
    assert (rows[-1]["stopped_at"], rows[-1]["skipped"], rows[0]["skipped_steps"]) == (3, 3, 3)
    assert best_epoch(rows) is None
    assert len(lines) == 1 and "3 steps in a row" in lines[0] and "step 3 of 21" in lines[0]
    assert train(diverging(tmp_path)) == rows  # nor does it go on later


def test_killed_between_its_stop_and_its_row_it_says_so_all_the_same(tmp_path):
    rows = train(diverging(tmp_path / "whole"))
    with pytest.raises(KilledError):
        train(diverging(tmp_path / "killed"), killed_at(6))  # its checkpoint is that of step 4
    assert train(diverging(tmp_path / "killed")) == rows


def test_a_log_that_lost_rows_is_not_believed(tmp_path, whole):
    folder = tmp_path / "short"
    shutil.copytree(whole[0], folder)
    log = folder / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-300])
    lines = []
    rows = train(training(folder), warn=lines.append)
    assert lines and all("log" in line for line in lines)
    assert rows == whole[1] and read(folder) == read(whole[0])


def test_killed_at_any_write_it_goes_on_to_the_same_bits(tmp_path, whole, monkeypatch):
    """Before and after every row and every part of a checkpoint."""
    moments = [0, 0]  # how many there were; the one that kills

    def counted(write):
        def moment():
            moments[0] += 1
            if moments[0] == moments[1]:
                raise KilledError

        def counting(*args, **kwargs):
            moment()
            write(*args, **kwargs)
            moment()

        return counting

    from rnn_jax.training import checkpoints, loop

    monkeypatch.setattr(loop, "append_row", counted(loop.append_row))
    monkeypatch.setattr(checkpoints, "write_text", counted(checkpoints.write_text))
    for number in (1, 2, 3, 6, 7, 10, 11, 8, 5):
        moments[:] = [0, number]
        with pytest.raises(KilledError):
            train(training(tmp_path))
    monkeypatch.undo()
    assert train(training(tmp_path)) == whole[1]
    assert read(tmp_path) == read(whole[0])
    tree_equal(final_params(tmp_path), final_params(whole[0]))


def test_nothing_compiles_after_the_first_epoch(tmp_path):
    optimizer = make_optimizer(SETTINGS, 55)
    step, sizes = make_train_step(TASK, optimizer, 3), []
    plan = Plan(num_epochs=4, checkpoint_every=1000, patience=3)
    rows = train(
        training(tmp_path, optimizer=optimizer, plan=plan),
        on_row=lambda row: sizes.append(step._cache_size()) if row["event"] == "epoch" else None,
    )
    shapes = {b.tokens.shape for b in training(tmp_path).batches.epoch(7, 0)}
    assert sizes == [len(shapes)] * 4 and json.loads(json.dumps(rows)) == rows


def test_tensorboard_files_have_the_numbers_of_the_log(tmp_path, whole):
    pytest.importorskip("tensorboardX")
    from rnn_jax.training.tensorboard import tensorboard_writer

    write, close = tensorboard_writer(tmp_path)
    for row in whole[1]:
        write(row)
    close()
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    for tag in (b"epoch/validation_accuracy", b"steps/gradient_norm_before_clip"):
        assert data.count(tag) == sum(
            row["event"].encode() == tag.split(b"/")[0] for row in whole[1]
        )


def test_an_epoch_whose_loss_is_not_finite_is_no_result(tmp_path):
    def row(epoch, loss, accuracy):
        return {"event": "epoch", "step": epoch, "epoch": epoch, "validation_loss": loss,
                "validation_accuracy": accuracy}  # fmt: skip

    rows = [row(1, 0.6, 0.5), row(2, float("nan"), 0.9), row(3, float("inf"), 0.9)]
    assert best_epoch(rows)["epoch"] == 1
    assert best_epoch(rows[1:]) is None
    # a step that is finite may leave parameters whose loss is not
    optimizer = make_optimizer(OptimizerSettings(rule="sgd"), 100)
    rows = train(
        training(tmp_path, learning_rate=1e38, optimizer=optimizer), warn=lambda line: None
    )
    assert not any(np.isfinite(r["validation_loss"]) for r in rows if r["event"] == "epoch")
    assert best_epoch(rows) is None


def test_who_reads_a_training_leaves_its_files_alone(tmp_path):
    """A run may be read while it trains: what its trainer is writing just now stays there."""
    one = training(tmp_path)
    train(one)
    in_the_making = tmp_path / "checkpoints" / "99.orbax-checkpoint-tmp"
    in_the_making.mkdir()
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    params = best_params(one)
    assert params is not None
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    best = best_epoch(read_rows(tmp_path / "metrics.jsonl"))
    assert one.validate(params).mean_loss == best["validation_loss"]
