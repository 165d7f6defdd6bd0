"""Plain JAX as written by hand: inputs projected once, a ``lax.scan``, one product a step."""

import jax
import jax.numpy as jnp

from experiments.speed.networks.jax_calls import timed_calls
from rnn_jax.devices import spread_batch


def elman(params, state, drive, x):
    hidden = jnp.tanh(drive + state[0] @ params["recurrent_kernel"])
    return (hidden,), hidden


def lstm(params, state, drive, x):
    hidden, memory = state
    i, f, g, o = jnp.split(drive + hidden @ params["recurrent_kernel"], 4, axis=-1)
    memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
    return (hidden, memory), hidden


def gru(params, state, drive, x):
    (hidden,) = state
    recurrent = hidden @ params["recurrent_kernel"] + params["recurrent_bias"]
    reset, update, candidate = jnp.split(drive, 3, axis=-1)
    recurrent_reset, recurrent_update, recurrent_candidate = jnp.split(recurrent, 3, axis=-1)
    r = jax.nn.sigmoid(reset + recurrent_reset)
    z = jax.nn.sigmoid(update + recurrent_update)
    hidden = (1 - z) * jnp.tanh(candidate + r * recurrent_candidate) + z * hidden
    return (hidden,), hidden


def sru(params, state, drive, x):
    (memory,) = state
    candidate, forget, reset = jnp.split(drive, 3, axis=-1)
    forget_vector, reset_vector = jnp.split(params["recurrent_vector"], 2)
    forget_bias, reset_bias = jnp.split(params["bias"], 2)
    f = jax.nn.sigmoid(forget + forget_vector * memory + forget_bias)
    r = jax.nn.sigmoid(reset + reset_vector * memory + reset_bias)
    memory = f * memory + (1 - f) * candidate
    return (memory,), r * memory + (1 - r) * x


STEPS = {"elman": elman, "lstm": lstm, "gru": gru, "sru": sru}


def project(cell, params, xs):
    product = xs @ params["kernel"]
    return product if cell == "sru" else product + params["bias"]


def step(cell, params, state, x):
    return STEPS[cell](params, state, project(cell, params, x), x)


def unroll(cell, params, xs):
    zeros = jnp.zeros_like(xs[0])
    state = (zeros, zeros) if cell == "lstm" else (zeros,)
    drive = project(cell, params, xs)
    _, ys = jax.lax.scan(lambda state, at: STEPS[cell](params, state, *at), state, (drive, xs))
    return ys


# set up as rnn_jax is: on one device or spread over all, whichever is faster
training, forward, one_token = timed_calls(
    unroll, step, lambda cell, arrays: arrays, (jax.jit, spread_batch)
)
