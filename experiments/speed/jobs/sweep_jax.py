"""The sweep in JAX: by rnn_jax, by ``jax.grad`` of a plain scan, and its matrix products alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax as rnn
from experiments.speed.jobs import NotOffered
from rnn_jax.sweep import chunk_size, make_sweep, saved_bytes

Arrays = dict[str, jax.Array]


def _to_jax(arrays: dict[str, np.ndarray], dtype: str) -> Arrays:
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def rnn_jax(row: tuple, arrays: dict[str, np.ndarray], dtype: str) -> Callable:
    cell = rnn.CELLS[row[0]](row[-1])
    a = _to_jax(arrays, dtype)
    params = cell.init(jax.random.key(0), row[-1], a["xs"].dtype)
    given = {name: array for name, array in a.items() if name in params._fields}
    if row[0] == "elman":  # reads the inputs as they are
        given["kernel"] = jnp.eye(row[-1], dtype=dtype)
    params = params._replace(**given)

    def log_norm(weight, params, xs, projection):
        def loss(last, ys):
            return jnp.sum(last[0] * projection)

        return rnn.gradient_flow(cell, params, xs, loss, recurrent_weight=weight).log_carry_norm

    chunk = chunk_size(saved_bytes(cell, params, a["xs"]), num_points=row[1], num_sequences=row[3])
    sweep = make_sweep(log_norm, chunk)
    shared = params, a["xs"], a["projection"]
    return lambda: jax.block_until_ready(sweep(a["weights"], *shared))


# A plain scan, as a user would write it. A tap of zeros is added to every part of the state, the
# LSTM's c_t before h_t reads it: the gradients with respect to the taps are dL/dcarry_t.


def _elman(a: Arrays, weight, state, drive, tap):
    (hidden,) = state
    return (jnp.tanh(drive + weight * (hidden @ a["recurrent_kernel"])) + tap[0],)


def _lstm(a: Arrays, weight, state, drive, tap):
    hidden, cell = state
    z = drive + weight * (hidden @ a["recurrent_kernel"])
    i, f, g, o = jnp.split(z, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g) + tap[1]
    return jax.nn.sigmoid(o) * jnp.tanh(cell) + tap[0], cell


def _gru(a: Arrays, weight, state, drive, tap):
    (hidden,) = state
    recurrent = weight * (hidden @ a["recurrent_kernel"]) + a["recurrent_bias"]
    (r, z, n), (r_h, z_h, n_h) = (jnp.split(part, 3, axis=-1) for part in (drive, recurrent))
    z = jax.nn.sigmoid(z + z_h)
    n = jnp.tanh(n + jax.nn.sigmoid(r + r_h) * n_h)
    return ((1 - z) * n + z * hidden + tap[0],)


def _sru(a: Arrays, weight, state, drive, tap):
    (cell,) = state
    candidate, f, _ = jnp.split(drive, 3, axis=-1)  # L reads no output: r is not needed
    vector, _ = jnp.split(a["recurrent_vector"], 2)
    f = jax.nn.sigmoid(f + weight * vector * cell)
    return (f * cell + (1 - f) * candidate + tap[0],)


STEPS = {"elman": _elman, "lstm": _lstm, "gru": _gru, "sru": _sru}


def _drive(a: Arrays) -> jax.Array:
    if "kernel" not in a:
        return a["xs"]
    products = a["xs"] @ a["kernel"]
    unbiased = products.shape[-1] - len(a["bias"])  # the SRU's candidate, the first block
    return products + jnp.pad(a["bias"], (unbiased, 0))


def jax_scan(row: tuple, arrays: dict[str, np.ndarray], dtype: str) -> Callable:
    a = _to_jax(arrays, dtype)
    step = STEPS[row[0]]
    num_parts = 2 if row[0] == "lstm" else 1

    def log_norm(weight, a):
        drive = _drive(a)

        def loss(initial, taps):
            def body(state, inputs):
                return step(a, weight, state, *inputs), None

            last, _ = jax.lax.scan(body, initial, (drive, taps))
            return jnp.sum(last[0] * a["projection"])

        initial = (jnp.zeros_like(a["projection"]),) * num_parts
        taps = (jnp.zeros_like(a["xs"]),) * num_parts
        first, later = jax.grad(loss, (0, 1))(initial, taps)
        grads = jnp.concatenate([jnp.stack(first)[:, None], jnp.stack(later)], axis=1)
        return jnp.log(jnp.linalg.norm(grads, axis=(0, -1)))

    sweep = jax.jit(jax.vmap(log_norm, (0, None)))
    return lambda: jax.block_until_ready(sweep(a["weights"], a))


def floor(row: tuple, arrays: dict[str, np.ndarray], dtype: str) -> Callable:
    """Multiply as often as the job must: each step [n*B, H] @ [H, G*H] and back, no more.

    The products follow on each other, so that none can be left out.
    """
    cell, num_weights, num_steps, _, hidden = row
    if cell == "sru" or hidden == 1:
        raise NotOffered("no matrix product")
    a = _to_jax(arrays, dtype)
    forward = a["recurrent_kernel"]
    back = forward.T * (hidden / forward.shape[-1])  # orthogonal blocks: lengths stay

    def products(weight, projection, forward, back):
        def body(state, _):
            return state @ forward @ back, None

        return jax.lax.scan(body, weight * projection, length=num_steps)[0]

    chunk = -(-num_weights // jax.local_device_count())  # all at once was the faster
    sweep = make_sweep(products, chunk)
    return lambda: jax.block_until_ready(sweep(a["weights"], a["projection"], forward, back))
