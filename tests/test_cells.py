"""Every cell by itself: its equations, shapes, dtypes, the tap, initializers and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE, every_step
from helpers import TOLERANCES, raises_one_line, tree_allclose

from rnn_jax import (
    CELLS,
    cifg_lstm,
    elman,
    gru,
    indrnn,
    layer_norm_lstm,
    leaky_rnn,
    lstm,
    min_gru,
    param_count,
    sru,
    step,
)
from rnn_jax.cells import initializers
from rnn_jax.cells.initializers import chrono, gaussian, identity, orthogonal, uniform

DTYPES = [jnp.float32, jnp.float64, jnp.bfloat16]
every_factory = pytest.mark.parametrize("factory", CELLS.values(), ids=CELLS)


@every_step
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_step_is_the_equations(case, batch, getkey):
    """State, output and every gate by name, against numpy; w scales the recurrent product."""
    params, carry = case.params(getkey()), case.carry(getkey(), batch)
    x = case.xs(getkey(), 1, batch)[0]
    for w in (0.0, 1.0, -1.7):
        found = step(case.cell, params, carry, x, w)
        numpy = jax.tree.map(np.asarray, (params, carry, x))
        expected = case.step(np, *numpy, w, jax.tree.map(np.zeros_like, numpy[1]))
        tree_allclose(found, expected[:2], "step")
        assert found[1].shape == (*batch, case.cell.hidden_size)

        drive = jax.tree.map(lambda a: a[0], case.cell.project_inputs(params, x[None]))
        gates = case.cell.gates(drive, case.cell.project_carry(params, carry, jnp.asarray(w)))
        tree_allclose(gates._asdict(), expected[2], "step")


@every_step
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_is_kept(case, dtype, getkey):
    """By parameters, carry, output and gates, under x64 too; whatever type w has."""
    cell = case.cell
    params = cell.init(getkey(), case.input_size, dtype)
    carry, xs = cell.initial_carry((5,), dtype), case.xs(getkey(), 1, (5,), dtype)
    drive = jax.tree.map(lambda a: a[0], cell.project_inputs(params, xs))
    gates = cell.gates(drive, cell.project_carry(params, carry, jnp.asarray(0.5, dtype)))
    results = [params, carry, gates]
    results += [step(cell, params, carry, xs[0], w) for w in (2, 0.5, np.float64(0.5))]
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {jnp.dtype(dtype)}


def test_float32_is_the_default():
    for factory in CELLS.values():
        cell = factory(3)
        leaves = jax.tree.leaves((cell.init(jax.random.key(0), 2), cell.initial_carry((4,))))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@every_step
def test_the_initial_carry_is_zero(case):
    for batch in ((), (5,), (2, 3)):
        for leaf in case.cell.initial_carry(batch):
            assert leaf.shape == (*batch, case.cell.hidden_size)
            assert np.all(np.asarray(leaf) == 0)


@pytest.mark.parametrize(
    ("factory", "count"),
    [
        (elman, lambda d: 2 * d**2 + d),
        (lstm, lambda d: 8 * d**2 + 4 * d),
        (gru, lambda d: 6 * d**2 + 6 * d),
        (sru, lambda d: 3 * d**2 + 4 * d),
        (indrnn, lambda d: d**2 + 2 * d),
        (min_gru, lambda d: 2 * d**2 + 2 * d),
        (leaky_rnn, lambda d: 2 * d**2 + d),
        (cifg_lstm, lambda d: 6 * d**2 + 3 * d),
        (layer_norm_lstm, lambda d: 8 * d**2 + 12 * d),
    ],
)
def test_parameter_counts(factory, count):
    """Those of the papers, I = H = d; an SRU with I ≠ H projects its skip term too."""
    for d in (1, 7):
        assert param_count(factory(d).init(jax.random.key(0), d)) == count(d)
    assert param_count(sru(7).init(jax.random.key(0), 5)) == 4 * 5 * 7 + 4 * 7


@every_factory
def test_factories_are_cached(factory):
    """Equal arguments, however written, give the same object, so nothing compiles again."""
    assert factory(5) is factory(hidden_size=5)
    assert factory(5) is not factory(6)
    assert hash(factory(5)) == hash(factory(5))
    assert factory(5).hidden_size == 5
    assert CELLS[factory(5).name] is factory
    assert elman(5) is elman(5, "tanh") is elman(activation="tanh", hidden_size=5)
    assert elman(5) is not elman(5, "relu")
    assert leaky_rnn(5, leak=0.2) is leaky_rnn(5) is not leaky_rnn(5, leak=0.3)
    assert dict(leaky_rnn(5).arguments) == {"hidden_size": 5, "activation": "tanh", "leak": 0.2}


@every_step
def test_project_carry_is_affine_and_w_scales_its_linear_part(case, getkey):
    """P(c, w) = w L(c) + P(0, w), with L linear and P(0, w) free of w: the adjoint needs it."""
    params = case.params(getkey())
    a, b, zero = case.carry(getkey(), (5,)), case.carry(getkey(), (5,)), case.carry(getkey(), (5,))
    zero = jax.tree.map(jnp.zeros_like, zero)

    def linear(carry, w):
        projected, constant = (
            case.cell.project_carry(params, c, jnp.asarray(w)) for c in (carry, zero)
        )
        return jax.tree.map(jnp.subtract, projected, constant)

    combined = jax.tree.map(lambda a, b: 2.0 * a - 3.0 * b, a, b)
    of_a, of_b = linear(a, 1.0), linear(b, 1.0)
    tree_allclose(linear(combined, 1.0), jax.tree.map(lambda a, b: 2.0 * a - 3.0 * b, of_a, of_b))
    tree_allclose(linear(a, -1.7), jax.tree.map(lambda a: -1.7 * a, of_a))
    constants = [case.cell.project_carry(params, zero, jnp.asarray(w)) for w in (0.3, 2.0)]
    tree_allclose(*constants)


# The tap


def tap_jacobian(case, getkey):
    """d(new carry, output) / d(tap), by leaves; and the gates of the step."""
    cell, params, carry = case.cell, case.params(getkey()), case.carry(getkey(), ())
    xs = case.xs(getkey(), 1, ())
    drive = jax.tree.map(lambda a: a[0], cell.project_inputs(params, xs))
    gates = cell.gates(drive, cell.project_carry(params, carry, jnp.asarray(0.9)))
    tap = cell.initial_carry((), jnp.float64)
    new_carry, _ = cell.update(carry, gates, tap)
    return jax.jacfwd(lambda tap: cell.update(carry, gates, tap))(tap), new_carry, gates


@every_step
def test_the_tap_moves_its_own_leaf_one_to_one(case, getkey):
    """A leaf's gradient by its own tap is the identity; a forgotten tap would measure nothing."""
    (by_tap, _), _, _ = tap_jacobian(case, getkey)
    for name in by_tap._fields:
        own = getattr(getattr(by_tap, name), name)
        tree_allclose(own, np.eye(case.cell.hidden_size))


def test_the_taps_of_lstm_reach_what_reads_the_state(getkey):
    """The cell's tap moves hidden and output by o (1 - tanh² c); hidden's moves no cell."""
    (by_tap, output), carry, gates = tap_jacobian(CASE["lstm"], getkey)
    through = np.diag(np.asarray(gates.output) * (1 - np.tanh(np.asarray(carry.cell)) ** 2))
    tree_allclose(by_tap.hidden.cell, through)
    tree_allclose(output, type(carry)(hidden=np.eye(3), cell=through))
    assert np.all(np.asarray(by_tap.cell.hidden) == 0)


@pytest.mark.parametrize("name", ["elman_tanh", "elman_relu", "gru"])
def test_the_tap_of_hidden_reaches_the_output(name, getkey):
    (_, output), _, _ = tap_jacobian(CASE[name], getkey)
    tree_allclose(output.hidden, np.eye(3))


@pytest.mark.parametrize("name", ["sru", "sru_projected_skip"])
def test_the_tap_of_sru_reaches_the_output_through_the_reset_gate(name, getkey):
    (_, output), _, gates = tap_jacobian(CASE[name], getkey)
    tree_allclose(output.cell, np.diag(np.asarray(gates.reset)))


@every_step
def test_forward_mode_works_through_step(case, getkey):
    """jacfwd by carry and w equals jacrev of the numpy-style equations."""
    params, carry = case.params(getkey()), case.carry(getkey(), ())
    x = case.xs(getkey(), 1, ())[0]
    tap = jax.tree.map(jnp.zeros_like, carry)

    def both(carry, w):
        ours = jax.jacfwd(lambda c, w: step(case.cell, params, c, x, w), argnums=(0, 1))
        oracle = jax.jacrev(lambda c, w: case.step(jnp, params, c, x, w, tap)[:2], argnums=(0, 1))
        return ours(carry, w), oracle(carry, w)

    tree_allclose(*jax.jit(both)(carry, jnp.float64(0.9)))


# Initializers


def blocks(matrix, size=8):
    """The gates' matrices, which stand side by side."""
    return [np.asarray(matrix)[:, k : k + size] for k in range(0, matrix.shape[-1], size)]


@pytest.mark.parametrize(("factory", "count"), [
    *[(elman, 1), (lstm, 4), (gru, 3)],
    *[(leaky_rnn, 1), (cifg_lstm, 3), (layer_norm_lstm, 4)],
])  # fmt: skip
def test_every_gate_has_an_orthogonal_matrix_of_its_own(factory, count, getkey):
    """By default, and times the gain."""
    for gain, keywords in ((1.0, {}), (1.5, {"recurrent_init": orthogonal(1.5)})):
        params = factory(8).init(getkey(), 3, jnp.float64, **keywords)
        matrices = blocks(params.recurrent_kernel)
        assert len(matrices) == count
        for matrix in matrices:
            tree_allclose(matrix.T @ matrix, gain**2 * np.eye(8))
        assert all(not np.allclose(matrices[0], other) for other in matrices[1:])


@pytest.mark.parametrize(("factory", "count"), [(sru, 2), (indrnn, 1)])
def test_vectors_are_drawn_as_matrices_of_one_entry(factory, count, getkey):
    """An orthogonal one is ±gain, with both signs; an identity is the gain."""
    cell = factory(128 // count)
    params = cell.init(getkey(), 3, jnp.float64, recurrent_init=orthogonal(1.5))
    vector = np.asarray(params.recurrent_vector)
    tree_allclose(np.abs(vector), np.full(128, 1.5))
    assert 30 < np.sum(vector > 0) < 98
    params = cell.init(getkey(), 3, jnp.float64, recurrent_init=identity(0.5))
    tree_allclose(params.recurrent_vector, np.full(128, 0.5))


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_gaussian_has_variance_gain_squared_over_fan_in(gain, getkey):
    """To five standard errors; fan_in is the number of rows."""
    matrix = np.asarray(gaussian(gain)(getkey(), (50, 2000), jnp.float64))
    standard_error = np.sqrt(2 / matrix.size)
    assert abs(matrix.var() * 50 / gain**2 - 1) < 5 * standard_error
    assert abs(matrix.mean()) < 5 * gain / np.sqrt(50 * matrix.size)


def test_identity(getkey):
    tree_allclose(identity(0.7)(getkey(), (4, 4), jnp.float64), 0.7 * np.eye(4))
    params = lstm(4).init(getkey(), 2, jnp.float64, recurrent_init=identity())
    tree_allclose(params.recurrent_kernel, np.tile(np.eye(4), 4))


def test_uniform_fills_its_bounds(getkey):
    """± scale / sqrt(fan_in), with the variance of a uniform law."""
    matrix = np.asarray(uniform(2.0)(getkey(), (25, 4000), jnp.float64))
    bound = 2.0 / 5
    assert matrix.min() < -0.999 * bound and matrix.max() > 0.999 * bound
    assert np.abs(matrix).max() <= bound
    assert abs(matrix.var() * 3 / bound**2 - 1) < 0.02


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [1.5, np.float64(1.5), np.float32(1.5)], ids=repr)
def test_initializers_keep_the_dtype(dtype, gain, getkey):
    """Whatever type the gain has: a sweep over gains passes numpy scalars."""
    for make in (orthogonal, gaussian, identity, uniform):
        assert make(gain)(getkey(), (4, 4), dtype).dtype == dtype
    assert chrono(100 * gain)(getkey(), (4,), dtype).dtype == dtype


def test_biases_are_zero_but_for_the_forget_gate(getkey):
    """LSTM: 1 in the forget gate's block (i, f, g, o), or what forget_bias says."""
    zeros, ones = np.zeros(4), np.ones(4)
    bias = lstm(4).init(getkey(), 2, jnp.float64).bias
    tree_allclose(bias, np.concatenate([zeros, ones, zeros, zeros]))
    bias = lstm(4).init(getkey(), 2, jnp.float64, forget_bias=-2.5).bias
    tree_allclose(bias, np.concatenate([zeros, -2.5 * ones, zeros, zeros]))
    params = gru(4).init(getkey(), 2, jnp.float64, update_bias=2.0)
    tree_allclose(params.bias, np.concatenate([zeros, 2.0 * ones, zeros]))
    tree_allclose(params.recurrent_bias, np.zeros(12))
    bias = sru(4).init(getkey(), 2, jnp.float64, forget_bias=2.0).bias
    tree_allclose(bias, np.concatenate([2.0 * ones, zeros]))
    bias = min_gru(4).init(getkey(), 2, jnp.float64, forget_bias=2.0).bias
    tree_allclose(bias, np.concatenate([-2.0 * ones, zeros]))  # z = 0 keeps the state
    bias = cifg_lstm(4).init(getkey(), 2, jnp.float64).bias
    tree_allclose(bias, np.concatenate([ones, zeros, zeros]))
    params = layer_norm_lstm(4).init(getkey(), 2, jnp.float64)
    tree_allclose(params.bias, np.concatenate([zeros, ones, zeros, zeros]))
    tree_allclose((params.input_scale, params.recurrent_scale), (np.ones(16), np.ones(16)))
    for factory in (elman, gru, sru, indrnn, min_gru, leaky_rnn):
        assert np.all(np.asarray(factory(4).init(getkey(), 2).bias) == 0)


@pytest.mark.parametrize("kind", [int, float, np.float32, np.float64, jnp.float32])
def test_a_memory_gate_bias_is_any_number(kind, getkey):
    """A Python, numpy or JAX scalar, in the dtype that was asked for."""
    for cell, keyword, block in (
        (lstm(4), "forget_bias", slice(4, 8)),
        (gru(4), "update_bias", slice(4, 8)),
        (sru(4), "forget_bias", slice(0, 4)),
        (cifg_lstm(4), "forget_bias", slice(0, 4)),
        (layer_norm_lstm(4), "forget_bias", slice(4, 8)),
    ):
        bias = cell.init(getkey(), 2, jnp.float32, **{keyword: kind(2)}).bias
        assert bias.dtype == jnp.float32
        tree_allclose(bias[block], np.full(4, 2.0))


def test_chrono_spreads_the_time_scales(getkey):
    """exp(b_f) is uniform on [1, T_max - 1]; the LSTM's b_i is its negative."""
    i, f, g, o = np.split(np.asarray(lstm(4000).init(getkey(), 1, jnp.float64, **CHRONO).bias), 4)
    scales = np.exp(f)
    assert scales.min() >= 1 and scales.max() <= 99
    quantiles = np.quantile(scales, [0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(quantiles, [1.0, 25.5, 50.0, 74.5, 99.0], atol=4.0)
    tree_allclose(i, -f)
    assert np.all(g == 0) and np.all(o == 0)
    update = gru(50).init(getkey(), 2, jnp.float64, update_bias=chrono(100)).bias[50:100]
    forget = sru(50).init(getkey(), 2, jnp.float64, forget_bias=chrono(100)).bias[:50]
    coupled = cifg_lstm(50).init(getkey(), 2, jnp.float64, forget_bias=chrono(100)).bias[:50]
    kept = -min_gru(50).init(getkey(), 2, jnp.float64, forget_bias=chrono(100)).bias[:50]
    for bias in (update, forget, coupled, kept):
        assert np.all((np.asarray(bias) >= 0) & (np.asarray(bias) <= np.log(99)))
        assert len(np.unique(bias)) == 50


# A recurrent matrix of 4000 x 16000 entries is not what that test is about.
CHRONO = {"forget_bias": chrono(100), "recurrent_init": initializers.zeros}


@every_step
def test_initializers_are_arguments_of_init(case, getkey):
    """Each reaches its own parameters and no other."""
    half = jax.nn.initializers.constant(0.5)
    for keyword, field in (
        ("kernel_init", "kernel"),
        ("recurrent_init", "recurrent"),
        ("bias_init", "bias"),
    ):
        key = getkey()
        plain = case.cell.init(key, case.input_size, jnp.float64)
        params = case.cell.init(key, case.input_size, jnp.float64, **{keyword: half})
        for name, leaf, other in zip(params._fields, params, plain, strict=True):
            is_bias = name.endswith("bias")
            is_drawn = name.startswith(field) and not name.endswith(("bias", "scale"))
            if is_bias if field == "bias" else is_drawn:
                tree_allclose(leaf, np.asarray(other) * is_bias + 0.5)
            else:
                tree_allclose(leaf, other)


def test_another_key_gives_other_parameters(getkey):
    for factory in CELLS.values():
        key = getkey()
        first, again, other = (factory(4).init(k, 2, jnp.float64) for k in (key, key, getkey()))
        tree_allclose(first, again)
        assert not np.allclose(first.kernel, other.kernel)


# Errors


@every_factory
@pytest.mark.parametrize("size", [0, -3, True, 1.5, 4.0, "8", None])
def test_a_bad_hidden_size_is_named_in_one_line(factory, size):
    with raises_one_line("hidden_size", repr(size), "whole number"):
        factory(size)


def test_an_unknown_activation_is_named_in_one_line():
    for factory in (elman, indrnn, leaky_rnn):
        with raises_one_line("activation", "'swish'", "tanh", "relu", "sigmoid", "identity"):
            factory(3, "swish")
    with raises_one_line("activation", "['tanh']"):
        elman(3, activation=["tanh"])


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5, float("nan"), "0.5"])
def test_a_leak_or_epsilon_that_cannot_be_is_named_in_one_line(bad):
    with raises_one_line(f"leak is {bad!r}", "above 0, up to 1"):
        leaky_rnn(3, leak=bad)
    bad = float("inf") if bad == 1.5 else bad
    with raises_one_line(f"epsilon is {bad!r}", "above 0"):
        layer_norm_lstm(3, bad)


@pytest.mark.parametrize("max_steps", [1, 2, -5.0, float("nan")])
def test_a_bad_time_scale_is_named_in_one_line(max_steps):
    with raises_one_line("max_steps", repr(max_steps), "2"):
        chrono(max_steps)


# The comparison itself


def test_the_comparison_fails_where_it_should():
    """It names the leaf and the deviation, and sees nan, shapes and structures."""
    tolerance = TOLERANCES[jax.default_backend(), "float64"].sequence
    good = CASE["lstm"].cell.initial_carry((2,), jnp.float64)
    off = good._replace(cell=good.cell.at[1, 2].set(3 * tolerance))
    with pytest.raises(AssertionError, match=r"\.cell: 1 of 6 .*\(1, 2\)"):
        tree_allclose(off, good)
    tree_allclose(good._replace(cell=good.cell.at[1, 2].set(tolerance / 3)), good)
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(AssertionError, match=r"\.hidden"):
            tree_allclose(good._replace(hidden=good.hidden.at[0, 0].set(bad)), good)
    with pytest.raises(AssertionError, match="shape"):
        tree_allclose(good._replace(cell=good.cell[0]), good)
    with pytest.raises(AssertionError):
        tree_allclose(good, tuple(good))
