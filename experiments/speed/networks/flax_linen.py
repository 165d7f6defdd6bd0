"""Flax Linen: ``nn.RNN`` and its cells, which have one layer of their own for each gate."""

import flax.linen as nn
import jax.numpy as jnp

from experiments.speed.networks import look_up
from experiments.speed.networks.jax_calls import timed_calls

CELLS = {"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
# OptimizedLSTMCell joins the kernels of the gates: once before a loop, but for one token at every
# call, which is slower there than the four products of LSTMCell
ONE_TOKEN_CELLS = CELLS | {"lstm": nn.LSTMCell}
GATES = {"elman": [""], "lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"]}  # parts of names


def params_of(cell, arrays):
    look_up(CELLS, cell, "flax")
    gates = GATES[cell]
    kernels, recurrent_kernels, biases = (
        jnp.split(arrays[name], len(gates), axis=-1)
        for name in ("kernel", "recurrent_kernel", "bias")
    )
    inner = [{"kernel": kernel} for kernel in kernels]
    outer = [{"kernel": kernel} for kernel in recurrent_kernels]
    if cell == "gru":
        # one bias for r and z; inside the reset, n has a second one
        *extra, candidate = jnp.split(arrays["recurrent_bias"], 3)
        biases = [biases[0] + extra[0], biases[1] + extra[1], biases[2]]
        outer[2]["bias"] = candidate
    for layer, bias in zip(outer if cell == "lstm" else inner, biases, strict=True):
        layer["bias"] = bias
    return {"i" + gate: layer for gate, layer in zip(gates, inner, strict=True)} | {
        "h" + gate: layer for gate, layer in zip(gates, outer, strict=True)
    }


def module(kind, xs):
    return kind(xs.shape[-1], dtype=xs.dtype, param_dtype=xs.dtype)


def unroll(cell, params, xs):
    layer = nn.RNN(module(CELLS[cell], xs), time_major=True)
    return layer.apply({"params": {"cell": params}}, xs)


def step(cell, params, state, x):
    carry = state[::-1] if cell == "lstm" else state[0]  # flax: (cell, hidden)
    carry, y = module(ONE_TOKEN_CELLS[cell], x).apply({"params": params}, carry, x)
    return carry[::-1] if cell == "lstm" else (carry,), y


training, forward, one_token = timed_calls(unroll, step, params_of)
