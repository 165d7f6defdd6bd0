"""experiments/speed: its harness, with jobs so small that nothing is said about speed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr"):
    pytest.importorskip(module)

from helpers import QUICK

from experiments.speed import __main__ as command_line
from experiments.speed import jobs, readme, run, serve, table
from experiments.speed.config import Config
from experiments.speed.worker import LibraryError
from rnn_jax.results import ROOT


def total(row, arrays, dtype):
    return lambda: np.sum(arrays["a"], 0)


def another_total(row, arrays, dtype):
    return lambda: np.sum(arrays["a"], 0) + 1e-3


def lstm_total(row, arrays, dtype):
    if row[0] == "elman":
        raise jobs.NotOffered("equinox has no Elman cell")
    return total(row, arrays, dtype)


def nothing(row, arrays, dtype):
    return lambda: np.zeros(1)


def tiny_job(**runners):
    """A job of numpy; its libraries are names only."""
    return SimpleNamespace(
        TITLE="Sums",
        COLUMNS=("cell", "N", "H"),
        ROWS=(("elman", 4, 3), ("lstm", 5, 3)),
        TOLERANCE=1e-6,
        RUNNERS={"rnn_jax": total, "jax_scan": total, **runners},
        inputs=lambda row, seed: {"a": np.random.default_rng(seed).normal(size=row[1:])},
        small=lambda row: (row[0], 2, *row[2:]),
    )


class Inline:
    """A worker without a process; Linen crashes, and nobody has installed NNX."""

    def __init__(self, table, library, precision, timeout):
        self.server, self.library = serve.Server(table, library, precision), library
        versions = {"versions": {"numpy": "2"}, "device": "cpu", "threads": "one"}
        self.description = {} if library == "flax_nnx" else versions

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def ask(self, do, **command):
        if self.library == "flax_linen" and do == "time":
            raise LibraryError("ended with code -9: Killed")
        if self.library == "flax_nnx":
            raise LibraryError("flax is not installed")
        return getattr(self.server, do)(**command)


ONCE = {"rounds": 1, "rounds_alone": 1, "turn_seconds": 0.0}
FLAGS = ["--rounds", 1, "--rounds-alone", 1, "--turn-seconds", 0]


@pytest.fixture
def replace_job(monkeypatch):
    """Put a job in the place of the sweep, its workers inline."""
    monkeypatch.setattr(run, "Worker", Inline)

    def replace(**runners):
        monkeypatch.setitem(sys.modules, "experiments.speed.jobs.sweep", tiny_job(**runners))

    return replace


def run_speed(*arguments):
    """As ``helpers.run_experiment``; what comes out is no speed of anything."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.speed", *map(str, arguments)],
        cwd=ROOT,
        env={"XLA_FLAGS": QUICK, **os.environ, "JAX_PLATFORMS": "cpu", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_job_end_to_end_in_processes(tmp_path):
    what = ["--tables", "one_token", "--cells", "elman", "lstm", "--rows", 2, 3, 1, 4]
    done = run_speed(*what, "--libraries", "rnn_jax", "torch", *FLAGS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.glob("speed-*")
    found = json.loads((directory / "one_token.json").read_text())
    rows = [["elman", 2, 3], ["elman", 1, 4], ["lstm", 2, 3], ["lstm", 1, 4]]
    assert [row["row"] for row in found["rows"]] == rows
    has_torch = importlib.util.find_spec("torch") is not None
    # run.py ends with an error where the libraries' numbers differ; this says that it compared
    assert 0 < found["largest_deviation"] < 1e-4 or not has_torch
    for row in found["rows"]:
        assert list(row["cells"]) == ["rnn_jax", "torch"]
        for name, cell in row["cells"].items():
            if name == "torch" and not has_torch:
                assert cell == {"error": "torch is not installed"}
                continue
            assert 0 < cell["minimum"] <= cell["median"] and cell["compile"] > 0
            assert len(cell["rounds"]) == 1 and cell["ratio"] > 0
    assert "| LSTM 2×3 |" in (directory / "speed.md").read_text()
    assert "LSTM 2×3" in done.stdout and max(map(len, done.stdout.splitlines()[:-1])) <= 100


def test_a_library_without_an_answer_is_a_line_below_the_table(tmp_path):
    what = ["--tables", "one_token", "--rows", 2, 3, "--libraries", "rnn_jax"]
    done = run_speed(*what, "--timeout", 1e-3, *FLAGS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("speed-*/one_token.json")
    for row in json.loads(report.read_text())["rows"]:
        assert row["cells"]["rnn_jax"] == {"error": "no answer within 0.001 s"}
    assert "rnn_jax: no answer within 0.001 s." in (report.parent / "speed.md").read_text()


def test_a_library_that_is_not_installed_answers_so():
    code = (
        "from experiments.speed import libraries, serve\n"
        "libraries.LIBRARIES['sru'] = libraries._jax('another', 'no-such-package')\n"
        "serve.main('sweep', 'sru', '1', 'highest')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"error": "no-such-package is not installed"}


def test_tables_are_kept_one_by_one(tmp_path, replace_job, monkeypatch, capsys):
    def stop(config, report):
        (kept,) = tmp_path.glob("speed-*")
        assert {path.name for path in kept.iterdir()} == {"sweep.json", "memory.json", "speed.md"}
        raise OSError(28, "No space left on device", "somewhere")

    replace_job()
    memory = SimpleNamespace(
        TITLE="Bytes",
        NOTE="Of nothing.",
        measure=lambda config, report: {"bytes": config.rounds, "device": "cpu"},
        texts=lambda found: (["T", "bytes"], [["10", str(found["bytes"])]]),
    )
    monkeypatch.setitem(sys.modules, "experiments.speed.memory", memory)
    growth = SimpleNamespace(measure=stop)
    monkeypatch.setitem(sys.modules, "experiments.speed.growth", growth)
    flags = ["--tables", "sweep", "memory", "growth", "--quick", *FLAGS[2:], "--out", tmp_path]
    with pytest.raises(SystemExit) as left:
        command_line.main(list(map(str, flags)))
    assert left.value.code == 1
    assert capsys.readouterr().err == "error: somewhere: No space left on device\n"
    text = next(tmp_path.glob("speed-*/speed.md")).read_text()
    assert "## Sums" in text and "| LSTM 2×3 |" in text  # quick: 5 rows cut down to 2
    assert "## Bytes" in text and "| 10 | 2 |" in text and "quick: whether it works" in text


def test_what_a_library_does_not_offer_or_fails_at_is_no_time(replace_job):
    replace_job(flax_linen=total, flax_nnx=total, equinox=lstm_total, floor=nothing)
    found = run.run("sweep", Config(**ONCE))
    elman, lstm = (row["cells"] for row in found["rows"])
    assert elman["equinox"] == {"missing": "equinox has no Elman cell"}
    assert lstm["equinox"]["ratio"] > 0
    assert elman["flax_linen"] == {"error": "ended with code -9: Killed"}
    assert found["largest_deviation"] == 0  # and the floor, which returns zeros, is not compared
    floor, own = lstm["floor"], lstm["rnn_jax"]
    assert own["floor_ratio"] == own["median"] / floor["median"]
    assert own["floor_ratio_of_minima"] == own["minimum"] / floor["minimum"]

    header, lines = table.texts({"table": "sweep", **found})
    assert header == ["cell N×H", "rnn_jax", "plain JAX", "Equinox", "floor"]  # those with times
    assert [line[0] for line in lines] == ["Elman 4×3", "LSTM 5×3"]
    assert lines[0][3] == "–" and f"({own['floor_ratio']:.2f})" in lines[1][4]
    note = table.of({"table": "sweep", **found}).note
    assert note.endswith(
        "–: equinox has no Elman cell. Linen: ended with code -9: Killed. "
        "NNX: flax is not installed."
    )


def test_other_numbers_are_an_error_of_one_line(replace_job):
    replace_job(jax_scan=another_total)
    message = "sweep: jax_scan and rnn_jax differ by 0.001 at ('elman', 2, 3); allowed: 1e-06"
    with pytest.raises(run.MismatchError, match=f"^{re.escape(message)}$"):
        run.run("sweep", Config(**ONCE))


def test_ratios_are_to_the_first_and_to_the_floor():
    seconds = {"torch": (6.0, 5.0), "rnn_jax": (3.0, 2.0), "floor": (2.0, 4.0)}
    cells = {name: {"median": m, "minimum": least} for name, (m, least) in seconds.items()}
    cells = run._with_ratios(cells)
    assert [cell["ratio"] for cell in cells.values()] == [1, 0.5, 2 / 6]
    assert [cell["ratio_of_minima"] for cell in cells.values()] == [1, 2 / 5, 4 / 5]
    assert [cell["floor_ratio"] for cell in cells.values()] == [3, 1.5, 1]  # above us: as it is


def test_a_time_far_above_the_time_alone_does_not_count():
    alone = {"compile": [0.5], "time": [1.0, 1.0, 9.0]}
    assert run._cell(alone, {"compile": [0.1], "time": [1.2, 1.2]})["counts"]
    cell = run._cell(alone, {"compile": [0.1], "time": [1.1, 1.3, 2.0]})
    assert (cell["median"], cell["minimum"], cell["alone"], cell["compile"]) == (1.3, 1.1, 1, 0.5)
    assert table.cell_text({**cell, "ratio": 12.3}, False, None) == "~1300 ×12 [0.5]"


@pytest.mark.parametrize(
    "seconds, turn, first, later",
    [
        (0.01, 0.1, 1 + 10, 1 + 10),  # a call that wakes the threads, then as many as fit
        (0.6, 1.0, 1 + 2, 2),  # long enough to be awake
        (2.0, 10.0, 1 + 1, 1),  # long: once a turn
    ],
)
def test_calls_of_a_turn(seconds, turn, first, later, replace_job, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(serve.time, "perf_counter", lambda: clock[0])
    replace_job()
    server = serve.Server("sweep", "rnn_jax", "highest")
    calls = []

    def call():
        calls.append(None)
        clock[0] += seconds * (1 + 1e-9)

    server.call = call
    for count in (first, later):
        calls.clear()
        assert server.time(turn)["seconds"] == pytest.approx(seconds)
        assert len(calls) == count


def test_rows_of_a_table(replace_job):
    replace_job()
    config = Config(tables=("sweep",), cells=("lstm", "gru"), rows=(4, 5, 6, 5))
    assert config.rows_of("sweep") == [(c, n, 5) for c in ("lstm", "gru") for n in (4, 6)]
    quick = Config(tables=("sweep",), rows=(4, 5, 6, 5), cells=("gru",), quick=True)
    assert quick.rows_of("sweep") == [("gru", 2, 5)]
    assert Config(cells=("lstm",)).rows_of("sweep") == [("lstm", 5, 3)]


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--libraries", "theano"],
            "libraries holds 'theano'; allowed: rnn_jax, jax_scan, flax_linen, flax_nnx, "
            "equinox, torch, torch_adjoint, sru, floor",
        ),
        (
            ["--tables", "sweep", "--libraries", "torch"],
            "libraries is ('torch',); allowed for sweep: some of rnn_jax, jax_scan",
        ),
        (
            ["--tables", "sweep", "sweep"],
            "tables is ('sweep', 'sweep'); allowed: one or more, each once",
        ),
        (["--cells", "rwkv"], "cells holds 'rwkv'; allowed: elman, lstm, gru, sru"),
        (["--rounds", 0], "rounds is 0; allowed: at least 1"),
        (["--timeout", "nan"], "timeout is nan; allowed: a finite number from 0"),
        (
            ["--tables", "memory", "--rows", 4],
            "rows are given for tables ('memory',); "
            "allowed: with one of sweep, training, forward, one_token",
        ),
        (
            ["--tables", "sweep", "--rows", 4, 5, 6],
            "rows is (4, 5, 6); allowed: N H row after row, each at least 1",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(flags, message, capsys, replace_job):
    replace_job()
    with pytest.raises(SystemExit) as stop:
        command_line.main(list(map(str, flags)))
    assert (stop.value.code, *capsys.readouterr()) == (2, "", f"error: {message}\n")


PAGE = """Words.
<!-- table: sweep -->
old
<!-- end -->
More.
<!-- table: memory -->
stays
<!-- end -->
"""


@pytest.fixture
def write_readme(tmp_path, replace_job, monkeypatch):
    """Run the command on a page, with as many runs of the sweep."""
    replace_job()

    def write(page, num_runs=1):
        runs = []
        for i in range(num_runs):
            flags = ["--tables", "sweep", *FLAGS, "--out", str(tmp_path / str(i))]
            command_line.main(list(map(str, flags)))
            runs += map(str, (tmp_path / str(i)).iterdir())
        path = tmp_path / "README.md"
        path.write_text(page)
        monkeypatch.setattr(readme, "READMES", (path,))
        readme.main(runs)
        return path.read_text()

    return write


def test_the_readme_gets_the_tables_of_runs(write_readme):
    before, sweep, *_ = re.split(r"<!-- .* -->\n", text := write_readme(PAGE, num_runs=2))
    assert before == "Words.\n" and "old" not in text
    assert sweep.count("| LSTM 5×3 |") == sweep.count("Measured on ") == 2
    assert text.endswith("<!-- end -->\nMore.\n<!-- table: memory -->\nstays\n<!-- end -->\n")


def test_a_page_without_marks_stays(write_readme):
    assert write_readme("Words.\n") == "Words.\n"


@pytest.mark.parametrize(
    "page, message",
    [
        (
            "<!-- table: sweep -->\n<!-- table: memory -->\n<!-- end -->\n",
            "README.md: <!-- table: sweep --> has no end; allowed: <!-- end --> before the next",
        ),
        (
            "<!-- table: swep -->\n<!-- end -->\n",
            "README.md: <!-- table: swep --> names no table; allowed: sweep, training, forward, "
            "one_token, memory, growth, compilation, parallel, scan_unroll",
        ),
    ],
)
def test_a_wrong_mark_is_one_line_and_changes_nothing(
    page, message, write_readme, tmp_path, capsys
):
    with pytest.raises(SystemExit) as left:
        write_readme(page)
    assert (left.value.code, capsys.readouterr().err) == (1, f"error: {message}\n")
    assert (tmp_path / "README.md").read_text() == page


def test_a_folder_without_tables_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        readme.main([str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds no table; allowed: ")
