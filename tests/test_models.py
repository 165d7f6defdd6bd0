"""Linen classifiers against one written in a loop, and what padding must not reach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
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

from rnn_jax.cells import CELLS, param_count
from rnn_jax.models import (
    ConvClassifier,
    TextClassifier,
    layer_flows,
    layer_names,
    pooling,
)
from rnn_jax.models.classifier import POOLINGS

V, C, E, H = 7, 3, 4, 3
LENGTHS = np.array([4, 0, 1, 2])  # a full one, an empty one, one of a single step
LABELS = np.array([2, 0, 1, 0])
STEPS = {"elman": elman_step("tanh"), "lstm": lstm_step, "gru": gru_step, "sru": sru_step}


def classifier(cell, **settings):
    sizes = {"vocabulary_size": V, "num_classes": C, "hidden_size": H, "embedding_size": E}
    return TextClassifier(cell=cell, dtype="float64", **sizes, **settings)


def convolution(**settings):
    sizes = {"vocabulary_size": V, "num_classes": C, "embedding_size": E, "num_filters": 3}
    return ConvClassifier(dtype="float64", **sizes, **settings)


def draw_tokens(seed=0, num_steps=4, padding=0):
    """Draw tokens [B, T] with ``padding`` past each length."""
    tokens = np.random.default_rng(seed).integers(0, V, (len(LENGTHS), num_steps))
    return np.where(np.arange(num_steps) < LENGTHS[:, None], tokens, padding)


@functools.lru_cache
def draw_params(model):
    """Draw parameters that are generic everywhere, biases included."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: init(model))
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), shapes)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens, lengths=LENGTHS):
    return model.apply({"params": params}, tokens, lengths)


@functools.partial(jax.jit, static_argnums=0)
def init(model):
    return model.init(jax.random.key(0), draw_tokens(), LENGTHS)["params"]


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(model, params, tokens, lengths, labels):
    """The summed loss and its gradient, and the logits."""

    def loss(params):
        logits = model.apply({"params": params}, tokens, lengths)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.sum(losses), logits

    (_, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return logits, grads


# The oracle: the whole classifier by loops, that shares no code with rnn_jax.


def loop_logits(model, params, tokens, *, carries=None, taps=None, xp=np):
    """Logits; ``carries`` and ``taps`` by (layer, direction), to differentiate by."""
    lengths = LENGTHS
    xs = xp.swapaxes(params["embedding"]["embedding"][tokens], 0, 1)
    for layer in range(model.num_layers):
        outputs, ends = [], []
        for direction, cell_params in params[f"layer_{layer + 1}"].items():
            place, is_reverse = (layer, direction), direction == "reverse"
            zeros = CELLS[model.cell](model.hidden_size).initial_carry((len(lengths),), xs.dtype)
            ys = loop_unroll(
                STEPS[model.cell],
                cell_params,
                carries[place] if carries else jax.tree.map(np.asarray, zeros),
                xs,
                lengths=lengths,
                reverse=is_reverse,
                tap=taps[place] if taps else None,
                xp=xp,
            )[1]
            outputs.append(ys)
            last = [0 if is_reverse else max(n - 1, 0) for n in lengths]
            ends.append(ys[np.array(last), np.arange(len(lengths))])
        xs = xp.concatenate(outputs, axis=-1)
    pooled = [
        pool_one(model.pooling, params, xs[:n, b], xp.concatenate([end[b] for end in ends]), xp)
        for b, n in enumerate(lengths)
    ]
    readout = params["readout"]
    return xp.stack(pooled) @ readout["kernel"] + readout["bias"]


def pool_one(name, params, ys, last, xp):
    """Pool the outputs [n, F] of one text."""
    if not len(ys):
        return 0.0 * last
    if name == "attention":
        weights = xp.exp(xp.tanh(ys @ params["attention"].kernel) @ params["attention"].vector)
        return weights / xp.sum(weights) @ ys
    return {"last": last, "mean": xp.mean(ys, axis=0), "max": xp.max(ys, axis=0)}[name]


def loop_convolution(model, params, tokens):
    """Logits, window by window."""
    logits = []
    for text, n in zip(tokens, LENGTHS, strict=True):
        features = []
        for width in model.widths:
            kernel, bias = (params[f"width_{width}"][name] for name in ("kernel", "bias"))
            before = (width - 1) // 2
            padded = np.zeros((n + width - 1, E))
            padded[before : before + n] = params["embedding"]["embedding"][text[:n]]
            windows = [np.tensordot(padded[t : t + width], kernel, 2) + bias for t in range(n)]
            features.append(np.maximum(np.max(windows, axis=0), 0) if n else 0 * bias)
        readout = params["readout"]
        logits.append(np.concatenate(features) @ readout["kernel"] + readout["bias"])
    return np.stack(logits)


@pytest.mark.parametrize("cell", ["lstm", "sru"])
def test_one_layer_is_the_loop(cell):
    model = classifier(cell)
    params, tokens = draw_params(model), draw_tokens()
    expected = loop_logits(model, jax.tree.map(np.asarray, params), tokens)
    tree_allclose(logits_of(model, params, tokens), expected)


@pytest.mark.parametrize("name", POOLINGS)
def test_two_layers_in_both_directions_are_the_loop(name):
    model = classifier("elman", num_layers=2, is_bidirectional=True, pooling=name)
    params, tokens = draw_params(model), draw_tokens()
    expected = loop_logits(model, jax.tree.map(np.asarray, params), tokens)
    tree_allclose(logits_of(model, params, tokens), expected)


@pytest.mark.parametrize("widths", [(1, 2), (3, 8)])
def test_convolution_is_the_loop(widths):
    model = convolution(widths=widths)
    params, tokens = draw_params(model), draw_tokens()
    expected = loop_convolution(model, jax.tree.map(np.asarray, params), tokens)
    tree_allclose(logits_of(model, params, tokens), expected)


# Padding.

PADDED = {
    "elman": classifier("elman", num_layers=2, is_bidirectional=True, pooling="attention"),
    "gru": classifier("gru", is_bidirectional=True),
    "convolution": convolution(),
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_reaches_nothing(name):
    model = PADDED[name]
    params = draw_params(model)
    of_zeros, of_any, of_far = (
        loss_and_grads(model, params, draw_tokens(padding=padding), LENGTHS, LABELS)
        for padding in (0, 3, -(10**9))
    )
    tree_equal(of_any, of_zeros)
    tree_equal(of_far, of_zeros)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(of_zeros))


@pytest.mark.parametrize("name", PADDED)
def test_a_batch_is_its_texts_one_by_one(name):
    model = PADDED[name]
    params, tokens = draw_params(model), draw_tokens(padding=V + 1)
    lengths = np.minimum(LENGTHS, 2)
    logits, grads = loss_and_grads(model, params, tokens, lengths, LABELS)
    rows = np.flatnonzero(lengths)
    singles = [
        loss_and_grads(model, params, tokens[[b], :2], lengths[[b]], LABELS[[b]]) for b in rows
    ]
    tree_allclose(logits[rows], jnp.concatenate([single[0] for single in singles]))
    of_empty = jax.nn.softmax(logits[1]) - jax.nn.one_hot(LABELS[1], C)  # reaches the bias alone
    total = jax.tree.map(lambda *leaves: sum(leaves), *[single[1] for single in singles])
    total["readout"]["bias"] += of_empty
    tree_allclose(grads, total)


def test_poolings_read_no_padding_and_make_no_nan_of_nothing():
    lengths = np.array([2, 0, 4])
    is_valid = (np.arange(4)[:, None] < lengths)[..., None]
    ys = np.where(is_valid, np.random.default_rng(2).normal(size=(4, 3, H)), np.nan)
    attention = pooling.AttentionParams(jnp.eye(H), jnp.ones(H))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def pooled(inputs):
        attention, *ys = inputs
        values = [
            pooling.last_pool(ys[0], lengths),
            pooling.last_pool(ys[1], lengths, is_reverse=True),
            pooling.mean_pool(ys[2], lengths),
            pooling.max_pool(ys[3], lengths),
            pooling.attention_pool(attention, ys[4], lengths),
        ]
        return sum(jnp.sum(value) for value in values), values

    (_, values), (of_attention, *of_ys) = pooled((attention, *[ys] * 5))
    assert np.isfinite(of_attention.kernel).all() and np.isfinite(of_attention.vector).all()
    for value, grad in zip(values, of_ys, strict=True):
        assert np.isfinite(value).all() and (value[1] == 0).all()
        assert (np.where(is_valid, 0, grad) == 0).all() and (grad[:, [0, 2]] != 0).any(axis=0).all()


def test_a_token_that_is_not_in_the_vocabulary_is_not_taken_for_another():
    model = convolution(widths=(1,))
    tokens = np.array([[1, V], [-1, 1], [1, 2]])
    logits = logits_of(model, draw_params(model), tokens, np.array([2, 2, 2]))
    assert np.isnan(logits).all(axis=1).tolist() == [True, True, False]


# The gradient through time.


def test_flows_are_the_norms_of_taps_in_a_loop():
    model = classifier("elman", num_layers=2, is_bidirectional=True, pooling="mean")
    params, tokens = draw_params(model), draw_tokens()
    places = [(layer, direction) for layer in (0, 1) for direction in ("forward", "reverse")]
    zeros = CELLS["elman"](H).initial_carry((len(LENGTHS),), jnp.float64)
    carries = dict.fromkeys(places, zeros)
    taps = jax.tree.map(lambda a: jnp.zeros((4, *a.shape)), carries)

    @jax.jit
    @jax.grad
    def gradients(by):
        logits = loop_logits(model, params, tokens, carries=by[0], taps=by[1], xp=jnp)
        return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, LABELS))

    of_carries, of_taps = gradients((carries, taps))
    expected = np.full((4, 5, len(LENGTHS)), np.nan)
    for k, place in enumerate(places):
        norm = np.sqrt(sum(np.sum(np.square(leaf), -1) for leaf in of_taps[place]))
        expected[k, 0] = np.sqrt(sum(np.sum(np.square(leaf), -1) for leaf in of_carries[place]))
        for b, n in enumerate(LENGTHS):
            valid = norm[:n, b]
            expected[k, 1 : n + 1, b] = valid[::-1] if place[1] == "reverse" else valid
    flows = layer_flows(model, params, tokens, LENGTHS, LABELS)
    assert layer_names(model) == ("1 forward", "1 reverse", "2 forward", "2 reverse")
    tree_allclose(jnp.exp(flows), jnp.asarray(expected))
    assert (flows[:, 0, 1] == -jnp.inf).all()  # of the empty text


def test_flow_reaches_further_than_float32():
    num_steps = 400
    model = TextClassifier(V, C, "elman", H, E, recurrent_init="identity", recurrent_gain=0.5)
    params = init(model)
    cell = params["layer_1"]["forward"]
    params["layer_1"]["forward"] = cell._replace(kernel=0 * cell.kernel)  # the state stays 0
    tokens, lengths = np.ones((1, num_steps), np.int32), np.array([num_steps])
    (flow,) = layer_flows(model, params, tokens, lengths, np.array([0]))
    expected = flow[-1] + np.log(0.5) * np.arange(num_steps, -1, -1)[:, None]
    tree_allclose(flow, jnp.float32(expected))
    assert layer_names(model) == ("1",) and flow[0, 0] < np.log(np.finfo(np.float32).tiny)


# Settings.


@pytest.mark.parametrize(
    "model", [classifier("elman", dropout=0.5), convolution(widths=(3,), dropout=0.5)]
)
def test_dropout_is_of_training_alone_and_follows_from_its_key(model):
    tokens, readout = draw_tokens(), {"kernel": jnp.eye(H, C), "bias": jnp.zeros(C)}
    params = draw_params(model) | {"readout": readout}  # logits are what the readout reads

    @jax.jit
    def train(key):
        variables, rngs = {"params": params}, {"dropout": key}
        return model.apply(variables, tokens, LENGTHS, is_training=True, rngs=rngs)

    first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    tree_equal(first, again)
    without = type(model)(**{**fields(model), "dropout": 0.0})
    plain = logits_of(without, params, tokens)
    tree_equal(logits_of(model, params, tokens), plain)
    for trained in (first, other):
        is_dropped, is_zero = trained == 0, plain == 0
        assert (is_dropped & ~is_zero).any()  # before the readout
        assert (~is_dropped & (trained != 2 * plain)).any()  # after the embedding
    assert (first != other).any()


def fields(model):
    names = type(model).__dataclass_fields__.keys() - {"parent", "name"}
    return {name: getattr(model, name) for name in names}


def test_parameters_are_those_of_the_formula_and_of_the_settings():
    d = 6
    settings = {"recurrent_init": "identity", "recurrent_gain": 0.5, "forget_bias": 2.0}
    params = init(
        TextClassifier(V, C, "gru", d, d, num_layers=2, is_bidirectional=True, **settings)
    )
    first, second = 2 * (6 * d**2 + 6 * d), 2 * (3 * d * (3 * d) + 6 * d)  # the second reads 2 d
    assert param_count(params) == V * d + first + second + 2 * d * C + C
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    upper = params["layer_2"]["reverse"]
    tree_equal(upper.recurrent_kernel, jnp.tile(0.5 * jnp.eye(d, dtype=jnp.float32), 3))
    assert upper.bias.tolist() == [0.0] * d + [2.0] * d + [0.0] * d  # of the update gate


def test_equal_models_are_one_static_argument():
    assert classifier("gru") == classifier("gru")
    assert hash(convolution()) == hash(convolution())
    assert classifier("gru") != classifier("lstm")


@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        ({"cell": "rnn"}, ("cell is 'rnn'", "elman, lstm")),
        ({"pooling": "sum"}, ("pooling is 'sum'", "last, mean, max, attention")),
        ({"recurrent_init": "ones"}, ("recurrent_init is 'ones'", "orthogonal, gaussian")),
        ({"recurrent_gain": np.nan}, ("recurrent_gain is nan",)),
        ({"forget_bias": np.inf}, ("forget_bias is inf",)),
        ({"dropout": 1.0}, ("dropout is 1.0",)),
        ({"num_layers": 0}, ("num_layers is 0",)),
        ({"vocabulary_size": 2.5}, ("vocabulary_size is 2.5",)),
        ({"dtype": "float16"}, ("dtype is 'float16'", "float32")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_fit(settings, fragments):
    with raises_one_line(*fragments):
        TextClassifier(**{**fields(classifier("lstm")), **settings})


@pytest.mark.parametrize("widths", [(), (3, 3), (0,)])
def test_widths_that_do_not_fit(widths):
    with raises_one_line("width"):
        convolution(widths=widths)


def test_float64_wants_the_setting_of_jax():
    with jax.enable_x64(False), raises_one_line("dtype is 'float64'", "jax_enable_x64"):
        classifier("elman").init(jax.random.key(0), draw_tokens(), LENGTHS)


def test_batches_that_do_not_fit():
    model, tokens = classifier("elman"), draw_tokens()
    params = draw_params(model)
    for wrong, fragment in (
        ((tokens[0], LENGTHS), "tokens has shape (4,)"),
        ((tokens, LENGTHS[:2]), "lengths has shape (2,)"),
        ((tokens * 1.0, LENGTHS), "tokens is float64"),
        ((tokens[:, :3], LENGTHS), "seq_lengths holds 4"),
    ):
        with raises_one_line(fragment):
            model.apply({"params": params}, *wrong)
    with raises_one_line("labels holds 3", "0 to 2"):
        layer_flows(model, params, tokens, LENGTHS, LABELS + 1)
    with raises_one_line("ConvClassifier"):
        layer_flows(convolution(), params, tokens, LENGTHS, LABELS)
    assert layer_names(convolution()) == ()
