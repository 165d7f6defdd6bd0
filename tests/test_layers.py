"""Stacked layers as plain parameters: the same as one unroll after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line, tree_allclose

from rnn_jax import lstm, sru, unroll
from rnn_jax.models import LanguageModel, unroll_layers

T, B, I, H = 5, 3, 2, 4  # noqa: E741
LENGTHS = np.array([5, 0, 3])


def params(seed, input_size):
    return lstm(H).init(jax.random.key(seed), input_size, jnp.float64)


def test_layers_are_one_unroll_after_another():
    layers = {
        "layer_1": {"forward": params(0, I), "reverse": params(1, I)},
        "layer_2": {"reverse": params(2, 2 * H)},
    }
    xs = jax.random.normal(jax.random.key(3), (T, B, I), jnp.float64)
    draw = jax.tree.map(
        lambda leaf: leaf + jax.random.normal(jax.random.key(4), leaf.shape, jnp.float64),
        lstm(H).initial_carry((B,), jnp.float64),
    )
    starts = {"layer_1": {"forward": draw, "reverse": draw}, "layer_2": {"reverse": draw}}
    settings = {"initial_carry": draw, "seq_lengths": LENGTHS}
    first, ys = unroll(lstm(H), layers["layer_1"]["forward"], xs, **settings)
    second, zs = unroll(lstm(H), layers["layer_1"]["reverse"], xs, reverse=True, **settings)
    both = jnp.concatenate([ys, zs], -1)
    third, outputs = unroll(lstm(H), layers["layer_2"]["reverse"], both, reverse=True, **settings)
    expected = {"layer_1": {"forward": first, "reverse": second}, "layer_2": {"reverse": third}}
    found = unroll_layers(lstm(H), layers, xs, initial_carries=starts, seq_lengths=LENGTHS)
    tree_allclose(found, (expected, outputs))


def test_a_models_layers_are_layers():
    """What comes in can take the place of a model's own layers."""
    model = LanguageModel(5, "lstm", H, embedding_size=I, num_layers=2, dtype="float64")
    tokens = jnp.zeros((1, 3), int)
    variables = model.init(jax.random.key(0), tokens)["params"]
    layers = {name: variables[name] for name in ("layer_1", "layer_2")}
    _, ys = unroll_layers(lstm(H), layers, jnp.ones((T, B, I)))
    assert ys.shape == (T, B, H)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({}, "layers holds nothing"),
        ({"layer_2": {}}, "layers holds layer_2"),
        ({"layer_1": {}}, "layer_1 holds nothing"),
    ],
)
def test_other_names_are_refused(layers, message):
    with raises_one_line(message):
        unroll_layers(lstm(H), layers, jnp.ones((T, B, I)))


def test_a_carry_of_every_layer_is_asked_for():
    layers = {"layer_1": {"forward": params(0, I), "reverse": params(1, I)}}
    zeros = lstm(H).initial_carry((B,), jnp.float64)
    with raises_one_line("initial_carries has not all of layer_1"):
        starts = {"layer_1": {"forward": zeros}}
        unroll_layers(lstm(H), layers, jnp.ones((T, B, I)), initial_carries=starts)


def test_an_sru_may_project_its_skip_term_where_it_need_not():
    """A fourth block that is the identity changes nothing; one that is twice that, the highway."""
    three = sru(H).init(jax.random.key(0), H, jnp.float64)
    four = sru(H, projects_skip=True)
    assert four.init(jax.random.key(0), H).kernel.shape == (H, 4 * H)
    xs = jax.random.normal(jax.random.key(1), (T, B, H), jnp.float64)

    def outputs(scale):
        skip = scale * jnp.eye(H)
        return unroll(four, three._replace(kernel=jnp.hstack([three.kernel, skip])), xs)

    carry, ys = unroll(sru(H), three, xs)
    tree_allclose(outputs(1.0), (carry, ys))
    assert not np.allclose(outputs(2.0)[1], ys)
    with raises_one_line("projects_skip is 2"):
        sru(H, 2)
