"""Cores, devices and memory: what is spread over devices is what one device computes."""

import jax
from helpers import run_python, tree_equal

from rnn_jax import lstm, unroll
from rnn_jax.devices import keep_memory

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
    assert run_python(SPREAD).split("\n")[:4] == ["4 2", "4 2", "3 1", "3 1"]


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
