"""On a GPU or TPU, with float32 and JAX's own precision of products there (TF32, bfloat16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, one_case_a_cell
from helpers import tree_allclose

from rnn_jax import CELLS, elman, gradient_flow, unroll
from rnn_jax.cells import initializers
from rnn_jax.sweep import make_sweep

pytestmark = pytest.mark.accelerator


@pytest.fixture(autouse=True)
def default_precision():
    """What a user meets who sets nothing."""
    with jax.default_matmul_precision(None):
        yield


def outputs_and_carry(carry, ys):
    return jnp.sum(jnp.sin(3.0 * ys)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in carry)


def data(cell, getkey, num_steps=12, batch=8, input_size=16):
    params = cell.init(getkey(), input_size, jnp.float32)
    return params, jax.random.normal(getkey(), (num_steps, batch, input_size), jnp.float32)


@pytest.mark.parametrize("factory", CELLS.values(), ids=CELLS)
def test_gradient_flow_is_that_of_the_cpu(factory, getkey):
    """To 1e-4, because its products run at the highest precision; TF32 would miss by 1e-3."""
    cell = factory(64)
    params, xs = data(cell, getkey)
    lengths = np.array([12, 0, 1, 5, 12, 12, 3, 8])
    on_cpu = jax.device_put((params, xs), jax.local_devices(backend="cpu")[0])
    found, expected = (
        gradient_flow(cell, *where, outputs_and_carry, seq_lengths=lengths)
        for where in ((params, xs), on_cpu)
    )
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-4, atol=1e-4)
    for got, want in zip(
        jax.tree.leaves((found.log_carry_norm, found.leaf_log_norms, found.weight_share)),
        jax.tree.leaves((expected.log_carry_norm, expected.leaf_log_norms, expected.weight_share)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.parametrize("reverse", [False, True])
def test_fused_is_autodiff(case, reverse, getkey):
    """All gradients, float32, at the highest precision of products."""
    arguments = (
        case.params(getkey(), jnp.float32),
        case.xs(getkey(), 6, (3,), jnp.float32),
        case.carry(getkey(), (3,), jnp.float32),
        jnp.float32(0.9),
        case.zero_tap(6, (3,), jnp.float32),
    )

    def gradient(adjoint):
        def loss(params, xs, carry, w, tap):
            return outputs_and_carry(
                *unroll(
                    case.cell,
                    params,
                    xs,
                    initial_carry=carry,
                    seq_lengths=np.array([6, 0, 2]),
                    reverse=reverse,
                    recurrent_weight=w,
                    carry_tap=tap,
                    adjoint=adjoint,
                )
            )

        with jax.default_matmul_precision("highest"):
            return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4)))(*arguments)

    tree_allclose(gradient("fused"), gradient("autodiff"))


@one_case_a_cell
def test_a_sweep_over_the_weight_stays_finite(case, getkey):
    """Through make_sweep, from vanishing to exploding."""
    cell = CELLS[case.cell.name](**(dict(case.cell.arguments) | {"hidden_size": 64}))
    params, xs = data(cell, getkey, num_steps=200)

    def point(w, params, xs):
        flow = gradient_flow(cell, params, xs, lambda carry, ys: carry[0].sum(), recurrent_weight=w)
        return flow.log_carry_norm

    weights = jnp.linspace(0.25, 2.5, 10, dtype=jnp.float32)
    norms = make_sweep(point, 4)(weights, params, xs)
    assert norms.shape == (10, 201, 8)
    assert np.isfinite(norms).all()


def test_the_slope_of_a_linear_network_is_the_logarithm_of_the_weight(getkey):
    """Orthogonal R, 1000 steps, to 1e-3."""
    cell = elman(64, "identity")
    params = cell.init(getkey(), 1, jnp.float32, recurrent_init=initializers.orthogonal())
    xs = jnp.zeros((1000, 2, 1), jnp.float32)

    def slope(w, params, xs):
        flow = gradient_flow(
            cell, params, xs, lambda carry, ys: carry.hidden.sum(), recurrent_weight=w
        )
        return (flow.log_carry_norm[0] - flow.log_carry_norm[-1]) / 1000

    weights = np.array([0.5, 0.9, 1.0, 1.5], np.float32)
    slopes = make_sweep(slope, 2)(jnp.asarray(weights), params, xs)
    np.testing.assert_allclose(slopes, np.log(weights)[:, None].repeat(2, 1), atol=1e-3)
