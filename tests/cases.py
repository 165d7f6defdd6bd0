"""Every cell once, with its oracle: one line here, and every property test runs on the cell."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    Readout,
    cifg_step,
    elman_step,
    gru_step,
    indrnn_step,
    layer_norm_lstm_step,
    leaky_step,
    lstm_step,
    min_gru_step,
    sru_step,
)

from rnn_jax import (
    Cell,
    cifg_lstm,
    elman,
    gru,
    indrnn,
    layer_norm_lstm,
    leaky_rnn,
    lstm,
    min_gru,
    sru,
)
from rnn_jax.cells.base import free


class Case(NamedTuple):
    name: str
    cell: Cell
    input_size: int
    step: Callable  # the oracle, helpers.py

    def params(self, key, dtype=jnp.float64):
        """Draw parameters that are generic everywhere, biases included."""
        init_key, key = jax.random.split(key)
        leaves, tree = jax.tree.flatten(self.cell.init(init_key, self.input_size, jnp.float64))
        keys = jax.random.split(key, len(leaves))
        generic = [
            (leaf + 0.3 * jax.random.normal(k, leaf.shape)).astype(dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, generic)

    def counting_calls(self):
        """The cell, and a list that grows by one each time its Python code runs."""
        calls = []

        def gates(drive, recurrent, hold=free):
            calls.append(None)
            return self.cell.gates(drive, recurrent, hold)

        return self.cell._replace(gates=gates), calls

    def carry(self, key, batch, dtype=jnp.float64):
        """Draw a carry of [*batch, H]."""
        zeros = self.cell.initial_carry(batch, dtype)
        keys = jax.random.split(key, len(zeros))
        leaves = [
            0.7 * jax.random.normal(k, leaf.shape, dtype)
            for k, leaf in zip(keys, zeros, strict=True)
        ]
        return type(zeros)(*leaves)

    def xs(self, key, num_steps, batch, dtype=jnp.float64):
        """Draw inputs [T, *batch, I]."""
        return jax.random.normal(key, (num_steps, *batch, self.input_size), dtype)

    def readout(self, key, num_steps, batch, dtype=jnp.float64):
        """Draw a loss that reads the last carry and every output."""
        carry_key, ys_key = jax.random.split(key)
        ys = jax.random.normal(ys_key, (num_steps, *batch, self.cell.hidden_size), dtype)
        return Readout(self.carry(carry_key, batch, dtype), ys)

    def zero_tap(self, num_steps, batch, dtype=jnp.float64):
        """Zeros stacked like the carries of steps 1..T."""
        carry = self.cell.initial_carry(batch, dtype)
        return jax.tree.map(lambda a: jnp.zeros((num_steps, *a.shape), dtype), carry)


CASES = [
    Case("elman_tanh", elman(3), 2, elman_step("tanh")),
    Case("elman_relu", elman(3, "relu"), 2, elman_step("relu")),
    Case("elman_sigmoid", elman(3, "sigmoid"), 2, elman_step("sigmoid")),
    Case("elman_identity", elman(3, "identity"), 2, elman_step("identity")),
    Case("elman_one_unit", elman(1), 1, elman_step("tanh")),
    Case("lstm", lstm(3), 2, lstm_step),
    Case("gru", gru(3), 2, gru_step),
    Case("sru", sru(3), 3, sru_step),
    Case("sru_projected_skip", sru(3), 2, sru_step),
    Case("indrnn", indrnn(3, "tanh"), 2, indrnn_step("tanh")),
    Case("indrnn_relu", indrnn(3), 2, indrnn_step("relu")),
    Case("min_gru", min_gru(3), 2, min_gru_step),
    Case("leaky_rnn", leaky_rnn(3, "tanh", 0.3), 2, leaky_step("tanh", 0.3)),
    Case("cifg_lstm", cifg_lstm(3), 2, cifg_step),
    # so large an epsilon that dL/dw is no difference of equal numbers
    Case("layer_norm_lstm", layer_norm_lstm(3, 0.1), 2, layer_norm_lstm_step(0.1)),
]
CASE = {case.name: case for case in CASES}
ONE_A_CELL = list({case.cell.name: case for case in reversed(CASES)}.values())[::-1]  # the first

# What of these compiles a loop is marked slow, but for a few options: nine cells take long.
# Not for the layer norm, the one whose gates mix units.
LATER_CELLS = ("indrnn", "min_gru", "leaky_rnn", "cifg_lstm")


def is_later(case):
    return case.cell.name in LATER_CELLS


def _parametrize(cases):
    marks = {True: [pytest.mark.slow], False: []}
    params = [pytest.param(case, id=case.name, marks=marks[is_later(case)]) for case in cases]
    return pytest.mark.parametrize("case", params)


every_case, one_case_a_cell = _parametrize(CASES), _parametrize(ONE_A_CELL)
every_step = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])  # no loop


def with_options(name, options, few):
    """Every option for one case a cell; the first ``few`` for its variants.

    A variant has another activation, size or projection of the inputs: element-wise or outside the
    loop, while options change the loop. A later cell's further options are slow.
    """
    pairs = [
        pytest.param(
            case,
            option,
            id=f"{case.name}-{'-'.join(getattr(o, '__name__', str(o)) for o in option)}",
            marks=[pytest.mark.slow] if is_later(case) and option not in options[:few] else [],
        )
        for case in CASES
        for option in (options if case in ONE_A_CELL else options[:few])
    ]
    return pytest.mark.parametrize(("case", name), pairs)


LENGTHS = {  # a full one, an empty one and one of a single step among them; T = 6
    (): np.array(4),
    (3,): np.array([6, 0, 1]),
    (2, 2): np.array([[5, 0], [1, 6]]),
}
