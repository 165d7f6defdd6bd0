"""Flax NNX: ``nnx.RNN`` and its cells, which keep all gates in one layer.

Its GRU has no bias inside the reset; the inputs have zeros there.
"""

from flax import nnx

from experiments.speed.networks import look_up
from experiments.speed.networks.jax_calls import timed_calls

CELLS = {"elman": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}


def split_module(cell, size, dtype):
    """(what the module is, its state without values)."""
    kind, settings = look_up(CELLS, cell, "flax"), {"dtype": dtype, "param_dtype": dtype}
    return nnx.split(nnx.eval_shape(lambda: kind(size, size, **settings, rngs=nnx.Rngs(0))))


def params_of(cell, arrays):
    _, state = split_module(cell, arrays["kernel"].shape[0], arrays["kernel"].dtype)
    bias = arrays["bias"]
    if cell == "gru":
        bias = bias + arrays["recurrent_bias"]
    layers = {
        "dense_i": {"kernel": arrays["kernel"]},
        "dense_h": {"kernel": arrays["recurrent_kernel"]},
    }
    layers["dense_h" if cell == "lstm" else "dense_i"]["bias"] = bias
    nnx.replace_by_pure_dict(state, layers)
    return state


def module(cell, params, xs):
    graph, _ = split_module(cell, xs.shape[-1], xs.dtype)
    return nnx.merge(graph, params)


def unroll(cell, params, xs):
    return nnx.RNN(module(cell, params, xs), time_major=True)(xs)


def step(cell, params, state, x):
    carry = state[::-1] if cell == "lstm" else state[0]  # flax: (cell, hidden)
    carry, y = module(cell, params, x)(carry, x)
    return carry[::-1] if cell == "lstm" else (carry,), y


training, forward, one_token = timed_calls(unroll, step, params_of)
