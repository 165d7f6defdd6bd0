"""The experiment, as a user runs it: trainings that are killed, tables, predictions, bad input."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import killed
import numpy as np
import pytest
from helpers import QUICK, raises_one_line, run_experiment, tree_equal

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib", "orbax.checkpoint"):
    pytest.importorskip(module)

import jax
import xarray as xr

from experiments import running
from experiments.experiment import load
from experiments.text_classification import (
    corpus,
    layout,
    networks,
    predict,
    trainings,
    yardsticks,
)
from experiments.text_classification.config import CONVOLUTION, Config
from experiments.trained.at_once import on_devices
from experiments.verify import run as verify
from rnn_jax import config as configs
from rnn_jax.data import TextData, Texts
from rnn_jax.files import read_rows
from rnn_jax.training import (
    StoppedError,
    init_state,
    make_train_step,
    restore_params,
    train,
)

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "experiments" / "text_classification" / "presets").glob("*.json"))
SMALL = (
    "--models elman lstm bag-of-words --learning-rates 0.01 0.03 --num-seeds 2 --num-epochs 3 "
    "--batch-size 16 --hidden-size 4 --embedding-size 4 --max-length 40 --warmup-steps 2 "
    "--flow-every 10 --flow-texts 4 --log-every 5 --checkpoint-every 7 --timing-lengths 8 "
    "--timing-rounds 2 --num-layers 1"
)


def write_texts(path, num_texts=300):
    """Write texts whose label says whether "ab" or "ba" is in them."""
    draw = random.Random(3)
    rows = ["text,label"]
    for _ in range(num_texts):
        words = ["".join(draw.choices("cdefg", k=5)) for _ in range(draw.choice([2, 4]))]
        label = draw.choice(["ab", "ba"])
        words[draw.randrange(len(words))] += label
        rows.append(f"{' '.join(words)},{label}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("data") / "texts.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """A finished run, by the command: (directory, what it printed).

    On one core: every device compiles for itself. The runs that are killed have them all.
    """
    folder = tmp_path_factory.mktemp("runs")
    arguments = f"--data {data} {SMALL}"
    done = run_experiment("text_classification", arguments, folder, PJRT_NPROC="1")
    assert done.returncode == 0, done.stderr
    (directory,) = folder.iterdir()
    return directory, done


def command(*arguments, stdin=None):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.text_classification", *map(str, arguments)],
        cwd=ROOT,
        env={"XLA_FLAGS": QUICK, **os.environ},
        input=stdin,
        capture_output=True,
        timeout=120,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_run_has_all_that_was_asked_for(finished):
    directory, done = finished
    names = {path.name for path in directory.iterdir()}
    assert {"DONE", "report.html", "table.csv", "results.zarr", "timing.zarr", "trainings"} <= names
    assert "LSTM" in done.stdout and "results: " in done.stdout
    dataset = xr.open_zarr(directory / "results.zarr").load()
    trained = dataset.sel(model=["elman", "lstm"])
    for name in ("test_accuracy", "validation_accuracy", "loss", "log_carry_norm"):
        assert np.isfinite(trained[name]).all(), name
    assert list(dataset["layer"].values) == ["1"]
    losses = trained["train_loss"].mean(["model", "learning_rate", "seed"])
    assert losses[-1] < losses[0]
    assert dataset.attrs["padding"] < 0.1
    config = configs.from_json(Config, (directory / "config.json").read_text())
    for point in (("elman", 0.01, 0), ("lstm", 0.03, 1)):
        training = trainings.make_training(config, *point, directory / "trainings")
        rows = read_rows(training.folder / "metrics.jsonl")
        at = dataset.sel(dict(zip(layout.CUT, point, strict=True)))
        epochs = [row for row in rows if row["event"] == "epoch"]
        assert [row["validation_accuracy"] for row in epochs] == list(at["validation_accuracy"])
        best = max(epochs, key=lambda row: (row["validation_accuracy"], row["epoch"]))
        assert int(at["best_epoch"]) == best["epoch"]
        # the test split by hand, text by text, with the parameters of that epoch
        params = restore_params(
            training.checkpoints(), training.task, training.optimizer, best["step"]
        )
        data = corpus.load_corpus(config)
        model = networks.build_model(config, point[0], data.reader)
        texts, labels = data.data.splits["test"]
        found = predict.probabilities(config, model, params, data.reader, texts)
        assert np.mean(found.argmax(1) == labels) == float(at["test_accuracy"])
        loss = -np.mean(np.log(found[np.arange(len(labels)), labels]))
        np.testing.assert_allclose(loss, float(at["test_loss"]), rtol=1e-5)


def test_the_record_has_all_that_the_bits_depend_on(finished):
    record = json.loads((finished[0] / "environment.json").read_text())
    assert record["cores"] == 1  # as asked for; not among what may differ when a run goes on
    assert {"scikit-learn", "orbax-checkpoint", "tensorflow-datasets"} <= record["packages"].keys()


def test_without_scikit_learn_yardsticks_stay_unknown_and_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(yardsticks.importlib.util, "find_spec", lambda name: None)
    yardsticks.warn_if_missing(Config())
    assert "bag-of-words and bigrams stay unknown" in capsys.readouterr().err
    assert yardsticks.fit(Config(), "bigrams", tiny(Config())) == {}
    yardsticks.warn_if_missing(Config(models=("lstm",)))
    assert capsys.readouterr().err == ""


def test_yardsticks_read_no_further_than_networks_and_know_order_by_pairs():
    pytest.importorskip("sklearn")
    draw = random.Random(0)
    texts = [
        draw.choice(["a b c", "b a c"]) + " d" * 9 + draw.choice([" x", " y"]) for _ in range(200)
    ]
    labels = np.array([text.startswith("a") for text in texts], np.int32)
    data = TextData(
        "made",
        "made",
        ("b", "a"),
        dict.fromkeys(("train", "validation", "test"), Texts(texts, labels)),
    )
    found = {n: yardsticks.fit(Config(max_length=9), n, data) for n in ("bag-of-words", "bigrams")}
    assert found["bigrams"]["test_accuracy"] == 1
    assert abs(found["bag-of-words"]["test_accuracy"] - 0.5) < 0.1
    assert found["bag-of-words"]["num_parameters"] == 4 + 1  # a, b, c, d: x and y are cut off


def test_a_run_whose_times_are_damaged_says_so(finished, tmp_path, capsys):
    copy = tmp_path / finished[0].name
    shutil.copytree(finished[0], copy)
    chunk = next((copy / "timing.zarr" / "step_seconds").glob("[0-9]*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(SystemExit) as stop:
        verify.main([str(copy), "--check-only"])
    assert stop.value.code == 1 and "timing.zarr" in capsys.readouterr().err
    verify.main([str(finished[0]), "--check-only"])
    assert "all as it was written" in capsys.readouterr().out


def test_the_table_is_rebuilt_from_run_directories(finished, tmp_path):
    directory, _ = finished
    code, out, error = command("table", directory, "--csv", tmp_path / "all.csv")
    assert code == 0, error
    record = json.loads((directory / "environment.json").read_text())
    assert record["config_hash"] in out
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize("way", ["arguments", "file", "standard input"])
def test_predict_prints_the_probability_of_every_class(finished, tmp_path, capsys, way):
    texts = [
        "cd abe",
        "",
        "é" * (50_000 if way == "arguments" else 100_000),
        "c",
    ]  # 128 kB an argument
    if way == "arguments":
        given, stdin = texts, None
    else:
        given, stdin = [], "\n".join(texts).encode() + b"\nbad \xff\xfe bytes\n"
        texts = [*texts, "bad \ufffd\ufffd bytes"]
    if way == "file":
        (tmp_path / "texts.txt").write_bytes(stdin)
        given, stdin = ["--file", tmp_path / "texts.txt"], None
    if stdin is None:  # one process is enough to see that there is one
        predict.main([str(finished[0]), *map(str, given)])
        out, error = capsys.readouterr()
    else:
        code, out, error = command("predict", finished[0], stdin=stdin)
        assert code == 0 and "Traceback" not in error, error
    head, *rows = out.split("\n")[:-1]
    assert head == "ab\tba\ttext" and [row.split("\t")[2] for row in rows] == texts
    probabilities = np.array([row.split("\t")[:2] for row in rows], float)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1.1e-4)
    assert f"to the first 40 bytes: 1 of {len(texts)} texts" in error
    assert ("not UTF-8, bytes replaced: 1 of 5 texts" in error) == (way != "arguments")


def leaves_in_a_line(capsys, main, arguments, fragment):
    """Assert that a command line, run in this process, ends with one line."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    out, error = capsys.readouterr()
    assert stop.value.code and out == "" and fragment in error, (out, error)
    assert error.count("\n") == 1 and error.startswith("error: "), error


def test_predict_refuses_in_a_line(finished, tmp_path, capsys):
    (tmp_path / "empty").touch()
    for arguments, fragment in {
        (tmp_path, "a"): "not a run directory",
        (finished[0], "--file", tmp_path / "empty"): "is empty",
        (finished[0], "--file", tmp_path / "gone"): "No such file",
        (finished[0], "a", "--model", "gru"): "no 'gru'",
        (finished[0], "a", "--model", "transformer"): "transformer",
    }.items():
        leaves_in_a_line(capsys, predict.main, arguments, fragment)


def test_a_checkpoint_of_another_config_is_refused_in_a_line(finished, tmp_path, capsys):
    copy = tmp_path / finished[0].name
    shutil.copytree(finished[0], copy)
    for mark in copy.glob("trainings/*/checkpoints/*.json"):
        mark.write_text(mark.read_text().replace('"belongs_to": "', '"belongs_to": "other '))
    leaves_in_a_line(capsys, predict.main, [copy, "a"], "belongs to other")


def test_bad_input_is_refused_in_a_line(tmp_path, data, capsys):
    (tmp_path / "empty.csv").touch()
    for arguments, fragment in {
        f"--data {tmp_path / 'gone.csv'}": "gone.csv",
        f"--data {tmp_path / 'empty.csv'}": "empty.csv",
        f"--data {data} --text-column body": "body",
        f"--data imdb_reviews --data-dir {tmp_path}": "imdb_reviews",
        f"--data {data} --models lstm transformer": "transformer",
        f"--data {data} --num-epochs 1 --warmup-steps 10000": "warmup_steps",
        f"--data {data} --learning-rates 0": "learning_rates",
    }.items():
        given = [*arguments.split(), "--out", tmp_path / "runs"]

        def main(argv):
            running.main(load("text_classification"), argv)

        leaves_in_a_line(capsys, main, given, fragment)


def tiny(config):
    """A config's texts, few and short."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcd ", k=draw.randint(2, 9))) for _ in range(60)]
    labels = np.array([w.count("a") % 2 for w in words], np.int32)
    splits = {name: Texts(words, labels) for name in ("train", "validation", "test")}
    return TextData(config.data, "made", ("even", "odd"), splits)


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda p: p.stem if p else "default")
def test_every_preset_builds_and_takes_two_steps_that_lower_the_loss(preset, monkeypatch, tmp_path):
    config = configs.from_json(Config, preset.read_text()) if preset else Config()
    assert set(config.networks) >= {"elman", "lstm", "gru", "sru"}
    config = replace(
        config, batch_size=8, hidden_size=4, embedding_size=4, warmup_steps=0, dropout=0.0
    )
    monkeypatch.setattr(corpus, "load_texts", lambda name, **_: tiny(config))
    for name in config.networks:
        task = trainings.make_training(config, name, 0.01, 0, tmp_path).task
        assert jax.eval_shape(task.init, jax.random.key(0))
    # every network is differentiated in test_models.py: here one of each kind
    for name in ("lstm", CONVOLUTION) if preset is None else ("lstm",):
        training = trainings.make_training(config, name, 0.01, 0, tmp_path)
        batch = training.batches.in_order()[-1]
        step = make_train_step(training.task, training.optimizer, config.patience)
        state = init_state(training.task, training.optimizer, training.key, 0.01)
        losses = []
        for _ in range(3):
            state = step(state, batch, training.key)
            losses.append(float(state.recent.sums.loss))
        first, second, third = np.diff([0, *losses])
        assert int(state.skipped) == 0
        assert third < second < first, name


def test_a_config_that_cannot_be_is_refused():
    for fragment, change in {
        "models": {"models": ()},
        "perceptron": {"models": ("perceptron",)},
        "learning_rates": {"learning_rates": (0.0,)},
        "keep_checkpoints": {"keep_checkpoints": 1},
        "timing_lengths": {"timing_lengths": (0,)},
        "dropout": {"dropout": 1.0},
        "seed": {"seed": -1},
    }.items():
        with raises_one_line(fragment):
            Config(**change)


# However it is stopped.


def start(folder, data, num_epochs):
    short = f"--models elman --learning-rates 0.01 --timing-lengths --num-epochs {num_epochs}"
    return killed.start("text_classification", folder, f"{SMALL} {short} --data {data}")


def everything(folder):
    (directory,) = folder.iterdir()
    config = configs.from_json(Config, (directory / "config.json").read_text())
    every = [
        trainings.make_training(config, *point, directory / "trainings")
        for point in layout.networks_of(config)
    ]
    return killed.everything(directory, every)


@pytest.mark.slow  # the ordinary run kills the trainings of test_experiment_language_modelling.py
@pytest.mark.parametrize("times, num_epochs", [(1, 6), (10, 12)])
def test_killed_at_random_moments_it_goes_on_to_the_same_bits(tmp_path, data, times, num_epochs):
    killed.assert_it_goes_on_to_the_same_bits(
        lambda folder: start(folder, data, num_epochs), everything, tmp_path, times
    )


def test_a_training_that_is_stopped_goes_on_to_the_same_bits(finished, tmp_path):
    """Its order, dropout and gradient flows are made anew from the config alone."""
    config = configs.from_json(Config, (finished[0] / "config.json").read_text())
    config = replace(config, dropout=0.3)

    def training(name):
        return trainings.make_training(config, "elman", 0.03, 1, tmp_path / name)

    def all_of(name):
        one = training(name)
        like = init_state(one.task, one.optimizer, one.key, one.learning_rate)
        checkpoints = one.checkpoints()
        last = checkpoints.restore(like, checkpoints.steps()[-1])
        return (one.folder / "metrics.jsonl").read_bytes(), jax.tree.map(np.asarray, last)

    train(training("whole"))
    for num_steps in (5, 11, 14):  # amid the first epoch, past it, past the second
        left = iter([False] * (num_steps - 1) + [True])
        with pytest.raises(StoppedError):
            train(training("stopped"), should_stop=left.__next__)
    train(training("stopped"))
    (log, last), (expected_log, expected) = all_of("stopped"), all_of("whole")
    assert log == expected_log and b'"event": "flow"' in log
    tree_equal(last, expected)


def test_when_one_training_fails_the_others_end_too():
    is_stopped, were_told = threading.Event(), []

    def work(index):
        if index == 0:
            raise OSError("the disk is full")
        were_told.append(is_stopped.wait(5))  # as a training that is told at its next report

    with pytest.raises(OSError, match="full"):
        list(on_devices(work, [0, 1, 2], is_stopped.set))
    assert is_stopped.is_set() and all(were_told)
