"""One unit on text: the product by hand against the library, the data, training, the command."""

import csv
import math

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib", "optax"):
    pytest.importorskip(module)

import jax
import jax.numpy as jnp
from helpers import run_again, run_experiment

from experiments import running
from experiments.one_unit import by_hand, run, text, training
from experiments.one_unit.config import Config
from experiments.one_unit.experiment import EXPERIMENT
from rnn_jax.cells.elman import ElmanCarry, ElmanParams, elman
from rnn_jax.recurrence import unroll

EPS = np.finfo(np.float64).eps
DRIVE = np.array([0.76, -0.15, 0.63, -0.46, -0.19, -0.81, -0.08, 0.01, 0.53])
QUICK = "experiments/one_unit/presets/quick.json"


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def task():
    return text.make_task(Config())


@pytest.mark.parametrize("activation", list(by_hand.FUNCTIONS))
@pytest.mark.parametrize("weight", [0.25, 1.0, 1.5, 3.0])
def test_the_product_by_hand_is_what_autodiff_gives(activation, weight):
    walk = by_hand.walk(activation, weight, DRIVE, 0.1)
    library = run.autodiff(activation, weight, DRIVE, 0.1)
    np.testing.assert_allclose(library.tap, walk.product, rtol=1e-12, atol=0)
    np.testing.assert_allclose(np.exp(library.log_flow), np.abs(walk.product), rtol=1e-12, atol=0)


@pytest.mark.parametrize("weight", [4.0, 8.0])
def test_where_tanh_saturates_both_are_right_to_the_digits_that_are_left(weight):
    """1 - h² with h rounded to eps has a relative error of eps / (1 - h²)."""
    drive = np.resize(DRIVE, 200)
    walk = by_hand.walk("tanh", weight, drive, 0.1)
    library = run.autodiff("tanh", weight, drive, 0.1)
    bound = 4 * EPS * (len(drive) * 10 + np.sum(1 / walk.derivative))
    assert np.max(np.abs(library.log_flow - walk.log_product)) < bound < 1e-5


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "identity"])
def test_the_formula_written_out_for_two_and_three_steps(activation):
    f = {"tanh": math.tanh, "sigmoid": lambda a: 1 / (1 + math.exp(-a)), "identity": float}
    f, w, h0, (z1, z2, z3) = f[activation], 1.3, 0.4, DRIVE[:3].tolist()
    written = {2: f(w * f(w * h0 + z1) + z2), 3: f(w * f(w * f(w * h0 + z1) + z2) + z3)}
    one = jnp.ones((1, 1))
    for num_steps, expected in written.items():
        last, _ = unroll(
            elman(1, activation=activation),
            ElmanParams(one, one, jnp.zeros(1)),
            jnp.asarray(DRIVE[:num_steps])[:, None, None],
            initial_carry=ElmanCarry(h0 * one),
            recurrent_weight=w,
        )
        np.testing.assert_allclose(last.hidden.item(), expected, rtol=1e-14)
        hand = by_hand.walk(activation, w, DRIVE[:num_steps], h0).hidden[-1]
        np.testing.assert_allclose(hand, expected, rtol=1e-14)


def test_the_linear_unit_gives_powers_of_w_and_tanh_at_rest_as_well():
    for activation, scale in (("identity", 1.0), ("tanh", 0.0)):
        walk = by_hand.walk(activation, 2.0, scale * DRIVE, scale)
        np.testing.assert_array_equal(walk.product, 2.0 ** np.arange(len(DRIVE), -1, -1))


def test_the_first_word_alone_decides(task):
    symbols = {word: task.alphabet.index(word) for word in ("if", "elif")}
    for lines in (task.train, task.held_out):
        np.testing.assert_array_equal(lines.labels, lines.symbols[0] == symbols["elif"])
        assert set(np.unique(lines.symbols[0])) == set(symbols.values())
        assert not np.isin(lines.symbols[1:], list(symbols.values())).any()
        columns = np.arange(len(lines.labels))
        ends = lines.symbols[lines.lengths - 1, columns]
        assert (ends == task.alphabet.index(":")).all()  # the last symbol says nothing
        assert lines.labels.mean() == 0.5 and len(lines.labels) > 100


def test_no_condition_is_in_both_splits_and_no_line_twice(task):
    def lines_of(lines):
        return [tuple(lines.symbols[:n, i]) for i, n in enumerate(lines.lengths)]

    train, held_out = lines_of(task.train), lines_of(task.held_out)
    assert len(set(train)) == len(train) and len(set(held_out)) == len(held_out)
    assert not {line[1:] for line in train} & {line[1:] for line in held_out}


def test_lines_are_found_by_their_words():
    source = (
        "if a == b:\n  elif not x in y:  \nelse:\nif a: return\nif (a if b else c) > 1:\nifs == 1:"
    )
    found = text.find_lines(source, Config())
    assert found == [("if", "a", "=", "=", "b", ":"), ("elif", "not", "x", "in", "y", ":")]


def test_hiding_the_first_word_hides_nothing_else(task):
    hidden = text.hide_first_word(task)
    assert (hidden.train.symbols[0] == 0).all()
    np.testing.assert_array_equal(hidden.held_out.symbols[1:], task.held_out.symbols[1:])


def test_a_trained_unit_is_far_above_the_majority_and_needs_the_first_word(task):
    config = Config(learning_rates=(0.3,), num_updates=400, num_seeds=3)
    trained = training.train(config, "tanh", "global-norm", task)
    control = training.train(config, "tanh", "global-norm", text.hide_first_word(task))
    assert np.median(trained.accuracy[..., -1]) > 0.9
    assert np.max(control.accuracy[..., -1]) < 0.75
    assert (trained.largest_norm > config.threshold).all()


def test_without_a_clip_a_linear_unit_overflows_and_with_one_it_does_not(task):
    config = Config(learning_rates=(0.3,), num_updates=200, num_seeds=2)
    ends = {
        clip: training.train(config, "identity", clip, task).loss[..., -1]
        for clip in ("none", "global-norm")
    }
    assert np.isnan(ends["none"]).all() and np.isfinite(ends["global-norm"]).all()


def test_the_quick_preset_runs_once_and_is_shown_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    first = run_experiment("one_unit", f"--config {QUICK}", tmp_path)
    assert first.returncode == 0, first.stderr
    assert "accuracy" in first.stdout and "majority class 50.0%" in first.stdout
    (directory,) = tmp_path.iterdir()
    rows = list(csv.DictReader((directory / "worked.csv").read_text().splitlines()))
    assert len(rows) == 2 * 10 and max(float(row["difference"]) for row in rows) < 1e-12
    rows = list(csv.DictReader((directory / "training.csv").read_text().splitlines()))
    assert max(float(row["accuracy"]) for row in rows) > 0.9
    figures = {path.name for path in (directory / "figures").iterdir()}
    assert figures == {"product_along_text.png", "growing_weight.png", "training.png"}
    out, errors = run_again("one_unit", f"--config {QUICK}", tmp_path, capsys)
    assert "finished before" in errors and out == first.stdout


@pytest.mark.parametrize(
    "settings, given",
    [
        ({"text": "while x:"}, "text is 'while x:'"),
        ({"activations": ("softmax",)}, "activations holds 'softmax'"),
        ({"weights": (float("nan"),)}, "a weight w is nan"),
        ({"weights": (1.0, 1.0)}, "weights is"),
        ({"learning_rates": (0.0,)}, "learning_rates holds 0.0"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"held_out_fraction": 1.0}, "held_out_fraction is 1.0"),
        ({"report_every": 3}, "report_every is 3"),
        ({"min_length": 30}, "min_length is 30"),
        ({"num_seeds": 0}, "num_seeds is 0"),
    ],
)
def test_a_bad_setting_is_one_line(settings, given):
    with pytest.raises(ValueError) as error:
        Config(**settings)
    message = str(error.value)
    assert given in message and "; allowed: " in message and "\n" not in message


def test_bad_input_on_the_command_line_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        running.main(EXPERIMENT, ["--out", str(tmp_path), "--weights", "nan"])
    out, errors = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert errors.startswith("error: ") and errors.count("\n") == 1
