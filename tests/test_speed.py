"""experiments/speed: its harness, with jobs so small that nothing is said about speed."""

import contextlib
import datetime
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr"):
    pytest.importorskip(module)

from helpers import QUICK
from rich.console import Console

from experiments.speed import __main__ as command_line
from experiments.speed import jobs, points, readme, run, serve, table, worker
from experiments.speed.config import Config
from experiments.speed.libraries import LIBRARIES
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


def results_of(names):
    """What a sweep of two rows found: the i-th library takes i seconds, the first call 0.5."""
    libraries = {name: {"title": LIBRARIES[name].title} for name in names}
    rows = []
    for row in (["elman", 4, 3], ["lstm", 5, 3]):
        cells = {}
        for i, name in enumerate(names):
            cells[name] = {"median": i + 1.0, "minimum": i + 1.0, "counts": True, "compile": 0.5}
        rows.append({"row": row, "cells": cells})
    return {"table": "sweep", "libraries": libraries, "rows": rows}


ONCE = {"rounds": 1, "rounds_alone": 1, "turn_seconds": 0.0}
FLAGS = ["--rounds", 1, "--rounds-alone", 1, "--turn-seconds", 0]


@pytest.fixture
def replace_job(monkeypatch):
    """Put a job in the place of the sweep, its workers inline."""
    monkeypatch.setattr(run, "Worker", Inline)
    monkeypatch.setattr(run, "UNDISTURBED", float("inf"))  # of microseconds every time counts

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
    assert 0 < found["largest_deviation"] < 1e-4 if has_torch else not found["largest_deviation"]
    for row in found["rows"]:
        assert list(row["cells"]) == ["rnn_jax", "torch"]
        for name, cell in row["cells"].items():
            if name == "torch" and not has_torch:
                assert cell == {"error": "torch is not installed"}
                continue
            assert 0 < cell["minimum"] <= cell["median"] and cell["compile"] > 0
            counts = cell["counts"] and row["cells"]["rnn_jax"]["counts"]
            assert len(cell["rounds"]) == 1 and ("ratio" in cell) == counts
    assert "| LSTM 2×3 |" in (directory / "speed.md").read_text()
    assert "LSTM 2×3" in done.stdout and max(map(len, done.stdout.splitlines()[:-1])) <= 100
    said = ["rnn_jax alone", "torch alone", "all in turns"]  # for two rows: once
    assert done.stderr.splitlines() == [f"one_token: {text}" for text in said]


def test_a_library_without_an_answer_is_a_line_below_the_table(tmp_path):
    what = ["--tables", "one_token", "--rows", 2, 3, "--libraries", "rnn_jax"]
    done = run_speed(*what, "--timeout", 1e-3, *FLAGS, "--out", tmp_path)
    why = "rnn_jax: no answer within 0.001 s"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: one_token: no library was timed; {why}"
    (report,) = tmp_path.glob("speed-*/one_token.json")
    for row in json.loads(report.read_text())["rows"]:
        assert row["cells"]["rnn_jax"] == {"error": "no answer within 0.001 s"}
    text = (report.parent / "speed.md").read_text()
    assert f"{why}." in text and "× is" not in text and "differ by" not in text


def test_a_library_that_is_not_installed_answers_so():
    code = (
        "from experiments.speed import libraries, serve\n"
        "libraries.LIBRARIES['sru'] = libraries._jax('another', 'no-such-package')\n"
        "serve.main('sweep', 'sru', '1', 'highest')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"error": "no-such-package is not installed"}


@pytest.fixture
def fake_process(monkeypatch):
    """Have a worker's process be a Python that starts a long command and says its id."""

    def replace(code):
        command = [sys.executable, "-c", code]
        popen = subprocess.Popen
        monkeypatch.setattr(
            worker.subprocess, "Popen", lambda arguments, **options: popen(command, **options)
        )

    return replace


STARTS_A_BUILD = """
import json, subprocess, sys, time
build = subprocess.Popen({build})
print(json.dumps({{"build": build.pid}}), flush=True)
{rest}
"""
IGNORES = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); time.sleep(99)"


def is_alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    "build", [["sleep", "99"], [sys.executable, "-c", IGNORES]], ids=["sleep", "ignores SIGTERM"]
)
@pytest.mark.parametrize("rest", ["time.sleep(99)", "sys.exit(3)"], ids=["waits", "has ended"])
def test_what_a_library_started_ends_with_it(fake_process, build, rest):
    fake_process(STARTS_A_BUILD.format(build=build, rest=rest))
    with worker.Worker("sweep", "sru", "highest", 20.0) as library:
        library.start()
        pid = library.description["build"]
        time.sleep(0.3)  # until it ignores
        assert is_alive(pid)
    end = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_alive(pid)


def test_ctrl_c_ends_the_library_s_process_as_well(tmp_path):
    """The process that waits for its answer is stopped by a signal; nothing is left of the two."""
    code = (
        "import sys, time\n"
        "from experiments import command\n"
        "from experiments.speed import worker\n"
        "popen = worker.subprocess.Popen\n"
        "child = [sys.executable, '-c', 'print({}, flush=True); import time; time.sleep(99)']\n"
        "worker.subprocess.Popen = lambda arguments, **options: popen(child, **options)\n"
        "with command.stoppable(), worker.Worker('sweep', 'sru', 'highest', 99.0) as library:\n"
        "    library.start()\n"
        "    print(library.process.pid, flush=True)\n"
        "    library._answer()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with parent:
        assert parent.stdout and parent.stderr
        pid = int(parent.stdout.readline())
        assert is_alive(pid) or not Path("/proc/self/stat").exists()
        parent.send_signal(signal.SIGINT)
        assert parent.wait(20) == 130 and parent.stderr.read().startswith(b"error: interrupted")
    assert not is_alive(pid)


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
    assert capsys.readouterr().err.endswith("\nerror: somewhere: No space left on device\n")
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
    cells = {
        name: {"median": m, "minimum": least, "counts": True}
        for name, (m, least) in seconds.items()
    }
    run._add_ratios(cells, "torch")
    assert [cell["ratio"] for cell in cells.values()] == [1, 0.5, 2 / 6]
    assert [cell["ratio_of_minima"] for cell in cells.values()] == [1, 2 / 5, 4 / 5]
    assert [cell["floor_ratio"] for cell in cells.values()] == [3, 1.5, 1]  # above us: as it is


def test_a_time_far_above_the_time_alone_does_not_count():
    alone = {"compile": [0.5], "time": [1.0, 1.0, 9.0]}
    assert run._cell(alone, {"compile": [0.1], "time": [1.2, 1.2]})["counts"]
    cell = run._cell(alone, {"compile": [0.1], "time": [1.1, 1.3, 2.0]})
    assert (cell["median"], cell["minimum"], cell["alone"], cell["compile"]) == (1.3, 1.1, 1, 0.5)
    assert table.cell_text(cell, False) == "~1300 [0.5]"
    assert table.cell_text({**cell, "counts": True, "ratio": 12.3}, False) == "1300 ×12 [0.5]"


@pytest.mark.parametrize("disturbed", ["rnn_jax", "torch", "floor"])
def test_a_time_that_does_not_count_sets_no_ratio(disturbed):
    names = ["rnn_jax", "torch", "equinox", "floor"]
    cells = results_of(names)["rows"][0]["cells"]
    cells[disturbed]["counts"] = False
    run._add_ratios(cells, "rnn_jax")
    for name in names:
        counts = disturbed != name
        assert ("ratio" in cells[name]) == (counts and disturbed != "rnn_jax")
        assert ("floor_ratio" in cells[name]) == (counts and disturbed != "floor")


def test_ratios_are_to_the_first_library_with_a_time():
    found = results_of(["rnn_jax", "torch", "equinox"])
    for row in found["rows"]:
        row["cells"]["rnn_jax"] = {"error": "Killed"}
    for row in found["rows"]:
        run._add_ratios(row["cells"], first := jobs.first_timed(found["rows"]))
    assert first == "torch" and found["rows"][0]["cells"]["equinox"]["ratio"] == 3 / 2
    made = table.of(found)
    assert "divided by that of PyTorch;" in made.note and "rnn_jax: Killed." in made.note
    assert made.lines[0] == ["Elman 4×3", "2000 [0.5]", "3000 ×1.50 [0.5]"]
    for row in found["rows"]:
        del row["cells"]["equinox"]
    assert "× is" not in table.of(found).note  # nothing to compare with


def test_the_floor_is_last_and_no_base(replace_job):
    replace_job(floor=nothing)
    found = run.run("sweep", Config(libraries=("floor", "rnn_jax"), **ONCE))
    assert list(found["libraries"]) == ["rnn_jax", "floor"]
    assert jobs.first_timed(found["rows"]) == "rnn_jax"
    assert found["largest_deviation"] is None  # no two were compared


@pytest.mark.parametrize("floor, is_said", [(0.5, False), (2.0, True)])
def test_a_floor_above_the_time_gets_a_word(floor, is_said):
    found = results_of(["rnn_jax", "floor"])
    for row in found["rows"]:
        row["cells"]["floor"] |= {"median": floor}
        run._add_ratios(row["cells"], "rnn_jax")
    note = table.of(found).note
    assert "in parentheses the time of rnn_jax over it" in note
    assert ("below 1: the products chained alone cost more than inside rnn_jax" in note) == is_said


@pytest.mark.parametrize("width", [50, 80, 100])
def test_a_terminal_gets_every_number(width):
    names = ["rnn_jax", "jax_scan", "flax_linen", "flax_nnx", "equinox", "torch", "torch_adjoint"]
    found = results_of([*names, "sru", "floor"])
    for i, row in enumerate(found["rows"]):
        row["row"] = ["elman", 1024, 1000, 64, i + 1]
        run._add_ratios(row["cells"], "rnn_jax")
    made = table.of(found, on_terminal=True)
    console = Console(width=width, file=(file := io.StringIO()))
    table.to_terminal(console, made, "Measured on " + 30 * "words ")
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    printed = text.split()
    for line in [made.header, *made.lines]:
        for word in " ".join(line).split():
            assert word in printed
    assert "[" not in text and "brackets" not in text and printed.count("words") == 30
    note = text[text.index("Milliseconds") :].splitlines()
    assert min(map(len, map(str.rstrip, note[:2]))) > width - 20  # as wide as the terminal
    assert all("[0.5]" in entry for line in table.of(found).lines for entry in line[1:-1])


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
            f"libraries holds 'theano'; allowed: {', '.join(LIBRARIES)}",
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
        (["--world", 2], "world is 2; allowed: 1, a run here is new and alone"),
        (["--rank", 1, "--world", 2], "rank is 1; allowed: 0, a run here is new and alone"),
        (["--force"], "force is True; allowed: False, a run here is new and alone"),
        (["--rounds", 0], "rounds is 0; allowed: at least 1"),
        (["--timeout", "nan"], "timeout is nan; allowed: a finite number from 0"),
        (
            ["--tables", "memory", "--rows", 4],
            "rows are given for tables ('memory',); "
            "allowed: with one of sweep, training, forward, one_token",
        ),
        (
            ["--tables", "sweep", "--rows", 4, 5, 6],
            "rows is (4, 5, 6); allowed: N H row after row, their count a multiple of 2, each at "
            "least 1",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(flags, message, capsys, replace_job):
    replace_job()
    with pytest.raises(SystemExit) as stop:
        command_line.main(list(map(str, flags)))
    assert (stop.value.code, *capsys.readouterr()) == (2, "", f"error: {message}\n")


def test_two_runs_in_one_second_have_a_folder_each(tmp_path, monkeypatch):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(command_line.datetime, "datetime", Clock)
    names = [command_line._make_directory(tmp_path / "out").name for _ in range(3)]
    stamp = "speed-20300102T030405Z"
    assert names == [stamp, f"{stamp}-2", f"{stamp}-3"]


def test_notes_name_the_sizes_used(monkeypatch):
    monkeypatch.setattr(points, "ask", lambda *arguments: {"device": "cpu", "seconds": []})
    for quick, growth, compilation in (
        (
            True,
            "at T 8, B 2, H 4; sweep",
            "H 4, up to the first block of each cell; training: a step at T 8",
        ),
        (False, "at T 128, B 16, H 128; sweep", "gradient_flow up to the first block"),
    ):
        for name, expected in (("growth", growth), ("compilation", compilation)):
            module = import_module(f"experiments.speed.{name}")
            monkeypatch.setattr(module, "texts", lambda found: ([], []))
            monkeypatch.setattr(module, "_series", lambda *a: {}, raising=False)
            found = module.measure(Config(quick=quick), lambda text: None)
            assert expected in table.of({"table": name, **found}).note


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


def test_the_readme_command_says_what_went_where(write_readme, capsys, tmp_path):
    write_readme(PAGE + "<!-- table: growth -->\n<!-- end -->\n")
    page = tmp_path / "README.md"
    said = f"{page}: sweep written\n{page}: still empty: growth\n"  # memory's is as it was
    assert capsys.readouterr().out.endswith(said)


def test_a_page_without_marks_stays(write_readme, capsys):
    assert write_readme("Words.\n") == "Words.\n"
    assert capsys.readouterr().out.endswith("no page has a mark for: sweep\n")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda found: found["config"] | {"quick": True}, "is of a quick run; allowed: a run"),
        (lambda found: {}, "is broken or incomplete (KeyError: 'quick'); allowed: as"),
        (None, "is broken or incomplete (JSONDecodeError: "),
    ],
)
def test_a_table_that_is_not_for_a_readme_is_one_line(
    change, message, tmp_path, replace_job, monkeypatch, capsys
):
    replace_job()
    command_line.main(["--tables", "sweep", *map(str, FLAGS), "--out", str(tmp_path)])
    (path,) = tmp_path.glob("speed-*/sweep.json")
    text = path.read_text()
    found = json.loads(text)
    path.write_text(json.dumps(found | {"config": change(found)}) if change else text[:99])
    page = tmp_path / "README.md"
    page.write_text(PAGE)
    monkeypatch.setattr(readme, "READMES", (page,))
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        readme.main([str(path.parent)])
    out, err = capsys.readouterr()
    assert (left.value.code, out, err.count("\n"), page.read_text()) == (1, "", 1, PAGE)
    assert err.startswith(f"error: {path} {message}")


def test_the_readme_command_asks_for_a_run(capsys):
    with pytest.raises(SystemExit) as left:
        readme.main(["--help"])
    assert left.value.code == 0
    assert re.search(r"RUN_DIR .*\(required\)", capsys.readouterr().out)
    with pytest.raises(SystemExit) as left:
        readme.main([])
    assert (left.value.code, capsys.readouterr().err[:29]) == (2, "error: RUN_DIR is missing; al")


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
            "one_token, memory, growth, compilation, parallel, scan_unroll, lyapunov",
        ),
    ],
)
def test_a_wrong_mark_is_one_line_and_changes_nothing(
    page, message, write_readme, tmp_path, capsys
):
    with pytest.raises(SystemExit) as left:
        write_readme(page)
    assert left.value.code == 1
    assert capsys.readouterr().err.endswith(f"in turns\nerror: {message}\n")
    assert (tmp_path / "README.md").read_text() == page


def test_a_folder_without_tables_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        readme.main([str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds no table; allowed: ")
