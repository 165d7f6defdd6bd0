"""Studies: whichever executor, whatever is killed on the way, every run is there and the same."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import QUICK, raises_one_line

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from experiments.experiment import load
from experiments.study import executors, jobs
from experiments.study.config import Arguments, Study, read_study
from experiments.study.jobs import Job, run_job
from experiments.study.points import points_of, study_directory
from rnn_jax import results

ROOT = Path(__file__).parent.parent
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


class Command:
    """A study in a process group of its own, with its output in files."""

    def __init__(self, file: Path, out: Path, *arguments: str, **environment):
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.study", str(file), "--out", str(out), *arguments],
            cwd=ROOT,
            env={"XLA_FLAGS": QUICK, **os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, timeout=120) -> tuple[int, str, str]:
        """Wait for it; returns (code, output, errors). Nothing that names the folder is left."""
        out, errors = self.process.communicate(timeout=timeout)
        assert "Traceback" not in errors, errors
        wait_until(lambda: not processes_of(self.out), 10)
        return self.process.returncode, out, errors


def run_study(file: Path, out: Path, *arguments: str) -> tuple[int, str, str]:
    return Command(file, out, *arguments).end()


def processes_of(folder: Path) -> list[int]:
    """List the processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until(is_so, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def datasets(out: Path) -> dict[str, bytes]:
    """Every byte of the runs' datasets."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.glob("memory-*/results.zarr/**/*")
        if path.is_file()
    }


def status_of(out: Path) -> list[dict[str, str]]:
    (path,) = out.glob("study-*/status.csv")
    return list(csv.DictReader(path.read_text().splitlines()))


# One run in a process of its own: stubs for children.


@pytest.fixture
def make_job(tmp_path, monkeypatch):
    """Make a job whose process runs a line of Python; ``run`` is its folder."""

    def make(script: str, **changes) -> Job:
        directory = tmp_path / "memory-0123456789ab"
        names = f"import os, pathlib, signal, sys, time; run = pathlib.Path({str(directory)!r})\n"
        command = [sys.executable, "-S", "-c", names + script]
        monkeypatch.setattr(jobs, "child_command", lambda job: command)
        job = Job("memory", directory, tmp_path / "config.json", 1, None, 3, tmp_path)
        return job._replace(**changes)

    yield make
    jobs.STOPPED.clear()


DONE = "(run / 'DONE').touch()"


def test_a_run_that_ends_well_is_finished(make_job):
    job = make_job(f"print('some words'); {DONE}; x = bytearray(50_000_000)")
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


# Whole studies.


def test_inline_and_processes_come_to_the_same_and_the_broken_run_is_named(tmp_path):
    file = write_study(tmp_path, {"seed": [0, 1, 2]})
    a, b = tmp_path / "a", tmp_path / "b"
    broken = points_of(read_study(file), load("memory"), b)[1].directory
    b.mkdir()
    broken.touch()  # a file where a folder is wanted

    other = Command(file, b, "--workers", "2")
    code, out, errors = run_study(file, a, "--executor", "inline")
    assert code == 0, errors
    assert "3 of 3 runs together" in out and "seed" in out
    code, out, errors = other.end()
    assert code == 1 and "2 of 3 runs together" in out
    assert "failed: seed 1: " in errors and f"log: {broken}/output.log" in errors
    assert errors.splitlines()[-1].startswith("error: 1 of 3 runs not finished")
    assert [row["status"] for row in status_of(b)] == ["finished", "failed", "finished"]

    broken.unlink()
    logs = {path: path.read_bytes() for path in b.glob("memory-*/metrics.jsonl")}
    killed = Command(file, b)  # the same command, and its run is killed once
    wait_until(lambda: (broken / "config.json").exists(), 60)
    (child,) = [pid for pid in processes_of(b) if pid != killed.process.pid]
    os.kill(child, signal.SIGKILL)
    code, out, errors = killed.end()
    assert code == 0 and "2 of 3 runs are finished from before" in errors, errors
    assert [row["attempts"] for row in status_of(b)] == ["1", "2", "1"]
    assert all(path.read_bytes() == data for path, data in logs.items())
    assert datasets(a) == datasets(b) and len(datasets(a)) > 30

    whole = results.load(study_directory(read_study(file), b) / "results.zarr")
    assert whole["config_seed"].values.tolist() == [0, 1, 2] and whole.sizes["run"] == 3
    one = results.load(broken / "results.zarr")
    assert (whole["test_loss"].values[1] == one["test_loss"].values).all()


def test_inline_leaves_a_run_that_hangs_to_itself_and_goes_on(make_job, monkeypatch):
    """The one after it gets a process: here it is the stub that does the work."""
    for name in ("PJRT_NPROC", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # what it sets in this process is undone
    done, hung = make_job(DONE), threading.Event()
    others = [done.directory.with_name(f"memory-{n}") for n in "ab"]

    def run(experiment, arguments):
        if arguments[1].endswith("hangs.json"):
            hung.wait(30)  # as compiled code: no exception gets in
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


def test_ranks_share_a_study_and_the_last_puts_it_together(tmp_path):
    file, out = write_study(tmp_path, {"seed": [0, 1]}), tmp_path / "runs"
    code, text, _ = run_study(file, out, "--rank", "1", "--world", "2")
    assert code == 0 and "rank 1 of 2: its 1 run are through; 1 of 2" in text.replace("\n", " ")
    assert len(list(out.glob("memory-*/DONE"))) == 1 and not list(out.glob("study-*/*.zarr"))
    code, text, _ = run_study(file, out, "--rank", "0", "--world", "2", "--executor", "inline")
    assert code == 0 and "2 of 2 runs together" in text
    listed = run_study(file, out, "--list")[1]
    assert "2 finished" in listed and listed.count("finished") == 3


def test_ray_comes_to_the_same_though_a_worker_and_a_run_are_killed(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: scripts/setup.sh ray")
    file = write_study(tmp_path, {"seed": [0, 1, 2]})
    out = tmp_path / "ray"
    command = Command(file, out, "--executor", "ray", "--workers", "2")
    code, _, errors = run_study(file, tmp_path / "inline", "--executor", "inline")
    assert code == 0, errors
    for victim in ("run", "worker"):
        wait_until(lambda: len(processes_of(out)) > 1 or command.process.poll() is not None, 90)
        pids = [pid for pid in processes_of(out) if pid != command.process.pid]
        if pids:
            parent = int(Path(f"/proc/{pids[0]}/stat").read_text().split()[3])
            os.kill(pids[0] if victim == "run" else parent, signal.SIGKILL)
            wait_until(lambda gone=pids[0]: not Path(f"/proc/{gone}/exe").exists(), 10)
    code, text, errors = command.end()
    assert code == 0 and "3 of 3 runs together" in text, errors
    assert datasets(out) == datasets(tmp_path / "inline")


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
