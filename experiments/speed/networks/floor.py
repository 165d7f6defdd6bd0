"""The matrix products of a layer and almost nothing else: what no implementation can do without.

What stands between two products only chains them, so that none can be left out or moved: the
largest of the gates is the next state, and its gradient goes back to them in equal shares. SRU has
no product within its loop: its floor is the products with the inputs alone.
"""

from functools import reduce

import jax
import jax.numpy as jnp

from experiments.speed.networks import NUM_GATES
from experiments.speed.networks.jax_calls import fastest, on_device, timed_calls
from rnn_jax.devices import spread_batch


def params_of(cell, arrays):
    return arrays


def fold(cell, gates):
    """[..., G*H] -> [..., H], half the largest gate: a maximum does not commute with a product."""
    return 0.5 * reduce(jnp.maximum, jnp.split(gates, NUM_GATES[cell], axis=-1))


def states(cell, params, xs):
    """(the states [T, B, H], the gates before the loop [T, B, G*H])."""
    drive = rows(xs) @ params["kernel"]
    drive = drive.reshape(*xs.shape[:-1], -1)
    if cell == "sru":
        return fold(cell, drive), drive

    def advance(hidden, drive_t):
        hidden = fold(cell, drive_t + hidden @ params["recurrent_kernel"])
        return hidden, hidden

    return jax.lax.scan(advance, jnp.zeros_like(xs[0]), drive)[1], drive


def rows(array):
    """[T, B, n] -> [T*B, n]: XLA on CPUs multiplies faster over one axis than over two."""
    return array.reshape(-1, array.shape[-1])


def unroll(cell, params, xs):
    return states(cell, params, xs)[0]


def step(cell, params, state, x):
    gates = x @ params["kernel"]
    if cell != "sru":
        gates += state[0] @ params["recurrent_kernel"]
    hidden = fold(cell, gates)
    return (hidden, *state[1:]), hidden


def training(cell, arrays, dtype):
    """Both loops, and the three products over all steps at once, which need no loop."""
    params, data = on_device(arrays, dtype)
    num_gates = NUM_GATES[cell]

    def products(params, xs, projection):
        hiddens, gates = states(cell, params, xs)  # the gates stand in for their gradients
        dkernel = rows(xs).T @ rows(gates)
        dxs = (rows(gates) @ params["kernel"].T).reshape(xs.shape)
        if cell == "sru":
            return dkernel, dxs

        def back(dhidden, at):
            dhidden_t, gates_t = at
            dgates = (
                gates_t + jnp.concatenate([dhidden + dhidden_t] * num_gates, axis=-1) / num_gates
            )
            return dgates @ params["recurrent_kernel"].T, None

        zeros = jnp.zeros_like(xs[0])
        first, _ = jax.lax.scan(back, zeros, (projection, gates), reverse=True)
        drecurrent = rows(hiddens).T @ rows(gates)
        return (dkernel, drecurrent, first.sum()), dxs

    return fastest(JITS, products, params, data["xs"], data["projection"])


JITS = (jax.jit, spread_batch)
_, forward, one_token = timed_calls(unroll, step, params_of, JITS)
