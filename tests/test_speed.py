"""experiments/speed end to end, on rows so small that nothing is said about speed."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

for module in ("tyro", "rich", "xarray", "zarr"):
    pytest.importorskip(module)

from helpers import QUICK

from experiments.speed.__main__ import main
from rnn_jax.results import ROOT


def run_speed(*arguments):
    """As ``helpers.run_experiment``; what comes out is no speed of anything."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.speed", *map(str, arguments)],
        cwd=ROOT,
        env={"XLA_FLAGS": QUICK, **os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_small_rows_end_to_end(tmp_path):
    rows = [[4, 5, 2, 3], [3, 4, 1, 1]]
    flags = ["--rounds", 1, "--rounds-alone", 1, "--turn-seconds", 0, "--out", tmp_path]
    done = run_speed("--rows", *(n for row in rows for n in row), *flags)
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.glob("speed-*")
    found = json.loads((directory / "speed.json").read_text())
    assert [row["row"] for row in found["rows"]] == rows
    # run.py ends with an error where the libraries' numbers differ; this says that it compared
    assert 0 < found["largest_deviation"] < 1e-4
    for row in found["rows"]:
        assert list(row["cells"]) == ["rnn_jax", "jax_scan", "torch"]
        for name, cell in row["cells"].items():
            if name == "torch" and importlib.util.find_spec("torch") is None:
                assert cell["error"].startswith("not installed")
                continue
            assert cell["error"] is None
            assert 0 < cell["minimum"] <= cell["median"] and cell["compile"] > 0
            assert len(cell["rounds"]) == 1 and cell["ratio"] > 0
    assert "| (4, 5, 2, 3) |" in (directory / "speed.md").read_text()


def test_a_library_without_an_answer_is_one_line_in_the_table(tmp_path):
    row = ["--rows", 4, 1000, 2, 3, "--rounds", 1, "--libraries", "rnn_jax"]
    done = run_speed(*row, "--timeout", 1e-3, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("speed-*/speed.json")
    (found,) = json.loads(report.read_text())["rows"]
    assert found["cells"]["rnn_jax"] == {"error": "no answer within 0.001 s"}


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--libraries", "theano"], "libraries holds 'theano'; allowed: rnn_jax, jax_scan, torch"),
        (["--rounds", 0], "rounds is 0; allowed: at least 1"),
    ],
)
def test_a_wrong_setting_is_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, flags)))
    assert (stop.value.code, *capsys.readouterr()) == (2, "", f"error: {message}\n")
