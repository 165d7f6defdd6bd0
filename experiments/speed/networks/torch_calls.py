"""The three timed calls of a network that runs on PyTorch; the state stays on its device."""

from collections.abc import Callable

import torch

from experiments.speed.networks import split

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def timed_calls(
    unroll: Callable, step: Callable, layer_of: Callable, cell_of: Callable
) -> tuple[Callable, ...]:
    """Make (training, forward, one_token) out of four functions.

    unroll(layer, xs) -> ys; step(cell, state, x) -> (state, y); layer_of and cell_of
    (cell, arrays) -> the module that unroll and step take.
    """

    def training(cell, arrays, dtype):
        params, data = on_device(arrays, dtype)
        layer, xs = layer_of(cell, params), data["xs"].requires_grad_()
        variables = [xs, *layer.parameters()]

        def call():
            loss = (unroll(layer, xs) * data["projection"]).sum()
            return Finished(torch.autograd.grad(loss, variables)[0])

        return call

    def forward(cell, arrays, dtype):
        params, data = on_device(arrays, dtype)
        layer = layer_of(cell, params)

        @torch.inference_mode()
        def call():
            return Finished(unroll(layer, data["xs"]))

        return call

    def one_token(cell, arrays, dtype):
        params, data = on_device(arrays, dtype)
        module, x = cell_of(cell, params), data.pop("x")
        state = tuple(data.values())

        @torch.inference_mode()
        def call():
            nonlocal state
            state, y = step(module, state, x)
            return Finished(y)

        return call

    return training, forward, one_token


def on_device(arrays: dict, dtype: str) -> tuple[dict, dict]:
    """(the parameters, the rest), as tensors."""
    tensors = {
        name: torch.tensor(array, dtype=getattr(torch, dtype), device=DEVICE)
        for name, array in arrays.items()
    }
    return split(tensors)


def fill(module: torch.nn.Module, weights: list[torch.Tensor]) -> torch.nn.Module:
    """Set the parameters of a module, in their order, and its device and dtype."""
    module = module.to(weights[0].device, weights[0].dtype)
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return module


class Finished:
    """A tensor that has been waited for; it leaves its device only where numpy asks for it."""

    def __init__(self, tensor: torch.Tensor):
        if tensor.is_cuda:
            torch.cuda.synchronize()
        self.tensor = tensor

    def __array__(self, dtype=None, copy=None):
        return self.tensor.detach().float().cpu().numpy()
