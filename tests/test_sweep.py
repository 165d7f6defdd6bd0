"""``make_sweep``: chunks and devices change where points are computed, not what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE
from helpers import run_python, tree_allclose

from rnn_jax import gradient_flow
from rnn_jax.sweep import chunk_size, make_sweep, saved_bytes


def loss(carry, ys):
    return ys.sum() + sum(leaf.sum() for leaf in carry)


@pytest.mark.parametrize(("num_points", "chunk"), [(1, 4), (7, 3), (8, 4), (5, 1), (3, 16)])
def test_a_sweep_is_a_vmap(num_points, chunk, getkey):
    """For numbers of points that chunks and devices do not divide; results are trees."""
    case = CASE["gru"]
    params, xs = case.params(getkey()), case.xs(getkey(), 6, (3,))

    def point(values, params, xs):
        return gradient_flow(case.cell, params, xs, loss, recurrent_weight=values["w"])

    points = {"w": jnp.linspace(0.1, 2.0, num_points), "seed": jnp.arange(num_points)}
    expected = jax.vmap(point, in_axes=(0, None, None))(points, params, xs)
    tree_allclose(make_sweep(point, chunk)(points, params, xs), expected)


TWO_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp, numpy as np
from rnn_jax import gradient_flow, gru
from rnn_jax.sweep import make_sweep
cell = gru(16)
params = cell.init(jax.random.key(0), 3)
xs = jax.random.normal(jax.random.key(1), (20, 4, 3))

def point(w, params, xs):
    flow = gradient_flow(cell, params, xs, lambda carry, ys: ys.sum(), recurrent_weight=w)
    return flow.log_carry_norm, flow.log_weight_share

one, two = jax.devices()
for num_points, chunk in [(11, 8), (19, 8)]:  # one chunk a device, and two
    weights = jnp.linspace(0.1, 2.0, num_points)
    alone = make_sweep(point, chunk, devices=[one])(weights, params, xs)
    spread = make_sweep(point, chunk)(weights, params, xs)
    for a, b in zip(alone, spread):
        assert a.shape == b.shape == (num_points, *a.shape[1:])
        same = np.asarray(a).tobytes() == np.asarray(b).tobytes()
        used = len(make_sweep(lambda w: w, chunk)(weights).sharding.device_set)
        print(num_points, chunk, "same" if same else np.nanmax(np.abs(a - b)), used)
"""


def test_two_devices_give_the_bits_of_one():
    """Where the last chunk is not full, and where one is nothing but padding."""
    lines = run_python(TWO_DEVICES, JAX_PLATFORMS="cpu").splitlines()
    assert len(lines) == 2 * 2
    for line in lines:
        assert line.split()[2:] == ["same", "2"], lines


def test_chunk_size_is_a_power_of_two_near_the_cache():
    """At least 2 and no more than there are points; 8 MB in all."""
    sizes = [chunk_size(10**k, 10**6) for k in range(2, 10)]
    assert all(size >= 2 and size & (size - 1) == 0 for size in sizes)
    assert sizes == sorted(sizes, reverse=True)
    assert chunk_size(1_000_000, 100) == 8
    assert chunk_size(500_000, 100) == 16
    assert chunk_size(8_000_000, 100) == chunk_size(10**12, 100) == 2
    assert chunk_size(1000, 37) == 37
    assert chunk_size(1000, 1) == 1


def test_chunks_fill_a_matrix_product_while_their_states_stay_small():
    assert chunk_size(4_000_000, 100, num_sequences=32) == 16  # 512 rows
    assert chunk_size(16_000_000, 100, num_sequences=32) == 8  # 128 MB
    assert chunk_size(1_000_000, 100, num_sequences=1024) == 8  # as without
    assert chunk_size(4_000_000, 3, num_sequences=32) == 3


def test_saved_bytes_are_those_of_the_states_and_the_recurrent_products():
    """LSTM: hidden and cell, and four products, of H numbers a step and sequence."""
    case = CASE["lstm"]
    for dtype, width in ((jnp.float32, 4), (jnp.float64, 8)):
        params = case.cell.init(jax.random.key(0), 2, dtype)
        xs = jnp.zeros((10, 5, 2), dtype)
        assert saved_bytes(case.cell, params, xs) == 10 * 5 * (2 + 4) * 3 * width


def test_shared_arguments_and_points_may_be_trees():
    def point(values, shared):
        return {"sum": values["a"] + shared["b"], "twice": 2 * values["a"]}

    a = jnp.arange(5.0)
    found = make_sweep(point, 2)({"a": a}, {"b": jnp.float64(10.0)})
    tree_allclose(found, {"sum": np.arange(5.0) + 10, "twice": 2 * np.arange(5.0)})
