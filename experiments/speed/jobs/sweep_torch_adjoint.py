"""The sweep in PyTorch without autograd: the backward loop written by hand for each cell.

The matrix R is shared: one product of all weights' states a step, [N*B, H] @ [H, G*H], then times
w. All is computed in place, in memory taken once before anything is timed. Going back, every loop
holds ``grad`` = dL/dh_t (SRU: dL/dc_t) and keeps its norm.
"""

from collections.abc import Callable

import numpy as np
import torch as th

from experiments.speed.jobs.sweep_torch import Tensors, project_inputs, to_numpy, to_torch

# (gradient of the output, output) -> gradient of the input
tanh_backward = th.ops.aten.tanh_backward.grad_input
sigmoid_backward = th.ops.aten.sigmoid_backward.grad_input


def multiply(states: th.Tensor, matrix: th.Tensor, out: th.Tensor) -> None:
    """out [N, B, K] = states [N, B, H] @ matrix [H, K], as one product."""
    if matrix.numel() == 1:
        th.mul(states, matrix, out=out)
    else:
        th.mm(states.flatten(0, 1), matrix, out=out.flatten(0, 1))


def norm(grad: th.Tensor, out: th.Tensor) -> None:
    th.linalg.vector_norm(grad, dim=-1, out=out)


def _elman(a: Tensors, empty: Callable, norms: th.Tensor) -> Callable:
    w, matrix, back = a["weights"][:, None, None], a["recurrent_kernel"], a["recurrent_kernel"].T
    num_steps = len(a["xs"])
    hidden, product, grad = empty(num_steps + 1), empty(), empty()
    hidden[0] = 0

    def sweep():
        drive = project_inputs(a)
        for t in range(num_steps):
            multiply(hidden[t], matrix, out=product)
            th.addcmul(drive[t], w, product, out=hidden[t + 1]).tanh_()
        grad[:] = a["projection"]
        for t in reversed(range(num_steps)):
            norm(grad, out=norms[t + 1])
            tanh_backward(grad, hidden[t + 1], grad_input=product)
            multiply(product, back, out=grad)
            grad.mul_(w)
        norm(grad, out=norms[0])

    return sweep


def _lstm(a: Tensors, empty: Callable, norms: th.Tensor) -> Callable:
    w, size, num_steps = a["weights"][:, None, None], a["xs"].shape[-1], len(a["xs"])
    order = th.arange(4 * size, device=w.device).view(4, size)[[0, 1, 3, 2]].flatten()
    a = a | {name: a[name][..., order] for name in ("kernel", "recurrent_kernel", "bias")}
    matrix, back = a["recurrent_kernel"], a["recurrent_kernel"].T  # now i, f, o, g
    sigmoids, tanhs = slice(3 * size), slice(3 * size, None)
    hidden, cell, tanh_cell = empty(num_steps + 1), empty(num_steps + 1), empty(num_steps)
    gates, product = empty(num_steps, gates=4), empty(gates=4)
    grad, cell_grad, later_cell_grad, scratch = (empty() for _ in range(4))
    hidden[0] = cell[0] = 0

    def norm_of_both(t):
        pair = (th.linalg.vector_norm(g, dim=-1) for g in (grad, cell_grad))
        th.hypot(*pair, out=norms[t])

    def sweep():
        drive = project_inputs(a)
        for t in range(num_steps):
            multiply(hidden[t], matrix, out=product)
            th.addcmul(drive[t], w, product, out=gates[t])
            gates[t][..., sigmoids].sigmoid_()
            gates[t][..., tanhs].tanh_()
            i, f, o, g = gates[t].split(size, -1)
            th.mul(f, cell[t], out=cell[t + 1]).addcmul_(i, g)
            th.tanh(cell[t + 1], out=tanh_cell[t])
            th.mul(o, tanh_cell[t], out=hidden[t + 1])
        grad[:] = a["projection"]
        later_cell_grad.zero_()
        for t in reversed(range(num_steps)):
            i, f, o, g = gates[t].split(size, -1)
            d_i, d_f, d_o, d_g = product.split(size, -1)
            th.mul(grad, o, out=scratch)
            tanh_backward(scratch, tanh_cell[t], grad_input=cell_grad)
            cell_grad.add_(later_cell_grad)
            norm_of_both(t + 1)
            th.mul(cell_grad, g, out=d_i)
            th.mul(cell_grad, cell[t], out=d_f)
            th.mul(grad, tanh_cell[t], out=d_o)
            d_sigmoids = product[..., sigmoids]
            sigmoid_backward(d_sigmoids, gates[t][..., sigmoids], grad_input=d_sigmoids)
            th.mul(cell_grad, i, out=scratch)
            tanh_backward(scratch, g, grad_input=d_g)
            th.mul(cell_grad, f, out=later_cell_grad)
            multiply(product, back, out=grad)
            grad.mul_(w)
        cell_grad.copy_(later_cell_grad)
        norm_of_both(0)

    return sweep


def _gru(a: Tensors, empty: Callable, norms: th.Tensor) -> Callable:
    w, size, num_steps = a["weights"][:, None, None], a["xs"].shape[-1], len(a["xs"])
    matrix, back = a["recurrent_kernel"], a["recurrent_kernel"].T
    sigmoids, last = slice(2 * size), slice(2 * size, None)
    hidden, candidate = empty(num_steps + 1), empty(num_steps)
    gates, product = empty(num_steps, gates=3), empty(gates=3)  # r, z, w R_n h + b_hn
    grad, kept, scratch, d_n = (empty() for _ in range(4))
    hidden[0] = 0

    def sweep():
        drive = project_inputs(a)
        offset = a["recurrent_bias"].expand_as(drive).clone()
        offset[..., sigmoids] += drive[..., sigmoids]
        for t in range(num_steps):
            multiply(hidden[t], matrix, out=product)
            th.addcmul(offset[t], w, product, out=gates[t])
            gates[t][..., sigmoids].sigmoid_()
            r, z, n_h = gates[t].split(size, -1)
            n = th.addcmul(drive[t][..., last], r, n_h, out=candidate[t]).tanh_()
            th.lerp(n, hidden[t], z, out=hidden[t + 1])
        grad[:] = a["projection"]
        for t in reversed(range(num_steps)):
            norm(grad, out=norms[t + 1])
            r, z, n_h = gates[t].split(size, -1)
            d_r, d_z, d_n_h = product.split(size, -1)
            th.mul(grad, z, out=kept)
            th.sub(grad, kept, out=scratch)
            tanh_backward(scratch, candidate[t], grad_input=d_n)
            th.mul(d_n, n_h, out=d_r)
            th.mul(d_n, r, out=d_n_h)
            th.sub(hidden[t], candidate[t], out=scratch)
            th.mul(grad, scratch, out=d_z)
            d_sigmoids = product[..., sigmoids]
            sigmoid_backward(d_sigmoids, gates[t][..., sigmoids], grad_input=d_sigmoids)
            multiply(product, back, out=scratch)
            th.addcmul(kept, w, scratch, out=grad)
        norm(grad, out=norms[0])

    return sweep


def _sru(a: Tensors, empty: Callable, norms: th.Tensor) -> Callable:
    num_steps = len(a["xs"])
    vectors = a["weights"][:, None, None] * a["recurrent_vector"].chunk(2)[0]  # w v_f
    cell, forget, grad, scratch = empty(num_steps + 1), empty(num_steps), empty(), empty()
    cell[0] = 0

    def sweep():
        candidate, drive, _ = project_inputs(a).chunk(3, -1)  # L reads no output: r is not needed
        for t in range(num_steps):
            f = th.addcmul(drive[t], vectors, cell[t], out=forget[t]).sigmoid_()
            th.lerp(candidate[t], cell[t], f, out=cell[t + 1])
        grad[:] = a["projection"]
        for t in reversed(range(num_steps)):
            norm(grad, out=norms[t + 1])
            th.sub(cell[t], candidate[t], out=scratch).mul_(grad)
            sigmoid_backward(scratch, forget[t], grad_input=scratch)
            grad.mul_(forget[t]).addcmul_(vectors, scratch)
        norm(grad, out=norms[0])

    return sweep


LOOPS = {"elman": _elman, "lstm": _lstm, "gru": _gru, "sru": _sru}


def torch_adjoint(row: tuple, arrays: dict[str, np.ndarray], dtype: str) -> Callable:
    cell, num_weights, num_steps, batch, hidden = row
    a = to_torch(arrays, dtype)

    def empty(*steps: int, gates: int = 1) -> th.Tensor:
        return a["xs"].new_empty(*steps, num_weights, batch, gates * hidden)

    norms = a["xs"].new_empty(num_steps + 1, num_weights, batch)
    sweep = LOOPS[cell](a, empty, norms)

    def call() -> np.ndarray:
        with th.no_grad():
            sweep()
            return to_numpy(norms.log().transpose(0, 1))

    return call
