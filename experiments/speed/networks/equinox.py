"""Equinox: its cells, vmapped over the batch, under ``lax.scan``."""

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.speed.networks import look_up
from experiments.speed.networks.jax_calls import timed_calls

CELLS = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}


def params_of(cell, arrays):
    size = arrays["kernel"].shape[0]
    module = look_up(CELLS, cell, "equinox")(size, size, key=jax.random.key(0))
    weights = {"weight_ih": arrays["kernel"].T, "weight_hh": arrays["recurrent_kernel"].T}
    weights["bias"] = arrays["bias"]
    if cell == "gru":  # one bias for r and z; inside the reset, n has a second one
        outside = arrays["recurrent_bias"].at[2 * size :].set(0)
        weights["bias"] = arrays["bias"] + outside
        weights["bias_n"] = arrays["recurrent_bias"][2 * size :]
    names = list(weights)
    return eqx.tree_at(lambda m: [getattr(m, n) for n in names], module, list(weights.values()))


def step(cell, params, state, x):
    new = jax.vmap(params)(x, state if cell == "lstm" else state[0])
    state = new if cell == "lstm" else (new,)
    return state, state[0]


def unroll(cell, params, xs):
    zeros = jnp.zeros_like(xs[0])
    state = (zeros, zeros) if cell == "lstm" else (zeros,)
    _, ys = jax.lax.scan(lambda state, x: step(cell, params, state, x), state, xs)
    return ys


training, forward, one_token = timed_calls(unroll, step, params_of)
