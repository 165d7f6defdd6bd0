"""Memory, growth and compile time, at sizes so small that nothing is said about speed."""

import json
import sys
from types import SimpleNamespace

import pytest

for module in ("tyro", "rich", "xarray", "zarr"):
    pytest.importorskip(module)

import numpy as np
from helpers import QUICK

from experiments.speed import compilation, growth, memory, points
from rnn_jax import elman

CONFIG = SimpleNamespace(quick=True, seed=0, rounds=2, timeout=200.0)


@pytest.fixture(autouse=True)
def compile_quickly(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", QUICK)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def measured(module):
    """Measure a module's quick points: (found, table); both are JSON and text."""
    said = []
    found = json.loads(json.dumps(module.measure(CONFIG, said.append)))
    header, lines = module.texts(found)
    assert said and found["device"] == "cpu" and all(len(line) == len(header) for line in lines)
    assert all(isinstance(cell, str) for line in [header, *lines] for cell in line)
    return found, lines


@pytest.mark.slow
def test_memory_grows_with_the_steps_and_less_so_with_checkpoints(monkeypatch):
    rows = [("lstm", 1024, 8, 32), ("lstm", 4096, 8, 32)]
    monkeypatch.setattr(memory, "QUICK", rows)
    found, lines = measured(memory)
    short, long = found["rows"]
    for row in (short, long):
        array = 4 * np.prod(row["row"][1:])  # bytes of xs, as many as of ys
        plain, checkpointed = row["plain"], row["checkpointed"]
        # the plain step keeps at least h, c and four gates or pre-activations beside ys
        assert plain["xla_beyond"] > 5 * array > checkpointed["xla_beyond"]
        assert plain["xla_temporary"] == plain["xla_beyond"] + array
        assert len(plain["rounds"]) == 2 and plain["median"] > 0 and plain["compile"] > 0
        assert checkpointed["ratio"] == checkpointed["median"] / plain["median"]
    for way in ("plain", "checkpointed"):
        assert short[way]["total"] < long[way]["total"]
        assert short[way]["xla_beyond"] < long[way]["xla_beyond"]
    if sys.platform == "linux":
        # the system's books and XLA's plan: 24 MiB and more, within 8 of each other
        assert abs(long["plain"]["beyond"] - long["plain"]["xla_beyond"]) < 2**23
        assert long["checkpointed"]["beyond"] < long["plain"]["beyond"] / 2
    assert [line[:2] for line in lines[:2]] == [["LSTM 1024×8×32", "–"], ["LSTM 1024×8×32", "32"]]


def test_a_step_that_needs_too_much_is_not_run(monkeypatch):
    monkeypatch.setattr(memory, "_free", lambda: 1 << 20)
    cell = elman(64)
    arguments = points.training_arguments(cell, 400, 4, 0)
    found = memory._bytes(points.training_step(cell), arguments, lambda steps: arguments, 400)
    assert found["does_not_fit"] > found["free"] / 2 and "beyond" not in found
    other = {"checkpoint_every": 20, "error": "crashed"}
    row = {"row": ["elman", 400, 4, 64], "plain": found | {"checkpoint_every": None}}
    _, (line, last) = memory.texts({"rows": [row | {"checkpointed": other}]})
    assert last[2] == "crashed"
    assert line[2].startswith("does not fit: needs ") and line[2].endswith(" of 1 free")


@pytest.mark.parametrize(
    "num_steps, divisor", [(100_000, 250), (10_000, 100), (3_162, 51), (7, 1), (1, 1)]
)
def test_segments_have_one_length(num_steps, divisor):
    assert memory.segment(num_steps) == divisor


def test_the_exponent_of_a_power_law_and_its_error():
    sizes = [8, 16, 32, 64]
    exponent, error = growth.fit(sizes, [3e-3 * size**1.7 for size in sizes])
    assert exponent == pytest.approx(1.7, abs=1e-12) and error == pytest.approx(0, abs=1e-7)
    exponent, error = growth.fit([1, 2, 4], [1.0, 4.0, 4.0])
    assert exponent == pytest.approx(1.0)
    residuals = np.log(2) * np.array([-1, 2, -1]) / 3  # by hand
    variance = residuals @ residuals / 1
    assert error == pytest.approx(np.sqrt(variance / (2 * np.log(2) ** 2)))
    assert growth.fit([1, 2], [2.0, 1.0]) == (pytest.approx(-1.0), None)
    assert growth.fit([1], [2.0]) == (None, None)


@pytest.mark.slow
def test_growth_end_to_end():
    found, lines = measured(growth)
    for row in found["rows"]:
        assert "error" not in row, row["error"]
        assert len(row["sizes"]) == len(row["medians"]) and min(row["medians"]) > 0
        assert len(row["rounds"][0]) == 2
    assert [line[0] for line in lines] == [
        "training, T",
        "sweep, N",
        "training, devices",
        "sweep, devices",
    ]


@pytest.mark.slow
def test_compile_time_end_to_end():
    found, _ = measured(compilation)
    rows = {(row["job"], row["cache"]): row for row in found["rows"]}
    assert list(rows) == [(j, c) for j in ("sweep", "training") for c in ("empty", "warm")]
    for row in found["rows"]:
        assert "error" not in row, row["error"]
        seconds = [row[name] for name in compilation.STAGES]
        assert min(seconds) > 0 and sum(seconds) < row["in_all"]
    for job in ("sweep", "training"):  # what is read from the disk is not compiled
        assert rows[job, "warm"]["compile"] < rows[job, "empty"]["compile"]


def test_a_process_that_fails_is_one_line():
    with pytest.raises(points.PointError) as error:
        points.ask("memory", {"do": "nothing"}, timeout=100)
    assert str(error.value).startswith("ended with code 1: TypeError: ")
    with pytest.raises(points.PointError, match=r"^no answer within 0.01 s$"):
        points.ask("memory", {}, timeout=0.01)


def test_calls_take_turns():
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    seconds = points.take_turns(calls, rounds=3, turn_seconds=0)
    assert order == ["a", "b"] * 3 and [len(s) for s in seconds] == [3, 3]
