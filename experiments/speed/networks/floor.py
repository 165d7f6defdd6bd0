"""XLA's matrix products of a layer and next to nothing else.

Two loops of T products, chained so that none can be left out, and the products over all steps at
once: the inputs' projection; in training also those of the gradients by xs, kernel and recurrent
kernel. Matrices are stored as they are multiplied. SRU has no product within its loop.
"""

from functools import reduce

import jax
import jax.numpy as jnp

from experiments.speed.networks import NUM_GATES
from experiments.speed.networks.jax_calls import fastest, on_device, timed_calls
from rnn_jax.cells.base import multiply, rows
from rnn_jax.devices import spread_batch


def params_of(cell, arrays):
    return arrays


def fold(cell, gates):
    """[..., G*H] -> [..., H], half the largest gate: a maximum does not commute with a product."""
    return 0.5 * reduce(jnp.maximum, jnp.split(gates, NUM_GATES[cell], axis=-1))


def unroll(cell, params, xs):
    drive = multiply(xs, params["kernel"])
    if cell == "sru":
        return fold(cell, drive)

    def advance(hidden, drive_t):
        hidden = fold(cell, drive_t + hidden @ params["recurrent_kernel"])
        return hidden, hidden

    return jax.lax.scan(advance, jnp.zeros_like(xs[0]), drive)[1]


def step(cell, params, state, x):
    gates = x @ params["kernel"]
    if cell != "sru":
        gates += state[0] @ params["recurrent_kernel"]
    hidden = fold(cell, gates)
    return (hidden, *state[1:]), hidden


def training(cell, arrays, dtype):
    """A product forth and one back at each step, and those over all steps, which need no loop."""
    params, data = on_device(arrays, dtype)

    def products(params, xs, projection):
        drive = multiply(xs, params["kernel"])  # stands in for its gradient
        dxs = multiply(drive, params["kernel"].T)
        dkernel = rows(xs).T @ rows(drive)
        if cell == "sru":
            return dkernel, dxs
        forth = params["recurrent_kernel"] / 3  # so that the chain does not grow
        back = jax.lax.optimization_barrier(forth.T)
        last, _ = jax.lax.scan(lambda h, _: (h @ forth @ back, None), xs[0], length=len(xs))
        drecurrent = rows(projection).T @ rows(drive)
        return (dkernel, drecurrent, last.sum()), dxs

    return fastest(JITS, products, params, data["xs"], data["projection"])


JITS = (jax.jit, spread_batch)
_, forward, one_token = timed_calls(unroll, step, params_of, JITS)
