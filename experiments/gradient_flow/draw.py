"""What a point of the sweep is made of: a cell, its parameters, inputs and loss, from one seed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.gradient_flow.config import Config
from rnn_jax.cells import CELLS, Cell, gate_names, hold_gates, initializers
from rnn_jax.cells.base import memory_bias_keyword
from rnn_jax.data.stdlib_source import random_windows, stdlib_source
from rnn_jax.types import Array, Key

RECURRENT_INIT = {
    "orthogonal": initializers.orthogonal,
    "gaussian": initializers.gaussian,
    "identity": initializers.identity,
    "scalar": initializers.identity,
}


def make_cell(config: Config, index: int) -> Cell:
    """Make the index-th cell of the sweep, with those of the held gates that it has."""
    name = config.cells[index]
    settings = {"activation": config.activation} if name in ("elman", "leaky_rnn") else {}
    cell = CELLS[name](config.hidden_size, **settings)
    held = {gate: v for gate, v in config.held_gates().items() if gate in gate_names(cell)}
    return hold_gates(cell, **held) if held else cell


def draw(config: Config, cell: Cell, seed: int) -> tuple:
    """Draw (params, xs, initial carry, projection or readout, targets) of one seed.

    Every cell sees the same texts, embedding and readout at the same seed.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(
        ("params", "text", "embedding", "noise", "carry", "loss"))}  # fmt: skip
    dtype = jnp.dtype(config.dtype)
    shape = (config.num_steps, config.batch_size)
    targets = jnp.zeros(shape, jnp.int32)
    kernel_init = initializers.glorot_uniform
    if config.input == "text":
        window = random_windows(
            stdlib_source(), keys["text"], config.batch_size, config.num_steps + 1
        )
        embedding = jax.random.normal(keys["embedding"], (256, config.input_size), dtype)
        xs, targets = embedding[window[:-1]], jnp.asarray(window[1:], jnp.int32)
    elif config.input == "noise":  # z_t itself: each unit its own noise
        kernel_init = initializers.identity()
        noise = jax.random.normal(keys["noise"], (*shape, config.hidden_size), dtype)
        xs = config.noise_variance**0.5 * noise
    else:
        xs = jnp.zeros((*shape, config.input_size), dtype)
    params = cell.init(
        keys["params"],
        xs.shape[-1],
        dtype,
        kernel_init=kernel_init,
        recurrent_init=RECURRENT_INIT[config.recurrent_matrix](config.gain),
        **_memory_bias(config, cell),
    )
    carry = cell.initial_carry((config.batch_size,), dtype)
    leaves, tree = jax.tree.flatten(carry)
    carry_keys = jax.random.split(keys["carry"], len(leaves))
    carry = tree.unflatten(
        [config.initial_state * jax.random.normal(k, c.shape, dtype)
         for k, c in zip(carry_keys, leaves, strict=True)]
    )  # fmt: skip
    return params, xs, carry, _loss_weights(config, keys["loss"], dtype), targets


def _loss_weights(config: Config, key: Key, dtype) -> Array:
    """Draw the projection [B, H] of the last state, or the readout [H, 256] of every output."""
    if config.loss == "last_state":
        return jax.random.normal(key, (config.batch_size, config.hidden_size), dtype)
    return initializers.gaussian()(key, (config.hidden_size, 256), dtype)


def _memory_bias(config: Config, cell: Cell) -> dict:
    """Give the gate that keeps the state, where the cell has one, the bias that is asked for."""
    bias = config.forget_bias
    if config.chrono_steps is not None:
        bias = initializers.chrono(config.chrono_steps)
    keyword = memory_bias_keyword(cell)
    return {} if bias is None or keyword is None else {keyword: bias}


def make_loss(config: Config, loss_weights: Array, targets: Array) -> Callable:
    """Make the loss (last carry, outputs) -> scalar."""

    def loss(last_carry, ys):
        if config.loss == "last_state":
            return jnp.sum(last_carry[0] * loss_weights)
        log_probabilities = jax.nn.log_softmax(ys @ loss_weights)
        picked = jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)
        return -jnp.sum(picked) / config.num_steps

    return loss
