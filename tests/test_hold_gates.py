"""``hold_gates``: a held gate is one whose pre-activation is a constant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE
from helpers import raises_one_line, tree_allclose

from rnn_jax import gate_values, gradient_flow, gru, hold_gates, lstm, unroll
from rnn_jax.cells import gate_names

T = 6


def sigmoid_inverse(value):
    return np.log(value / (1 - value)) if 0 < value < 1 else (100.0 if value else -100.0)


def by_bias(case, params, gate, value):
    """Parameters that make the gate constant: its columns zero, its bias the inverse of the value.

    Which columns they are is written here once more: the order of gates in the arrays.
    """
    order = {
        "elman_tanh": ("candidate",),
        "lstm": ("input", "forget", "candidate", "output"),
        "gru": ("reset", "update", "candidate"),
        "sru": ("candidate", "forget", "reset"),
        "min_gru": ("update", "candidate"),
        "cifg_lstm": ("forget", "candidate", "output"),
    }[case.name]
    biases = {"sru": ("forget", "reset")}.get(case.name, order)
    size = case.cell.hidden_size
    inverse = np.arctanh if gate == "candidate" else sigmoid_inverse
    columns = slice(order.index(gate) * size, (order.index(gate) + 1) * size)
    new = {"kernel": params.kernel.at[:, columns].set(0.0)}
    if gate in biases:
        at = slice(biases.index(gate) * size, (biases.index(gate) + 1) * size)
        new["bias"] = params.bias.at[at].set(inverse(value))
    if case.name == "sru" and gate in biases:
        new["recurrent_vector"] = params.recurrent_vector.at[at].set(0.0)
    if "recurrent_kernel" in params._fields:
        new["recurrent_kernel"] = params.recurrent_kernel.at[:, columns].set(0.0)
    if case.name == "gru":
        new["recurrent_bias"] = params.recurrent_bias.at[columns].set(0.0)
    return params._replace(**new)


@pytest.mark.parametrize(
    ("name", "gate", "value"),
    [
        ("elman_tanh", "candidate", 0.3),
        ("lstm", "forget", 1.0),
        ("lstm", "candidate", -0.4),
        ("gru", "reset", 0.25),
        ("gru", "update", 0.0),
        ("sru", "forget", 0.9),
        ("sru", "reset", 1.0),
        pytest.param("min_gru", "update", 0.2, marks=pytest.mark.slow),
        pytest.param("cifg_lstm", "forget", 0.9, marks=pytest.mark.slow),
    ],
)
def test_a_held_gate_is_one_with_a_constant_pre_activation(name, gate, value, getkey):
    """Outputs, gates and gradients, against the free cell with zero columns and that bias."""
    case = CASE[name]
    params, xs, carry = (
        case.params(getkey()),
        case.xs(getkey(), T, (2,)),
        case.carry(getkey(), (2,)),
    )
    readout = case.readout(getkey(), T, (2,))

    def all_of(cell, params):
        def loss(xs, carry, w):
            return readout(*unroll(cell, params, xs, initial_carry=carry, recurrent_weight=w))

        def read(*result):
            return readout(*result)

        flow = gradient_flow(cell, params, xs, read, initial_carry=carry, recurrent_weight=0.9)
        gates = gate_values(cell, params, xs, initial_carry=carry, recurrent_weight=0.9)
        gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(xs, carry, 0.9)
        return gradients, gates, flow.carry_norm, flow.weight_share

    held = all_of(hold_gates(case.cell, **{gate: value}), params)
    tree_allclose(held, all_of(case.cell, by_bias(case, params, gate, value)))
    assert np.all(np.asarray(getattr(held[1], gate)) == value)


def test_holds_add_up_and_the_last_one_counts(getkey):
    case = CASE["lstm"]
    params, xs = case.params(getkey()), case.xs(getkey(), T, ())
    cell = hold_gates(hold_gates(hold_gates(case.cell, forget=0.5), input=0.0), forget=1.0)
    assert cell is hold_gates(case.cell, forget=1.0, input=0.0)
    assert hold_gates(cell) is cell and hold_gates(case.cell) is case.cell
    gates = gate_values(cell, params, xs)
    assert np.all(gates.forget == 1.0) and np.all(gates.input == 0.0)
    assert np.ptp(gates.output) > 0


def test_equal_holds_are_one_cell_and_do_not_compile_again(getkey):
    assert hold_gates(lstm(3), forget=1, input=0) is hold_gates(lstm(3), input=0.0, forget=1.0)
    assert hold_gates(lstm(3), forget=1.0) is not hold_gates(lstm(3), forget=0.5)
    case = CASE["gru"]
    cell, calls = case.counting_calls()
    params, xs = case.params(getkey()), case.xs(getkey(), T, ())
    unroll(hold_gates(cell, update=0.5), params, xs)
    traced = len(calls)
    unroll(hold_gates(cell, update=0.5), params, xs)
    assert len(calls) == traced


def test_a_held_gate_passes_no_gradient(getkey):
    case = CASE["lstm"]
    params, xs = case.params(getkey()), case.xs(getkey(), T, (2,))
    cell = hold_gates(case.cell, forget=0.7)
    gradient = jax.grad(lambda p: unroll(cell, p, xs)[1].sum())(params)
    size = cell.hidden_size
    assert np.all(gradient.bias[size : 2 * size] == 0) and np.all(gradient.bias[:size] != 0)


def test_errors_say_which_gates_there_are():
    assert gate_names(gru(3)) == ("reset", "update", "candidate")
    with raises_one_line("gru has no gate 'forget'", "reset, update, candidate"):
        hold_gates(gru(3), forget=1.0)
    assert hold_gates(gru(3), update=np.float32(0.5)) is hold_gates(gru(3), update=0.5)
    for bad in (float("nan"), "1", None, jnp.ones(2)):
        with raises_one_line("gate update is held at"):
            hold_gates(gru(3), update=bad)
    old = gru(3)._replace(gates=lambda drive, recurrent: gru(3).gates(drive, recurrent))
    with raises_one_line("gates of gru does not pass 'update' to hold"):
        hold_gates(old, update=0.0)
    deaf = gru(3)._replace(gates=lambda drive, recurrent, hold=None: gru(3).gates(drive, recurrent))
    with raises_one_line("gates of gru does not pass 'update' to hold"):
        hold_gates(deaf, update=0.0)
