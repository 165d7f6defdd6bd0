"""The three timed calls of a network that runs on JAX, each one jitted function of its arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed import points
from experiments.speed.networks import split


def timed_calls(
    unroll: Callable, step: Callable, params_of: Callable, jits: tuple[Callable, ...] = (jax.jit,)
) -> tuple[Callable, ...]:
    """Make (training, forward, one_token) out of three functions.

    unroll(cell, params, xs) -> ys; step(cell, params, state, x) -> (state, y);
    params_of(cell, arrays) -> what both take as params, a pytree. jits compile a function
    (params, *arrays [T, B, H]) -> (what is summed over the batch, arrays [T, B, H]); of several
    that is taken which makes the faster program.
    """

    def training(cell, arrays, dtype):
        def loss(params, xs, projection):
            return jnp.sum(unroll(cell, params, xs) * projection)

        def gradients(params, xs, projection):
            value, (dparams, dxs) = jax.value_and_grad(loss, argnums=(0, 1))(params, xs, projection)
            return (value, dparams), dxs

        params, data = on_device(arrays, dtype)
        return fastest(jits, gradients, params_of(cell, params), data["xs"], data["projection"])

    def forward(cell, arrays, dtype):
        params, data = on_device(arrays, dtype)

        def outputs(params, xs):
            return (), unroll(cell, params, xs)

        return fastest(jits, outputs, params_of(cell, params), data["xs"])

    def one_token(cell, arrays, dtype):
        params, data = on_device(arrays, dtype)
        params, x = params_of(cell, params), data.pop("x")
        advance = jax.jit(lambda params, state, x: step(cell, params, state, x))
        state = tuple(data.values())

        def call():
            nonlocal state
            state, y = jax.block_until_ready(advance(params, state, x))
            return y

        return call

    return training, forward, one_token


class Call:
    """A compiled function with its arguments, which lie where it wants them."""

    def __init__(self, function: Any, *arguments):
        self.function = function.lower(*arguments).compile()
        self.arguments = jax.device_put(arguments, self.function.input_shardings[0])

    def __call__(self):
        _, stacked = jax.block_until_ready(self.function(*self.arguments))
        return stacked


def fastest(jits: tuple[Callable, ...], function: Callable, *arguments) -> Call:
    """Compile in every way; of several keep the one whose quickest of 4 calls is the quickest."""
    calls = [Call(jit(function), *arguments) for jit in jits]
    if len(calls) == 1:
        return calls[0]
    for call in calls:
        call()
    quickest = [min(seconds) for seconds in points.take_turns(calls, 4, 0.0)]
    return calls[quickest.index(min(quickest))]


def on_device(arrays: dict, dtype: str) -> tuple[dict, dict]:
    """(the parameters, the rest), as JAX arrays."""
    return split({name: jnp.asarray(array, dtype) for name, array in arrays.items()})
