"""experiments/speed/lyapunov.py on sizes so small that nothing is said about speed."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

for module in ("tyro", "rich"):
    pytest.importorskip(module)

from helpers import QUICK, compile_as_users_do

from experiments.speed import lyapunov, points, table
from rnn_jax import CELLS

CONFIG = SimpleNamespace(quick=True, seed=0, rounds=2, timeout=120.0)
STEPS = 5


def floor_by_numpy(frame, matrix, num_steps):
    """The same loop; QR with a positive diagonal. Returns the last frame and its condition."""
    (size, _), hidden = frame.shape, len(matrix)
    for _ in range(num_steps):
        product = frame[:, :hidden] @ matrix
        if hidden < size:  # an LSTM: D = 2H, G·H = 2D
            product = frame + product[:, :size] + product[:, size:]
        condition = np.linalg.cond(product)
        frame, triangle = np.linalg.qr(product.T)
        frame = (frame * np.sign(np.diag(triangle))).T
    return frame, condition


@pytest.mark.parametrize("cell, size", [("elman", 6), ("lstm", 12)])
def test_the_floor_multiplies_and_orthonormalizes_at_every_step(cell, size):
    _, (frame, matrix) = lyapunov.arguments(CELLS[cell](6), STEPS, "float64", 0)
    assert frame.shape == (size, size)
    found = np.asarray(lyapunov.floor(STEPS)(frame, matrix))
    np.testing.assert_allclose(found @ found.T, np.eye(size), rtol=0, atol=1e-12)
    expected, condition = floor_by_numpy(np.asarray(frame), np.asarray(matrix), STEPS)
    assert condition < 10
    signs = np.sign(np.sum(found * expected, axis=1, keepdims=True))  # LAPACK's are free
    np.testing.assert_allclose(signs * found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell, width", [("elman", 6), ("lstm", 24)])
def test_product_and_qr_are_inside_the_compiled_loop(cell, width):
    arguments = lyapunov.arguments(CELLS[cell](6), STEPS, "float32", 0)[1]
    text = compile_as_users_do(lyapunov.floor(STEPS), *arguments).as_text()
    (body,) = [block for block in text.split("\n\n") if "geqrf" in block]
    size = len(arguments[0])
    assert "orgqr" in body and not body.lstrip().startswith("ENTRY")
    products = [line for line in text.splitlines() if " dot(" in line]
    assert len(products) == 1 and f"f32[{size},{width}]" in products[0]


def test_the_spectrum_is_of_the_network_that_the_note_names():
    network = CELLS["elman"](32)
    arguments, _ = lyapunov.arguments(network, 20, "float64", 0)
    found = lyapunov.spectrum(network)(*arguments)
    params = arguments[0]
    assert np.std(params.recurrent_kernel) * np.sqrt(32) == pytest.approx(3.0, rel=0.1)
    assert found.exponents.shape == (32,)
    hidden, logs = np.asarray(arguments[2].hidden), []
    for _ in range(20):  # the sum of all exponents is the mean of ln|det J|
        hidden = np.tanh(hidden @ np.asarray(params.recurrent_kernel))
        jacobian = (1 - hidden**2)[:, None] * np.asarray(params.recurrent_kernel).T
        logs.append(np.linalg.slogdet(jacobian)[1])
    assert float(found.exponents.sum()) == pytest.approx(np.mean(logs), abs=1e-8)


def test_ratios_are_of_medians_and_a_failure_is_one_line():
    rounds = {"spectrum": [3.0, 9.0, 1.0], "floor": [2.0, 2.5, 1.0]}
    row = {"row": ["elman", 1000, 256, "float64"], "rounds": rounds, "compile": 0.25}
    failed = {"row": ["lstm", 1000, 64, "float32"], "error": "no answer within 1 s"}
    _, header, lines, _ = table.of({"table": "lyapunov", "rows": [row, failed]})
    assert lines == [
        ["Elman 1000×256", "float64", "3 [0.25]", "2", "1.50"],
        ["LSTM 1000×64", "float32", "no answer within 1 s", "–", "–"],
    ]
    assert all(len(line) == len(header) for line in lines)


def test_turns_end_once_they_have_taken_long(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(points.time, "perf_counter", lambda: clock[0])

    def call():
        clock[0] += 1.0

    for long, count in ((0.0, 2), (4.0, 2), (6.0, 3), (100.0, 5)):
        assert points.take_turns([call, call], 5, long=long) == [[1.0] * count] * 2


@pytest.mark.slow
def test_quick_rows_end_to_end(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", QUICK)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    reports = []
    found = json.loads(json.dumps(lyapunov.measure(CONFIG, reports.append)))
    assert reports[0] == "lyapunov, elman 20 8 float32" and found["device"] == "cpu"
    for row, expected in zip(found["rows"], lyapunov.QUICK, strict=True):
        assert tuple(row["row"]) == expected and "error" not in row
        assert np.isfinite(row["largest_exponent"]) and row["compile"] > 0
        assert all(len(turns) == 2 and min(turns) > 0 for turns in row["rounds"].values())
