"""The ``sru`` package of the paper's authors (Lei et al. 2018), for its own cell alone.

Importing it compiles its C++ once, in about half a minute, with ninja into PyTorch's cache of
extensions; a compilation that is cut short leaves a file called lock there, which must be deleted.
On a GPU its kernels need nvcc. On a CPU its training is a Python loop over time; the other two
calls run compiled.
"""

import os
import sysconfig
import warnings

import torch

from experiments.speed.jobs import NotOffered
from experiments.speed.networks import look_up
from experiments.speed.networks.torch_calls import fill, timed_calls

# PyTorch looks for ninja on the path; a virtual environment need not be activated
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
with warnings.catch_warnings(action="ignore"):  # that there is no nvcc
    import sru
warnings.filterwarnings("ignore", message="Running SRU on CPU with grad_enabled=True")


def module_of(cell, arrays):
    kind, kernel = look_up({"sru": sru.SRUCell}, cell, "the sru package"), arrays["kernel"]
    if kernel.dtype != torch.float32:
        raise NotOffered("the sru package computes in float32 alone")
    size = kernel.shape[0]
    interleaved = kernel.reshape(size, 3, size).transpose(1, 2).reshape(size, 3 * size)
    module = kind(size, size, rescale=False)
    return fill(module, [interleaved, arrays["recurrent_vector"], arrays["bias"]])


def unroll(module, xs):
    return module(xs)[0]


def step(module, state, x):
    ys, state = module(x[None], *state)
    return (state,), ys[0]


training, forward, one_token = timed_calls(unroll, step, module_of, module_of)
