"""Our cells inside Flax's loops: outputs, last carries and all gradients are those of unroll."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASE, every_case, one_case_a_cell
from flax import nnx
from helpers import raises_one_line, tree_allclose, tree_equal

from rnn_jax import gru, hold_gates, lstm, unroll
from rnn_jax.cells import initializers
from rnn_jax.interop.flax_cells import NNXCell, linen_cell, nnx_cell
from rnn_jax.models import unroll_layers

T, B = 4, 3
LENGTHS = np.array([4, 1, 3])
IS_VALID = np.arange(T)[:, None, None] < LENGTHS[:, None]
KEYS = jax.random.split(jax.random.key(1), 8)
OPTIONS = {"seq_lengths": LENGTHS, "time_major": True, "return_carry": True}


def value_and_grads(run, *arguments):
    """(outputs, carries) of run and the gradients of a loss that reads all of them."""

    def loss(*arguments):
        carry, ys = run(*arguments)
        leaves = jax.tree.leaves((carry, jnp.where(IS_VALID, ys, 0.0)))
        keys = jax.random.split(KEYS[0], len(leaves))
        weights = [
            jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)
        ]
        total = sum(jnp.vdot(w, a) for w, a in zip(weights, leaves, strict=True))
        return total, (carry, jnp.where(IS_VALID, ys, 0.0))

    argnums = tuple(range(len(arguments)))
    return jax.jit(jax.value_and_grad(loss, argnums, has_aux=True))(*arguments)


def compare(case, cell, weight=1.0):
    """Compare both adapters with unroll: reverse, from a given carry, with lengths."""
    params, xs = case.params(KEYS[1]), case.xs(KEYS[2], T, (B,))
    carry = case.carry(KEYS[3], (B,))
    expected = value_and_grads(
        lambda params, carry, xs: unroll(
            cell,
            params,
            xs,
            initial_carry=carry,
            seq_lengths=LENGTHS,
            reverse=True,
            recurrent_weight=weight,
        ),
        params,
        carry,
        xs,
    )
    reverse = {"reverse": True, "keep_order": True}
    rnn = nn.RNN(linen_cell(cell, recurrent_weight=weight, param_dtype=jnp.float64), **reverse)

    def linen(params, carry, xs):
        variables = {"params": {"cell": {"weights": params}}}
        return rnn.apply(variables, xs, initial_carry=carry, **OPTIONS)

    tree_allclose(value_and_grads(linen, params, carry, xs), expected)

    def in_nnx(params, carry, xs):
        module = nnx.RNN(NNXCell(cell, params, weight), **reverse)
        return module(xs, initial_carry=carry, **OPTIONS)

    tree_allclose(value_and_grads(in_nnx, params, carry, xs), expected)


def test_values_and_gradients_equal_unroll():
    """Held gates and the recurrent weight with them."""
    compare(CASE["lstm"], hold_gates(lstm(3), input=0.3), weight=1.7)


@pytest.mark.slow
@every_case
def test_values_and_gradients_equal_unroll_in_every_cell(case):
    compare(case, case.cell, weight=0.8)


@one_case_a_cell
def test_every_cell_fits_both_loops(case):
    """Traced, not compiled: parameters, carries and outputs of the shapes and dtypes of ours."""
    cell = case.cell
    shapes = jax.eval_shape(lambda: cell.init(KEYS[0], case.input_size))
    for batch in ((), (2,), (2, 3)):
        xs = jax.ShapeDtypeStruct((*batch, T, case.input_size), jnp.float32)
        carry = jax.eval_shape(lambda: cell.initial_carry(batch))  # noqa: B023 - called at once
        ys = jax.ShapeDtypeStruct((*batch, T, cell.hidden_size), jnp.float32)
        rnn = nn.RNN(linen_cell(cell), return_carry=True)
        found, variables = jax.eval_shape(rnn.init_with_output, KEYS[0], xs)
        assert found == (carry, ys)
        assert variables == {"params": {"cell": {"weights": shapes}}}

        def run(xs):
            module = nnx.RNN(nnx_cell(cell, case.input_size, rngs=nnx.Rngs(0)))
            return module(xs, return_carry=True), nnx.to_pure_dict(nnx.state(module, nnx.Param))

        found, weights = jax.eval_shape(run, xs)
        assert found == (carry, ys)
        assert weights == {"cell": {"weights": shapes._asdict()}}


def test_stacked_bidirectional_layers_equal_ours():
    case = CASE["lstm"]
    layers = {
        name: {
            direction: case._replace(input_size=width).params(jax.random.key(seed + width))
            for seed, direction in enumerate(("forward", "reverse"))
        }
        for name, width in (("layer_1", 2), ("layer_2", 6))
    }
    xs = case.xs(KEYS[2], T, (B,))
    last, ys = unroll_layers(case.cell, layers, xs, seq_lengths=LENGTHS)
    expected = [tuple(layer.values()) for layer in last.values()], ys

    def linen(layers, xs):
        carries = []
        for layer in layers.values():
            cells = [linen_cell(case.cell, param_dtype=jnp.float64) for _ in layer]
            names = ("forward_rnn", "backward_rnn")
            weights = [{"cell": {"weights": params}} for params in layer.values()]
            module = nn.Bidirectional(*map(nn.RNN, cells))
            variables = {"params": dict(zip(names, weights, strict=True))}
            carry, xs = module.apply(variables, xs, **OPTIONS)
            carries.append(carry)
        return carries, jnp.where(IS_VALID, xs, 0.0)

    tree_allclose(jax.jit(linen)(layers, xs), expected)

    def in_nnx(layers, xs):
        carries = []
        for layer in layers.values():
            rnns = [nnx.RNN(NNXCell(case.cell, params)) for params in layer.values()]
            carry, xs = nnx.Bidirectional(*rnns)(xs, **OPTIONS)
            carries.append(carry)
        return carries, jnp.where(IS_VALID, xs, 0.0)

    tree_allclose(jax.jit(in_nnx)(layers, xs), expected)


def test_initializers_reach_the_cell():
    settings = {"recurrent_init": initializers.identity(0.5), "forget_bias": 3.0}
    module = nn.RNN(linen_cell(lstm(3), param_dtype=jnp.float64, **settings))
    params = module.init(KEYS[0], jnp.zeros((B, T, 2)))["params"]["cell"]["weights"]
    same = nnx_cell(lstm(3), 2, rngs=nnx.Rngs(0), param_dtype=jnp.float64, **settings)
    for recurrent, bias in (params[1:], (same.weights.recurrent_kernel, same.weights.bias)):
        np.testing.assert_array_equal(recurrent[...], 0.5 * np.tile(np.eye(3), 4))
        np.testing.assert_array_equal(bias[...], np.repeat([0.0, 3.0, 0.0, 0.0], 3))


def test_the_computation_has_the_dtype_asked_for():
    xs = jax.ShapeDtypeStruct((B, T, 2), jnp.float32)
    for dtype in (jnp.bfloat16, np.dtype("float64")):
        module = nn.RNN(linen_cell(lstm(3), dtype=dtype), return_carry=True)
        (carry, ys), variables = jax.eval_shape(module.init_with_output, KEYS[0], xs)
        assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype("float32")}
        assert {a.dtype for a in (*carry, ys)} == {np.dtype(dtype)}

        def run(xs):
            module = nnx.RNN(nnx_cell(lstm(3), 2, dtype=dtype, rngs=nnx.Rngs(0)))  # noqa: B023
            return module(xs, return_carry=True)

        carry, ys = jax.eval_shape(run, xs)
        assert {a.dtype for a in (*carry, ys)} == {np.dtype(dtype)}


def test_a_carry_of_another_dtype_is_refused():
    xs = jnp.ones((B, T, 2), jnp.float64)
    with raises_one_line("the carry is float32", "float64"):
        nn.RNN(linen_cell(lstm(3))).init(KEYS[0], xs)
    with raises_one_line("the carry is float32", "float64"):
        nnx.RNN(nnx_cell(lstm(3), 2, rngs=nnx.Rngs(0)))(xs)


def test_an_optimizer_of_nnx_trains_every_array():
    model = nnx.RNN(nnx_cell(gru(3), 2, rngs=nnx.Rngs(0)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    xs = jax.random.normal(KEYS[0], (B, T, 2), jnp.float32)
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    @nnx.jit
    def train(model, optimizer):
        grads = nnx.grad(lambda model: jnp.sum(model(xs) ** 2))(model)
        optimizer.update(model, grads)
        return nnx.to_pure_dict(grads)

    grads = train(model, optimizer)
    tree_allclose(
        nnx.to_pure_dict(nnx.state(model, nnx.Param)),
        jax.tree.map(lambda a, g: a - 0.1 * g, before, grads),
    )
    assert set(grads["cell"]["weights"]) == {"kernel", "recurrent_kernel", "bias", "recurrent_bias"}
    assert all(np.any(g) for g in jax.tree.leaves(grads))
    graph, state = nnx.split(model)
    tree_equal(nnx.merge(graph, state)(xs), model(xs))


def test_wrong_settings_are_refused_in_one_line():
    for make in (linen_cell, lambda cell, **s: nnx_cell(cell, 2, rngs=nnx.Rngs(0), **s)):
        with raises_one_line("an initializer is 'gain'", "forget_bias"):
            make(lstm(3), gain=2.0)
        with raises_one_line("recurrent_weight is nan"):
            make(lstm(3), recurrent_weight=np.nan)
        with raises_one_line("recurrent_weight is None"):
            make(lstm(3), recurrent_weight=None)
        with raises_one_line("cell is 'lstm'"):
            make("lstm")
    with raises_one_line("in_features is 0"):
        nnx_cell(lstm(3), 0, rngs=nnx.Rngs(0))
    with raises_one_line("carry_init is given"):
        nnx_cell(lstm(3), 2, rngs=nnx.Rngs(0)).initialize_carry((2,), carry_init=jnp.ones)
