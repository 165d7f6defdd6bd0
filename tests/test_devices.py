"""Cores, devices and memory: what is spread over devices is what one device computes."""

import jax
import jax.numpy as jnp
import pytest
from helpers import QUICK, raises_one_line, run_python, tree_equal

from rnn_jax import lstm, unroll
from rnn_jax.devices import keep_memory, spread_batch

SPREAD = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np
from rnn_jax import gru, unroll
from rnn_jax.devices import batch_shardings, keep_memory, spread_batch
keep_memory()
cell = gru(5)
params = cell.init(jax.random.key(0), 3, jnp.float64)

def step(params, xs, targets):
    def loss(params, xs):
        return jnp.sum((unroll(cell, params, xs)[1] - targets) ** 2)
    value, (dparams, dxs) = jax.value_and_grad(loss, (0, 1))(params, xs)
    return (value, dparams), dxs

for batch in (4, 3):
    xs = jax.random.normal(jax.random.key(1), (7, batch, 3), jnp.float64)
    targets = jax.random.normal(jax.random.key(2), (7, batch, 5), jnp.float64)
    alone = step(params, xs, targets)
    whole, by_batch = batch_shardings(params, batch)
    placed = jax.device_put(params, whole), *jax.device_put((xs, targets), by_batch)
    for arguments in ((params, xs, targets), placed):
        spread = spread_batch(step)(*arguments)
        worst = max(float(abs(np.asarray(a) - np.asarray(b)).max())
                    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(spread)))
        assert worst < 1e-12, worst
        print(batch, len(spread[1].sharding.device_set))
"""


def test_a_spread_batch_is_the_batch():
    """Loss and gradients summed over devices, dL/dxs put together; as many devices as divide B."""
    assert run_python(SPREAD, XLA_FLAGS=QUICK).split("\n")[:4] == ["4 2", "4 2", "3 1", "3 1"]


OTHER_AXES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np
from rnn_jax import lstm, unroll
from rnn_jax.devices import spread_batch
cell = lstm(4)
params = cell.init(jax.random.key(0), 3, jnp.float64)
xs = jax.random.normal(jax.random.key(1), (6, 4, 3), jnp.float64)
lengths = jnp.array([6, 0, 3, 1])

def outputs(params, xs, lengths):
    ys = unroll(cell, params, xs, seq_lengths=lengths)[1]
    return ys.sum(), ys

alone = outputs(params, xs, lengths)
second = jax.devices()[1]
for devices in (None, [second]):
    spread = spread_batch(outputs, devices, batch_axes=(1, 0))(params, xs, lengths)
    for a, b in zip(alone, spread):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    print(sorted(device.id for device in spread[1].sharding.device_set))
mesh = jax.make_mesh((2,), ("b",), (jax.sharding.AxisType.Explicit,))
with jax.set_mesh(mesh):
    given = jax.device_put(xs, jax.NamedSharding(mesh, jax.P(None, "b")))
    carry = cell.initial_carry((4,), jnp.float64)
    carry = jax.device_put(carry, jax.NamedSharding(mesh, jax.P("b")))
    ys = jax.jit(lambda p, x, c: unroll(cell, p, x, initial_carry=c)[1])(params, given, carry)
np.testing.assert_allclose(ys, unroll(cell, params, xs)[1], rtol=1e-12, atol=1e-12)
print(len(ys.sharding.device_set))
"""


def test_lengths_devices_and_meshes():
    """The batch on another axis; one device that is not the first; arrays of an explicit mesh."""
    assert run_python(OTHER_AXES, XLA_FLAGS=QUICK).split("\n")[:3] == ["[0, 1]", "[1]", "2"]


@pytest.mark.parametrize(
    "arrays, options, message",
    [
        ([(5, 4, 3), (4,)], {}, "arrays of shape (5, 4, 3), (4,), their batch on axes (1, 1)"),
        ([(5, 4, 3), (5, 3)], {}, "allowed: the same batch"),
        ([(5, 4)], {"batch_axes": (1, 0)}, "1 arrays, batch_axes (1, 0); allowed: one axis an"),
        ([], {}, "0 arrays, batch_axes (); allowed: one axis an array"),
        ([(5, 4)], {"devices": []}, "0 devices, batch 4; allowed: at least one of each"),
    ],
)
def test_what_cannot_be_spread_is_one_line(arrays, options, message):
    with raises_one_line(message):
        spread_batch(lambda params, *arrays: ((), None), **options)((), *map(jnp.zeros, arrays))


def test_large_matrices_stay_on_one_cpu_device():
    """Two parts of a batch on two devices, unless their products fill the cores anyway."""
    printed = run_python(
        "import jax\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"
        "from rnn_jax.devices import batch_shardings\n"
        "for size in (2**20, 2**20 + 1):\n"
        "    params = {'a': jax.ShapeDtypeStruct((size,), 'float32')}\n"
        "    print(batch_shardings(params, 4)[0].mesh.size)\n"
    )
    assert printed.split() == ["2", "1"]


def test_memory_that_is_kept_changes_no_number(getkey):
    cell = lstm(4)
    params = cell.init(getkey(), 3)
    xs = jax.random.normal(getkey(), (5, 2, 3), params.kernel.dtype)
    before = unroll(cell, params, xs)
    keep_memory()
    tree_equal(unroll(cell, params, xs), before)
