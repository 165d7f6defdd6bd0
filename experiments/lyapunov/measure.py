"""What is measured of a network along one trajectory: its exponents, the gradient's slope beside.

exponents   by QR, warm-up apart (rnn_jax.dynamics.lyapunov_spectrum)
slope       of ln ‖dL/dcarry_t‖ against T - t over the same steps, L a random projection of the
            last state: it tends to the largest exponent
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.lyapunov.config import Config
from experiments.lyapunov.network import Network
from rnn_jax.cells import Cell, initializers
from rnn_jax.dynamics import lyapunov_spectrum, trajectory
from rnn_jax.gradient_flow import gradient_flow
from rnn_jax.regimes import slope
from rnn_jax.types import Array, Carry, Key, Params


class Measured(NamedTuple):
    exponents: Array  # [k], downwards
    standard_errors: Array  # [k]
    slope: Array  # []


def measure(
    config: Config,
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry,
    key: Key,
    recurrent_weight: float | Array = 1.0,
) -> Measured:
    """Measure a network that reads xs [warmup + num_steps, I] from this carry on."""
    frame_key, loss_key = jax.random.split(key)
    spectrum = lyapunov_spectrum(
        cell,
        params,
        xs,
        initial_carry=carry,
        recurrent_weight=recurrent_weight,
        num_exponents=config.num_exponents or None,
        warmup=config.warmup,
        key=frame_key,
    )
    projection = _normal_like(carry, loss_key)

    def loss(last_carry, ys):
        return sum(jnp.vdot(a, b) for a, b in zip(projection, last_carry, strict=True))

    flow = gradient_flow(
        cell, params, xs, loss, initial_carry=carry, recurrent_weight=recurrent_weight
    )
    return Measured(*spectrum, slope(flow.log_carry_norm, config.warmup))


def measure_random(config: Config, network: Network, point: tuple) -> tuple[Measured, Array]:
    """Draw a network from (gain, key) and measure it; and the variance of what its units receive.

    That is the variance of the pre-activation where the network has theory, else nan.
    """
    gain, key = point
    cell, init = network.variant
    keys = jax.random.split(key, 4)
    dtype = jnp.dtype(config.dtype)
    shape = (config.warmup + config.num_steps, cell.hidden_size)
    params = cell.init(keys[0], shape[1], dtype, **{"kernel_init": initializers.identity()} | init)
    noise = network.noise_variance**0.5 * jax.random.normal(keys[1], shape, dtype)
    start = _normal_like(cell.initial_carry((), dtype), keys[2])
    found = measure(config, cell, params, noise, start, keys[3], gain)
    variance = jnp.full((), jnp.nan, dtype)
    if network.activation:
        states = trajectory(cell, params, noise, initial_carry=start, recurrent_weight=gain)
        before = jax.tree.map(lambda a: a[config.warmup : -1], states)
        received = cell.project_carry(params, before, gain)
        drive = cell.project_inputs(params, noise[config.warmup :])
        variance = jnp.mean(jnp.square(received + drive))
    return found, variance


def _normal_like(carry: Carry, key: Key) -> Carry:
    keys = jax.random.split(key, len(carry))
    draws = [
        jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, carry, strict=True)
    ]
    return type(carry)(*draws)
