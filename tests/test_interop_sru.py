"""Weights from and to the sru package, against its equations in numpy and against the package."""

import importlib.util
import os
import shutil
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line, tree_allclose, tree_equal

from rnn_jax import lstm, sru
from rnn_jax.interop.sru_package import from_sru, to_sru
from rnn_jax.models import unroll_layers

UNITS, NUM_STEPS = 3, 5
LENGTHS = np.array([5, 0, 2])
CELL = sru(UNITS, projects_skip=True)
PLAIN = sru(UNITS)  # passes x itself on where I = H


class Form(NamedTuple):
    """What ``sru.SRU`` is made with; scale_x is what its rescale=True would make of a bias."""

    input_size: int
    num_layers: int = 2
    bidirectional: bool = False
    scale: float = 1.7
    has_skip_term: bool = True

    def widths(self):
        """(I, D*H, k) of every layer."""
        width = UNITS * (2 if self.bidirectional else 1)
        sizes = [self.input_size, *[width] * (self.num_layers - 1)]
        return [(size, width, 4 if self.has_skip_term and size != width else 3) for size in sizes]

    def state_dict(self, dtype=np.float64):
        """Random weights under the package's names, in its shapes."""
        rng = np.random.default_rng(7)
        scale = self.scale if self.has_skip_term else 1.0
        arrays = {}
        for layer, (size, width, k) in enumerate(self.widths()):
            arrays |= {
                f"rnn_lst.{layer}.weight": rng.normal(size=(size, width * k)),
                f"rnn_lst.{layer}.weight_c": rng.normal(size=2 * width),
                f"rnn_lst.{layer}.bias": rng.normal(size=2 * width),
                f"rnn_lst.{layer}.scale_x": np.array([scale]),
            }
        return {name: array.astype(dtype) for name, array in arrays.items()}

    def xs(self):
        return np.random.default_rng(8).normal(size=(NUM_STEPS, len(LENGTHS), self.input_size))


FORMS = {
    "scaled_identity": Form(UNITS),
    "projected": Form(2),
    "both_directions_identity": Form(2 * UNITS, bidirectional=True),
    "both_directions_projected": Form(UNITS, bidirectional=True),
    "no_skip": Form(UNITS, has_skip_term=False, bidirectional=True),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def as_the_package(form, state, xs, lengths):
    """The package's equations, one unit at a time: last states [L, B, D*H], outputs [T, B, D*H].

    Transcribed from its description of the layouts: U = x W is [T, B, D, H, k].
    """
    num_directions = 2 if form.bidirectional else 1
    last = np.zeros((form.num_layers, xs.shape[1], num_directions * UNITS))
    for layer, (_, width, k) in enumerate(form.widths()):
        weight, weight_c, bias, scale = (
            state[f"rnn_lst.{layer}.{part}"] for part in ("weight", "weight_c", "bias", "scale_x")
        )
        outputs = np.zeros((*xs.shape[:2], width))
        for b, length in enumerate(lengths):
            for column in range(width):  # direction * H + unit
                u = xs[:, b] @ weight[:, column * k : (column + 1) * k]
                v_f, v_r = weight_c[column], weight_c[width + column]
                b_f, b_r = bias[column], bias[width + column]
                times = range(length) if column < UNITS else reversed(range(length))
                c = 0.0
                for t in times:
                    f = 1 / (1 + np.exp(-(u[t, 1] + v_f * c + b_f)))
                    r = 1 / (1 + np.exp(-(u[t, 2] + v_r * c + b_r)))
                    c = f * c + (1 - f) * u[t, 0]
                    skip = 0.0
                    if form.has_skip_term:
                        skip = u[t, 3] if k == 4 else xs[t, b, column] * scale[0]
                    outputs[t, b, column] = r * c + (1 - r) * skip
                last[layer, b, column] = c
        xs = outputs
    return last, xs


def ours(layers, xs, lengths):
    """``unroll_layers``, its last states stacked as the package's."""
    last, ys = unroll_layers(CELL, layers, jnp.asarray(xs), seq_lengths=lengths)
    states = [jnp.concatenate([c.cell for c in layer.values()], axis=-1) for layer in last.values()]
    return jnp.stack(states), ys


@every_form
def test_computes_what_the_package_computes(form):
    state = form.state_dict()
    layers = from_sru(CELL, state, has_skip_term=form.has_skip_term)
    expected = as_the_package(form, state, form.xs(), LENGTHS)
    tree_allclose(ours(layers, form.xs(), LENGTHS), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, jnp.bfloat16])
@every_form
def test_in_and_out_gives_the_same_bits(form, dtype):
    state = form.state_dict(dtype)
    layers = from_sru(CELL, state, has_skip_term=form.has_skip_term)
    back = to_sru(CELL, layers, has_skip_term=form.has_skip_term)
    assert list(back) == list(state)
    tree_equal(back, state)
    tree_equal(from_sru(CELL, back, has_skip_term=form.has_skip_term), layers)


def drawn(cell, *input_sizes):
    """Layers that were made here, in one direction."""
    keys = jax.random.split(jax.random.key(0), len(input_sizes))
    return {
        f"layer_{layer + 1}": {"forward": jax.tree.map(np.asarray, cell.init(key, size))}
        for layer, (key, size) in enumerate(zip(keys, input_sizes, strict=True))
    }


@pytest.mark.parametrize("input_sizes", [(UNITS,), (2,), (UNITS, UNITS), (2, UNITS)])
def test_out_and_in_gives_the_same_bits(input_sizes):
    layers = drawn(PLAIN, *input_sizes)
    state = to_sru(PLAIN, layers)
    assert all(state[f"rnn_lst.{layer}.scale_x"] == 1 for layer in range(len(input_sizes)))
    tree_equal(from_sru(PLAIN, state), layers)


def test_where_only_the_package_projects_it_gets_an_identity():
    """It does so in both directions with I = H."""
    one, other = (drawn(PLAIN, UNITS)["layer_1"]["forward"] for _ in range(2))
    layers = {"layer_1": {"forward": one, "reverse": other}}
    state = to_sru(PLAIN, layers)
    assert state["rnn_lst.0.weight"].shape == (UNITS, 2 * 4 * UNITS)
    tree_equal(from_sru(PLAIN, state), layers)


def test_one_cell_and_a_prefix():
    state = Form(2, num_layers=1).state_dict()
    layers = from_sru(CELL, state)
    cell_state = {name.removeprefix("rnn_lst.0."): array for name, array in state.items()}
    tree_equal(from_sru(CELL, cell_state), layers)
    mixed = {"decoder.bias": np.zeros(4)} | {f"a.b.{name}": a for name, a in state.items()}
    tree_equal(from_sru(CELL, mixed, prefix="a.b."), layers)
    assert list(to_sru(CELL, layers, prefix="a.b.")) == list(mixed)[1:]


def test_shares_no_memory():
    """A module may train on in its own arrays."""
    state = Form(UNITS).state_dict()
    layers = from_sru(CELL, state)
    before, back = jax.tree.map(np.copy, layers), to_sru(CELL, layers)
    for array in (*state.values(), *back.values()):
        array += 1.0
    tree_equal(layers, before)


def changed(name, array):
    """A state dict with one array more, another, or one less."""
    state = Form(2).state_dict() | {name: array}
    return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("rnn_lst.0.weight", np.zeros((2, 9)), "three matrices, as of a module that has no skip"),
        ("rnn_lst.0.weight", np.zeros((2, 11)), "rnn_lst.0.weight has shape (2, 11)"),
        ("rnn_lst.0.weight", np.zeros(()), "rnn_lst.0.weight has shape ()"),
        ("rnn_lst.0.weight", np.zeros((0, 12)), "rnn_lst.0.weight has shape (0, 12)"),
        ("rnn_lst.1.weight", np.zeros((3, 12)), "rnn_lst.1.weight has shape (3, 12)"),
        ("rnn_lst.1.bias", np.zeros(12), "rnn_lst.1.bias has shape (12,)"),
        ("rnn_lst.0.bias", np.zeros(5), "rnn_lst.0.bias has shape (5,)"),
        ("rnn_lst.0.scale_x", np.zeros(()), "rnn_lst.0.scale_x has shape ()"),
        ("rnn_lst.0.weight_c", np.zeros(6, np.float32), "rnn_lst.0.weight_c is float32"),
        ("rnn_lst.0.weight_c", np.zeros(6, int), "rnn_lst.0.weight_c is int64"),
        ("rnn_lst.1.scale_x", None, "rnn_lst.1.scale_x is missing"),
        ("rnn_lst.3.bias", np.zeros(6), "rnn_lst.3.bias is no weight of sru.SRU"),
        ("rnn_lst.01.bias", np.zeros(6), "rnn_lst.01.bias is no weight of sru.SRU"),
        ("bias", np.zeros(6), "bias is no weight of sru.SRU"),
        ("rnn_lst.0.weight_proj", np.zeros((2, 1)), "projection_size"),
        ("rnn_lst.1.layer_norm.weight", np.zeros(3), "layer_norm=True"),
        ("rnn_lst.0.custom_m.weight", np.zeros((3, 2)), "custom_m"),
        ("rnn_lst.0.transform_module.linear1.weight", np.zeros((3, 2)), "SRU++"),
        ("input_to_hidden.weight", np.zeros((3, 2)), "proj_input_to_hidden_first"),
    ],
)
def test_refuses_by_name(name, array, said):
    with raises_one_line(said):
        from_sru(CELL, changed(name, array))


def test_refuses_what_the_package_has_not():
    with raises_one_line("cell is lstm", "sru"):
        from_sru(lstm(UNITS), Form(2).state_dict())
    with raises_one_line("cell is lstm", "sru"):
        to_sru(lstm(UNITS), {})
    with raises_one_line("encoder.weight is missing"):
        from_sru(CELL, Form(2).state_dict(), prefix="encoder.")
    with raises_one_line("three matrices"):
        from_sru(CELL, Form(2, has_skip_term=False).state_dict())
    with raises_one_line("rnn_lst.0.weight has shape (2, 12)", "(2, 9)"):
        from_sru(CELL, Form(2).state_dict(), has_skip_term=False)
    with raises_one_line("rnn_lst.0.scale_x is 1.7", "sru(3, projects_skip=True)"):
        from_sru(PLAIN, Form(UNITS).state_dict())
    with raises_one_line("rnn_lst.0.weight has no skip term", "sru(3, projects_skip=True)"):
        from_sru(PLAIN, Form(UNITS, has_skip_term=False).state_dict(), has_skip_term=False)
    with raises_one_line("rnn_lst.0.weight projects", "sru(3, projects_skip=True)"):
        from_sru(PLAIN, Form(UNITS, bidirectional=True).state_dict())
    with raises_one_line("layer_1 projects its skip term"):
        to_sru(CELL, drawn(CELL, UNITS))
    with raises_one_line("layer_2 projects its skip term"):
        first, second = (drawn(PLAIN, size)["layer_1"]["forward"] for size in (2, 2 * UNITS))
        layers = {
            "layer_1": {"forward": first, "reverse": first},
            "layer_2": {"forward": second, "reverse": second},
        }
        to_sru(PLAIN, layers)
    with raises_one_line("layer_1 has a skip term", "zero"):
        to_sru(CELL, drawn(CELL, UNITS), has_skip_term=False)
    with raises_one_line("directions are layer_1: reverse", "forward, or both"):
        to_sru(CELL, {"layer_1": {"reverse": drawn(CELL, 2)["layer_1"]["forward"]}})


@pytest.fixture
def package():
    """The package: it compiles C++ when first imported, and its loop for float64 is Python."""
    missing = [name for name in ("sru", "ninja", "torch") if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"compares with the sru package: {missing} not installed (extra peers)")
    if not shutil.which(os.environ.get("CXX", "c++")):
        pytest.skip("the sru package needs a C++ compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no CUDA, and that its Python loop is slow
        import sru as package
        import torch

        torch.set_num_threads(1)
        yield package


@pytest.mark.parametrize("rescale", [True, False])
@every_form
def test_parity_with_the_package(package, form, rescale):
    import torch

    arguments = {
        "bidirectional": form.bidirectional,
        "has_skip_term": form.has_skip_term,
        "rescale": rescale,
    }
    torch.manual_seed(3)
    made = package.SRU(form.input_size, UNITS, form.num_layers, highway_bias=-0.7, **arguments)
    module = made.double()
    state = {name: array.numpy() for name, array in module.state_dict().items()}
    layers = from_sru(CELL, module.state_dict(), has_skip_term=form.has_skip_term)
    mask = torch.tensor(np.arange(NUM_STEPS)[:, None] >= LENGTHS)
    ys, last = module(torch.tensor(form.xs()), mask_pad=mask)
    expected = (last.detach().numpy(), ys.detach().numpy())
    tree_allclose(ours(layers, form.xs(), LENGTHS), expected)
    tree_allclose(as_the_package(form, state, form.xs(), LENGTHS), expected)

    back = to_sru(CELL, layers, has_skip_term=form.has_skip_term)
    if not all(k == 4 for *_, k in form.widths()):  # or nothing read says what scale_x was
        tree_equal(back, state)
    other = package.SRU(form.input_size, UNITS, form.num_layers, **arguments).double()
    other.load_state_dict({name: torch.from_numpy(array) for name, array in back.items()})
    again = other(torch.tensor(form.xs()), mask_pad=mask)
    assert torch.equal(again[0], ys) and torch.equal(again[1], last)
