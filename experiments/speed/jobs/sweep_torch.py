"""The sweep in PyTorch by autograd: a loop over time, all weights at once."""

import time
from collections.abc import Callable

import numpy as np
import torch as th

Tensors = dict[str, th.Tensor]


def to_torch(arrays: dict[str, np.ndarray], dtype: str) -> Tensors:
    device = "cuda" if th.cuda.is_available() else "cpu"
    return {k: th.from_numpy(a).to(device, getattr(th, dtype)) for k, a in arrays.items()}


def to_numpy(log_norm: th.Tensor) -> np.ndarray:
    """Wait for the result and fetch it; NumPy has no bfloat16."""
    return log_norm.float().cpu().numpy()


def project_inputs(a: Tensors) -> th.Tensor:
    """Project all inputs once for all weights: [T, B, G*H]."""
    if "kernel" not in a:
        return a["xs"]
    drive = a["xs"] @ a["kernel"]
    drive[..., -len(a["bias"]) :] += a["bias"]  # the SRU's first block, the candidate, has none
    return drive


# step(a, recurrent, state, drive) -> state; recurrent(offset, hidden) = offset + w R hidden


def _elman(a: Tensors, recurrent, state, drive):
    return (th.tanh(recurrent(drive, state[0])),)


def _lstm(a: Tensors, recurrent, state, drive):
    hidden, cell = state
    i, f, g, o = recurrent(drive, hidden).chunk(4, -1)
    cell = th.sigmoid(f) * cell + th.sigmoid(i) * th.tanh(g)
    return th.sigmoid(o) * th.tanh(cell), cell


def _gru(a: Tensors, recurrent, state, drive):
    (hidden,) = state
    (r, z, n), (r_h, z_h, n_h) = (
        part.chunk(3, -1) for part in (drive, recurrent(a["recurrent_bias"], hidden))
    )
    z = th.sigmoid(z + z_h)
    n = th.tanh(th.addcmul(n, th.sigmoid(r + r_h), n_h))
    return (n + z * (hidden - n),)


def _sru(a: Tensors, recurrent, state, drive):
    (cell,) = state
    candidate, f, _ = drive.chunk(3, -1)  # L reads no output: r is not needed
    return (th.lerp(candidate, cell, th.sigmoid(recurrent(f, cell))),)


STEPS = {"elman": _elman, "lstm": _lstm, "gru": _gru, "sru": _sru}


def _with_own_matrices(a: Tensors) -> Callable:
    """A matrix w R for each weight; a vector w v, or one number, multiplies element-wise."""
    weights = a["weights"][:, None, None]
    if "recurrent_vector" in a:
        factors = weights * a["recurrent_vector"].chunk(2)[0]
    else:
        factors = weights * a["recurrent_kernel"]
    if factors.shape[1] == 1:
        return lambda offset, hidden: th.addcmul(offset, factors, hidden)
    return lambda offset, hidden: th.baddbmm(offset.expand(*hidden.shape[:2], -1), hidden, factors)


def _with_shared_matrix(a: Tensors) -> Callable:
    """One product of all weights' states with R, then times w."""
    weights, matrix = a["weights"][:, None, None], a["recurrent_kernel"]
    return lambda offset, hidden: th.addcmul(offset, weights, hidden @ matrix)


def _norm(grads: list) -> th.Tensor:
    return th.linalg.vector_norm(th.cat(grads, dim=-1), dim=-1)


def torch(row: tuple, arrays: dict[str, np.ndarray], dtype: str) -> Callable:
    cell, num_weights, _, batch, hidden = row
    a = to_torch(arrays, dtype)
    num_parts = 2 if cell == "lstm" else 1
    zeros = a["xs"].new_zeros(num_weights, batch, hidden)

    def sweep(make_recurrent: Callable) -> np.ndarray:
        recurrent = make_recurrent(a)
        states = [tuple(zeros.clone().requires_grad_() for _ in range(num_parts))]
        for drive in project_inputs(a):
            states.append(STEPS[cell](a, recurrent, states[-1], drive))
            for part in states[-1]:
                part.retain_grad()
        (states[-1][0] * a["projection"]).sum().backward()
        norms = [_norm([part.grad for part in state]) for state in states]
        return to_numpy(th.stack(norms, dim=1).log())

    def seconds(make_recurrent: Callable) -> float:
        sweep(make_recurrent)
        start = time.perf_counter()
        sweep(make_recurrent)
        return time.perf_counter() - start

    ways = [_with_own_matrices]
    if cell != "sru" and hidden > 1:  # else there is no matrix
        ways.append(_with_shared_matrix)
    fastest = min(ways, key=seconds) if len(ways) > 1 else ways[0]
    return lambda: sweep(fastest)
