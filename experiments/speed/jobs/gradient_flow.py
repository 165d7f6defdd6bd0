"""ln ‖dL/dh_t‖ [N, T+1, B] of an Elman cell at every recurrent weight of a sweep.

    h_t = tanh(drive_t + w R h_{t-1}),   t = 1..T,   L = <projection, h_T>,   float32

R (orthogonal), drive and projection are shared by all weights, spread evenly over 0.5 to 1.5.
"""

from collections.abc import Callable

import numpy as np

COLUMNS = ("N", "T", "B", "H")
TOLERANCE = 1e-4


def inputs(row: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    num_weights, num_steps, batch, hidden = row
    random = np.random.default_rng(seed)
    arrays = {
        "weights": np.linspace(0.5, 1.5, num_weights),
        "matrix": np.linalg.qr(random.normal(size=(hidden, hidden)))[0],
        "drive": 0.5 * random.normal(size=(num_steps, batch, hidden)),
        "projection": random.normal(size=(batch, hidden)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def small(row: tuple[int, ...]) -> tuple[int, ...]:
    """Few steps: at w > 1 rounding errors grow from step to step."""
    num_weights, num_steps, batch, hidden = row
    return min(num_weights, 8), min(num_steps, 8), min(batch, 4), hidden


def rnn_jax(row: tuple[int, ...], arrays: dict[str, np.ndarray]) -> Callable:
    import jax
    import jax.numpy as jnp

    from rnn_jax import elman, gradient_flow
    from rnn_jax.sweep import chunk_size, make_sweep, saved_bytes

    num_weights, _, _, hidden = row
    cell = elman(hidden)
    weights, matrix, drive, projection = map(jnp.asarray, arrays.values())
    params = cell.init(jax.random.key(0), hidden)  # the cell projects its inputs: by the identity
    params = params._replace(kernel=jnp.eye(hidden), recurrent_kernel=matrix)

    def log_norm(weight, params, xs, projection):
        def loss(last, ys):
            return jnp.sum(last.hidden * projection)

        return gradient_flow(cell, params, xs, loss, recurrent_weight=weight).log_carry_norm

    chunk = chunk_size(saved_bytes(cell, params, drive), num_weights)
    sweep = make_sweep(log_norm, chunk)
    return lambda: jax.block_until_ready(sweep(weights, params, drive, projection))


def jax_scan(row: tuple[int, ...], arrays: dict[str, np.ndarray]) -> Callable:
    import jax
    import jax.numpy as jnp

    weights, matrix, drive, projection = map(jnp.asarray, arrays.values())

    def log_norm(weight, matrix, drive, projection):
        def loss(initial, taps):
            def step(hidden, inputs):
                drive_t, tap = inputs
                return jnp.tanh(drive_t + weight * (hidden @ matrix)) + tap, None

            last, _ = jax.lax.scan(step, initial, (drive, taps))
            return jnp.sum(last * projection)

        zeros = jnp.zeros_like(projection), jnp.zeros_like(drive)
        first, later = jax.grad(loss, (0, 1))(*zeros)
        return jnp.log(jnp.linalg.norm(jnp.concatenate([first[None], later]), axis=-1))

    sweep = jax.jit(jax.vmap(log_norm, (0, None, None, None)))
    return lambda: jax.block_until_ready(sweep(weights, matrix, drive, projection))


def torch(row: tuple[int, ...], arrays: dict[str, np.ndarray]) -> Callable:
    import torch

    num_weights, num_steps, batch, hidden = row
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = (torch.from_numpy(array).to(device) for array in arrays.values())
    weights, matrix, drive, projection = tensors

    def sweep():
        matrices = weights[:, None, None] * matrix
        state = torch.zeros(num_weights, batch, hidden, device=device, requires_grad=True)
        states = [state]
        for t in range(num_steps):
            state = torch.tanh(torch.baddbmm(drive[t].expand_as(state), state, matrices))
            state.retain_grad()
            states.append(state)
        (state * projection).sum().backward()
        norms = [torch.linalg.vector_norm(state.grad, dim=-1) for state in states]
        found = torch.stack(norms, dim=1).log()
        if device == "cuda":
            torch.cuda.synchronize()
        return found.cpu() if device == "cuda" else found

    return sweep


RUNNERS = {"rnn_jax": rnn_jax, "jax_scan": jax_scan, "torch": torch}
