"""PyTorch's state dicts in and out; the modules themselves compute the same."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line, tree_allclose

from rnn_jax import elman, gru, hold_gates, lstm, sru
from rnn_jax.interop.pytorch import MODULES, PARTS, from_torch, to_torch
from rnn_jax.models import unroll_layers

try:
    import torch
except ImportError:
    torch = None
else:
    torch.set_num_threads(1)  # its threads and JAX's fight in one process

T, B, I, H = 6, 3, 2, 4  # noqa: E741
LENGTHS = np.array([6, 1, 4])
CELLS = {
    "elman_tanh": elman(H),
    "elman_relu": elman(H, "relu"),
    "lstm": lstm(H),
    "gru": gru(H),
}
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
SHAPES = {  # layers, directions, bias
    "one": (1, 1, True),
    "stacked": (3, 1, True),
    "both_directions_stacked": (2, 2, True),
    "no_bias": (2, 2, False),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def state_dict(cell, num_layers=1, num_directions=1, bias=True, dtype=np.float64, prefix=""):
    """The arrays of a module, in PyTorch's names and order, written down from its documentation."""
    draw = np.random.default_rng(0)
    rows = MODULES[cell.name][1] * H
    arrays = {}
    for layer in range(num_layers):
        width = I if layer == 0 else num_directions * H
        for suffix in ("", "_reverse")[:num_directions]:
            shapes = (rows, width), (rows, H), (rows,), (rows,)
            for part, shape in zip(PARTS[: 4 if bias else 2], shapes, strict=False):
                values = 0.5 * draw.normal(size=shape)
                arrays[f"{prefix}{part}_l{layer}{suffix}"] = values.astype(dtype)
    return arrays


def same_bits(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parity
@every_shape
@every_cell
def test_the_module_computes_the_same(cell, shape):
    """Ours with its weights, and it with ours: outputs and last states, with lengths."""
    num_layers, num_directions, bias = shape
    kind = {"nonlinearity": dict(cell.arguments)["activation"]} if cell.name == "elman" else {}
    module = getattr(torch.nn, MODULES[cell.name][0][3:])(
        I, H, num_layers, bias=bias, bidirectional=num_directions == 2, dtype=torch.float64, **kind
    )
    given = {k: torch.from_numpy(v) for k, v in state_dict(cell, *shape).items()}
    module.load_state_dict(given)
    layers = from_torch(cell, module.state_dict())
    xs = np.random.default_rng(1).normal(size=(T, B, I))

    def run_module():
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(xs), torch.from_numpy(LENGTHS), enforce_sorted=False
        )
        ys, last = module(packed)
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=T)
        last = last if isinstance(last, tuple) else (last,)
        return ys.detach().numpy(), [leaf.detach().numpy() for leaf in last]

    carries, ys = unroll_layers(cell, layers, xs, seq_lengths=LENGTHS)
    last = [carry for layer in carries.values() for carry in layer.values()]
    found = ys, [jnp.stack(leaves) for leaves in zip(*last, strict=True)]
    tree_allclose(found, run_module())

    for parameter in module.parameters():
        parameter.data.zero_()
    back = to_torch(cell, layers, bias=bias)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in back.items()})
    tree_allclose(found, run_module())


@every_shape
@every_cell
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trips_to_the_bit(cell, shape, dtype):
    arrays = state_dict(cell, *shape, dtype=jnp.dtype(dtype), prefix="encoder.")
    layers = from_torch(cell, arrays, prefix="encoder.")
    back = to_torch(cell, layers, prefix="encoder.", bias=shape[2])
    if cell.name == "gru" or not shape[2]:
        same_bits(back, arrays)
    else:  # the sum is kept
        for name, array in arrays.items():
            if "bias_hh" in name:
                array = np.zeros_like(array)
            elif "bias_ih" in name:
                array = array + arrays[name.replace("_ih", "_hh")]
            same_bits({name: back[name]}, {name: array})
    again = from_torch(cell, back, prefix="encoder.")
    for key, layer in layers.items():
        for direction, params in layer.items():
            same_bits(again[key][direction]._asdict(), params._asdict())


def test_a_prefix_leaves_the_rest_of_a_model_alone():
    arrays = {"embedding.weight": np.ones((9, I), int), **state_dict(lstm(H), prefix="lstm.")}
    assert list(from_torch(lstm(H), arrays, prefix="lstm.")) == ["layer_1"]
    with raises_one_line("embedding.weight is int64"):
        from_torch(lstm(H), arrays)
    with raises_one_line(
        "state_dict holds embedding.weight, lstm.weight_ih_l0", "gru.weight_ih_l0"
    ):
        from_torch(gru(H), arrays, prefix="gru.")


def changed(cell, name, array=None, shape=(1, 1, True)):
    arrays = state_dict(cell, *shape)
    if array is None:
        arrays.pop(name)
    else:
        arrays[name] = array
    return arrays


REFUSED = {
    "projection": (
        lstm(H),
        changed(lstm(H), "weight_hr_l0", np.ones((2, H))),
        "weight_hr_l0 is a projection (proj_size)",
    ),
    "peephole": (lstm(H), changed(lstm(H), "weight_ci", np.ones(H)), "weight_ci is a peephole"),
    "reset_before": (gru(H), changed(gru(H), "bias_hh_l0"), "reset before the product"),
    "one_of_many": (
        gru(H),
        changed(gru(H), "bias_hh_l1_reverse", shape=(2, 2, True)),
        "bias_hh_l1_reverse is missing; allowed: weight_ih, weight_hh, bias_ih, bias_hh",
    ),
    "rows": (lstm(H), state_dict(gru(H)), "weight_ih_l0 has shape (12, 2); allowed: (16, 2)"),
    "hidden_size": (
        gru(H + 1),
        state_dict(gru(H)),
        "allowed: (15, 2), for gru(hidden_size=5)",
    ),
    "hidden": (
        gru(H),
        changed(gru(H), "weight_hh_l0", np.ones((12, 3))),
        "weight_hh_l0 has shape (12, 3); allowed: (12, 4)",
    ),
    "width_of_a_later_layer": (
        gru(H),
        changed(gru(H), "weight_ih_l1", np.ones((12, 8)), (2, 1, True)),
        "weight_ih_l1 has shape (12, 8); allowed: (12, 4)",
    ),
    "missing": (lstm(H), changed(lstm(H), "weight_hh_l0"), "weight_hh_l0 is missing"),
    "missing_layer": (
        lstm(H),
        {k.replace("_l0", "_l2"): v for k, v in state_dict(lstm(H)).items()},
        "bias_hh in 3 layers, forward",
    ),
    "missing_direction": (
        lstm(H),
        changed(lstm(H), "bias_ih_l1_reverse", shape=(2, 2, True)),
        "bias_ih_l1_reverse is missing",
    ),
    "bias_of_one_layer": (
        lstm(H),
        {k: v for k, v in state_dict(lstm(H), 2).items() if "bias" not in k or "l1" in k},
        "bias_ih_l0 is missing",
    ),
    "names_of_a_cell": (
        lstm(H),
        {k.replace("_l0", ""): v for k, v in state_dict(lstm(H)).items()},
        "weight_ih has no layer; allowed: weight_ih_l0",
    ),
    "another_name": (lstm(H), changed(lstm(H), "weight_xh_l0", np.ones(2)), "'weight_xh_l0' is no"),
    "dtypes": (
        lstm(H),
        changed(lstm(H), "bias_ih_l0", np.ones(16, np.float32)),
        "bias_ih_l0 is float32 and weight_ih_l0 is float64",
    ),
    "integers": (lstm(H), changed(lstm(H), "bias_ih_l0", np.ones(16, np.int8)), "is int8; allowed"),
    "no_array": (lstm(H), changed(lstm(H), "bias_ih_l0", "none"), "bias_ih_l0 is str; allowed"),
    "scalar": (lstm(H), changed(lstm(H), "weight_ih_l0", 1.0), "has shape"),
    "cell": (sru(H), state_dict(lstm(H)), "cell is sru; allowed for PyTorch: elman, lstm, gru"),
}


@pytest.mark.parametrize(("cell", "arrays", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(cell, arrays, message):
    with raises_one_line(message):
        from_torch(cell, arrays)


def test_what_pytorch_has_not_is_refused_by_name():
    layers = from_torch(lstm(H), state_dict(lstm(H)))
    params = layers["layer_1"]["forward"]
    upper = params._replace(kernel=params.recurrent_kernel)
    with raises_one_line("layer_1.forward.bias is not zero"):
        to_torch(lstm(H), layers, bias=False)
    with raises_one_line("layer_1.forward is LSTMParams", "GRUParams"):
        to_torch(gru(H), layers)
    with raises_one_line("activation is 'sigmoid'", "tanh, relu"):
        to_torch(elman(H, "sigmoid"), layers)
    with raises_one_line("directions are layer_1: forward; layer_2: reverse"):
        to_torch(lstm(H), {"layer_1": {"forward": params}, "layer_2": {"reverse": upper}})
    with raises_one_line("lstm with held gates"):
        to_torch(hold_gates(lstm(H), forget=1.0), layers)
    with raises_one_line("cell is 'lstm'"):
        to_torch("lstm", layers)
    with raises_one_line("the weights are a NoneType"):
        from_torch(lstm(H), None)
    with raises_one_line("layers holds layer_2"):
        to_torch(lstm(H), {"layer_2": {"forward": params}})
    with raises_one_line("layer_1 holds backward"):
        to_torch(lstm(H), {"layer_1": {"backward": params}})
    with raises_one_line("layer_2.forward.kernel has shape (2, 16)", "(4, 16)"):
        to_torch(lstm(H), {"layer_1": {"forward": params}, "layer_2": {"forward": params}})


def test_weights_share_no_memory():
    """A module goes on to train in place; what was taken from it stays."""
    arrays = state_dict(gru(H))
    layers = from_torch(gru(H), arrays)
    kept = [np.array(leaf) for leaf in layers["layer_1"]["forward"]]
    back = to_torch(gru(H), layers)
    for array in (*arrays.values(), *back.values()):
        array *= 0
    tree_allclose(list(layers["layer_1"]["forward"]), kept)


@pytest.mark.parity
def test_a_tensor_that_numpy_does_not_take_is_named():
    module = torch.nn.LSTM(I, H)
    with raises_one_line("weight_ih_l0 is a Parameter", "tensor.numpy(force=True)"):
        from_torch(lstm(H), dict(module.named_parameters()))
    half = {name: weight.bfloat16() for name, weight in module.state_dict().items()}
    with raises_one_line("weight_ih_l0 is a Tensor"):
        from_torch(lstm(H), half)
