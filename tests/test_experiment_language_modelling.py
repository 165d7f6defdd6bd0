"""The experiment, as a user runs it: trainings that are killed, its commands, bad input."""

import functools
import json
import math
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import QUICK, raises_one_line

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib", "orbax.checkpoint"):
    pytest.importorskip(module)

import jax
import killed
import xarray as xr

from experiments import running
from experiments.experiment import load
from experiments.language_modelling import (
    corpus,
    evaluate,
    generate,
    layout,
    networks,
    ngrams,
    score,
    trainings,
)
from experiments.language_modelling.config import Config
from experiments.language_modelling.trained import open_trained
from experiments.verify import run as verify
from rnn_jax import config as configs
from rnn_jax.cells import CELLS
from rnn_jax.data import Encoding
from rnn_jax.devices import num_cores
from rnn_jax.files import read_rows
from rnn_jax.models import prediction_flows
from rnn_jax.training import init_state, make_train_step, token_bits

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "experiments" / "language_modelling" / "presets").glob("*.json"))
TINY = (
    "--hidden-size 6 --embedding-size 4 --num-layers 1 --batch-size 4 --window 8 --num-steps 12 "
    "--num-validations 3 --warmup-steps 2 --validation-tokens 200 --flow-length 10 "
    "--flow-windows 3 --checkpoint-every 3 --sample-tokens 5 --sample-temperatures 0 1 "
    "--timing-rounds 2 --learning-rates 0.01 --num-seeds 1"
)
SMALL = (
    f"{TINY} --cells lstm elman --equal-time 1.5 1 1 1 --windows 4 --window-cells lstm "
    "--yardsticks 1-gram~Witten-Bell 3-gram~Kneser-Ney xz"
)


def run_small(folder, data, arguments=SMALL):
    """Run it; a name of a yardstick has a space where ``arguments`` has a tilde."""
    given = [argument.replace("~", " ") for argument in f"--data {data} {arguments}".split()]
    return command("--out", folder, *given)


def command(*arguments, stdin=None):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "experiments.language_modelling"]
        + [*map(str, arguments)],
        cwd=ROOT,
        env={"XLA_FLAGS": QUICK, **os.environ},
        input=stdin,
        capture_output=True,
        timeout=300,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of twelve small files, of two-letter syllables."""
    folder = tmp_path_factory.mktemp("data") / "texts"
    folder.mkdir()
    draw = random.Random(3)
    for split, count in {"train": 8, "validation": 2, "test": 2}.items():
        (folder / split).mkdir()
        for i in range(count):
            text = " ".join(draw.choice(["ba", "bo", "du", "di"]) for _ in range(90))
            (folder / split / f"{i}.txt").write_text(text + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """A finished run, by the command: (directory, what it printed)."""
    folder = tmp_path_factory.mktemp("runs")
    code, out, error = run_small(folder, data)
    assert code == 0, error
    (directory,) = folder.iterdir()
    return directory, out, error


def config_of(directory):
    return configs.from_json(Config, (directory / "config.json").read_text())


def test_the_run_has_all_that_was_asked_for(finished):
    directory, out, error = finished
    names = {path.name for path in directory.iterdir()}
    assert {
        "DONE",
        "report.html",
        "table.csv",
        "results.zarr",
        "timing.zarr",
        "samples.txt",
    } <= names
    assert "LSTM" in out and "results: " in out
    assert "bits per byte (validation)" in error
    dataset = xr.open_zarr(directory / "results.zarr").load()
    networks_ = dataset.sel(point=dataset["kind"] == "network", row=slice(1, None))
    assert list(networks_["point"].values) == ["lstm", "elman", "elman time", "lstm window 4"]
    assert list(networks_["tokens"].values) == [384, 384, 576, 384]
    assert list(networks_["equal_time"].values) == [1, 0, 1, 0]
    assert list(networks_["window_study"].values) == [1, 0, 0, 1]
    for name in ("test_bits", "validation_loss", "log_carry_norm", "sample_tokens", "train_loss"):
        assert np.isfinite(networks_[name]).all(), name
    losses = networks_["train_loss"].mean(["point", "learning_rate", "seed"])
    assert losses[-1] < losses[0]
    yardsticks = dataset.sel(point=dataset["kind"] != "network")
    assert np.isfinite(yardsticks["test_bits"]).all()


def test_every_core_is_a_device_so_that_trainings_run_side_by_side(finished):
    """A check that makes an array before the devices are made would leave one."""
    record = json.loads((finished[0] / "environment.json").read_text())
    assert record["num_devices"] == record["cores"] == num_cores()


def test_a_networks_numbers_are_those_of_its_parameters(finished, data):
    """Test loss, samples and gradient flow again, from the checkpoint of the best stretch."""
    directory = finished[0]
    config, dataset = config_of(directory), xr.open_zarr(directory / "results.zarr").load()
    one = open_trained(directory, "elman time")
    at = dataset.sel(point="elman time", learning_rate=0.01, seed=0)
    rows = read_rows(directory / "trainings" / one.name / "metrics.jsonl")
    stretches = [row for row in rows if row["event"] == "stretch"]
    assert [row["validation_loss"] for row in stretches] == list(at["validation_loss"][1:])
    assert int(at["best_row"]) == 1 + int(np.argmin(at["validation_loss"].values[1:]))
    test = b"".join((data / "test" / f"{i}.txt").read_bytes() for i in range(2))
    splits = corpus.read_documents(config).splits["test"]
    assert sorted(splits) == sorted((data / "test" / f"{i}.txt").read_bytes() for i in range(2))
    tokens, inputs, carry, bits = b"".join(splits), [256], None, 0.0
    begins = {0, len(splits[0])}
    for i, token in enumerate(tokens):  # one after another, the state carried through
        read = 256 if i in begins else tokens[i - 1]
        carry, logits = one.model.apply({"params": one.params}, np.array([[read]]), carry)
        bits -= float(jax.nn.log_softmax(logits[0, 0])[token]) / math.log(2)
    np.testing.assert_allclose(float(at["test_bits"]), bits / len(test), rtol=1e-5)
    np.testing.assert_allclose(float(at["test_loss"]), bits / len(test) * math.log(2), rtol=1e-5)
    inputs, targets, resets = corpus.flow_places(config, corpus.load_corpus(config))
    flow = np.median(prediction_flows(one.model, one.params, inputs, targets, resets), -1)
    measured = at["log_carry_norm"].values[int(at["best_row"])]
    np.testing.assert_allclose(measured, flow, rtol=1e-4, atol=1e-4)


def test_yardsticks_are_those_of_the_test_bytes(finished, data):
    dataset = xr.open_zarr(finished[0] / "results.zarr").load()
    splits = corpus.read_documents(config_of(finished[0])).splits
    expected = ngrams.bits(splits["train"], splits["test"], 3, "kneser-ney").mean()
    found = dataset["test_bits"].sel(point="3-gram Kneser-Ney", learning_rate=0.01, seed=0)
    np.testing.assert_allclose(float(found), expected, rtol=1e-12)


def test_a_sample_is_what_generate_writes_with_the_seed(finished):
    dataset = xr.open_zarr(finished[0] / "results.zarr").load()
    code, out, error = command("generate", finished[0], "--model", "lstm window 4", "--num-tokens",
                               5, "--temperature", 1, "--seed", 0)  # fmt: skip
    assert code == 0, error
    tokens = dataset["sample_tokens"].sel(point="lstm window 4", temperature=1).values.ravel()
    encoding = Encoding.from_json(dataset.attrs["encoding"])
    assert out == encoding.decode_bytes(tokens.astype(int)).decode("utf-8", "replace")


def test_score_and_evaluate_say_the_same_of_one_document(finished, data, tmp_path, capsys):
    """A test split of one document: its bits, token by token, add up to what evaluate says."""
    (tmp_path / "train.txt").write_text("ba bo\n" * 9)
    (tmp_path / "validation.txt").write_text("du\n" * 9)
    (tmp_path / "test.txt").write_bytes((data / "test" / "0.txt").read_bytes())
    found = {}
    for name, arguments in {
        "score": [finished[0], tmp_path / "test.txt", "--model", "lstm"],
        "evaluate": [finished[0], "--data", tmp_path, "--model", "lstm"],
    }.items():
        {"score": score, "evaluate": evaluate}[name].main([str(a) for a in arguments])
        lines = capsys.readouterr().out.splitlines()
        found[name] = dict(line.split("\t")[:2] for line in lines if line.count("\t") == 1)
    bits = float(found["score"]["bits per byte"]), float(found["evaluate"]["bits_per_byte"])
    assert bits[0] == pytest.approx(bits[1], abs=1e-4)
    one = open_trained(finished[0], "lstm")
    whole = token_bits(
        one.model, one.params, np.frombuffer((tmp_path / "test.txt").read_bytes(), np.uint8)
    )
    assert float(found["score"]["bits"]) == pytest.approx(whole.sum(), abs=1e-2)


def test_a_finished_run_verifies(finished, tmp_path):
    copy = tmp_path / finished[0].name
    shutil.copytree(finished[0], copy)
    verify.main([str(copy), "--check-only"])


def test_train_is_the_preset_and_own_settings_override_it(tmp_path, data):
    only_trained = "--yardsticks xz --timing-rounds 0 --flow-length 0"
    code, out, error = command("train", "--out", tmp_path / "other", "--data", data,
                               *TINY.split(), *only_trained.split())  # fmt: skip
    assert code == 0, error
    (directory,) = (tmp_path / "other").iterdir()
    config = config_of(directory)
    assert config.cells == ("lstm",) and config.hidden_size == 6 and not config.windows
    assert "LSTM" in out and "Elman" not in out


def test_equal_parameters_are_equal():
    sizes = {"lstm": (50_000, 400_000, 1_300_000)}  # the search is the same for every cell
    for cell in CELLS:
        for num_parameters in sizes.get(cell, (50_000,)):
            config = Config(num_parameters=num_parameters)
            model = networks.build_model(config, cell, 256)
            shapes = jax.eval_shape(
                lambda m=model: m.init(jax.random.key(0), np.zeros((1, 1), int))
            )
            count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
            assert abs(count - num_parameters) < 0.05 * num_parameters, (cell, count)


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda p: p.stem if p else "default")
def test_every_preset_builds_and_takes_two_steps_that_lower_the_loss(preset, data, tmp_path):
    config = configs.from_json(Config, preset.read_text()) if preset else Config()
    for point in config.points:  # as it is: sizes only
        if point.kind == "network":
            model = networks.build_model(config, point.cell, 256)
            assert jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1), int))
    config = replace(config, data=str(data), warmup_steps=0, dropout=0.0, flow_length=0,
                     embedding_size=4, hidden_size=4, batch_size=2, windows=())  # fmt: skip
    point = config.points[0]
    training = trainings.make_training(config, point, 0.01, 0, tmp_path)
    window = training.batches.epoch(0, 0)[0]
    step = make_train_step(training.task, training.optimizer, config.patience)
    state = init_state(training.task, training.optimizer, training.key, 0.01)
    losses = []
    for _ in range(3):
        state = step(state, window._replace(resets=np.ones_like(window.resets)), training.key)
        losses.append(float(state.recent.sums.loss))
    first, second, third = np.diff([0, *losses])
    assert third < second < first and int(state.skipped) == 0


def leaves_in_a_line(capsys, main, arguments, *fragments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert left.value.code in (1, 2) and line.startswith("error: ")
    for fragment in fragments:
        assert fragment in line, line


def test_bad_input_is_refused_in_a_line(tmp_path, data, capsys):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("a line\n" * 40)

    def main(argv):
        running.main(load("language_modelling"), argv)

    for arguments, fragments in {
        f"--data {tmp_path / 'gone.txt'}": ["gone.txt", "allowed"],
        f"--data {tmp_path / 'empty.txt'}": ["empty.txt", "allowed"],
        f"--data {tmp_path / 'short.txt'} --flow-length 0": ["batch_size 16", "window 128"],
        f"--data {tmp_path / 'short.txt'} --window 8 --windows": ["flow_length is 1024", "allowed"],
        f"--data {data} --cells lstm transformer": ["transformer", "gru"],
        f"--data {data} --equal-time 1 2": ["equal_time has 2", "4, of elman, lstm"],
        f"--data {data} --windows 100": ["windows holds 100", "2048"],
        f"--data {data} --num-steps 30": ["num_steps is 30", "20"],
        f"--data {data} --num-parameters 10 --flow-length 0": ["num_parameters is 10"],
        f"--data {data} --sample-temperatures 1e39": ["temperature is 1e+39"],
    }.items():
        given = [*arguments.split(), "--out", tmp_path / "runs"]
        leaves_in_a_line(capsys, main, given, *fragments)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_run_without_a_result_or_of_another_kind_is_refused(finished, tmp_path, capsys):
    for module in (generate, evaluate):
        leaves_in_a_line(capsys, module.main, [finished[0], "--model", "gru"], "'gru'", "elman")
    copy = tmp_path / "begun"
    shutil.copytree(finished[0], copy)
    for path in (copy / "trainings").glob("*/metrics.jsonl"):
        path.write_text("")
    leaves_in_a_line(capsys, generate.main, [copy], "no result", "allowed")
    record = json.loads((copy / "environment.json").read_text())
    config = load("cliff").config_class()
    changes = {"experiment": "cliff", "config_hash": configs.content_hash(config)}
    (copy / "environment.json").write_text(json.dumps(record | changes))
    (copy / "config.json").write_text(configs.to_json(config))
    leaves_in_a_line(capsys, generate.main, [copy], "cliff")


def test_a_model_of_another_vocabulary_is_refused(finished, tmp_path, capsys):
    """The encoding beside the trainings was replaced: nothing is read with it."""
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    path = copy / "trainings" / "reader.json"
    tree = json.loads(path.read_text())
    tree["encoding"] = {"kind": "character", "vocabulary": ["a", "b"]}
    path.write_text(json.dumps(tree))
    leaves_in_a_line(capsys, generate.main, [copy], "belongs to", "allowed")


# However it is stopped.


def start(folder, data, num_validations):
    short = (
        "--cells lstm --equal-time --windows --yardsticks xz --timing-rounds 0 "
        f"--num-steps {10 * num_validations} --num-validations {num_validations}"
    )
    return killed.start("language_modelling", folder, f"{TINY} {short} --data {data}")


def everything(folder):
    (directory,) = folder.iterdir()
    config = config_of(directory)
    every = [
        trainings.make_training(config, point, rate, seed, directory / "trainings")
        for point, rate, seed in map(
            functools.partial(layout.block, config), range(layout.plan(config).num_blocks)
        )
        if point.kind == "network"
    ]
    return killed.everything(directory, every)


@pytest.mark.parametrize(
    "times, num_validations", [(1, 12), pytest.param(10, 30, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_it_goes_on_to_the_same_bits(
    tmp_path, data, times, num_validations
):
    """Carried state and place in the text too: both are in the last state, and decide the rest."""
    killed.assert_it_goes_on_to_the_same_bits(
        lambda folder: start(folder, data, num_validations), everything, tmp_path, times
    )


def test_a_config_that_cannot_be_is_refused():
    for fragment, change in {
        "cells is empty": {"cells": ()},
        "window_cells": {"window_cells": ("rnn",)},
        "7-gram": {"yardsticks": ("7-gram Kneser-Ney",)},
        "learning_rates": {"learning_rates": (0.0,)},
        "keep_checkpoints": {"keep_checkpoints": 1},
        "hidden_size": {"hidden_size": 0},
        "dropout": {"dropout": 1.0},
        "seed": {"seed": -1},
    }.items():
        with raises_one_line(fragment):
            Config(**change)
