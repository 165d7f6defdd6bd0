"""PyTorch: ``torch.nn.RNN``, ``LSTM`` and ``GRU``, and their cells for one token."""

import torch

from experiments.speed.networks import look_up
from experiments.speed.networks.torch_calls import fill, timed_calls

NAMES = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}  # gates in the same order as ours


def module_of(cell, arrays, kind):
    bias, size = arrays["bias"], arrays["kernel"].shape[0]
    recurrent_bias = arrays.get("recurrent_bias", torch.zeros_like(bias))
    module = getattr(torch.nn, look_up(NAMES, cell, "torch.nn") + kind)(size, size)
    return fill(module, [arrays["kernel"].T, arrays["recurrent_kernel"].T, bias, recurrent_bias])


def layer_of(cell, arrays):
    return module_of(cell, arrays, "")


def cell_of(cell, arrays):
    return module_of(cell, arrays, "Cell")


def unroll(layer, xs):
    return layer(xs)[0]


def step(cell, state, x):
    state = cell(x, state) if isinstance(cell, torch.nn.LSTMCell) else (cell(x, state[0]),)
    return state, state[0]


training, forward, one_token = timed_calls(unroll, step, layer_of, cell_of)
