"""One run of a study in a process of its own, and what a study refuses."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import raises_one_line

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from studies import ROOT, run_study, wait_until

from experiments.experiment import load
from experiments.study import executors, jobs
from experiments.study.config import Arguments, Study
from experiments.study.jobs import Job, run_job
from experiments.study.points import points_of

TINY = {
    "tasks": ["adding"],
    "lengths": [8],
    "variants": ["gru"],
    "learning_rates": [0.01],
    "num_seeds": 1,
    "max_updates": 10,
    "evaluate_every": 5,
    "hidden_size": 4,
    "batch_size": 4,
    "test_size": 8,
}
HANGS = {"max_updates": [10**8], "evaluate_every": [10**8], "lengths": [[1000]]}


def write_study(folder: Path, overrides: dict, **config) -> Path:
    path = folder / "study.json"
    tree = {"experiment": "memory", "config": TINY | config, "overrides": overrides}
    path.write_text(json.dumps(tree))
    return path


# One run in a process of its own: stubs for children.


@pytest.fixture
def make_job(tmp_path, monkeypatch):
    """Make a job whose process runs a line of Python; ``run`` is its folder."""

    def make(script: str, **changes) -> Job:
        directory = tmp_path / "memory-0123456789ab"
        names = f"import os, pathlib, signal, sys, time; run = pathlib.Path({str(directory)!r})\n"
        command = [sys.executable, "-S", "-c", names + script]
        monkeypatch.setattr(jobs, "child_command", lambda job: command)
        starts = jobs.num_starts(directory)
        job = Job("memory", directory, tmp_path / "config.json", 1, None, 3, starts, tmp_path)
        return job._replace(**changes)

    yield make
    jobs.STOPPED.clear()


DONE = "(run / 'DONE').touch()"


def test_a_run_that_ends_well_is_finished(make_job):
    job = make_job(f"print('some words'); {DONE}; x = bytearray(50_000_000); time.sleep(0.3)")
    outcome = run_job(job)
    assert (outcome.status, outcome.words, outcome.attempts) == ("finished", "", 1)
    assert outcome.seconds < 5 and 50e6 < outcome.peak_memory < 1e9
    assert "some words" in (job.directory / "output.log").read_text()


def test_a_broken_run_is_not_tried_again_and_says_why(make_job):
    outcome = run_job(make_job("print('error: it is broken', file=sys.stderr); sys.exit(2)"))
    assert outcome[:3] == ("failed", "error: it is broken", 1)
    outcome = run_job(make_job("pass"))  # code 0, and nothing done
    assert outcome.status == "failed"


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "sys.exit(137)", "os.abort()"])
def test_a_killed_run_is_started_again_as_often_as_allowed(make_job, how):
    count = "n = len(list(run.glob('start-*'))); (run / f'start-{n}').touch()"
    job = make_job(f"{count}\nif n < 2: {how}\n{DONE}")
    outcome = run_job(job)
    assert (outcome.status, outcome.attempts) == ("finished", 3)
    (job.directory / "DONE").unlink()
    outcome = run_job(make_job(how, attempts=2))
    assert outcome.status == "killed" and "each of 2 starts" in outcome.words


def test_a_run_that_hangs_ends_at_its_time_limit_with_all_it_has_started(make_job, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    grandchild = "os.fork()"
    started = time.monotonic()
    job = make_job(f"{deaf}; {grandchild}; (run / str(os.getpid())).touch(); time.sleep(60)")
    outcome = run_job(job._replace(time_limit=1.0))
    assert outcome.status == "timed out" and "1 s" in outcome.words
    assert 1 < time.monotonic() - started < 10
    pids = [int(path.name) for path in job.directory.iterdir() if path.name.isdigit()]
    assert len(pids) == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), 5)


def test_a_run_that_saves_on_sigterm_has_the_time(make_job):
    save = "signal.signal(signal.SIGTERM, lambda *_: ((run / 'saved').touch(), sys.exit(143)))"
    job = make_job(f"{save}; time.sleep(60)", time_limit=1.0)
    assert run_job(job).status == "timed out" and (job.directory / "saved").exists()


def test_a_study_that_stops_ends_its_runs_and_begins_none(make_job):
    job = make_job("time.sleep(60)")
    threading.Timer(0.5, jobs.STOPPED.set).start()
    assert run_job(job).status == "stopped"


def test_a_run_dies_with_the_process_that_has_started_it(tmp_path):
    """The child's own guard, without an experiment: kill -9 of the parent."""
    child = "import os, time; from experiments.study.child import end_with; end_with(int(%r)); "
    script = (
        "import os, subprocess, sys, time; "
        f"c = subprocess.Popen([sys.executable, '-c', {child!r} % os.getpid() + "
        "'print(os.getpid(), flush=True); time.sleep(60)']); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), 5)


def test_inline_leaves_a_run_that_hangs_to_itself_and_goes_on(make_job, monkeypatch):
    """The one after it gets a process: here it is the stub that does the work."""
    monkeypatch.setattr(jobs, "GRACE", 0.3)
    for name in ("PJRT_NPROC", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # what it sets in this process is undone
    done, hung = make_job(DONE), threading.Event()
    others = [done.directory.with_name(f"memory-{n}") for n in "ab"]

    def run(experiment, arguments):
        if arguments[1].endswith("hangs.json"):
            hung.wait(30)  # as compiled code: no exception gets in meanwhile
        (others[0] / "DONE").touch()
        print("printed by the run")

    monkeypatch.setattr(executors.running, "main", run)
    first = done._replace(directory=others[0])
    second = first._replace(directory=others[1], config=Path("hangs.json"), time_limit=0.3)
    found = dict(executors.inline([first, second, done], Arguments(Path("-")), print))
    hung.set()
    assert [found[i].status for i in range(3)] == ["finished", "timed out", "finished"]
    assert "printed by the run" in (others[0] / "output.log").read_text()
    (log,) = executors.LEFT  # as long as one is left this process ends by os._exit
    executors.LEFT.clear()
    log.close()


@pytest.mark.slow
def test_a_run_that_hangs_in_compiled_code_stops_no_other(tmp_path):
    hang = {"zip": [{name: values} for name, values in HANGS.items()]}
    file = write_study(tmp_path, {"chain": [hang, {"seed": [3]}]})
    for name in ("inline", "processes"):
        out = tmp_path / name
        code, text, errors = run_study(file, out, "--time-limit", "30", "--executor", name)
        assert code == 1 and "timed out: " in errors and "1 of 2 runs together" in text, errors


# Wrong input.


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("--workers 0", "workers is 0"),
        ("--cores 0", "cores is 0"),
        ("--attempts 0", "attempts is 0"),
        ("--time-limit 0", "time_limit is 0"),
        ("--gpus 1", "gpus is 1"),
        ("--gpus nan --executor ray", "gpus is nan"),
        ("--address auto", "address is auto"),
        ("--workers 2 --executor inline", "workers is 2"),
        ("--rank 1", "rank is 1"),
        ("--executor slurm", "slurm"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, arguments, words):
    from experiments.study.run import main

    file = write_study(tmp_path, {})
    with pytest.raises(SystemExit) as stop:
        main([str(file), "--out", str(tmp_path / "runs"), *arguments.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not JSON"),
        ("[]", "allowed: an object"),
        ("{}", "no experiment is named"),
        ('{"experiment": "../memory"}', "allowed: cliff"),
        ('{"experiment": "speed"}', "allowed: cliff"),
        ('{"experiment": "memory", "configs": {}}', "unknown key configs"),
        ('{"experiment": "memory", "config": {"sed": 1}}', "unknown key sed"),
        ('{"experiment": "memory", "overrides": {"seed": [1, 1]}}', "runs 1 and 2 are the same"),
        ('{"experiment": "memory", "overrides": {"seed": [1, -1]}}', "run 2: seed is -1"),
        ('{"experiment": "memory", "overrides": {"lengths": [9]}}', "run 1: lengths is 9"),
    ],
)
def test_wrong_studies_are_one_line(tmp_path, capsys, text, words):
    from experiments.study.run import main

    file = tmp_path / "study.json"
    file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([str(file), "--out", str(tmp_path / "runs")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and words in error, error
    assert str(file) in error and not (tmp_path / "runs").exists()


def test_a_study_of_one_run_needs_no_overrides(tmp_path):
    study = Study("memory", TINY)
    (point,) = points_of(study, load("memory"), tmp_path)
    assert point.overrides == {} and point.name == "the config as it is"
    with raises_one_line("experiment is"):
        Study("memry")
