"""A sweep that is killed, stopped, shared, starved of disk, edited: nothing is lost.

Every command runs in a process group of its own, and none may leave a process behind.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from experiments import running
from experiments.experiment import load
from experiments.gradient_flow.experiment import EXPERIMENT
from experiments.reproduce import run as reproduce
from experiments.verify import run as verify
from rnn_jax import config as configs
from rnn_jax.results import read_log

ROOT = Path(__file__).parent.parent
NUM_BLOCKS = 48
SMALL = (
    "--cells elman --weights 0.5 1 1.5 2 2.5 3 --num-seeds 16 --block-size 2 --num-steps 1000 "
    "--hidden-size 32 --input-size 4 --batch-size 2 --drop-first 5"
)


class Command:
    """A command in a process group of its own."""

    def __init__(self, folder, arguments=SMALL, name="gradient_flow", **more):
        out = ["--out", str(folder)] if folder else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"experiments.{name}", *out, *arguments.split()],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **more,
        )

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self):
        """Wait for it; returns (code, standard output, last line of standard error)."""
        out, errors = self.process.communicate(timeout=120)
        with pytest.raises(ProcessLookupError):  # nothing of the group is left
            os.killpg(self.process.pid, 0)
        self.errors = errors
        assert "Traceback" not in errors, errors
        return self.process.returncode, out, errors.strip().splitlines()[-1]


def rows_of(folder):
    return [row for path in folder.glob("*/metrics.jsonl") for row in read_log(path.parent)]


def computed(folder):
    """Count how often each block was computed and kept."""
    return Counter(row["block"] for row in rows_of(folder) if row["event"] == "block")


def wait_for_blocks(command, folder, count):
    """Wait until so many blocks are kept; False if the command has ended before."""
    while sum(computed(folder).values()) < count:
        if command.process.poll() is not None:
            return False
        time.sleep(0.002)
    return True


def dataset_bytes(folder):
    """Every byte of the dataset in the one finished run directory of a folder."""
    (directory,) = folder.iterdir()
    assert (directory / "DONE").exists()
    store = directory / "results.zarr"
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def assert_whole(folder, reference):
    """The dataset is that of an uninterrupted run, no block was computed twice, no rest is left."""
    assert dataset_bytes(folder) == dataset_bytes(reference)
    times = computed(folder)
    assert set(times.values()) == {1}, times
    (directory,) = folder.iterdir()
    assert not [p for p in directory.rglob(".*") if ".partial" in p.name or p.name[-5:].isdigit()]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    code, out, _ = Command(folder).end()
    assert code == 0 and computed(folder) == dict.fromkeys(range(NUM_BLOCKS), 1)
    return folder


def drawn():
    """Make a source of moments; the seed stands in the output of a test that fails."""
    seed = time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)


def kill_at_random_moments(folder, moments, draw):
    """Kill -9 again and again, mostly between the first block and the last."""
    for moment in range(moments):
        command = Command(folder)
        if moment % 4 == 3:  # imports, records, template, compilation
            time.sleep(draw.uniform(0.0, 3.0))
        else:
            count = sum(computed(folder).values())
            wait_for_blocks(command, folder, count + draw.randint(1, 1 + NUM_BLOCKS // 20))
            time.sleep(draw.uniform(0.0, 0.01))
        command.kill()


def stop_by(number, code, word, folder):
    """Send a signal amid the blocks: one line that says how many are kept."""
    command = Command(folder)
    assert wait_for_blocks(command, folder, sum(computed(folder).values()) + 2)
    command.process.send_signal(number)
    found, out, error = command.end()
    assert (found, out) == (code, "") and command.errors.count("error:") == 1
    kept = sum(computed(folder).values())
    # it may come between a block's mark and its row in the log, or the count in the line
    assert error in [
        f"error: {word}; {k} of {NUM_BLOCKS} blocks are kept, the same command goes on"
        for k in (kept - 1, kept, kept + 1)
    ]


def test_however_it_is_stopped_it_goes_on_to_the_same_bits(tmp_path, reference):
    stop_by(signal.SIGINT, 130, "interrupted", tmp_path)
    stop_by(signal.SIGTERM, 143, "terminated", tmp_path)
    kill_at_random_moments(tmp_path, 1, drawn())  # those that are slow: twenty times
    first = Command(tmp_path)
    assert wait_for_blocks(first, tmp_path, sum(computed(tmp_path).values()) + 1)
    os.kill(first.process.pid, signal.SIGSTOP)
    code, out, error = Command(tmp_path).end()  # an identical command at the same time
    assert code == 1 and out == ""
    assert error.startswith("error: ") and error.endswith("is being computed by another process")
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.end()[0] == 0
    assert_whole(tmp_path, reference)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path, reference):
    kill_at_random_moments(tmp_path, 20, drawn())
    code, out, error = Command(tmp_path).end()
    assert code == 0, error
    assert_whole(tmp_path, reference)


def test_two_processes_share_a_sweep_one_is_killed_and_replaced(tmp_path, reference):
    first, second = (Command(tmp_path, f"{SMALL} --rank {r} --world 2") for r in (0, 1))
    wait_for_blocks(second, tmp_path, drawn().randint(1, NUM_BLOCKS // 4))
    second.kill()
    code, out, _ = first.end()
    assert code == 0
    ranks = {row["block"]: row["rank"] for row in rows_of(tmp_path) if row["event"] == "block"}
    assert all(block % 2 == rank for block, rank in ranks.items())
    left = NUM_BLOCKS - len(ranks)
    if left:  # else the second had computed all of its own before it was killed
        assert out.startswith(f"rank 0 of 2: its 24 blocks are done; {left} of 48 are left")
        assert not list(tmp_path.glob("*/DONE"))
        code, out, _ = Command(tmp_path, f"{SMALL} --rank 1 --world 2").end()
        assert code == 0 and "results: " in out
    assert_whole(tmp_path, reference)


SAY = "print('in', flush=True)"
WAIT = "[time.sleep(0.1) for _ in range(600)]"  # a signal just before a long sleep would wait


def stopped(code, *numbers):
    """Send signals to code in ``stoppable`` once it says that it is in; returns (code, lines)."""
    begin = "from experiments.command import before_leaving, stoppable\n"
    begin += "with stoppable():\n    "
    process = subprocess.Popen(
        [sys.executable, "-c", begin + code], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "in\n"
    for number in numbers:
        process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    return process.returncode, errors.splitlines()


def test_a_signal_in_the_first_moment_or_swallowed_by_a_callback_is_one_line_too():
    line = "error: interrupted; the same command starts it again"
    assert stopped(f"{SAY}; import jax; import time; {WAIT}", signal.SIGINT) == (
        130,
        [line],
    )
    in_callback = f"import time; {SAY}\n    while True:\n        try: {WAIT}\n        except: pass"
    assert stopped(in_callback, signal.SIGINT, signal.SIGINT) == (130, [line])


def test_a_stopped_terminal_does_not_keep_it():
    patience = "import time\n    from experiments import command; command.PATIENCE = 0"
    stuck = f"{patience}\n    with before_leaving(lambda: {WAIT}): {SAY}; {WAIT}"
    assert stopped(stuck, signal.SIGTERM)[0] == -signal.SIGALRM


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes; skips where this user may not mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="no mount")
def test_on_a_full_disk_it_leaves_with_one_line_and_goes_on_when_there_is_room(tmp_path, reference):
    with small_disk(tmp_path, "700k"):
        code, out, error = Command(tmp_path).end()
        assert code == 1 and "No space left on device" in error and "blocks are kept" in error
        kept = sum(computed(tmp_path).values())
        assert 0 < kept < NUM_BLOCKS
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path)], check=True)
        code, out, error = Command(tmp_path).end()
        assert code == 0
        assert_whole(tmp_path, reference)


def refused(capsys, main, *arguments):
    """Call a command's main where it must leave before it computes; returns (code, its line)."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    out, errors = capsys.readouterr()
    line = errors.strip().splitlines()[-1]
    assert out == "" and errors.count("error: ") == 1 and line.startswith("error: ")
    return stop.value.code, line


def sweep(arguments):
    running.main(EXPERIMENT, arguments)


def test_in_a_folder_that_cannot_be_written_it_leaves_with_one_line(tmp_path, capsys):
    place = tmp_path / "file"
    place.write_text("")
    code, line = refused(capsys, sweep, "--out", place, *SMALL.split())
    assert code == 1 and line.startswith(f"error: {place}") and "Not a directory" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_in_a_folder_that_may_not_be_written_it_leaves_with_one_line(tmp_path, capsys):
    tmp_path.chmod(0o500)
    code, line = refused(capsys, sweep, "--out", tmp_path, *SMALL.split())
    assert code == 1 and "Permission denied" in line


def test_a_config_file_with_an_unknown_key_leaves_with_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"num_seed": 3}')
    arguments = ("--config", tmp_path / "config.json", "--out", tmp_path / "runs")
    code, line = refused(capsys, sweep, *arguments)
    assert code == 2 and "unknown key num_seed; allowed: cells, weights, num_seeds" in line
    assert not (tmp_path / "runs").exists()


def test_whoever_reads_the_output_may_leave(reference):
    command = Command(reference)
    command.process.stdout.close()  # as `| head` does
    assert command.process.wait(timeout=60) in (1, 128 + signal.SIGPIPE)  # 1: rich noticed it
    assert "Traceback" not in command.process.stderr.read()
    command.process.stderr.close()


@pytest.fixture
def copy(tmp_path, reference):
    """A copy of the finished run: (its directory, the folder that is in)."""
    (directory,) = reference.iterdir()
    folder = tmp_path / "runs"
    shutil.copytree(directory, folder / directory.name)
    return folder / directory.name, folder


def test_an_edited_config_is_noticed_and_nothing_is_touched(copy, capsys):
    directory, folder = copy
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_seeds": 3}))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    code, line = refused(capsys, sweep, "--out", folder, *SMALL.split())
    assert code == 1 and f"{directory / 'config.json'} was edited" in line
    for main in (verify.main, reproduce.main):
        code, line = refused(capsys, main, directory)
        assert code == 2 and "was edited" in line
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_two_that_share_a_sweep_are_killed_at_twenty_random_moments(tmp_path, reference):
    draw = drawn()
    shares = [f"{SMALL} --rank {rank} --world 2" for rank in (0, 1)]
    processes = [Command(tmp_path, share) for share in shares]
    for _ in range(20):
        rank = draw.randrange(2)
        wait_for_blocks(processes[rank], tmp_path, sum(computed(tmp_path).values()) + 1)
        time.sleep(draw.uniform(0.0, 1.0))
        processes[rank].kill()
        processes[rank] = Command(tmp_path, shares[rank])
    assert [command.end()[0] for command in processes] == [0, 0]
    assert_whole(tmp_path, reference)


@pytest.mark.parametrize("name", ["verify", "reproduce"])
def test_what_is_no_run_directory_is_refused(name, tmp_path, capsys):
    main = {"verify": verify.main, "reproduce": reproduce.main}[name]
    code, line = refused(capsys, main, tmp_path)
    assert code == 2 and "is not a run directory: environment.json is not there" in line
    code, line = refused(capsys, main)
    assert code == 2 and line == "error: RUN is missing; allowed: a run directory"
    (tmp_path / "environment.json").write_text(
        '{"experiment": "other", "config_hash": "", "code_hash": ""}'
    )
    code, line = refused(capsys, main, tmp_path)
    assert code == 2 and "is a run of 'other'" in line


def test_a_directory_under_another_name_is_not_taken_for_it(copy, capsys):
    directory, folder = copy
    config = EXPERIMENT.config_class(seed=1)
    directory.rename(folder / f"gradient_flow-{configs.content_hash(config)}")
    code, line = refused(capsys, sweep, "--out", folder, "--seed", 1)
    assert code == 1 and "holds another run than its name says" in line


def test_a_dataset_without_its_records_is_not_gone_on_with(copy):
    directory, folder = copy
    (directory / "DONE").unlink()
    (directory / "environment.json").unlink()
    code, out, error = Command(folder).end()
    assert code == 1 and "what computed it is not known" in error and "--force" in error


def test_a_share_that_is_none_is_refused(tmp_path, capsys):
    for rank, world, given in ((2, 2, "rank is 2"), (-1, 2, "rank is -1"), (0, 0, "world is 0")):
        code, line = refused(capsys, sweep, "--rank", rank, "--world", world)
        assert code == 2 and given in line and "allowed" in line
    arguments = ("--out", tmp_path, "--rank", 0, "--world", 2)
    code, line = refused(capsys, lambda a: running.main(load("cliff"), a), *arguments)
    assert code == 2 and "world is 2; allowed: 1, cliff is not cut into blocks" in line


def test_what_is_damaged_or_missing_is_an_error_and_verify_computes_those_blocks_alone(
    copy, reference, capsys
):
    directory, folder = copy
    store, again = directory / "results.zarr", ["--out", folder, *SMALL.split()]
    for block in (3, 4):  # as after a mend that was killed: marks are taken away, DONE is there
        (store / "block_crc" / str(block)).unlink()
    (directory / "report.html").write_text("")
    code, line = refused(capsys, sweep, *again)
    assert code == 1 and "2 of 48 blocks are missing; to mend it: " in line
    (store / "slope" / "0.1.3").unlink()
    chunk = store / "log_carry_norm" / "0.0.5.0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    code, line = refused(capsys, sweep, *again)
    assert code == 1 and "damaged: block 10 (cell elman, seed 3, recurrent_weight 1.5 to 2)" in line
    assert "block 15 (" in line and f"to mend it: python -m experiments.verify {directory}" in line
    code, line = refused(capsys, verify.main, directory, "--check-only")
    assert code == 1 and line.endswith("; without --check-only it is mended")
    assert not (store / "slope" / "0.1.3").exists()
    code, out, error = Command(None, str(directory), "verify").end()
    assert code == 0 and out.startswith("mended: ")
    assert dataset_bytes(folder) == dataset_bytes(reference)
    assert {k for k, times in computed(folder).items() if times == 2} == {3, 4, 10, 15}
    (original,) = reference.iterdir()
    figures = [(d / "figures" / "weight_share.png").read_bytes() for d in (directory, original)]
    assert figures[0] == figures[1] and (directory / "report.html").stat().st_size


def test_a_run_that_power_failed_is_mended_and_finished(copy, reference):
    """Torn chunks, torn and lost marks, a torn template: the same command makes it whole."""
    directory, folder = copy
    store = directory / "results.zarr"
    (directory / "DONE").unlink()
    (store / "slope" / "0.1.3").unlink()
    (store / "block_crc" / "40").unlink()
    (store / "block_crc" / "7").write_bytes(b"")
    (store / "theory_slope" / "0.0").write_bytes(b"")
    with (directory / "metrics.jsonl").open("ab") as log:
        log.write(b'\xff{"event": \n3\n{"event": "blo')
    command = Command(folder)
    code, out, error = command.end()
    assert code == 0 and "damaged, written again: theory_slope" in command.errors, command.errors
    assert {k for k, times in computed(folder).items() if times == 2} == {7, 10, 40}
    assert dataset_bytes(folder) == dataset_bytes(reference)


def test_a_run_is_made_by_one_environment(copy, reference):
    directory, folder = copy
    (directory / "DONE").unlink()
    (directory / "results.zarr" / "block_crc" / "40").unlink()
    record = json.loads((directory / "environment.json").read_text())
    record["packages"]["jax"] = "0.1.2"
    (directory / "environment.json").write_text(json.dumps(record))
    code, out, error = Command(folder).end()
    assert code == 1 and out == "" and "was begun with jax 0.1.2, now " in error
    code, out, error = Command(folder, f"{SMALL} --force").end()
    assert code == 0
    (before,) = [path for path in folder.iterdir() if path != directory]
    assert before.name.startswith(directory.name)
    shutil.rmtree(before)
    assert_whole(folder, reference)


def test_a_finished_run_is_run_again_beside_and_compared(tmp_path, reference):
    (directory,) = reference.iterdir()
    arguments = f"{directory} --out {tmp_path}"
    code, out, _ = Command(None, arguments, "reproduce").end()
    assert code == 0 and "identical: every number of" in out
    assert dataset_bytes(tmp_path) == dataset_bytes(reference)
    found = json.loads((tmp_path / f"{directory.name}-again" / "comparison.json").read_text())
    assert found["verdict"] == "identical" and found["environment_differences"] == []
    assert found["variables"]["slope"]["identical"] == 1.0
