"""Files of weights: what is saved comes back, and other libraries read it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line
from safetensors.numpy import load_file, save_file

from rnn_jax import CELLS, elman, gru, hold_gates, lstm, sru
from rnn_jax.interop import from_torch, load, save, to_torch
from rnn_jax.models import unroll_layers

I, H = 2, 4  # noqa: E741


def stack(cell, dtype=np.float64, num_layers=2):
    """Layers of both directions."""
    sizes = [I] + [2 * H] * (num_layers - 1)
    return {
        f"layer_{layer + 1}": {
            direction: jax.tree.map(
                lambda leaf: np.asarray(leaf).astype(dtype),
                cell.init(jax.random.key(10 * layer + d), size, jnp.float64),
            )
            for d, direction in enumerate(("forward", "reverse"))
        }
        for layer, size in enumerate(sizes)
    }


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype and one.tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_comes_back(name, tmp_path):
    cell = CELLS[name](H)
    layers = stack(cell, jnp.bfloat16 if name == "lstm" else np.float64)
    save(tmp_path / "weights.safetensors", cell, layers)
    found = load(tmp_path / "weights.safetensors")
    assert found.cell is cell
    assert_same_bits(found.layers, layers)


@pytest.mark.parametrize(
    ("cell", "layout", "num_layers"),
    [
        (lstm(H), "rnn_jax", 2),
        (elman(H, "relu"), "torch", 2),
        (gru(H), "torch", 2),
        (sru(H, projects_skip=True), "sru", 1),
    ],
)
def test_other_layouts_come_back(cell, layout, num_layers, tmp_path):
    layers = stack(cell, num_layers=num_layers)
    save(tmp_path / "weights", cell, layers, layout=layout, prefix="encoder.")
    assert all(name.startswith("encoder.") for name in load_file(tmp_path / "weights"))
    found = load(tmp_path / "weights")
    assert found.cell is cell
    assert_same_bits(found.layers, layers)


def test_a_file_from_elsewhere_is_read_with_cell_and_layout(tmp_path):
    path = tmp_path / "model.safetensors"
    layers = stack(gru(H), np.float32)
    arrays = to_torch(gru(H), layers, prefix="rnn.")
    save_file({**arrays, "head.weight": np.ones(3, np.int8)}, path, metadata={"format": "pt"})
    assert_same_bits(load(path, cell=gru(H), layout="torch", prefix="rnn.").layers, layers)
    with raises_one_line("has no record of rnn_jax"):
        load(path, cell=gru(H))
    with raises_one_line("has no record of rnn_jax"):
        load(path, layout="torch")
    with raises_one_line("layout is 'keras'", "torch"):
        load(path, layout="keras", cell=gru(H))
    with raises_one_line("head.weight is int8"):
        load(path, cell=gru(H), layout="torch")


def test_a_file_says_what_it_is(tmp_path):
    path = tmp_path / "w"
    save(path, elman(H, "relu"), stack(elman(H, "relu")))
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert json.loads(header["__metadata__"]["rnn_jax"]) == {
        "version": 1,
        "cell": {"name": "elman", "hidden_size": H, "activation": "relu"},
        "layout": "rnn_jax",
        "prefix": "",
    }
    assert header["layer_2.reverse.kernel"]["shape"] == [2 * H, H]
    first = path.read_bytes()
    save(path, elman(H, "relu"), stack(elman(H, "relu")))
    assert path.read_bytes() == first


def test_what_a_file_says_and_what_is_asked_must_agree(tmp_path):
    path = tmp_path / "w"
    save(path, lstm(H), stack(lstm(H)))
    assert load(path, cell=lstm(H), layout="rnn_jax", prefix="").cell is lstm(H)
    with raises_one_line("cell is gru(hidden_size=4)", "'lstm'"):
        load(path, cell=gru(H))
    with raises_one_line("layout is 'torch'", "'rnn_jax'"):
        load(path, layout="torch")
    with raises_one_line("prefix is 'a.'"):
        load(path, prefix="a.")
    with raises_one_line("bytes; allowed: 100"):
        load(path, most_bytes=100)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    path.write_bytes(b"PK" + bytes(30))
    with raises_one_line("looks like a pickle"):
        load(path)
    for call in (lambda: load(path, cell="lstm"), lambda: save(path, "lstm", {})):
        with raises_one_line("'lstm'"):
            call()


def test_a_cell_that_is_not_ours_is_given(tmp_path):
    path = tmp_path / "w"
    own = lstm(H)._replace(name="my_lstm")
    save(path, own, stack(own))
    with raises_one_line("has the cell 'my_lstm'", "give the cell"):
        load(path)
    found = load(path, cell=own)
    assert found.cell is own
    assert_same_bits(found.layers, stack(own))


def test_what_a_file_cannot_say_is_not_saved(tmp_path):
    held = hold_gates(lstm(H), forget=1.0)
    for cell in (held, lstm(H)._replace(arguments=())):
        with raises_one_line("has gates held at constants, or is of no factory"):
            save(tmp_path / "w", cell, stack(lstm(H)))
    with raises_one_line("layout is 'keras'"):
        save(tmp_path / "w", lstm(H), stack(lstm(H)), layout="keras")
    with raises_one_line("cell is sru"):
        save(tmp_path / "w", sru(H), stack(sru(H)), layout="torch")
    with raises_one_line("layer_1 is a LSTMParams"):
        save(tmp_path / "w", lstm(H), {"layer_1": stack(lstm(H))["layer_1"]["forward"]})
    with raises_one_line("layers is a LSTMParams"):
        save(tmp_path / "w", lstm(H), stack(lstm(H))["layer_1"]["forward"])
    with pytest.raises(FileNotFoundError, match="is no folder"):
        save(tmp_path / "none" / "w", lstm(H), stack(lstm(H)))
    assert list(tmp_path.iterdir()) == []


def test_what_comes_out_runs(tmp_path):
    """Without float64 in JAX the arrays stay what they are, and run in what JAX has."""
    layers = stack(lstm(H), np.float32)
    save(tmp_path / "w", lstm(H), layers, layout="torch")
    again = from_torch(lstm(H), load_file(tmp_path / "w"))
    xs = np.ones((3, 1, I), np.float32)
    found, expected = (unroll_layers(lstm(H), x, xs)[1] for x in (again, layers))
    assert_same_bits(found, expected)
