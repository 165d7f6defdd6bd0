"""LanguageModel, its task, its evaluation and its gradient flow, each against plain arithmetic."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    elman_step,
    gru_step,
    loop_unroll,
    lstm_step,
    raises_one_line,
    sru_step,
    tree_allclose,
    tree_equal,
)

from rnn_jax.data import TokenStream, make_windows, text_windows
from rnn_jax.models import LanguageModel, layer_names, prediction_flows
from rnn_jax.models.language_model import check_model_reads
from rnn_jax.training import (
    OptimizerSettings,
    Plan,
    Training,
    evaluate_stream,
    init_state,
    language_modelling,
    make_eval_step,
    make_optimizer,
    make_train_step,
    token_bits,
    train,
)

V = 7
STEPS = {"elman": elman_step("tanh"), "lstm": lstm_step, "gru": gru_step, "sru": sru_step}
KINDS = [("elman", True, 4), ("lstm", False, 3), ("gru", True, 3), ("sru", False, 4)]


def model_of(cell, is_tied=False, embedding_size=4, **settings):
    return LanguageModel(
        V, cell, 4, embedding_size, num_layers=2, is_tied=is_tied, dtype="float64", **settings
    )


@functools.cache
def params_of(model):
    params = model.init(jax.random.key(3), jnp.zeros((1, 1), jnp.int32))["params"]
    # of a size at which no part of it is lost in the others
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    return tree.unflatten(
        [
            leaf + 0.3 * jax.random.normal(key, leaf.shape)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
    )


def oracle(model, params, inputs, carry=None):
    """The logits [B, T, V] and the carry, by the loop of the helpers and NumPy's own products."""
    params = jax.tree.map(np.asarray, params)
    table = params["embedding"]["embedding"]
    ys = np.swapaxes(table[inputs], 0, 1) * (2.0 if model.is_tied and table.shape[1] == 4 else 1.0)
    if model.is_tied and table.shape[1] != 4:
        ys = ys * np.sqrt(table.shape[1])
    carry, last = carry or model.initial_carry(len(inputs)), []
    for layer, first in enumerate(carry, start=1):
        cell = params[f"layer_{layer}"]["forward"]
        end, ys = loop_unroll(STEPS[model.cell], cell, first, ys, xp=np)
        last.append(end)
    if model.is_tied:
        ys = ys @ params["projection"]["kernel"] if "projection" in params else ys
        logits = ys @ table[:V].T + params["readout_bias"]
    else:
        logits = ys @ params["readout"]["kernel"] + params["readout"]["bias"]
    return tuple(last), np.swapaxes(logits, 0, 1)


def surprise(logits, targets):
    """-ln softmax(logits)[target], by its definition."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    chosen = np.take_along_axis(weights, targets[..., None], -1)[..., 0]
    return -np.log(chosen / weights.sum(-1))


def stream_of(num_tokens, starts=(0,), seed=0):
    draw = np.random.default_rng(seed)
    tokens = draw.integers(0, V, num_tokens).astype(np.uint8)
    return TokenStream(tokens, np.array([*starts, num_tokens]), 2 * num_tokens)


def read_whole(model, params, stream, reset_documents=False):
    """Nats of every token [N], read one after another from the first."""
    tokens, starts = stream.tokens.astype(int), stream.starts[:-1]
    inputs = np.concatenate([[V], tokens[:-1]])
    inputs[starts] = V
    pieces = [*starts, len(tokens)] if reset_documents else [0, len(tokens)]
    logits = [oracle(model, params, inputs[None, a:b])[1][0] for a, b in itertools.pairwise(pieces)]
    return surprise(np.concatenate(logits), tokens)


@pytest.mark.parametrize("cell, is_tied, embedding_size", KINDS)
def test_logits_and_carry_are_those_of_a_loop(cell, is_tied, embedding_size, getkey):
    model = model_of(cell, is_tied, embedding_size)
    params = params_of(model)
    inputs = np.asarray(jax.random.randint(getkey(), (3, 5), 0, V + 1))
    carry = jax.tree.map(lambda a: jax.random.normal(getkey(), a.shape), model.initial_carry(3))
    found = model.apply({"params": params}, inputs, carry)
    tree_allclose(found, oracle(model, params, inputs, carry))
    for t in range(2):  # one token at a time is the same
        carry, logits = model.apply({"params": params}, inputs[:, t], carry, method="step")
        tree_allclose(logits, found[1][:, t])


def test_a_reset_and_a_length_end_a_row_alone(getkey):
    model = model_of("lstm")
    params = params_of(model)
    inputs = np.asarray(jax.random.randint(getkey(), (2, 5), 0, V))
    resets = np.zeros((2, 5), bool)
    resets[1, 3] = True
    lengths = np.array([2, 5])
    carry, logits = model.apply({"params": params}, inputs, lengths=lengths, resets=resets)
    short, first = oracle(model, params, inputs[:1, :2])
    last, anew = oracle(model, params, inputs[1:, 3:])
    tree_allclose((logits[:1, :2], logits[1:, 3:]), (first, anew))
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), short, last)
    tree_allclose(carry, both)


def test_the_tied_readout_learns_by_both_uses():
    """Its embedding's gradient at a symbol that is never read comes from the readout alone."""
    model = model_of("gru", is_tied=True)
    params = params_of(model)

    def loss(params):
        return jnp.sum(model.apply({"params": params}, jnp.zeros((1, 2), jnp.int32))[1][..., 1])

    grads = jax.grad(loss)(params)["embedding"]["embedding"]
    assert np.any(grads[0]) and np.any(grads[1])  # 0 is read, 1 is predicted
    assert not np.any(grads[2:])


@pytest.mark.parametrize("reset_documents", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_loss_of_a_text_does_not_depend_on_the_batch_size(batch_size, reset_documents):
    """64 rows of 97 tokens: most are one token or two long, some have none."""
    model, stream = model_of("lstm"), stream_of(97, starts=(0, 5, 50, 51))
    params = params_of(model)
    settings = {"batch_size": batch_size, "window": 4, "reset_documents": reset_documents}
    found = evaluate_stream(model, params, stream, **settings)
    expected = read_whole(model, params, stream, reset_documents)
    tree_allclose(np.asarray(found.loss), expected.sum())
    assert found.targets == 97


def test_a_network_that_never_forgets_is_read_exactly_too():
    """Its carry counts all tokens from the first: every row needs the whole text before it."""
    model = LanguageModel(V, "elman", 1, 1, dtype="float64")
    params = jax.tree.map(jnp.zeros_like, params_of(model))
    cell = params["layer_1"]["forward"]._replace(
        kernel=jnp.full((1, 1), 1e-3), recurrent_kernel=jnp.ones((1, 1))
    )
    embedding = {"embedding": jnp.arange(V + 1.0)[:, None]}
    readout = {"kernel": jnp.linspace(-5, 5, V)[None], "bias": jnp.zeros(V)}
    params |= {"layer_1": {"forward": cell}, "embedding": embedding, "readout": readout}
    stream = stream_of(60)
    losses = [
        float(evaluate_stream(model, params, stream, batch_size=size, window=4).loss)
        for size in (1, 6)
    ]
    zero_carry = evaluate_stream(model, params, stream_of(60), batch_size=60, window=1)
    tree_allclose(np.array(losses), np.full(2, losses[0]))
    tree_allclose(np.asarray(zero_carry.loss), np.asarray(losses[0]))
    separate = [
        stream._replace(tokens=stream.tokens[k : k + 10], starts=np.array([0, 10]))
        for k in range(0, 60, 10)
    ]
    apart = sum(float(evaluate_stream(model, params, s, window=4).loss) for s in separate)
    assert abs(apart - losses[0]) > 1e-3  # rows that began with nothing would give another loss


def test_a_carry_that_no_loss_shows_for_long_is_carried_all_the_same():
    """A latch: A sets it, B says nothing of it, at C it decides. Rows of Bs alone lose nothing."""
    model = LanguageModel(4, "elman", 2, 1, dtype="float64")
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    cell = params["layer_1"]["forward"]._replace(
        kernel=jnp.array([[1.0, 0.0]]), recurrent_kernel=jnp.array([[3.0, 0.0], [0.0, 0.0]])
    )
    embedding = jnp.array([[6.0], [0.0], [0.0], [0.0], [-6.0]])  # A sets, the start clears
    kernel = jnp.array([[0.0, 0.0, 9.0, -9.0], [0.0, 0.0, 0.0, 0.0]])
    readout = {"kernel": kernel, "bias": jnp.array([0.0, 40.0, 0.0, 0.0])}
    params |= {"layer_1": {"forward": cell}, "embedding": {"embedding": embedding}}
    params |= {"readout": readout}
    tokens = np.full(512, 1, np.uint8)
    tokens[0], tokens[-1] = 0, 2
    stream = TokenStream(tokens, np.array([0, 512]), 512)
    expected = token_bits(model, params, tokens).sum() * np.log(2)
    for batch_size in (2, 8, 32):
        found = evaluate_stream(model, params, stream, batch_size=batch_size, window=16)
        tree_allclose(np.asarray(found.loss), np.asarray(expected))
    assert 70 < expected < 72  # 40 of A and 31 of C, which were 40 without what A left


def test_token_bits_sum_to_the_probability_of_the_text():
    model, stream = model_of("sru"), stream_of(21)
    params = params_of(model)
    found = token_bits(model, params, stream.tokens, window=8)
    nats = read_whole(model, params, stream)
    tree_allclose(found, nats / np.log(2))
    probability = np.prod(np.exp(-nats))
    tree_allclose(found.sum(), -np.log2(probability))
    assert token_bits(model, params, np.zeros(0, int)).shape == (0,)


def test_the_task_carries_the_state_and_cuts_the_gradient():
    """Two windows: the loss is that of one long window, the gradient that of each alone."""
    model, stream = model_of("gru"), stream_of(40)
    params, task = params_of(model), language_modelling(model_of("gru"), 2)
    windows = make_windows(stream, V, 2, 5)
    order = windows.epoch(0, 0)
    carried, first = task.sums(params, task.first_carry(), order[0], None)
    last, second = task.sums(params, carried, order[1], None)
    inputs = np.concatenate([order[0].inputs, order[1].inputs], 1)
    targets = np.concatenate([order[0].targets, order[1].targets], 1)
    end, logits = oracle(model, params, inputs)
    nats = surprise(logits, targets)
    tree_allclose((first.loss, second.loss), (nats[:, :5].sum(), nats[:, 5:].sum()))
    tree_allclose(last, end)
    assert int(first.correct) == (logits.argmax(-1) == targets)[:, :5].sum()

    def alone(params, carried, window):
        return task.sums(params, carried, window, None)[1].mean_loss

    optimizer = make_optimizer(OptimizerSettings(rule="sgd"), 2)
    step = make_train_step(task, optimizer, 5)
    state = init_state(task, optimizer, jax.random.key(0), 0.1)
    state = state._replace(params=jax.tree.map(jnp.copy, params))  # the step is given its state
    grads = jax.grad(alone)(params, task.first_carry(), order[0])
    state = step(state, order[0], jax.random.key(1))
    tree_allclose(state.carried, carried)
    after = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    tree_allclose(state.params, after)
    grads = jax.grad(alone)(after, carried, order[1])
    state = step(state, order[1], jax.random.key(1))
    tree_allclose(state.params, jax.tree.map(lambda p, g: p - 0.1 * g, after, grads))


def training(folder, **changes):
    model = LanguageModel(V, "lstm", 5, 3, dropout=0.2)
    windows = make_windows(stream_of(200, starts=(0, 60, 90)), V, 3, 6, num_batches=5)
    held_out = stream_of(50, seed=1)
    settings = {
        "task": language_modelling(model, 3),
        "optimizer": make_optimizer(OptimizerSettings(clip="global-norm"), 25),
        "learning_rate": 0.05,
        "batches": windows,  # a pass is 11 steps: stretches end inside it
        "validate": lambda params: evaluate_stream(model, params, held_out, batch_size=4, window=8),
        "plan": Plan(5, 2, 0, 3, unit="stretch", score="loss"),
        "key": jax.random.key(5),
        "order_seed": 7,
        "folder": folder,
        "belongs_to": "this",
    }
    return Training(**settings | changes)


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [2, 4, 8, 10, 12, 20])
def test_a_training_that_is_stopped_goes_on_to_the_same_bits(tmp_path, stop_at, whole_training):
    """The carried state and the place in the text come back with the checkpoint."""

    def stop(progress):
        if progress.step == stop_at:
            raise Stop

    one = training(tmp_path)
    with pytest.raises(Stop):
        train(one, stop)
    train(one)
    folder, state = whole_training
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    tree_equal(last_state(one), state)


@pytest.fixture(scope="module")
def whole_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(training(folder))
    return folder, last_state(training(folder))


def last_state(one):
    like = init_state(one.task, one.optimizer, one.key, 0.05)
    state = one.checkpoints().restore(like, 25)
    assert np.any(jax.tree.leaves(state.carried)[0])  # it is kept, and is not zero
    return state


def test_a_training_learns_and_keeps_the_lowest_loss(whole_training):
    from rnn_jax.files import read_rows
    from rnn_jax.training import best_epoch

    folder, _ = whole_training
    rows = read_rows(folder / "metrics.jsonl")
    stretches = [row for row in rows if row["event"] == "stretch"]
    assert [row["stretch"] for row in stretches] == [1, 2, 3, 4, 5]
    assert all(row["train_tokens"] == 5 * 3 * 6 for row in stretches)
    best = best_epoch(rows, training(folder).plan)
    assert best["validation_loss"] == min(row["validation_loss"] for row in stretches)
    like = init_state(training(folder).task, training(folder).optimizer, jax.random.key(0), 1.0)
    assert training(folder).checkpoints().restore(like, best["step"]) is not None


def test_prediction_flows_are_derivatives_by_a_tap(getkey):
    """Against ordinary differentiation of a loop whose every state has a tap."""
    model = model_of("lstm")
    params = params_of(model)
    inputs = np.asarray(jax.random.randint(getkey(), (3, 6), 0, V + 1))
    targets = np.array([0, 3, 6])
    found = prediction_flows(model, params, inputs, targets)
    assert found.shape == (2, 7, 3) and layer_names(model) == ("1", "2")

    def loss(taps):
        ys = jnp.swapaxes(params["embedding"]["embedding"][inputs], 0, 1)
        for layer, (first, tap) in enumerate(taps, start=1):
            cell = params[f"layer_{layer}"]["forward"]
            _, ys = loop_unroll(lstm_step, cell, first, ys, tap=tap)
        logits = ys[-1] @ params["readout"]["kernel"] + params["readout"]["bias"]
        return -jnp.sum(jax.nn.log_softmax(logits)[np.arange(3), targets])

    first = model.initial_carry(3)
    taps = [(c, jax.tree.map(lambda a: jnp.zeros((6, *a.shape)), c)) for c in first]
    for layer, (initial, later) in enumerate(jax.grad(loss)(taps)):
        both = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), initial, later)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2, -1) for leaf in both))
        tree_allclose(found[layer], jnp.log(norm))


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    with raises_one_line("cell is 'rnn'", "elman"):
        model_of("rnn")
    with raises_one_line("hidden_size is 0"):
        LanguageModel(V, "gru", 0)
    with raises_one_line("dropout is 1"):
        model_of("gru", dropout=1)
    with raises_one_line("the model predicts 7 symbols and the encoding has 256"):
        check_model_reads(model_of("gru"), 256)
    model = model_of("gru")
    params = params_of(model)
    with raises_one_line("batch_size is 0"):
        evaluate_stream(model, params, stream_of(3), batch_size=0)
    with raises_one_line("0 tokens"):
        text_windows(TokenStream(np.zeros(0, np.uint8), np.zeros(1, int), 0), V, 1, 4)
    for token in (-1, 7):
        with raises_one_line(f"a token is {token}", "V - 1 = 6"):
            token_bits(model, params, np.array([0, token]))
    with raises_one_line("tokens are float64"):
        token_bits(model, params, np.array([0.5]))
    with raises_one_line("carries a state", "evaluate_stream"):
        make_eval_step(language_modelling(model, 2))
    with raises_one_line("score is 'perplexity'", "loss"):
        train(training(tmp_path, plan=Plan(1, score="perplexity")))
    with raises_one_line("labels holds 7", "6"):
        prediction_flows(model, params, np.zeros((1, 3), int), np.array([7]))
    with raises_one_line("model is a str"):
        prediction_flows("gru", params, np.zeros((1, 3), int), np.array([0]))
