"""experiments/speed/parallel.py on sizes so small that nothing is said about speed."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

for module in ("tyro", "rich"):
    pytest.importorskip(module)

from helpers import tree_allclose

from experiments.speed import parallel, points, scan_unroll
from rnn_jax import sru

CONFIG = SimpleNamespace(quick=True, seed=0, rounds=2, timeout=120.0)


@pytest.mark.slow
def test_quick_sizes_end_to_end():
    reports = []
    found = json.loads(json.dumps(parallel.measure(CONFIG, reports.append)))
    assert len(reports) == len(parallel.QUICK_SIZES)
    assert [(tuple(row["size"]), row["v"]) for row in found["rows"]] == [
        (size, v) for size in parallel.QUICK_SIZES for v in ("0", "±1")
    ]
    for row in found["rows"]:
        assert row["is_solved"] and (row["iterations"] == 1) == (row["v"] == "0")
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in row["rounds"].values())
    header, lines = parallel.texts(found)
    assert all(len(line) == len(header) for line in lines)
    assert found["device"]


def test_ratios_are_of_medians():
    times = {"scan": 0.003, "parallel": 0.002}
    row = {"size": (4, 1, 2), "v": "0", "iterations": 30, "is_solved": False}
    header, (line,) = parallel.texts({"rows": [row | {"forward": times, "training": times}]})
    assert line == ["4×1×2", "0", "no end: scan", *["3 / 2 = 1.50"] * 2]
    assert len(header) == len(line)


def test_a_size_without_an_answer_is_one_line(monkeypatch):
    def ask(*arguments):
        raise points.PointError("no answer within 1 s")

    monkeypatch.setattr(points, "ask", ask)
    header, lines = parallel.texts(parallel.measure(CONFIG, lambda text: None))
    assert [line[1] for line in lines] == ["no answer within 1 s"] * 2
    assert all(len(line) == len(header) for line in lines)


def test_both_methods_compute_the_same():
    cell = sru(4)
    arguments = points.training_arguments(cell, 12, 2, 0)
    assert jnp.all(jnp.abs(arguments[0].recurrent_vector) == 1)
    for make in (parallel.forward, parallel.training):
        scan, alike = (jax.device_get(make(cell, m)(*arguments)) for m in ("scan", "parallel"))
        tree_allclose(alike, scan)


def test_scan_unroll_end_to_end():
    found = scan_unroll.measure(CONFIG, lambda text: None)
    header, lines = scan_unroll.texts(found)
    assert [line[0] for line in lines] == ["SRU 16×2×4"] and found["device"]
    assert header[1:] == ["1", "2", "4", "8"] and all(len(line) == len(header) for line in lines)
    for row in found["rows"]:
        assert len(row["rounds"]) == len(row["compile"]) == 4
        assert min(map(min, row["rounds"])) > 0
