"""Weights of Flax's cells, Linen's and NNX's, in and out; their modules compute the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import (
    elman_step,
    gru_step,
    lstm_step,
    raises_one_line,
    run_python,
    tree_allclose,
    tree_equal,
)

from rnn_jax import elman, gru, hold_gates, lstm, sru
from rnn_jax.interop.linen import from_linen, to_linen
from rnn_jax.interop.nnx import from_nnx, to_nnx
from rnn_jax.models import unroll_layers

T, B, H = 5, 3, 4
I = 2 * H  # noqa: E741 - so that the second layer's shapes are the first's: one compilation
LENGTHS = np.array([5, 1, 3])
LINEN = {
    "simple": (nn.SimpleCell(H, param_dtype=jnp.float64), elman(H)),
    "relu": (nn.SimpleCell(H, nn.relu, param_dtype=jnp.float64), elman(H, "relu")),
    "lstm": (nn.LSTMCell(H, param_dtype=jnp.float64), lstm(H)),
    "optimized_lstm": (nn.OptimizedLSTMCell(H, param_dtype=jnp.float64), lstm(H)),
    "gru": (nn.GRUCell(H, param_dtype=jnp.float64), gru(H)),
}
NNX = {
    "simple": (nnx.SimpleCell, {"dtype": None}, elman(H)),
    "relu": (nnx.SimpleCell, {"dtype": None, "activation_fn": nnx.relu}, elman(H, "relu")),
    "lstm": (nnx.LSTMCell, {}, lstm(H)),
    "optimized_lstm": (nnx.OptimizedLSTMCell, {}, lstm(H)),
    "gru": (nnx.GRUCell, {}, gru(H)),
}
STEPS = {
    elman(H): elman_step("tanh"),
    elman(H, "relu"): elman_step("relu"),
    lstm(H): lstm_step,
    gru(H): gru_step,
}
ONE_A_CELL = ("simple", "optimized_lstm", "gru")
every_linen = pytest.mark.parametrize("kind", LINEN)
every_nnx = pytest.mark.parametrize("kind", NNX)
one_a_cell = pytest.mark.parametrize("kind", ONE_A_CELL)


def drawn(shapes, seed=0):
    """Numbers that are generic everywhere, for a tree of shapes."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda a: (0.5 * draw.normal(size=a.shape)).astype(a.dtype), shapes)


def linen_params(module, xs=None, seed=0):
    """Parameters of a cell, or of an RNN where xs are given."""
    inputs = (
        (module.initialize_carry(jax.random.key(0), (I,)), np.zeros(I)) if xs is None else (xs,)
    )
    return drawn(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"], seed)


def nnx_module(kind, seed=0):
    make, settings, _ = NNX[kind]
    return filled(lambda: make(I, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **settings), seed)


def filled(make, seed=0):
    module = nnx.eval_shape(make)
    values = jax.tree.map(jnp.asarray, drawn(nnx.state(module, nnx.Param), seed))
    nnx.update(module, values)
    return module


def inputs():
    return np.random.default_rng(9).normal(size=(T, B, I))


def carries(cell):
    """A carry of ours and Flax's form of it."""
    zeros = cell.initial_carry((B,), jnp.float64)
    carry = drawn(zeros, 5)
    return carry, carry[0] if len(carry) == 1 else carry[::-1]


def is_same_step(cell, params, peer):
    """Compare one step with the papers' equations, of ours and of Flax's arrays."""
    x = inputs()[0]
    carry, theirs = carries(cell)
    zeros = jax.tree.map(np.zeros_like, carry)
    new, y, _ = STEPS[cell](np, params, carry, x, 1.0, zeros)
    found, output = peer(theirs, x)
    tree_allclose(output, y)
    tree_allclose(found, new[0] if len(new) == 1 else tuple(new[::-1]))


@every_linen
def test_a_linen_cell_takes_the_same_step(kind):
    module, expected = LINEN[kind]
    weights = linen_params(module)
    cell, params = from_linen(module, weights)
    assert cell is expected
    assert all(type(array) is np.ndarray for array in params)
    is_same_step(cell, params, jax.jit(lambda *a: module.apply({"params": weights}, *a)))


@every_nnx
def test_an_nnx_cell_takes_the_same_step(kind):
    module = nnx_module(kind)
    cell, params = from_nnx(module)
    assert cell is NNX[kind][2]
    assert all(type(array) is np.ndarray for array in params)
    is_same_step(cell, params, jax.jit(lambda *a: module(*a)))


def compare_stacked(cell, layers, run):
    """Compare two layers of two directions with lengths: outputs and last carries."""
    xs = inputs()
    last, ys = unroll_layers(cell, layers, xs, seq_lengths=LENGTHS)
    found, outputs = run(xs)
    is_valid = np.arange(T)[:, None, None] < LENGTHS[:, None]
    tree_allclose(np.where(is_valid, outputs, 0.0), ys)
    for key, pair in zip(last, found, strict=True):
        for carry, theirs in zip(last[key].values(), pair, strict=True):
            tree_allclose(theirs, carry[0] if len(carry) == 1 else tuple(carry[::-1]))


OPTIONS = {"seq_lengths": LENGTHS, "time_major": True, "return_carry": True}


@one_a_cell
def test_stacked_bidirectional_linen_layers_with_lengths_equal_ours(kind):
    module = nn.Bidirectional(nn.RNN(LINEN[kind][0]), nn.RNN(LINEN[kind][0].clone()))
    weights = [linen_params(module, inputs(), seed) for seed in (1, 2)]
    (cell, first), (_, second) = [from_linen(module, params) for params in weights]

    @jax.jit
    def run(xs):
        carries = []
        for params in weights:
            carry, xs = module.apply({"params": params}, xs, **OPTIONS)
            carries.append(carry)
        return carries, xs

    compare_stacked(cell, {"layer_1": first, "layer_2": second}, run)


@one_a_cell
def test_stacked_bidirectional_nnx_layers_with_lengths_equal_ours(kind):
    cells = [nnx_module(kind, seed) for seed in range(4)]
    modules = [nnx.Bidirectional(nnx.RNN(a), nnx.RNN(b)) for a, b in (cells[:2], cells[2:])]
    (cell, first), (_, second) = map(from_nnx, modules)

    @nnx.jit  # which gives the modules back their counts of keys
    def run(modules, xs):
        carries = []
        for module in modules:
            carry, xs = module(xs, **OPTIONS)
            carries.append(carry)
        return carries, xs

    layers = {"layer_1": first, "layer_2": second}
    compare_stacked(cell, layers, lambda xs: run(nnx.List(modules), xs))


def test_a_reverse_rnn_is_the_reverse_direction():
    for reverse, direction in ((False, "forward"), (True, "reverse")):
        rnn = nn.RNN(nn.GRUCell(H), reverse=reverse)
        _, layer = from_linen(rnn, linen_params(rnn, np.zeros((1, 1, I), np.float32)))
        assert list(layer) == [direction]
        module, _ = to_linen(gru(H), layer)
        assert (module.reverse, module.keep_order) == (reverse, reverse)
        layer = {direction: layer[direction]._replace(recurrent_bias=np.zeros(3 * H, np.float32))}
        module = to_nnx(gru(H), layer)
        assert (module.reverse, module.keep_order) == (reverse, reverse)
        tree_equal(from_nnx(module)[1], layer)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
@one_a_cell
def test_round_trips_are_exact(kind, dtype):
    cell = LINEN[kind][1]
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), I, dtype))
    params, other = drawn(shapes, 0), drawn(shapes, 1)
    if kind == "gru":  # what Flax has one bias for
        params.recurrent_bias[: 2 * H] = other.recurrent_bias[: 2 * H] = 0
    params.bias[0] = -0.0
    for given in (params, {"forward": params, "reverse": other}):
        found, back = from_linen(*to_linen(cell, given))
        assert found is cell
        tree_equal(back, given)
        module, weights = to_linen(*from_linen(*to_linen(cell, given)))
        tree_equal(weights, to_linen(cell, given)[1])
        assert isinstance(module, nn.Bidirectional) == isinstance(given, dict)
    if kind == "gru":
        params.recurrent_bias[:] = other.recurrent_bias[:] = 0
    for given in (params, {"forward": params, "reverse": other}):
        module = to_nnx(cell, given)
        found, back = from_nnx(module)
        assert found is cell
        tree_equal(back, given)
        tree_equal(nnx.state(to_nnx(cell, back), nnx.Param), nnx.state(module, nnx.Param))


def test_what_flax_drew_comes_back_as_it_was():
    for kind in ("simple", "lstm", "optimized_lstm", "gru"):
        module = LINEN[kind][0]
        weights = linen_params(module)
        tree_equal(to_linen(*from_linen(module, weights))[1], weights)
        module = nnx_module(kind)
        if kind != "lstm":  # LSTMCell comes back as OptimizedLSTMCell, whose arrays NNX joins
            state = nnx.state(module, nnx.Param)
            tree_equal(nnx.state(to_nnx(*from_nnx(module)), nnx.Param), state)


def test_a_gru_s_biases_are_summed_where_flax_has_one():
    cell = gru(H)
    params = drawn(jax.eval_shape(lambda: cell.init(jax.random.key(0), I, np.float64)))
    _, back = from_linen(*to_linen(cell, params))
    summed = params.bias + params.recurrent_bias
    np.testing.assert_array_equal(back.bias[: 2 * H], summed[: 2 * H])
    np.testing.assert_array_equal(back.bias[2 * H :], params.bias[2 * H :])
    np.testing.assert_array_equal(back.recurrent_bias[: 2 * H], 0)
    np.testing.assert_array_equal(back.recurrent_bias[2 * H :], params.recurrent_bias[2 * H :])
    with raises_one_line("recurrent_bias is not zero in its last third, b_hn", "NNX"):
        to_nnx(cell, params)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity", "erf", "hard_tanh"])
def test_every_activation_goes_out_and_comes_back(activation):
    cell = elman(H, activation)
    params = drawn(jax.eval_shape(lambda: cell.init(jax.random.key(0), I)))
    assert from_linen(*to_linen(cell, params))[0] is cell
    assert from_nnx(to_nnx(cell, params))[0] is cell


class Renamed(nn.GRUCell):
    pass


def gru_weights(**changes):
    weights = linen_params(nn.GRUCell(H))
    for name, value in changes.items():
        dense, leaf = name.split("__")
        weights[dense] = {**weights[dense], leaf: value}
        if value is None:
            del weights[dense][leaf]
    return weights


GRU = nn.GRUCell(H)
BOTH = {"forward_rnn": {"cell": gru_weights()}, "backward_rnn": {"cell": gru_weights()}}
RNN = nn.RNN(nn.GRUCell(H))
REFUSED = {
    "mgu": (nn.MGUCell(H), {}, "MGUCell has no equal here"),
    "convolution": (nn.ConvLSTMCell(H, (3,)), {}, "ConvLSTMCell has no equal here"),
    "subclass": (Renamed(H), gru_weights(), "Renamed has no equal here"),
    "dense": (nn.Dense(H), {}, "Dense has no equal here"),
    "residual": (nn.SimpleCell(H, residual=True), {}, "residual is True"),
    "activation": (nn.SimpleCell(H, nn.gelu), {}, "activation_fn is 'gelu'"),
    "gate": (nn.GRUCell(H, nn.hard_sigmoid), {}, "gate_fn is 'hard_sigmoid'"),
    "relu_lstm": (nn.LSTMCell(H, activation_fn=nn.relu), {}, "activation_fn is relu and gate_fn"),
    "carry": (nn.GRUCell(H, carry_init=nn.initializers.ones), {}, "carry_init is"),
    "dtype": (nn.GRUCell(H, dtype=jnp.bfloat16), gru_weights(), "computes in bfloat16"),
    "merge": (nn.Bidirectional(RNN, RNN.clone(), jnp.add), BOTH, "merge_fn is"),
    "shared": (nn.Bidirectional(RNN, RNN), BOTH, "forward_rnn and backward_rnn are one"),
    "two_cells": (
        nn.Bidirectional(RNN, nn.RNN(nn.SimpleCell(H))),
        {**BOTH, "backward_rnn": {"cell": linen_params(nn.SimpleCell(H))}},
        "forward_rnn is gru(hidden_size=4) and backward_rnn is elman(",
    ),
    "no_rnn": (nn.Bidirectional(RNN, nn.GRUCell(H)), BOTH, "backward_rnn is a GRUCell"),
    "rnn_of_rnn": (nn.RNN(RNN), {"cell": {}}, "RNN has no equal here"),
    "one_missing": (
        nn.Bidirectional(RNN, RNN.clone()),
        {"forward_rnn": BOTH["forward_rnn"]},
        "params holds forward_rnn; allowed: forward_rnn and backward_rnn",
    ),
    "variables": (RNN, {"params": {}}, "params holds params; allowed: cell"),
    "no_dict": (GRU, [1.0], "params is a list; allowed: a dict"),
    "missing": (GRU, gru_weights(hn__bias=None), "hn.bias is missing; allowed: ir.kernel, "),
    "unknown": (GRU, gru_weights(hr__bias=np.zeros(H)), "hr.bias is no weight of GRUCell"),
    "shape": (
        RNN,
        {"cell": gru_weights(hz__kernel=np.zeros((H, 5), np.float32))},
        "cell.hz.kernel has shape (4, 5); allowed: (4, 4), for gru(hidden_size=4)",
    ),
    "inputs": (
        GRU,
        gru_weights(iz__kernel=np.zeros((3, H), np.float32)),
        "iz.kernel has shape (3, 4); allowed: (8, 4)",
    ),
    "hidden_size": (nn.GRUCell(5), gru_weights(), "ir.kernel has shape (8, 4); allowed: (8, 5)"),
    "scalar": (GRU, gru_weights(ir__kernel=np.float32(1)), "ir.kernel has shape ()"),
    "dtypes": (GRU, gru_weights(in__bias=np.zeros(H)), "in.bias is float64 and"),
    "integers": (GRU, gru_weights(in__bias=np.zeros(H, int)), "in.bias is int64"),
}


@pytest.mark.parametrize(("module", "params", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_equal_here_is_refused_by_name(module, params, message):
    with raises_one_line(message):
        from_linen(module, params)


def test_nnx_modules_are_refused_by_name():
    def make(kind, **settings):
        return nnx.eval_shape(lambda: kind(I, H, rngs=nnx.Rngs(0), **settings))

    with raises_one_line("residual is True"):
        from_nnx(make(nnx.SimpleCell, residual=True))
    with raises_one_line("SimpleCell computes in float32 with weights in float64"):
        from_nnx(filled(lambda: nnx.SimpleCell(I, H, param_dtype=float, rngs=nnx.Rngs(0))))
    with raises_one_line("dense_h.kernel is ShapeDtypeStruct"):
        from_nnx(make(nnx.GRUCell))
    with raises_one_line("Linear has no equal here"):
        from_nnx(make(nnx.Linear))
    rnn = nnx.RNN(nnx_module("gru"))
    with raises_one_line("forward_rnn and backward_rnn are one module"):
        from_nnx(nnx.Bidirectional(rnn, rnn))
    rnn.cell.dense_i.bias.set_value(jnp.zeros(5))
    with raises_one_line("cell.dense_i.bias has shape (5,); allowed: (12,)"):
        from_nnx(rnn)


@pytest.mark.parametrize("to_flax", [to_linen, to_nnx])
def test_what_flax_has_not_is_refused_by_name(to_flax):
    params = drawn(jax.eval_shape(lambda: lstm(H).init(jax.random.key(0), I)))
    with raises_one_line("cell is sru; allowed for Flax: elman, lstm, gru"):
        to_flax(sru(H), params)
    with raises_one_line("lstm with held gates"):
        to_flax(hold_gates(lstm(H), forget=1.0), params)
    with raises_one_line("forward is LSTMParams; allowed: GRUParams"):
        to_flax(gru(H), params)
    with raises_one_line("bias has shape (3,); allowed: (16,)"):
        to_flax(lstm(H), params._replace(bias=params.bias[:3]))
    with raises_one_line("layer_1 holds backward; allowed: forward"):
        to_flax(lstm(H), {"backward": params})


def test_float64_is_kept_or_refused_where_jax_has_it_not():
    run_python("""
import numpy as np
from rnn_jax import elman
from rnn_jax.cells.elman import ElmanParams
from rnn_jax.interop.linen import from_linen, to_linen
from rnn_jax.interop.nnx import to_nnx
params = ElmanParams(np.full((2, 3), 0.1), np.eye(3), np.zeros(3))
_, back = from_linen(*to_linen(elman(3), params))
assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(back, params))
try:
    to_nnx(elman(3), params)
except ValueError as error:
    assert "params are float64 and JAX makes no such arrays" in str(error), error
else:
    raise AssertionError("taken as float32")
""")
