"""The sweep of experiments/speed: every library computes the same numbers, and they are right."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import elman_step, gru_step, lstm_step, run_python, sru_step

from experiments.speed import jobs
from experiments.speed.jobs import sweep

STEPS = {"elman": elman_step("tanh"), "lstm": lstm_step, "gru": gru_step, "sru": sru_step}
PARTS = {"elman": ["hidden"], "lstm": ["hidden", "cell"], "gru": ["hidden"], "sru": ["cell"]}
ROWS = [(cell, 3, 5, 2, 4) for cell in STEPS] + [("elman", 3, 5, 2, 1)]


@functools.cache
def result(library, row, dtype="float32"):
    call = sweep.RUNNERS[library](row, sweep.inputs(row, seed=0), dtype)
    found = np.asarray(call())
    np.testing.assert_array_equal(found, np.asarray(call()))  # a call leaves nothing behind
    return found.astype(float)


def check_agreement(found, row):
    expected = result("rnn_jax", row)
    assert found.shape == expected.shape == (row[1], row[2] + 1, row[3])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def differences(row, eps=1e-5):
    """ln ‖dL/dcarry_t‖ by moving each part of each state a little, to both sides, in float64."""
    cell, num_weights, num_steps, batch, hidden = row
    a = {name: array.astype(float) for name, array in sweep.inputs(row, seed=0).items()}
    if cell == "elman":  # reads the inputs as they are
        a |= {"kernel": np.eye(hidden), "bias": np.zeros(hidden)}

    def still():
        return SimpleNamespace(**{part: np.zeros((batch, hidden)) for part in PARTS[cell]})

    def loss(w, place, move):
        """L of each sequence [B], with one unit of one part moved at one step."""
        moved_step, part, unit = place
        moved = still()
        getattr(moved, part)[:, unit] = move
        carry = moved if moved_step == 0 else still()
        for t, x in enumerate(a["xs"], start=1):
            tap = moved if t == moved_step else still()
            carry, *_ = STEPS[cell](np, SimpleNamespace(**a), carry, x, w, tap)
        return np.sum(getattr(carry, PARTS[cell][0]) * a["projection"], axis=-1)

    squares = np.zeros((num_weights, num_steps + 1, batch))
    for n, t, unit in np.ndindex(num_weights, num_steps + 1, hidden):
        for part in PARTS[cell]:
            up, down = (loss(a["weights"][n], (t, part, unit), move) for move in (eps, -eps))
            squares[n, t] += ((up - down) / (2 * eps)) ** 2
    return np.log(squares) / 2


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_rnn_jax_agrees_with_finite_differences(row):
    found = result("rnn_jax", row, "float64")
    np.testing.assert_allclose(found, differences(row), rtol=0, atol=1e-7)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_plain_scan_agrees(row):
    check_agreement(result("jax_scan", row), row)


@pytest.fixture(scope="module")
def from_torch(tmp_path_factory):
    """What both PyTorch runners find at all rows, in a process without JAX."""
    folder = tmp_path_factory.mktemp("torch")
    run_python(f"""
import sys
import numpy as np
from experiments.speed.jobs import sweep
for library in ("torch", "torch_adjoint"):
    for i, row in enumerate({ROWS}):
        for dtype in ("float32", "bfloat16"):
            call = sweep.RUNNERS[library](row, sweep.inputs(row, seed=0), dtype)
            found = call()
            np.testing.assert_array_equal(found, call())
            np.save(f"{folder}/{{library}}-{{i}}-{{dtype}}.npy", found)
assert "jax" not in sys.modules
""")
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("library", ["torch", "torch_adjoint"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_pytorch_agrees(library, row, from_torch):
    name = f"{library}-{ROWS.index(row)}"
    check_agreement(np.load(from_torch / f"{name}-float32.npy"), row)
    coarse = np.load(from_torch / f"{name}-bfloat16.npy")
    np.testing.assert_allclose(coarse, result("rnn_jax", row), rtol=0, atol=0.25)


@pytest.mark.parametrize("library", ["rnn_jax", "jax_scan"])
@pytest.mark.parametrize("row", ROWS[:2], ids=str)
def test_bfloat16(library, row):
    coarse = result(library, row, "bfloat16")
    np.testing.assert_allclose(coarse, result("rnn_jax", row), rtol=0, atol=0.25)


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] != "sru" and row[-1] > 1], ids=str)
def test_the_floor_multiplies_forward_and_back_at_every_step(row):
    arrays = sweep.inputs(row, seed=0)
    matrix = arrays["recurrent_kernel"]
    matrix += np.random.default_rng(1).normal(size=matrix.shape).astype("float32")
    both = matrix @ matrix.T / sweep.BLOCKS[row[0]]
    expected = arrays["projection"] @ np.linalg.matrix_power(both, row[2])
    expected = arrays["weights"][:, None, None] * expected
    found = np.asarray(sweep.RUNNERS["floor"](row, arrays, "float32")())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("row", [("elman", 3, 5, 2, 1), ("sru", 3, 5, 2, 4)], ids=str)
def test_no_floor_without_a_matrix_product(row):
    with pytest.raises(jobs.NotOffered, match="no matrix product"):
        sweep.RUNNERS["floor"](row, sweep.inputs(row, seed=0), "float32")


def test_small_rows_and_inputs():
    assert sweep.small(("lstm", 64, 256, 32, 64)) == ("lstm", 8, 8, 4, 64)
    for row in map(sweep.small, sweep.ROWS):
        first, again, other = (sweep.inputs(row, seed) for seed in (3, 3, 4))
        assert all(array.dtype == np.float32 for array in first.values())
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first["xs"], other["xs"])
