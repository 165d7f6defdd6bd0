"""Records, locks and the hash of the code."""

import dataclasses
import errno
import fcntl
import json

import pytest

pytest.importorskip("zarr")

from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.results.locks import LOCKS, _lock


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class NewerConfig(Config):
    new_option: bool = False


RECORD = {"experiment": "x", "code_hash": "1", "packages": {"jax": "0.10"}, "backend": "cpu"}


def begin(folder, config):
    record = RECORD | {"config_hash": configs.content_hash(config)}
    results.begin(folder, config, record)
    return record


def test_a_config_that_has_got_more_settings_since_is_not_an_edited_one(tmp_path):
    begin(tmp_path, Config(seed=3))
    read = results.read_config(tmp_path, NewerConfig)
    assert read == NewerConfig(seed=3)
    (tmp_path / "config.json").write_text('{"seed": 4, "rate": 0.1}')
    with pytest.raises(results.RunDirectoryError, match="was edited"):
        results.read_config(tmp_path, NewerConfig)


def test_an_environment_that_changes_numbers_stops_a_run_and_another_does_not(tmp_path):
    record = begin(tmp_path, Config())
    results.check_goes_on(tmp_path, Config(), record | {"num_devices": 8, "command": "other"})
    other = record | {"packages": {"jax": "0.11"}, "x64": True}
    message = "was begun with jax 0.10, now 0.11; x64 none, now True; its command with --force"
    with pytest.raises(results.RunDirectoryError, match=message):
        results.check_goes_on(tmp_path, Config(), other)


def test_one_process_a_rank_and_one_world_at_a_time(tmp_path):
    def refused(*share):
        found = pytest.raises(results.RunDirectoryError, match="another process")
        with found, results.claim(tmp_path, *share):
            pass

    with results.claim(tmp_path):
        refused()
        refused(0, 2)
    with results.claim(tmp_path, 0, 2), results.claim(tmp_path, 1, 2):
        refused()
        refused(0, 2)
        refused(2, 3)
    with results.claim(tmp_path, 2, 3):
        pass


def test_a_lock_on_a_directory_that_was_set_aside_is_none(tmp_path, monkeypatch):
    """It is opened, then another process renames the directory, then it is locked."""
    directory = tmp_path / "run"
    (directory / LOCKS).mkdir(parents=True)
    flock, moved = fcntl.flock, []

    def rename_first(file, kind):
        if not moved:
            moved.append(directory.rename(tmp_path / "aside"))
            (directory / LOCKS).mkdir(parents=True)
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    with _lock(directory, "run", fcntl.LOCK_EX) as is_mine:
        assert is_mine and (directory / LOCKS / "run").exists()
        with _lock(directory, "run", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_theirs:
            assert not is_theirs


def test_where_a_file_system_has_no_locks_one_process_goes_on(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with results.claim(tmp_path), results.one_at_a_time(tmp_path):
        pass


def test_leftovers_are_ours_alone(tmp_path):
    (tmp_path / "figures").mkdir()
    ours = [tmp_path / ".report.html.12.partial", tmp_path / "figures" / ".a.png.7.partial"]
    theirs = [tmp_path / ".notes", tmp_path / ".git" / "config", tmp_path / "figures" / "a.png"]
    for path in ours + theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    results.remove_leftovers(tmp_path)
    assert not any(path.exists() for path in ours) and all(path.exists() for path in theirs)


def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    results.write_text(path, "before")
    with pytest.raises(UnicodeEncodeError):
        results.write_text(path, "half \ud800")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_the_hash_of_the_code_is_that_of_what_numbers_come_from(tmp_path):
    counts = ["cells/elman.py", "data/tables.py", "results/blocks.py", "sweep.py", "cells/plot.py"]
    only_shows = ["plotting/style.py", "results/report.py", "plot.py", "table.py", "findings.py"]
    for name in counts + only_shows:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")
    before = results.code_hash(tmp_path)
    for name in only_shows:
        (tmp_path / name).write_text("a = 2\n")
    assert results.code_hash(tmp_path) == before
    for name in counts:
        (tmp_path / name).write_text("a = 2\n")
        assert results.code_hash(tmp_path) != before
        (tmp_path / name).write_text("a = 1\n")


def test_the_log_survives_what_a_full_disk_leaves_of_a_row(tmp_path):
    results.append_row(tmp_path, event="start", number=1)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\n3\n{"event": "blo')
    results.append_row(tmp_path, event="end")
    assert results.read_log(tmp_path) == [{"event": "start", "number": 1}, {"event": "end"}]
    assert json.loads((tmp_path / "metrics.jsonl").read_bytes().splitlines()[-1])
