"""Elman, LSTM and GRU against PyTorch after copying weights, float64 on the CPU."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tree_allclose

from rnn_jax import elman, gradient_flow, gru, lstm, unroll
from rnn_jax.interop.pytorch import from_torch

try:
    import torch
except ImportError:
    torch = None
else:
    torch.set_num_threads(1)  # its threads and JAX's fight in one process

pytestmark = pytest.mark.parity

NUM_STEPS, BATCH, INPUTS, UNITS = 7, 3, 4, 5
LENGTHS = np.array([7, 1, 4])


class Peer(NamedTuple):
    """A cell, and PyTorch's class of it."""

    cell: Any
    module: str
    arguments: dict = {}


PEERS = {
    "elman_tanh": Peer(elman(UNITS), "RNN", {"nonlinearity": "tanh"}),
    "elman_relu": Peer(elman(UNITS, "relu"), "RNN", {"nonlinearity": "relu"}),
    "lstm": Peer(lstm(UNITS), "LSTM"),
    "gru": Peer(gru(UNITS), "GRU"),
}
every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def make(peer):
    """The PyTorch module in float64, all biases random; its weights by name; the same as Params."""
    module = getattr(torch.nn, peer.module)(INPUTS, UNITS, **peer.arguments).double()
    for seed, weight in enumerate(module.parameters()):
        weight.data = torch.tensor(0.5 * random(seed, *weight.shape))
    weights = {name: weight.detach().numpy() for name, weight in module.named_parameters()}
    return module, as_params(peer, weights)


def as_params(peer, weights):
    return from_torch(peer.cell, weights)["layer_1"]["forward"]


def grads_as_params(peer, module):
    """Gradients of the weights, arranged as Params: a summed bias has the gradient of either."""
    grads = {name: weight.grad.numpy() for name, weight in module.named_parameters()}
    if peer.module != "GRU":
        tree_allclose(grads["bias_hh_l0"], grads["bias_ih_l0"])
        grads["bias_hh_l0"] = np.zeros_like(grads["bias_hh_l0"])
    return as_params(peer, grads)


def as_carry(peer, leaves):
    """A list of states, hidden first, as the cell's Carry."""
    carry = peer.cell.initial_carry((BATCH,), jnp.float64)
    return type(carry)(*[jnp.asarray(leaf) for leaf in leaves])


def num_states(peer):
    return 2 if peer.module == "LSTM" else 1


@every_peer
@pytest.mark.parametrize("has_lengths", [False, True])
def test_module(peer, has_lengths):
    """Outputs, last states, gradients by all weights, inputs and initial states, with lengths."""
    module, params = make(peer)
    xs = random(10, NUM_STEPS, BATCH, INPUTS)
    ys_weights = random(11, NUM_STEPS, BATCH, UNITS)
    states = [random(12 + k, BATCH, UNITS) for k in range(num_states(peer))]
    state_weights = [random(14 + k, BATCH, UNITS) for k in range(num_states(peer))]
    lengths = LENGTHS if has_lengths else None

    torch_xs = torch.tensor(xs, requires_grad=True)
    torch_states = [torch.tensor(state[None], requires_grad=True) for state in states]
    inputs = torch_xs
    if has_lengths:
        inputs = torch.nn.utils.rnn.pack_padded_sequence(
            torch_xs, torch.tensor(lengths), enforce_sorted=False
        )
    ys, last = module(inputs, tuple(torch_states) if len(torch_states) == 2 else torch_states[0])
    last = last if isinstance(last, tuple) else (last,)
    if has_lengths:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=NUM_STEPS)
    loss = (ys * torch.tensor(ys_weights)).sum()
    for state, weight in zip(last, state_weights, strict=True):
        loss = loss + (state[0] * torch.tensor(weight)).sum()
    loss.backward()

    def run(params, xs, carry):
        last, ys = unroll(peer.cell, params, xs, initial_carry=carry, seq_lengths=lengths)
        terms = [jnp.vdot(w, leaf) for w, leaf in zip(state_weights, last, strict=True)]
        return jnp.vdot(ys_weights, ys) + sum(terms), (last, ys)

    (value, (last_carry, outputs)), gradients = jax.value_and_grad(run, (0, 1, 2), has_aux=True)(
        params, jnp.asarray(xs), as_carry(peer, states)
    )
    tree_allclose(value, np.asarray(loss.item()))
    tree_allclose(outputs, ys.detach().numpy())
    tree_allclose(last_carry, as_carry(peer, [state[0].detach().numpy() for state in last]))
    expected = (
        grads_as_params(peer, module),
        torch_xs.grad.numpy(),
        as_carry(peer, [state.grad[0].numpy() for state in torch_states]),
    )
    tree_allclose(gradients, expected)


@every_peer
@pytest.mark.parametrize("reads_outputs", [False, True])
def test_retained_gradients(peer, reads_outputs):
    """retain_grad on every h_t and c_t = gradient of carry_tap = gradient_flow's norms, by leaf."""
    module, params = make(peer)
    cell = getattr(torch.nn, peer.module + "Cell")(INPUTS, UNITS, **peer.arguments).double()
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in module.state_dict().items()})
    xs, ys_weights = (
        random(10, NUM_STEPS, BATCH, INPUTS),
        random(11, NUM_STEPS, BATCH, UNITS) * reads_outputs,
    )
    states = [random(12 + k, BATCH, UNITS) for k in range(num_states(peer))]
    state_weights = [random(14 + k, BATCH, UNITS) for k in range(num_states(peer))]

    trajectory = [[torch.tensor(state, requires_grad=True) for state in states]]
    loss = torch.zeros((), dtype=torch.float64)
    for x_t, weight in zip(torch.tensor(xs), torch.tensor(ys_weights), strict=True):
        state = trajectory[-1]
        new = cell(x_t, tuple(state) if len(state) == 2 else state[0])
        trajectory.append(list(new) if isinstance(new, tuple) else [new])
        for leaf in trajectory[-1]:
            leaf.retain_grad()
        if reads_outputs:
            loss = loss + (trajectory[-1][0] * weight).sum()
    for leaf, weight in zip(trajectory[-1], state_weights, strict=True):
        loss = loss + (leaf * torch.tensor(weight)).sum()
    loss.backward()
    retained = [
        np.stack([state[k].grad.numpy() for state in trajectory]) for k in range(num_states(peer))
    ]

    def readout(last, ys):
        terms = [jnp.vdot(w, leaf) for w, leaf in zip(state_weights, last, strict=True)]
        return sum(terms) + (jnp.vdot(ys_weights, ys) if reads_outputs else 0.0)

    carry = as_carry(peer, states)
    tap = jax.tree.map(lambda a: jnp.zeros((NUM_STEPS, *a.shape)), carry)

    def run(carry, tap):
        return readout(*unroll(peer.cell, params, xs, initial_carry=carry, carry_tap=tap))

    first, later = jax.grad(run, (0, 1))(carry, tap)
    found = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)
    tree_allclose(found, as_carry(peer, retained))

    flow = gradient_flow(peer.cell, params, xs, readout, initial_carry=carry)
    tree_allclose(flow.loss, np.asarray(loss.item()))
    squares = [(grad**2).sum(-1) for grad in retained]
    tree_allclose(flow.leaf_log_norms, as_carry(peer, [0.5 * np.log(s) for s in squares]))
    tree_allclose(flow.log_carry_norm, 0.5 * np.log(sum(squares)))


@pytest.mark.parametrize("name", ["elman_tanh", "gru"])
def test_a_clip_at_every_step_is_a_hook_on_every_state(name):
    """register_hook on each h_t, t = 0..T, scales its gradient row by row."""
    peer, c = PEERS[name], 0.8
    module, params = make(peer)
    cell = getattr(torch.nn, peer.module + "Cell")(INPUTS, UNITS, **peer.arguments).double()
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in module.state_dict().items()})
    xs, ys_weights = random(10, NUM_STEPS, BATCH, INPUTS), random(11, NUM_STEPS, BATCH, UNITS)
    start = random(12, BATCH, UNITS)
    num_clipped = 0

    def clip(gradient):
        nonlocal num_clipped
        norm = gradient.norm(dim=-1, keepdim=True)
        num_clipped += int((norm > c).sum())
        return gradient * torch.clamp(c / norm, max=1.0)

    torch_start = torch.tensor(start, requires_grad=True)
    torch_start.register_hook(clip)
    state, loss = torch_start, 0.0
    for x_t, weight in zip(torch.tensor(xs), torch.tensor(ys_weights), strict=True):
        state = cell(x_t, state)
        state.register_hook(clip)
        loss = loss + (state * weight).sum()
    loss.backward()

    def run(params, carry):
        _, ys = unroll(peer.cell, params, xs, initial_carry=carry, max_carry_norm=c)
        return jnp.vdot(ys_weights, ys)

    gradients = jax.grad(run, (0, 1))(params, as_carry(peer, [start]))
    for parameter in module.named_parameters():
        parameter[1].grad = getattr(cell, parameter[0].removesuffix("_l0")).grad
    expected = grads_as_params(peer, module), as_carry(peer, [torch_start.grad.numpy()])
    tree_allclose(gradients, expected)
    assert 0 < num_clipped < BATCH * (NUM_STEPS + 1)
