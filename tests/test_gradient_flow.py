"""``gradient_flow``: closed forms, an explicit loop, and the ranges where float32 would fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE, LENGTHS, every_case, one_case_a_cell, with_options
from helpers import loop_unroll, raises_one_line, tree_allclose

from rnn_jax import GradientFlow, elman, gate_values, gradient_flow, hold_gates, lstm, unroll
from rnn_jax.cells import initializers

T = 6


# Closed forms, float64


def scalar_unit(activation, dtype=jnp.float64):
    """One unit with R = 1: h_t = f(w h_{t-1} + z_t)."""
    cell = elman(1, activation)
    one = initializers.identity()
    return cell, cell.init(jax.random.key(0), 1, dtype, kernel_init=one, recurrent_init=one)


def last_hidden(carry, ys):
    return carry.hidden.sum()


def hidden(cell, value):
    """A carry whose hidden state is ``value``."""
    return cell.initial_carry(())._replace(hidden=jnp.asarray(value))


def flow_from(cell, params, xs, start, w, loss=last_hidden):
    """``gradient_flow`` from a hidden state ``start``, at the weight w."""
    return gradient_flow(
        cell, params, xs, loss, initial_carry=hidden(cell, start), recurrent_weight=w
    )


@pytest.mark.parametrize("w", [0.5, 1.0, 1.5, -0.8])
def test_scalar_linear_unit(w):
    """dh_T/dh_t = w^(T-t); each step's share of dh_T/dw is h_0 w^(T-1), T of them in all."""
    cell, params = scalar_unit("identity")
    flow = flow_from(cell, params, jnp.zeros((20, 1)), [0.3], w)
    powers = np.abs(w) ** np.arange(20, -1, -1)
    tree_allclose(flow.loss, np.float64(0.3 * w**20))
    tree_allclose(flow.log_carry_norm, np.log(powers))
    tree_allclose(flow.carry_norm, powers)
    tree_allclose(flow.weight_share, np.full(20, 0.3 * w**19))
    tree_allclose(flow.weight_share.sum(), np.float64(20 * 0.3 * w**19))


@pytest.mark.parametrize("w", [0.5, 1.5, -2.5])
def test_scalar_tanh_unit(w, getkey):
    """dh_T/dh_t is the product of w (1 - h_s²) over the later steps."""
    cell, params = scalar_unit("tanh")
    z = jax.random.normal(getkey(), (20, 1))
    h = [0.3]
    for z_t in np.asarray(z)[:, 0]:
        h.append(np.tanh(w * h[-1] + z_t))
    factors = w * (1 - np.array(h[1:]) ** 2)
    expected = [np.log(np.abs(np.prod(factors[t:]))) for t in range(21)]
    flow = flow_from(cell, params, z, [0.3], w)
    tree_allclose(flow.log_carry_norm, np.array(expected))


@pytest.mark.parametrize("w", [0.5, 1.5])
def test_scalar_tanh_unit_near_zero_is_linear(w):
    cell, params = scalar_unit("tanh")
    flow = flow_from(cell, params, jnp.zeros((20, 1)), [1e-12], w)
    tree_allclose(flow.log_carry_norm, np.arange(20, -1, -1) * np.log(w))


def orthogonal_linear(size, dtype=jnp.float64):
    """A linear Elman network with orthogonal R and no input, whose gradient is known exactly."""
    cell = elman(size, "identity")
    return cell, cell.init(jax.random.key(1), 1, dtype)


@pytest.mark.parametrize("w", [0.5, 1.5])
def test_linear_network_with_orthogonal_matrix(w, getkey):
    """The norm at t is w^(T-t) times the one at T."""
    cell, params = orthogonal_linear(8)
    weights = jax.random.normal(getkey(), (3, 8))
    flow = gradient_flow(
        cell,
        params,
        jax.random.normal(getkey(), (20, 3, 1)),
        lambda carry, ys: jnp.vdot(weights, carry.hidden),
        recurrent_weight=w,
    )
    at_end = np.log(np.linalg.norm(weights, axis=-1))
    tree_allclose(flow.log_carry_norm, np.arange(20, -1, -1)[:, None] * np.log(w) + at_end)


@pytest.mark.parametrize("forget", [1.0, 0.8])
@pytest.mark.parametrize("made_by", ["bias", "hold_gates"])
def test_constant_error_carousel(forget, made_by, getkey):
    """LSTM with constant f and recurrent kernel 0: dc_T/dc_t = f^(T-t), constant where f = 1."""
    cell = lstm(4)
    params = CASE["lstm"]._replace(cell=cell).params(getkey())
    params = params._replace(recurrent_kernel=jnp.zeros_like(params.recurrent_kernel))
    if made_by == "hold_gates":
        cell = hold_gates(cell, forget=forget)
    else:
        bias = 100.0 if forget == 1.0 else np.log(forget / (1 - forget))
        params = params._replace(
            kernel=params.kernel.at[:, 4:8].set(0.0), bias=params.bias.at[4:8].set(bias)
        )
    weights = jax.random.normal(getkey(), (3, 4))
    flow = gradient_flow(
        cell,
        params,
        jax.random.normal(getkey(), (20, 3, 2)),
        lambda carry, ys: jnp.vdot(weights, carry.cell),
        initial_carry=CASE["lstm"]._replace(cell=cell).carry(getkey(), (3,)),
    )
    at_end = np.log(np.linalg.norm(weights, axis=-1))
    expected = np.arange(20, -1, -1)[:, None] * np.log(forget) + at_end
    tree_allclose(flow.leaf_log_norms.cell, expected, "step")
    assert np.all(np.asarray(flow.leaf_log_norms.hidden) == -np.inf)
    assert np.all(np.asarray(flow.weight_share) == 0)


@pytest.mark.parametrize(("activation", "gamma"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_gradient_must_vanish_below_the_bound(activation, gamma, getkey):
    """σ_max(wR) < 1/γ: every step back shrinks the norm by at least γ σ_max (Pascanu et al.)."""
    cell = elman(8, activation)
    params = cell.init(getkey(), 2, jnp.float64, recurrent_init=initializers.gaussian())
    w = 0.95 / gamma / np.linalg.norm(params.recurrent_kernel, 2)
    weights = jax.random.normal(getkey(), (3, 8))
    flow = gradient_flow(
        cell,
        params,
        jax.random.normal(getkey(), (30, 3, 2)),
        lambda carry, ys: jnp.vdot(weights, carry.hidden),
        recurrent_weight=w,
    )
    assert np.all(np.diff(flow.log_carry_norm, axis=0) >= -np.log(0.95))


# Every cell against an explicit loop, float64


def loss_of_carry(carry, ys):
    return sum(jnp.sum(jnp.cos(3.0 * leaf) + leaf**2) for leaf in carry)


def loss_of_outputs(carry, ys):
    times = jnp.arange(1.0, 1 + len(ys)).reshape(-1, *[1] * (ys.ndim - 1))
    return jnp.sum(jnp.sin(times + ys)) + jnp.sum(ys**2)


def loss_of_both(carry, ys):
    return loss_of_carry(carry, ys) * loss_of_outputs(carry, ys)


def log_norms(carry_grad):
    """ln of the norms over all leaves and leaf by leaf, by numpy."""
    squares = jax.tree.map(lambda a: np.sum(np.square(a), axis=-1), carry_grad)
    with np.errstate(divide="ignore"):
        return 0.5 * np.log(sum(squares)), jax.tree.map(lambda a: 0.5 * np.log(a), squares)


def flow_of_loop(case, params, xs, loss, carry, seq_lengths, w):
    """Perturb the state, and w, of every step of a Python loop; differentiate; take norms."""
    num_steps, *batch, _ = xs.shape

    def perturbed(carry, tap, weights):
        result = loop_unroll(case.step, params, carry, xs, lengths=seq_lengths, w=weights, tap=tap)
        return loss(*result)

    loss, weights = jax.jit(loss), jnp.full((num_steps, *batch), w)
    value, (first, later, share) = jax.value_and_grad(perturbed, argnums=(0, 1, 2))(
        carry, case.zero_tap(num_steps, tuple(batch)), weights
    )
    norms, leaf_norms = log_norms(
        jax.tree.map(lambda a, b: np.concatenate([a[None], b]), first, later)
    )
    times = np.arange(num_steps + 1).reshape(-1, *[1] * len(batch))
    is_past = times > (num_steps if seq_lengths is None else seq_lengths)
    is_past = np.broadcast_to(is_past, norms.shape)
    norms, leaf_norms = jax.tree.map(lambda a: np.where(is_past, np.nan, a), (norms, leaf_norms))
    share = np.where(is_past[1:], np.nan, share)
    with np.errstate(divide="ignore"):
        return GradientFlow(value, norms, leaf_norms, np.log(np.abs(share)), np.sign(share))


FLOWS = [  # loss, batch shape, lengths
    (loss_of_both, (3,), True),
    (loss_of_carry, (3,), True),
    (loss_of_outputs, (), True),
    (loss_of_carry, (), False),
    (loss_of_carry, (2, 2), False),
    (loss_of_outputs, (3,), False),
    (loss_of_outputs, (2, 2), True),
]


@with_options("settings", FLOWS, few=2)
def test_flow_is_that_of_a_perturbed_loop(case, settings, getkey):
    """Norms by leaf and in all, shares of dL/dw by step and sequence, nan past a length."""
    loss, batch, has_lengths = settings
    params, carry = case.params(getkey()), case.carry(getkey(), batch)
    xs = case.xs(getkey(), T, batch)
    seq_lengths = LENGTHS[batch] if has_lengths else None
    flow = gradient_flow(
        case.cell,
        params,
        xs,
        loss,
        initial_carry=carry,
        seq_lengths=seq_lengths,
        recurrent_weight=0.9,
    )
    tree_allclose(flow, flow_of_loop(case, params, xs, loss, carry, seq_lengths, 0.9))


@one_case_a_cell
def test_a_reset_ends_the_flow_and_is_in_the_gates(case, getkey):
    """Before a reset the gradient of a loss of the last state is 0; after it, as begun there."""
    params, carry = case.params(getkey()), case.carry(getkey(), (2,))
    xs, resets = case.xs(getkey(), T, (2,)), np.zeros((T, 2), bool)
    resets[3, 1] = True
    flow = gradient_flow(case.cell, params, xs, loss_of_carry, initial_carry=carry, resets=resets)
    alone = jax.tree.map(lambda a: a[:1], carry)
    first = gradient_flow(case.cell, params, xs[:, :1], loss_of_carry, initial_carry=alone)
    second = gradient_flow(case.cell, params, xs[3:, 1:], loss_of_carry)
    tree_allclose(flow.log_carry_norm[:, 0], first.log_carry_norm[:, 0])
    tree_allclose(flow.log_carry_norm[4:, 1], second.log_carry_norm[1:, 0])
    assert np.all(flow.log_carry_norm[:4, 1] == -np.inf)
    gates = gate_values(case.cell, params, xs, initial_carry=carry, resets=resets)
    begun = gate_values(case.cell, params, xs[3:, 1:])
    tree_allclose(jax.tree.map(lambda a: a[3:, 1:], gates), begun)


@every_case
def test_flow_is_the_gradient_of_the_tap(case, getkey):
    """Norms of unroll's gradient by carry_tap and initial_carry; shares sum to dL/dw."""
    params, carry = case.params(getkey()), case.carry(getkey(), (3,))
    xs = case.xs(getkey(), T, (3,))

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def gradient(carry, tap, w):
        return loss_of_both(
            *unroll(case.cell, params, xs, initial_carry=carry, carry_tap=tap, recurrent_weight=w)
        )

    first, later, weight_grad = gradient(carry, case.zero_tap(T, (3,)), 0.9)
    flow = gradient_flow(
        case.cell, params, xs, loss_of_both, initial_carry=carry, recurrent_weight=0.9
    )
    stacked = jax.tree.map(lambda a, b: np.concatenate([a[None], b]), first, later)
    tree_allclose((flow.log_carry_norm, flow.leaf_log_norms), log_norms(stacked))
    tree_allclose(flow.weight_share.sum(), weight_grad)


@one_case_a_cell
def test_padding_reaches_nothing(case, getkey):
    """NaN inputs there change no number; nor does a loss whose gradient there is not finite."""

    def loss(carry, ys):
        root = jnp.sum(jnp.sqrt(jnp.sum(ys**2, axis=-1)))  # its gradient at zero is nan
        return root + loss_of_carry(carry, ys)

    params, carry = case.params(getkey()), case.carry(getkey(), (3,))
    seq_lengths = LENGTHS[3,]
    xs = case.xs(getkey(), T, (3,))
    is_past = np.arange(T)[:, None] >= seq_lengths
    expected = flow_of_loop(case, params, xs, loss, carry, seq_lengths, 0.9)

    def measured(flow):  # shares as numbers: the logarithm of a small sum has few digits
        return flow.loss, flow.log_carry_norm, flow.leaf_log_norms, flow.weight_share

    for dtype in (jnp.float64, jnp.float32):
        flow = gradient_flow(
            case.cell,
            *jax.tree.map(
                lambda a, dtype=dtype: a.astype(dtype),
                (params, jnp.where(is_past[..., None], jnp.nan, xs)),
            ),
            loss,
            initial_carry=jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), carry),
            seq_lengths=seq_lengths,
            recurrent_weight=0.9,
        )
        tree_allclose(measured(flow), measured(expected))


# Range: where a plain float32 adjoint would be 0 or inf


def log_norm(a):
    """ln of the norm along the last axis, without squaring out of range."""
    largest = np.abs(a).max(axis=-1, keepdims=True)
    return np.log(largest[..., 0]) + np.log(np.linalg.norm(a / largest, axis=-1))


def orthogonal_adjoint(params, output_grads, w):
    """Norms of a linear network's adjoint, t = 0..T, by a float64 loop over dL/dy_t."""
    matrix = np.asarray(params.recurrent_kernel, np.float64)
    adjoint, logs = np.zeros(output_grads.shape[1:]), []
    for output_grad in np.asarray(output_grads, np.float64)[::-1]:
        adjoint = adjoint + output_grad
        logs.append(log_norm(adjoint))
        adjoint = np.float64(w) * adjoint @ matrix.T
    return np.stack([*logs, log_norm(adjoint)])[::-1]


@functools.cache
def orthogonal_flow(num_steps, dtype):
    """(w, weights of the outputs [T, 2, 16]) -> norms of the linear network's flow, compiled."""
    cell, params = orthogonal_linear(16, dtype)

    def run(w, weights):
        def loss(carry, ys):
            return jnp.vdot(weights, ys)

        xs = jnp.zeros((num_steps, 2, 1), dtype)
        return gradient_flow(cell, params, xs, loss, recurrent_weight=w).log_carry_norm

    return params, jax.jit(run)


@pytest.mark.parametrize(("w", "state"), [(0.5, 0.0), (0.5, 1e-3), (1.5, 0.0)])
def test_thousand_steps_in_float32_have_the_right_slope(w, state):
    """Every logarithm is finite; the slope is ln w to 1e-5."""
    cell, params = orthogonal_linear(16, jnp.float32)
    start = jnp.full((2, 16), state, jnp.float32)
    flow = flow_from(cell, params, jnp.zeros((1000, 2, 1), jnp.float32), start, w)
    logs = np.asarray(flow.log_carry_norm, np.float64)
    assert np.isfinite(logs).all()
    slopes = np.polyfit(np.arange(1000, -1, -1), logs, 1)[0]
    np.testing.assert_allclose(slopes, np.log(w), atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.diff(logs, axis=0), -np.log(w), atol=1e-4, rtol=0)


@pytest.mark.parametrize("read", ["every output", "few outputs"])
@pytest.mark.parametrize(
    ("w", "num_steps"), [(0.01, 180), (0.5, 1000), (1.0, 1000), (1.5, 1000), (30.0, 180)]
)
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30, 1e36])
def test_a_loss_of_outputs_keeps_its_range_in_float32(read, w, num_steps, scale, getkey):
    """Logarithms are those of a float64 loop, far below 2^-126 and far above 2^127.

    Outputs read at a few steps add to an adjoint that has vanished, or exploded, since.
    The scale of the loss shifts all logarithms by its own.
    """
    weights = jax.random.normal(getkey(), (num_steps, 2, 16), jnp.float32) * jnp.float32(scale)
    if read == "few outputs":
        is_read = np.isin(np.arange(1, num_steps + 1), [num_steps // 9, num_steps // 2, num_steps])
        weights = jnp.where(is_read[:, None, None], weights, 0)
    params, flow = orthogonal_flow(num_steps, jnp.float32)
    w = np.float32(w)
    tree_allclose(flow(w, weights), orthogonal_adjoint(params, weights, w))


@one_case_a_cell
def test_the_scale_of_the_loss_shifts_the_logarithms(case, getkey):
    """By its own logarithm, and nothing else, in float32; signs stay."""
    params = case.params(getkey(), jnp.float32)
    carry = case.carry(getkey(), (3,), jnp.float32)
    xs = case.xs(getkey(), 40, (3,), jnp.float32)

    def flow(scale):
        def loss(carry, ys):
            return jnp.float32(scale) * loss_of_outputs(carry, ys)

        return gradient_flow(case.cell, params, xs, loss, initial_carry=carry, recurrent_weight=0.5)

    def logarithms(flow):
        return flow.log_carry_norm, flow.leaf_log_norms, flow.log_weight_share

    plain = flow(1.0)
    for scale in (2.0**100, 2.0**-100):
        shifted = flow(scale)
        expected = jax.tree.map(lambda a, s=scale: a + np.float32(np.log(s)), logarithms(plain))
        tree_allclose(logarithms(shifted), expected)
        tree_allclose(shifted.weight_share_sign, plain.weight_share_sign)


def test_a_leaf_far_below_another_does_not_vanish(getkey):
    """LSTM in float32: hidden's part 1e-25 times the cell's, whose square float32 cannot hold."""
    case = CASE["lstm"]
    params = case.params(getkey(), jnp.float32)
    xs = case.xs(getkey(), 3, (2,), jnp.float32)
    flow = gradient_flow(
        case.cell,
        params,
        xs,
        lambda carry, ys: jnp.sum(carry.cell) + 1e-25 * jnp.sum(carry.hidden),
    )
    expected = np.full(2, np.log(1e-25) + 0.5 * np.log(3.0), np.float32)
    tree_allclose(flow.leaf_log_norms.hidden[-1], expected)


def test_a_chaotic_network_on_bytes_stays_finite(getkey):
    """Gaussian gain 3, w = 1.5, embedded bytes, 300 steps in float32: it explodes, measurably."""
    cell = elman(64)
    recurrent_init = initializers.gaussian(3.0)
    params = cell.init(getkey(), 16, jnp.float32, recurrent_init=recurrent_init)
    table = jax.random.normal(getkey(), (256, 16), jnp.float32)
    tokens = jax.random.randint(getkey(), (300, 4), 0, 256)
    carry = hidden(cell, jax.random.normal(getkey(), (4, 64), jnp.float32))
    for loss in (last_hidden, lambda carry, ys: ys.sum()):
        flow = gradient_flow(
            cell, params, table[tokens], loss, initial_carry=carry, recurrent_weight=1.5
        )
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(flow))
        assert np.all(flow.log_carry_norm[0] > flow.log_carry_norm[-1] + 30)


# Where there is no number


def test_dead_relu_gives_minus_infinity(getkey):
    """No unit is active: zero gradient before the last step, not a small one, and no nan."""
    cell = elman(4, "relu")
    params = cell.init(getkey(), 2, jnp.float32)._replace(bias=jnp.full(4, -100.0, jnp.float32))
    xs = jax.random.normal(getkey(), (200, 3, 2), jnp.float32)
    flow = gradient_flow(cell, params, xs, last_hidden)
    assert np.all(np.asarray(flow.log_carry_norm[:-1]) == -np.inf)
    tree_allclose(flow.log_carry_norm[-1], np.full(3, 0.5 * np.log(4), np.float32))
    assert np.all(np.asarray(flow.log_weight_share) == -np.inf)
    assert np.all(np.asarray(flow.weight_share_sign) == 0)
    assert np.all(np.asarray(flow.carry_norm[:-1]) == 0)


@one_case_a_cell
def test_constant_loss_gives_minus_infinity(case, getkey):
    """Whether the loss reads nothing, or multiplies what it reads by zero."""
    params, xs = case.params(getkey(), jnp.float32), case.xs(getkey(), T, (3,), jnp.float32)
    for loss in (
        lambda carry, ys: jnp.float32(3.0),
        lambda carry, ys: 0.0 * jnp.sum(ys) + 3.0,
    ):
        flow = gradient_flow(case.cell, params, xs, loss)
        assert flow.loss == 3.0
        logs = flow.log_carry_norm, flow.leaf_log_norms, flow.log_weight_share
        assert all(np.all(np.asarray(leaf) == -np.inf) for leaf in jax.tree.leaves(logs))
        assert np.all(np.asarray(flow.weight_share_sign) == 0)


@pytest.mark.parametrize("reads_outputs", [False, True])
def test_an_overflow_forwards_is_nan_in_its_own_sequence_alone(reads_outputs, getkey):
    """The others keep their numbers."""
    cell, params = orthogonal_linear(4, jnp.float32)
    weights = jax.random.normal(getkey(), (20, 3, 4), jnp.float32)

    def loss(carry, ys):
        return jnp.vdot(weights, ys) if reads_outputs else jnp.vdot(weights[-1], carry.hidden)

    start = jnp.array([1e-3, 1e30, 1.0], jnp.float32)[:, None] * jnp.ones((3, 4), jnp.float32)
    flow = flow_from(cell, params, jnp.zeros((20, 3, 1), jnp.float32), start, 10.0, loss)
    for leaf in jax.tree.leaves(flow._replace(loss=())):
        assert np.isnan(leaf[:, 1]).all()
        assert np.isfinite(leaf[:, [0, 2]]).all()
    read = weights if reads_outputs else weights * (jnp.arange(20) == 19)[:, None, None]
    expected = orthogonal_adjoint(params, read, 10.0)
    tree_allclose(flow.log_carry_norm[:, ::2], expected[:, ::2])


# Dtypes, transformations, errors


@one_case_a_cell
@pytest.mark.parametrize(
    ("dtype", "logs"),
    [(jnp.float64, "float64"), (jnp.float32, "float32"), (jnp.bfloat16, "float32")],
)
def test_logarithms_are_float32_at_least(case, dtype, logs, getkey):
    """And those of bfloat16 are near those of the same numbers in float64."""
    params, xs = case.params(getkey(), dtype), case.xs(getkey(), T, (3,), dtype)
    flow = gradient_flow(case.cell, params, xs, loss_of_carry, recurrent_weight=0.5)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(flow._replace(loss=()))} == {logs}
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, xs))
    expected = gradient_flow(case.cell, *wide, loss_of_carry, recurrent_weight=0.5)
    coarse = flow.log_carry_norm.astype(dtype)
    tree_allclose(coarse, expected.log_carry_norm)


@one_case_a_cell
def test_vmap_over_the_weight_is_separate_calls(case, getkey):
    params, xs = case.params(getkey()), case.xs(getkey(), T, (3,))

    def at(w):
        return gradient_flow(
            case.cell, params, xs, loss_of_both, seq_lengths=LENGTHS[3,], recurrent_weight=w
        )

    weights = jnp.array([0.1, 0.9, 1.7])
    separate = [at(w) for w in weights]
    tree_allclose(jax.vmap(at)(weights), jax.tree.map(lambda *a: jnp.stack(a), *separate))


@one_case_a_cell
def test_equal_calls_do_not_trace_again(case, getkey):
    """With the same loss function: the Python code of cell and loss runs once; or under jit."""
    cell, calls = case.counting_calls()

    def loss(carry, ys):
        calls.append(None)
        return loss_of_both(carry, ys)

    jitted = jax.jit(lambda p, xs, w: gradient_flow(cell, p, xs, loss, recurrent_weight=w))

    def call(w):
        params, xs = case.params(getkey()), case.xs(getkey(), T, (3,))
        eager = gradient_flow(cell, params, xs, loss, recurrent_weight=w)
        tree_allclose(jitted(params, xs, w), eager)

    call(0.5)
    traced = len(calls)
    assert traced > 0
    call(1.5)
    assert len(calls) == traced


class Unhashable:
    __hash__ = None

    def __call__(self, carry, ys):
        return ys.sum()


@pytest.mark.parametrize(
    ("replaced", "fragments"),
    [
        ({"loss": 3.0}, ("loss", "3.0", "function")),
        ({"loss": lambda carry, ys: ys.sum(0)}, ("loss", "(4, 3)", "scalar")),
        ({"loss": lambda carry, ys: jnp.int32(1)}, ("loss returns", "int32", "scalar")),
        ({"loss": lambda carry, ys: (ys.sum(), ys)}, ("loss returns a tuple", "scalar")),
        ({"loss": lambda carry, ys: None}, ("loss returns a NoneType", "scalar")),
        ({"loss": Unhashable()}, ("loss is a Unhashable without a hash", "function")),
        ({"xs": jnp.zeros((0, 4, 2))}, ("xs", "(0, 4, 2)")),
        ({"recurrent_weight": jnp.nan}, ("recurrent_weight", "nan", "finite")),
        ({"seq_lengths": np.array([0, 1, 2, 6])}, ("seq_lengths", "6", "5")),
        ({"initial_carry": (jnp.zeros((4, 3)),)}, ("initial_carry", "tuple", "ElmanCarry")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_argument_is_named_in_one_line(replaced, fragments):
    cell = elman(3)
    params = cell.init(jax.random.key(0), 2, jnp.float64)
    arguments = {"xs": jnp.zeros((5, 4, 2)), "loss": last_hidden, **replaced}
    with raises_one_line(*fragments):
        gradient_flow(cell, params, **arguments)


def test_an_exploded_gradient_that_dies_leaves_the_outputs_gradients():
    """One ReLU unit, w = 4, every output read: h is 0 at step 100, 2^600 of gradient end there."""
    cell, params = scalar_unit("relu", jnp.float32)
    xs = np.full((400, 1), -3.0, np.float32)
    xs[99], xs[100] = -100.0, 1.0
    flow = flow_from(cell, params, xs, np.ones(1, np.float32), 4.0, lambda last, ys: ys.sum())
    # d/dh_99 = 1 (its own output), d/dh_98 = 1 + 4, d/dh_97 = 1 + 4 · 5
    tree_allclose(flow.log_carry_norm[97:100], jnp.log(jnp.array([21.0, 5.0, 1.0], jnp.float32)))
