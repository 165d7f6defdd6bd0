"""Held gates and gate biases, as a user runs them, in the sweep and side by side."""

import csv

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from helpers import only_run, raises_one_line, run_again, run_experiment

from experiments.gates.config import Config
from experiments.gradient_flow import run as sweep
from experiments.gradient_flow.config import Config as SweepConfig
from experiments.gradient_flow.draw import draw, make_cell
from rnn_jax import gate_values

SMALL = dict(num_seeds=1, hidden_size=6, input_size=4, num_steps=20, batch_size=2, drop_first=5)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    quick = "--config experiments/gates/presets/quick.json"
    done = run_experiment("gates", quick, folder)
    assert done.returncode == 0, done.stderr
    return folder, done, quick


def test_the_quick_preset_shows_every_variant(quick_run, capsys):
    folder, done, quick = quick_run
    directory, dataset = only_run(folder)
    rows = list(csv.DictReader((directory / "table.csv").read_text().splitlines()))
    assert len(rows) == dataset.sizes["variant"] * dataset.sizes["recurrent_weight"]
    for variant in dataset["variant"].values:
        assert str(variant) in done.stdout
    names = {path.stem for path in (directory / "figures").iterdir()}
    assert names == {"constant_error", "efold_against_weight", "norm_by_variant", "gate_means"}
    out, errors = run_again("gates", quick, folder, capsys)
    assert "finished before" in errors and out == done.stdout


def test_held_gates_stay_where_they_are_held(quick_run):
    _, dataset = only_run(quick_run[0])
    means = dataset["gate_mean"]
    assert np.all(means.sel(variant="lstm forget=1", gate="forget") == 1)
    assert np.all(means.sel(variant="gru update=0", gate="update") == 0)
    free, biased = means.sel(variant="lstm"), means.sel(variant="lstm bias=5")
    assert np.all(biased.sel(gate="forget") > 0.9) and np.all(free.sel(gate="forget") < 0.9)
    assert np.isnan(means.sel(variant="gru", gate="forget")).all()


def test_the_carousel_decays_as_its_forget_gate(quick_run):
    _, dataset = only_run(quick_run[0])
    assert np.all(np.abs(dataset["carousel"] - dataset["carousel_theory"]) < 1e-4)
    assert np.all(np.abs(dataset["carousel"].sel(forget=1.0)) < 3e-6)  # exact in float64, below
    steps_back = 40 - dataset["time"].values
    expected = np.log(0.8) * steps_back
    np.testing.assert_allclose(dataset["carousel_theory"].sel(forget=0.8), expected)


def test_the_carousel_is_exact_in_float64():
    """f = 1: dL/dc_t is the same at every t; f = 0.9: it decays by exactly that factor."""
    for forget in (1.0, 0.9):
        config = Config(num_steps=30, hidden_size=6, batch_size=2, dtype="float64")
        flow = sweep.run(config.carousel_sweep(forget))["leaf_log_norm"].sel(leaf="cell").squeeze()
        decay = (flow - flow.isel(time=-1)).values
        expected = (30 - np.arange(31)) * np.log(forget)
        np.testing.assert_allclose(decay, expected, rtol=1e-12, atol=1e-12)


def test_gate_means_are_those_of_gate_values():
    config = SweepConfig(cells=("gru",), weights=(0.5, 1.5), gate_means=True, **SMALL)
    dataset = sweep.run(config)
    cell = make_cell(config, 0)
    params, xs, carry, *_ = draw(config, cell, 0)
    gates = gate_values(cell, params, xs, initial_carry=carry, recurrent_weight=1.5)
    for name, values in gates._asdict().items():
        found = dataset["gate_mean"].sel(cell="gru", recurrent_weight=1.5, seed=0, gate=name)
        np.testing.assert_allclose(found, np.mean(values, axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_biases_reach_the_gate_that_keeps_the_state():
    def bias_of(cell, **settings):
        cells = tuple(dict.fromkeys(("lstm", cell)))  # one that has such a bias must be there
        config = SweepConfig(cells=cells, **SMALL, **settings)
        return draw(config, make_cell(config, cells.index(cell)), 0)[0].bias

    size = SMALL["hidden_size"]
    assert np.all(bias_of("lstm", forget_bias=5.0)[size : 2 * size] == 5)
    assert np.all(bias_of("gru", forget_bias=5.0)[size : 2 * size] == 5)
    assert np.all(bias_of("sru", forget_bias=5.0)[:size] == 5)
    assert np.all(bias_of("elman", forget_bias=5.0) == 0)
    chrono = bias_of("lstm", chrono_steps=100.0)
    assert np.all(chrono[:size] == -chrono[size : 2 * size]) and np.ptp(chrono[:size]) > 0


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda: SweepConfig(gate=("forgt=1",)), "gate holds 'forgt'"),
        (lambda: SweepConfig(cells=("gru",), gate=("forget=1",)), "gate holds 'forget'"),
        (lambda: SweepConfig(gate=("forget",)), "gate holds 'forget'"),
        (lambda: SweepConfig(gate=("forget=nan",)), "gate holds 'forget=nan'"),
        (lambda: SweepConfig(gate=("forget=0", "forget=1")), "gate holds 'forget' twice"),
        (lambda: SweepConfig(forget_bias=float("inf")), "forget_bias is inf"),
        (lambda: SweepConfig(cells=("elman",), forget_bias=1.0), "forget_bias is 1.0 for elman"),
        (lambda: Config(variants=("lstm forget=1 forget=0.5",)), "sets something twice"),
        (lambda: Config(variants=("elman bias=1",)), "forget_bias is 1.0 for elman"),
        (lambda: SweepConfig(chrono_steps=1.0), "chrono_steps is 1.0"),
        (lambda: SweepConfig(forget_bias=1.0, chrono_steps=9.0), "chrono_steps is given with"),
        (lambda: Config(variants=("lsmt",)), "lsmt"),
        (lambda: Config(variants=("lstm bias=x",)), "bias=x"),
        (lambda: Config(variants=("lstm", "lstm")), "variants is"),
        (lambda: Config(shown_weight=0.3), "shown_weight is 0.3"),
        (lambda: Config(carousel=(0.0,)), "carousel holds 0.0"),
    ],
)
def test_bad_settings(make, given):
    with raises_one_line(given):
        make()
