"""Studies, however their runs end: all that can be there is, and the same with every executor.

Real runs take seconds each. Most tests have a shell in their place, that copies, breaks, hangs or
is killed; what it copies is real, of a study that one process has computed.
"""

import json
import os
import random
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

import xarray as xr
from studies import MARK, Command, datasets, left_of, run_study, status_of, wait_until

from experiments.study import jobs, run
from rnn_jax import results

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TINY = {
    "experiment": "memory",
    "config": {
        "lengths": [4],
        "learning_rates": [0.01],
        "num_seeds": 1,
        "max_updates": 2,
        "evaluate_every": 1,
        "hidden_size": 2,
        "batch_size": 2,
        "test_size": 2,
    },
    "overrides": {"product": [{"variants": [["elman"], ["sru"]]}, {"seed": [0, 1]}]},
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A study of four runs, all computed in one process: its folder."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "study.json").write_text(json.dumps(TINY))
    code, text, errors = run_study(folder / "study.json", folder / "runs", "--executor", "inline")
    assert code == 0 and "4 of 4 runs together" in text, errors
    return folder / "runs"


@pytest.fixture
def names(reference):
    """The directories of the runs, in their order."""
    return [row["directory"] for row in status_of(reference)]


class Study:
    """A study whose command is called in this process."""

    def __init__(self, folder, capsys):
        self.file, self.out, self._capsys = folder / "study.json", folder / "runs", capsys
        self.file.write_text(json.dumps(TINY))

    def __call__(self, *arguments):
        """Return (code, standard output, errors)."""
        self._capsys.readouterr()
        code: object = 0
        try:
            run.main([str(self.file), "--out", str(self.out), *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        jobs.STOPPED.clear()  # of this process, that goes on
        wait_until(lambda: not left_of(self.out), 5)
        return code, *self._capsys.readouterr()

    def statuses(self):
        return [row["status"] for row in status_of(self.out)]

    @property
    def directory(self):
        (directory,) = self.out.glob("study-*")
        return directory


@pytest.fixture
def study(tmp_path, capsys, monkeypatch):
    found = Study(tmp_path, capsys)
    monkeypatch.setenv(MARK, str(found.out))
    return found


@pytest.fixture
def does(monkeypatch, reference):
    """Have a run do what a shell is told: name of its directory -> script; else it is a copy."""
    scripts = {}

    def command(job):
        name = job.directory.name
        copy = f"cp -rT {shlex.quote(str(reference / name))} {shlex.quote(str(job.directory))}"
        script = scripts.get(name, "copy").replace("copy", copy)
        return ["sh", "-c", script, str(job.directory)]  # $0: the run's directory

    monkeypatch.setattr(jobs, "child_command", command)
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    return scripts


def test_all_runs_together_are_what_each_of_them_is(reference, names):
    (path,) = reference.glob("study-*/results.zarr")
    whole = results.load(path)
    opened = xr.open_zarr(path).load()
    xr.testing.assert_equal(opened[list(whole.data_vars)], whole)
    assert whole["run"].values.tolist() == [name.rpartition("-")[-1] for name in names]
    assert whole["variant"].dims == ("run",)
    assert whole["config_seed"].values.tolist() == [0, 1, 0, 1]
    grid = whole.set_index(run=["variant", "config_seed"]).unstack("run")
    for i, name in enumerate(names):
        one = results.load(reference / name / "results.zarr")
        where = {"variant": one["variant"].item(), "config_seed": i % 2}
        for place in (whole.isel(run=i), grid.sel(where)):
            np.testing.assert_array_equal(place["test_loss"].values.ravel(),
                                          one["test_loss"].values.ravel())  # fmt: skip
    header, *rows = (path.parent / "table.csv").read_text().splitlines()
    assert header.startswith("seed,task,T,variant,") and len(rows) == 4


def test_what_ends_with_an_error_is_reported_and_the_others_are_there(
    reference, names, study, does
):
    study.out.mkdir()
    (study.out / names[0]).write_text("in its place")
    does[names[3]] = "echo what it did; echo 'error: told by it' >&2; exit 1"
    code, text, errors = study("--workers", 2)
    assert code == 1 and "2 of 4 runs together" in text
    assert f"failed: variants elman, seed 0: {study.out / names[0]}" in errors
    log = study.out / names[3] / jobs.LOG
    assert f"failed: variants sru, seed 1: error: told by it; log: {log}" in errors
    assert "what it did" in log.read_text()
    assert errors.endswith("error: 2 of 4 runs not finished, see above; the same command tries "
                           "them again\n")  # fmt: skip
    assert study.statuses() == ["failed", "finished", "finished", "failed"]
    (study.out / names[0]).unlink()
    (study.directory / "configs" / f"{names[0]}.json").unlink()  # as newer code finds it
    does.clear()
    does[names[0]] = f"cat '{study.directory}/configs/{names[0]}.json' && copy"
    logs = {name: (study.out / name / "metrics.jsonl").read_bytes() for name in names[1:3]}
    code, text, errors = study()
    assert code == 0 and "2 of 4 runs are finished from before" in errors, errors
    assert datasets(study.out) == datasets(reference)
    for name, log in logs.items():
        assert (study.out / name / "metrics.jsonl").read_bytes() == log


def test_one_hangs_one_is_killed_one_leaves_a_process_and_the_last_is_there(names, study, does):
    does[names[0]] = "trap '' TERM; while true; do sleep 1000; done"  # deaf, as compiled code is
    does[names[1]] = "kill -9 $$"
    does[names[2]] = "sleep 1000 & copy"
    code, text, errors = study("--workers", 4, "--time-limit", 3, "--attempts", 2)
    assert code == 1 and "2 of 4 runs together" in text
    assert study.statuses() == ["timed out", "killed", "finished", "finished"]
    rows = status_of(study.out)
    assert [row["attempts"] for row in rows] == ["1", "2", "1", "1"]
    assert rows[0]["reason"].startswith("ended at its time limit of 3 s")
    assert rows[1]["reason"] == "ended by SIGKILL at each of 2 starts"
    for words in ("timed out: variants elman, seed 0: ", "killed: variants elman, seed 1: "):
        assert errors.count(words) == 1


def test_ranks_share_a_study_and_the_last_puts_it_together(reference, names, study, does):
    code, text, _ = study("--rank", 1, "--world", 2)
    assert code == 0 and text.startswith("rank 1 of 2: its 2 runs are through; 2 of 4 are left")
    finished = [results.is_finished(study.out / name) for name in names]
    assert finished == [False, True, False, True]
    assert not (study.directory / "results.zarr").exists()
    code, text, _ = study("--rank", 0, "--world", 2)
    assert code == 0 and "4 of 4 runs together" in text
    assert datasets(study.out) == datasets(reference)


def test_two_commands_of_one_share_at_once(study, does):
    assert study("--rank", 0, "--world", 2)[0] == 0
    for held, given in (((0, 1), ()), ((0, 2), ("--rank", 0, "--world", 2)), ((1, 3), ())):
        with results.claim(study.directory, *held):
            code, text, errors = study(*given)
            assert code == 1 and text == "" and errors.count("\n") == 1
            assert "is being computed by another process" in errors


def test_list_says_how_far_the_runs_are_and_writes_nothing(names, study, does):
    code, text, _ = study("--list")
    assert code == 0 and text.endswith("\n4 to do\n") and not study.out.exists()
    does[names[0]] = "exit 3"
    assert study("--rank", 0, "--world", 2)[0] == 1
    before = {path: path.stat().st_mtime_ns for path in study.out.rglob("*")}
    code, text, _ = study("--list")
    assert code == 0 and text.endswith("\n1 failed, 2 to do, 1 finished\n")
    assert {path: path.stat().st_mtime_ns for path in study.out.rglob("*")} == before


def test_a_damaged_run_is_named_and_the_others_are_put_together(reference, names, study):
    shutil.copytree(reference, study.out)
    chunk = max((study.out / names[1] / "results.zarr" / "test_loss").rglob("[0-9]*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    (study.out / names[2] / "config.json").write_text("{}")
    code, text, errors = study()
    assert code == 1 and "2 of 4 runs together" in text
    lines = [line for line in errors.splitlines() if line.startswith("damaged: ")]
    for name, line in zip(names[1:3], lines, strict=True):
        assert line.endswith(f"to mend it: python -m experiments.verify {study.out / name}")
    assert results.load(study.directory / "results.zarr").sizes["run"] == 2


def test_where_nothing_can_be_written_it_is_one_line(study):
    study.out.write_text("")
    code, text, errors = study()
    assert code == 2 and text == "" and errors.count("\n") == 1 and str(study.out) in errors


HANGING = """
import os, sys
from experiments import command
with command.stoppable():
    from experiments.study import jobs, run
    hang = "import os, sys, time; from experiments.study.child import end_with; "
    hang += "end_with(int(sys.argv[1])); os.mkdir(sys.argv[2] + '/begun'); time.sleep(1000)"
    jobs.child_command = lambda job: [
        sys.executable, "-c", hang, str(os.getpid()), str(job.directory)]
    run.main()
"""


def test_on_sigterm_the_runs_end_before_the_command(tmp_path):
    file, out = tmp_path / "study.json", tmp_path / "runs"
    file.write_text(json.dumps(TINY))
    command = Command(file, out, "--workers", "2", code=HANGING)
    wait_until(lambda: len(list(out.glob("*/begun"))) == 2, 60)
    assert len(left_of(out)) == 3
    asked = time.monotonic()
    command.process.terminate()
    code, text, errors = command.end()
    assert time.monotonic() - asked < 10 and code == 143 and text == ""
    assert errors.count("error: ") == 1
    assert "error: terminated; 0 of 4 runs are finished, the same command goes on" in errors


# The runs themselves, not stubs.


def kill_one(out: Path, words: str) -> None:
    """Kill -9 a process of a study with these words in its command line, once there is one."""
    wait_until(lambda: any(words in line for line in left_of(out).values()), 120)
    for pid, line in left_of(out).items():
        if words in line:
            os.kill(pid, signal.SIGKILL)
            return


def test_in_processes_one_killed_one_broken_two_finished_before(reference, names, study):
    shutil.copytree(reference, study.out)
    shutil.rmtree(study.directory)
    broken, killed = study.out / names[1], study.out / names[2]
    shutil.rmtree(killed)
    (broken / "DONE").unlink()
    config = (broken / "config.json").read_text()
    (broken / "config.json").write_text(config.replace('"seed": 1', '"seed": 2'))
    command = Command(study.file, study.out, "--workers", "2")
    wait_until(lambda: any(killed.name in line for line in left_of(study.out).values()), 120)
    after = random.Random(time.time_ns()).uniform(0, 2)
    print(f"killed {after} s after its start")
    time.sleep(after)
    kill_one(study.out, killed.name)
    code, text, errors = command.end()
    assert code == 1 and "3 of 4 runs together" in text, errors
    assert "2 of 4 runs are finished from before" in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert f"{broken / 'config.json'} was edited" in line
    assert line.endswith(f"log: {broken / jobs.LOG}")
    assert study.statuses() == ["finished", "failed", "finished", "finished"]
    assert status_of(study.out)[2]["attempts"] == "2"
    (broken / "config.json").write_text(config)
    (broken / "DONE").touch()
    assert study()[0] == 0  # nothing is left to compute, all is put together
    assert datasets(study.out) == datasets(reference)
    logs = [[(out / names[i] / "metrics.jsonl").read_bytes() for i in (0, 3)]
            for out in (study.out, reference)]  # fmt: skip
    assert logs[0] == logs[1]


def test_on_ray_a_run_and_a_worker_are_killed(reference, names, study):
    pytest.importorskip("ray", reason="Ray is not installed: scripts/setup.sh ray")
    for name in names[::3]:  # of each variant one is there
        shutil.copytree(reference / name, study.out / name)
    command = Command(study.file, study.out, "--executor", "ray", "--workers", "2")
    kill_one(study.out, "experiments.study.child")
    kill_one(study.out, "ray::run_job")
    code, text, errors = command.end()
    assert code == 0 and "4 of 4 runs together" in text, errors
    assert datasets(study.out) == datasets(reference)
