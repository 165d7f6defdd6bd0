"""This library: ``unroll`` and ``step``, the batch spread over the devices."""

import jax

import rnn_jax
from experiments.speed.networks.jax_calls import timed_calls
from rnn_jax.devices import spread_batch


def params_of(cell, arrays):
    layer = rnn_jax.CELLS[cell](arrays["kernel"].shape[0])
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), layer.hidden_size))
    return type(params)(**arrays)


def unroll(cell, params, xs):
    _, ys = rnn_jax.unroll(rnn_jax.CELLS[cell](xs.shape[-1]), params, xs)
    return ys


def step(cell, params, state, x):
    layer = rnn_jax.CELLS[cell](x.shape[-1])
    carry = type(layer.initial_carry(()))(*state)
    carry, y = rnn_jax.step(layer, params, carry, x)
    return tuple(carry), y


training, forward, one_token = timed_calls(unroll, step, params_of, (spread_batch,))
