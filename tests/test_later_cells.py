"""What is known of IndRNN, minGRU, the leaky network, CIFG and the layer-normalized LSTM alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE
from helpers import layer_norm_lstm_step, tree_allclose

from rnn_jax import (
    cifg_lstm,
    elman,
    gradient_flow,
    hold_gates,
    indrnn,
    layer_norm_lstm,
    leaky_rnn,
    lstm,
    min_gru,
    step,
    unroll,
)
from rnn_jax.cells.elman import ElmanParams
from rnn_jax.cells.layer_norm_lstm import normalize
from rnn_jax.cells.lstm import LSTMParams

T, W = 7, 0.9


def read_last(carry, ys):
    return jnp.sum(carry[0]) + jnp.sum(jnp.sin(ys))


def all_of(cell, params, xs, carry):
    """Outputs, the last carry, and the logarithms of the gradient's norms."""
    settings = {"initial_carry": carry, "recurrent_weight": W}
    flow = gradient_flow(cell, params, xs, read_last, **settings)
    return *unroll(cell, params, xs, **settings), flow.log_carry_norm, flow.weight_share


def drawn(case, getkey):
    return case.params(getkey()), case.xs(getkey(), T, (2,)), case.carry(getkey(), (2,))


def test_an_indrnn_is_an_elman_network_with_a_diagonal(getkey):
    """And with one unit there is no difference at all."""
    params, xs, carry = drawn(CASE["indrnn"], getkey)
    of_elman = ElmanParams(params.kernel, jnp.diag(params.recurrent_vector), params.bias)
    expected = all_of(elman(3), of_elman, xs, carry)
    tree_allclose(all_of(indrnn(3, "tanh"), params, xs, carry), expected)


def test_a_leak_of_one_is_an_elman_network(getkey):
    arguments = drawn(CASE["leaky_rnn"], getkey)
    tree_allclose(all_of(leaky_rnn(3, leak=1.0), *arguments), all_of(elman(3), *arguments))


@pytest.mark.parametrize("leak", [0.05, 0.5])
def test_a_leaky_unit_relaxes_by_its_time_constant(leak):
    """Without products h_t - b = (1 - α)^t (h_0 - b), and dL/dh_t = (1 - α)^(T-t)."""
    cell = leaky_rnn(1, "identity", leak)
    params = ElmanParams(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.full(1, 3.0))
    carry = cell.initial_carry((), jnp.float64)._replace(hidden=jnp.ones(1))
    last, ys = unroll(cell, params, jnp.zeros((T, 1)), initial_carry=carry)
    times = np.arange(T + 1)
    tree_allclose(ys[:, 0], 3.0 - 2.0 * (1 - leak) ** times[1:])
    flow = gradient_flow(cell, params, jnp.zeros((T, 1)), lambda carry, ys: carry.hidden[0])
    tree_allclose(flow.carry_norm, (1 - leak) ** (T - times))


def test_a_min_gru_is_a_weighted_sum_of_its_candidates(getkey):
    """h_t = Π w(1 - z) h_0 + Σ_s (Π_{k>s} w(1 - z_k)) z_s n_s; its gradient is the same product."""
    case = CASE["min_gru"]
    params, xs, carry = drawn(case, getkey)
    ys = unroll(case.cell, params, xs, initial_carry=carry, recurrent_weight=W)[1]
    z, n = np.split(np.asarray(xs @ params.kernel + params.bias), 2, axis=-1)
    z = 1 / (1 + np.exp(-z))
    for t in range(1, T + 1):
        kept = [np.prod(W * (1 - z[s:t]), axis=0) for s in range(t + 1)]
        parts = [kept[s] * z[s - 1] * n[s - 1] for s in range(1, t + 1)]
        tree_allclose(ys[t - 1], kept[0] * np.asarray(carry.hidden) + sum(parts))
    flow = gradient_flow(
        case.cell, params, xs, lambda carry, ys: carry.hidden.sum(), recurrent_weight=W
    )
    kept = [np.prod(W * (1 - z[s:]), axis=0) for s in range(T + 1)]
    tree_allclose(flow.carry_norm, np.linalg.norm(kept, axis=-1))


@pytest.mark.parametrize("bias", [-1.0, 3.0])
def test_a_larger_forget_bias_of_a_min_gru_keeps_more(bias):
    """Of a state of 1, an input of zeros keeps σ(bias)."""
    cell = min_gru(1)
    params = cell.init(jax.random.key(0), 1, jnp.float64, forget_bias=bias)
    carry = cell.initial_carry((), jnp.float64)._replace(hidden=jnp.ones(1))
    tree_allclose(step(cell, params, carry, jnp.zeros(1))[1], 1 / (1 + np.exp(-np.full(1, bias))))


def test_a_cifg_is_an_lstm_whose_input_gate_mirrors_its_forget_gate(getkey):
    """1 - σ(a) = σ(-a): give the LSTM's input gate minus the parameters of the forget gate."""
    params, xs, carry = drawn(CASE["cifg_lstm"], getkey)
    mirrored = [jnp.concatenate([-leaf[..., :3], leaf], axis=-1) for leaf in params]
    expected = all_of(lstm(3), LSTMParams(*mirrored), xs, carry)
    tree_allclose(all_of(cifg_lstm(3), params, xs, carry), expected)
    held = [hold_gates(cifg_lstm(3), forget=0.7), hold_gates(lstm(3), forget=0.7, input=1 - 0.7)]
    expected = unroll(held[1], LSTMParams(*mirrored), xs, initial_carry=carry)
    tree_allclose(unroll(held[0], params, xs, initial_carry=carry), expected)


def test_a_layer_norm_sees_neither_the_size_of_w_or_R_nor_a_common_shift(getkey):
    """Ba et al., section 5.1: exact where epsilon is nothing. The sign of w does count."""
    cell = layer_norm_lstm(3, 1e-15)
    params, xs, carry = drawn(CASE["layer_norm_lstm"], getkey)

    def outputs(w, recurrent_kernel):
        changed = params._replace(recurrent_kernel=recurrent_kernel)
        return unroll(cell, changed, xs, initial_carry=carry, recurrent_weight=w)[1]

    kernel = params.recurrent_kernel
    plain = outputs(1.0, kernel)
    shifted = kernel + jnp.arange(3.0)[:, None]  # the same for all 12 entries of a product
    for w, changed in ((0.25, kernel), (4.0, kernel), (1.0, 100 * kernel), (1.0, shifted)):
        tree_allclose(outputs(w, changed), plain)
    assert np.abs(outputs(-1.0, kernel) - plain).max() > 0.01
    slope = jax.grad(lambda w: jnp.sum(outputs(w, kernel) ** 2))(1.0)
    assert abs(slope) < 1e-10


def test_a_layer_norm_of_nothing_is_finite(getkey):
    """No input and no state, one unit: a variance of 0, in float32, forwards and backwards."""
    for size in (1, 3):
        cell = layer_norm_lstm(size)
        params = cell.init(getkey(), 2, jnp.float32)
        xs = jnp.zeros((T, 2, 2), jnp.float32)
        gradients = jax.grad(lambda p, xs, c=cell: read_last(*unroll(c, p, xs)), (0, 1))(params, xs)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
        assert np.isfinite(gradient_flow(cell, params, xs, read_last).log_carry_norm).all()


def test_a_step_with_the_default_epsilon_is_the_equations(getkey):
    params, xs, carry = jax.tree.map(np.asarray, drawn(CASE["layer_norm_lstm"], getkey))
    none = jax.tree.map(np.zeros_like, carry)
    expected = layer_norm_lstm_step(1e-5)(np, params, carry, xs[0], W, none)
    tree_allclose(step(layer_norm_lstm(3), params, carry, xs[0], W), expected[:2], "step")


def test_a_layer_norm_is_taken_in_float32_at_least():
    """In float16 the square of 300 is inf; in bfloat16 a mean of 30 leaves two digits."""
    wide = np.array([300.0, -300.0, 100.0, -100.0])
    found = normalize(jnp.asarray(wide, jnp.float16), 1e-5)
    assert found.dtype == jnp.float16
    np.testing.assert_array_equal(found, jnp.asarray(wide / wide.std(), jnp.float16))
    shifted = 30 + np.array([-1.5, -0.5, 0.5, 1.5])  # exact in bfloat16
    found = normalize(jnp.asarray(shifted, jnp.bfloat16), 1e-5)
    expected = (shifted - 30) / np.sqrt(shifted.var() + 1e-5)
    np.testing.assert_array_equal(found, jnp.asarray(expected, jnp.bfloat16))
