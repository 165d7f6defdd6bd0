"""Lyapunov exponents: what is measured, against plain loops and theory; tables, words, figures."""

import csv
import itertools
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from helpers import only_run, raises_one_line, run_experiment

from experiments.lyapunov import findings, plot, run, table
from experiments.lyapunov.config import Config
from rnn_jax import results
from rnn_jax.dynamics import mean_field
from rnn_jax.plotting import style
from rnn_jax.plotting.labels import variant_label

PRESETS = Path(__file__).parent.parent / "experiments" / "lyapunov" / "presets"


def computed(config):
    """Run it in this process."""
    whole = run.plan(config)
    dataset = whole.template.copy(deep=True)
    for index, values in run.blocks(config, range(whole.num_blocks)):
        for name, block in values.items():
            dataset[name].values[whole.region(name, index)] = block
    return dataset


def made(is_known=True, **settings):
    """Make what a run might have measured: theory where there is one, a line elsewhere."""
    config = Config(**settings)
    dataset = run.plan(config).template.copy(deep=True)
    if not is_known:
        return dataset
    draw, index = np.random.default_rng(3), dataset["index"]
    if config.trained:
        updates = dataset["evaluation"]
        dataset["loss"][:] = 5 * np.exp(-updates / 20) + 1 / (1 + (updates / 200) ** 4)
        line = -0.2 * np.exp(-updates / 200) - 0.05 * index
    else:
        dataset["variance"][:] = dataset["theory_variance"]
        line = 0.1 * np.log(dataset["gain"]) - 0.05 * index
        line = dataset["theory_exponents"].fillna(line)
    dataset["exponents"][:] = line
    dataset["exponents"][:] += 0.01 * draw.normal(size=dataset["exponents"].isel(index=[0]).shape)
    dataset["exponents"][:] = dataset["exponents"].where(index <= dataset["size"])
    dataset["standard_errors"][:] = 0.004
    dataset["slope"][:] = dataset["exponents"].isel(index=0) + 0.003 * draw.normal()
    return dataset


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = run_experiment("lyapunov", f"--config {PRESETS / 'quick.json'}", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def quick(quick_run):
    return only_run(quick_run[0])[1]


def test_the_quick_preset_measures_every_network_at_every_gain(quick_run, quick):
    folder, done = quick_run
    directory, _ = only_run(folder)
    for name, needed in (("table", 8), ("attractor", 8), ("variance", 8)):
        rows = list(csv.DictReader((directory / f"{name}.csv").read_text().splitlines()))
        assert len(rows) == needed
    for network in quick["network"].values:
        assert variant_label(network) in done.stdout
    names = {path.stem for path in (directory / "figures").iterdir()}
    assert names == {"spectrum", "largest_exponent", "gated", "slope"}
    size = quick["size"].values
    np.testing.assert_array_equal(size, [24, 24, 48, 24])  # the LSTM's is 2 H
    known = np.isfinite(quick["exponents"]).all(["gain", "seed"]).transpose("network", "index")
    np.testing.assert_array_equal(known, np.arange(48) < size[:, None])


def test_exponents_are_in_order_and_near_theory(quick):
    """At N = 24 only near: a network's own exponents lie as far as 0.2 from those of large N."""
    exponents = quick["exponents"].transpose(..., "index").values
    assert np.nanmax(np.diff(exponents)) < 0.05  # within the statistical error
    elman = quick.sel(network=["elman", "elman noise=1"])
    assert np.abs(elman["exponents"].isel(index=0) - elman["theory_largest"]).max() < 0.35
    assert np.abs(elman["exponents"].mean("index") - elman["theory_mean"]).max() < 0.6
    noisy = elman.sel(network="elman noise=1")
    assert np.abs(noisy["variance"] / noisy["theory_variance"] - 1).max() < 0.4
    assert quick["variance"].sel(network=["lstm bias=5", "gru bias=0"]).isnull().all()


def test_the_gradient_grows_by_the_largest_exponent(quick):
    """Both see the same 150 Jacobians; the line through ln‖dL/dcarry_t‖ weighs its ends more."""
    assert np.abs(quick["slope"] - quick["exponents"].isel(index=0)).max() < 0.05


def test_the_tables_hold_what_plain_loops_find(quick):
    points = itertools.product(quick["network"].values, quick["gain"].values)
    both = zip(table.rows(quick), table.attractor_rows(quick), points, strict=True)
    for largest, attractor, (network, gain) in both:
        some = quick.sel(network=network, gain=gain)
        size = int(some["size"])
        spectra = some["exponents"].transpose("seed", "index").values[:, :size].tolist()
        first = [spectrum[0] for spectrum in spectra]
        assert largest["network"] == network and largest["gain"] == gain
        assert largest["largest"] == pytest.approx(sum(first) / 2)
        errors = some["standard_errors"].isel(index=0).values
        expected = max(math.hypot(*errors) / 2, abs(first[0] - first[1]) / 2)
        assert largest["standard_error"] == pytest.approx(expected)
        slopes = some["slope"].values.tolist()
        assert largest["slope_minus_largest"] == pytest.approx((sum(slopes) - sum(first)) / 2)
        found = {"positive": 0.0, "entropy": 0.0, "dimension": 0.0, "mean": 0.0}
        for spectrum in spectra:
            positive = [e for e in spectrum if e > 0]
            found["positive"] += len(positive) / size / 2
            found["entropy"] += sum(positive) / size / 2
            found["mean"] += sum(spectrum) / size / 2
            total, place = 0.0, 0
            spectrum = sorted(spectrum, reverse=True)
            while place < size and total + spectrum[place] >= 0:
                total, place = total + spectrum[place], place + 1
            found["dimension"] += (place + total / -spectrum[place]) / size / 2
        for name, value in found.items():
            assert attractor[name] == pytest.approx(value, abs=1e-12), name


def test_networks_at_a_fixed_point_have_its_eigenvalues():
    """tanh at 0 with an orthogonal matrix: ln g; an SRU at 0: its forget gate, ln ½."""
    dataset = computed(
        Config(
            networks=("elman orthogonal", "sru"),
            gains=(0.5,),
            hidden_size=6,
            warmup=60,
            num_steps=20,
            num_seeds=1,
        )
    )
    for name in ("exponents", "slope"):
        np.testing.assert_allclose(dataset[name], math.log(0.5), rtol=0, atol=1e-10)
    np.testing.assert_allclose(dataset["standard_errors"], 0, atol=1e-10)
    assert dataset["theory_largest"].isnull().all()


def test_along_training_the_trained_network_is_measured(monkeypatch):
    """The loss is that of the training; Σ λ_i = mean ln|det J| by numpy, at every evaluation."""
    reported = []

    def recorded(*arguments):
        for runs, report in train(*arguments):
            reported.append((jax.device_get(runs.params.cell), np.asarray(report.test_loss)))
            yield runs, report

    train = run.train
    monkeypatch.setattr(run, "train", recorded)
    config = Config(
        trained=("elman gaussian",),
        hidden_size=8,
        warmup=15,
        num_steps=40,
        length=10,
        max_updates=20,
        evaluate_every=10,
    )
    dataset = computed(config).sel(network="elman gaussian").transpose("evaluation", "seed", ...)
    assert dict(dataset.sizes) == {"evaluation": 3, "seed": 2, "index": 8}
    assert np.isfinite(dataset["exponents"]).all() and np.isfinite(dataset["slope"]).all()
    losses = [loss for _, loss in reported]
    np.testing.assert_allclose(dataset["loss"], 6 * np.stack(losses), rtol=1e-12)  # baseline 1/6

    task = config.memory("elman gaussian").task("adding", 10)
    drawn = task.draw(jax.random.fold_in(jax.random.key(0), 2), 6).inputs  # [10, 6, 2]
    xs = np.concatenate(np.swapaxes(np.asarray(drawn), 0, 1))[:55]
    for (params, _), of_evaluation in zip(reported, dataset["exponents"].values, strict=True):
        for seed, exponents in enumerate(of_evaluation):
            kernel, recurrent, bias = (
                np.asarray(getattr(params, name))[seed]
                for name in ("kernel", "recurrent_kernel", "bias")
            )
            state, logs = np.zeros(8), []
            for x in xs:
                state = np.tanh(x @ kernel + state @ recurrent + bias)
                logs.append(np.log(1 - state**2).sum() + np.linalg.slogdet(recurrent)[1])
            np.testing.assert_allclose(exponents.sum(), np.mean(logs[15:]), rtol=1e-9)
    rows = table.training_rows(dataset.expand_dims("network"))
    assert [row["updates"] for row in rows] == [0, 10, 20]
    assert rows[2]["exponent_3"] == pytest.approx(dataset["exponents"].values[2, :, 2].mean())


def test_theory_stands_beside_every_network_that_has_one():
    names = ("elman", "elman noise=0.1", "elman relu", "lstm")
    config = Config(networks=names, gains=(0.8, 1.5), hidden_size=16)
    template = run.plan(config).template
    of_network = {
        "elman": (0.0, "tanh"),
        "elman noise=0.1": (0.1, "tanh"),
        "elman relu": (0, "relu"),
    }
    for (network, of_theory), gain in itertools.product(of_network.items(), config.gains):
        point = template.sel(network=network, gain=gain)
        for name, (function, *_) in run.THEORY.items():
            assert float(point[name]) == function(gain, *of_theory), name
        expected = mean_field.spectrum(gain, (np.arange(16) + 0.5) / 16, *of_theory)
        np.testing.assert_array_equal(point["theory_exponents"].values[:16], expected)
        assert point["theory_exponents"][16:].isnull().all()
    without = template.sel(network="lstm")
    assert all(without[name].isnull().all() for name in (*run.THEORY, "theory_exponents"))


def test_the_large_preset_stands_beside_the_published_gains():
    settings = json.loads((PRESETS / "large.json").read_text())
    gains = [1.5, 2.0, 3.0, 5.0]
    assert settings["gains"] == gains and settings["hidden_size"] == 1024
    template = run.plan(Config(networks=("elman",), gains=tuple(gains), hidden_size=8)).template
    expected = {
        "theory_variance": [0.793354, 2.121474, 6.305391, 20.699367],
        "theory_largest": [0.065217, 0.154724, 0.310249, 0.532428],
        "theory_positive": [0.08432, 0.13343, 0.15289, 0.13408],
        "theory_entropy": [0.002795, 0.010683, 0.025196, 0.039082],
        "theory_dimension": [0.16581, 0.25756, 0.28772, 0.24648],
        "theory_mean": [-0.714346, -1.149023, -2.272805, -4.906771],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(template[name][0], values, rtol=0, atol=6e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(hidden_size=0), ["hidden_size", "0"]),
        (dict(hidden_size=8, num_exponents=9), ["num_exponents", "9", "D = 8"]),
        (dict(num_steps=0), ["num_steps", "0"]),
        (dict(num_seeds=0), ["num_seeds", "0"]),
        (dict(gains=(math.nan,)), ["gains", "nan"]),
        (dict(gains=(0.0,)), ["gains", "0"]),
        (dict(networks=("elman purple",)), ["purple"]),
        (dict(networks=("jordan",)), ["jordan"]),
        (dict(networks=()), ["networks"]),
        (dict(networks=("elman noise=-1",)), ["noise=-1"]),
        (dict(networks=("elman noise=nan",)), ["noise=nan"]),
        (dict(networks=("elman noise=1 noise=2",)), ["noise", "twice"]),
        (dict(trained=("lstm noise=1",)), ["noise=1"]),
        (dict(trained=("lstm",), learning_rate=math.nan), ["learning_rate", "nan"]),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(settings, words):
    with raises_one_line(*words):
        Config(**settings)


GAINS = dict(gains=(0.8, 1.0, 1.2, 2.0), hidden_size=20)
SOME = dict(networks=("elman", "elman noise=0.1", "lstm bias=0", "lstm bias=5", "sru"), **GAINS)
TRAINED = dict(trained=("elman gaussian", "lstm", "lstm chrono"), hidden_size=20, num_exponents=3)


def test_the_edge_is_found_between_gains():
    assert findings.crossing([1.0, 3.0, 2.0], [-0.2, 0.3, -0.1]) == pytest.approx(2.25)
    assert findings.crossing([1.0, 2.0, 3.0], [-0.3, 0.01, 0.7]) == pytest.approx(1 + 0.3 / 0.31)
    assert findings.crossing([1.0, 2.0, 3.0], [-0.1, math.nan, 0.1]) == pytest.approx(2.0)
    assert math.isnan(findings.crossing([1.0, 2.0], [0.1, 0.2]))
    assert math.isnan(findings.crossing([1.0], [0.0]))


def test_findings_name_the_largest_difference_and_where_it_is():
    dataset = made(networks=("elman", "gru"), num_seeds=1, **GAINS)
    theory = dataset["theory_exponents"].sel(network="elman")
    dataset["exponents"].loc[{"network": "elman"}] = theory
    dataset["exponents"].loc[{"network": "elman", "gain": 1.2, "index": 1}] += 0.5
    dataset["exponents"].loc[{"network": "gru", "index": 1}] = np.array(
        [[-0.3], [-0.1], [0.1], [0.2]]
    )
    dataset["slope"][:] = dataset["exponents"].isel(index=0)
    dataset["slope"].loc[{"network": "gru", "gain": 1.2}] += 0.04
    of_elman, of_gru, of_slope = findings.findings(dataset)
    off = float(theory.sel(gain=1.2)[0]) + 0.5 - mean_field.largest_exponent(1.2)
    assert f"λ₁ {off:+.2g} (g = 1.2)" in of_elman and "theory: 1." in of_elman
    assert "GRU: λ₁ -0.3 at g = 0.8 to +0.2 at g = 2; rises above 0 at g = 1.1, " in of_gru
    assert "positive by two standard errors at g = 1.2, 2." in of_gru
    assert "within 0.04, over 8 measurements" in of_slope and "GRU at g = 1.2, seed 0" in of_slope


def test_training_is_told_by_when_the_loss_falls():
    dataset = made(**TRAINED | dict(trained=("lstm",), max_updates=150))
    dataset["loss"][:] = np.array([[2.0, 2.0], [1.0, 0.9], [0.7, 1.0], [0.1, 0.9]])
    dataset["exponents"][:] = np.array([-0.4, -0.2, -0.1, -0.05])[:, None, None]
    said = findings.findings(dataset)[0]
    assert "λ₁ -0.400 before training, -0.050 when it has begun to learn, -0.050 at" in said
    assert "by seed, after 100 updates, never; at the end 0.5." in said
    figure = plot.pictures(dataset)["training"].draw(dataset)
    rings = [line for axes in figure.axes for line in axes.lines if line.get_markersize() == 12]
    assert [ring.get_xdata().tolist() for ring in rings] == [[150], [150]]


def test_figures_draw_what_was_measured():
    dataset = made(**SOME)
    pictures = plot.pictures(dataset)
    spectrum = pictures["spectrum"].draw(dataset).axes[0]
    assert spectrum.get_title() == "Elman, N = 20"
    measured, theory = spectrum.lines[0], spectrum.lines[1]
    some = dataset.sel(network="elman", gain=0.8)
    np.testing.assert_allclose(measured.get_xdata()[:20], (np.arange(20) + 0.5) / 20)
    np.testing.assert_allclose(measured.get_ydata(), some["exponents"].mean("seed"))
    np.testing.assert_array_equal(theory.get_ydata(), some["theory_exponents"])
    lines = pictures["largest_exponent"].draw(dataset).axes[0].lines
    edges = [line.get_xdata()[0] for line in lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(edges, [1.0, 1.409281], atol=1e-6)
    panels = pictures["gated"].draw(dataset).axes
    assert [panel.get_title() for panel in panels if panel.lines] == ["LSTM", "SRU"]
    slope = pictures["slope"].draw(dataset).axes[0]
    total = sum(len(line.get_xdata()) for line in slope.lines if line.get_linestyle() == "None")
    assert total == 5 * 4 * 2


@pytest.fixture(autouse=True)
def closed_figures():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


ONE = dict(gains=(1.0,), num_seeds=1, hidden_size=4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("is_known", "settings", "drawn"),
    [
        (True, SOME, 4),
        (True, SOME | dict(num_exponents=2), 4),
        (False, SOME, 4),
        (True, ONE | dict(networks=("elman noise=1",)), 3),
        (False, ONE | dict(networks=("elman",)), 3),
        (True, ONE | dict(networks=("gru",)), 2),
        (True, ONE | dict(networks=("elman sigmoid",)), 2),
        (True, TRAINED, 2),
        (False, TRAINED, 2),
        (True, TRAINED | dict(trained=("sru",), num_seeds=1, num_exponents=1, max_updates=50), 2),
    ],
)
def test_whatever_came_out_is_drawn_and_said(tmp_path, is_known, settings, drawn):
    dataset = made(is_known, **settings)
    drawings = {name: picture.draw for name, picture in plot.pictures(dataset).items()}
    assert len(drawings) == drawn
    style.save_figures(drawings, dataset, tmp_path)
    for name in drawings:
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    texts = [results.to_latex(made_table) for made_table in table.tables(dataset)]
    said = findings.findings(dataset)
    assert "nan" not in " ".join([*texts, *findings.set_up(dataset), *said])
    assert bool(said) == is_known


@pytest.mark.filterwarnings("error")
def test_exponents_of_minus_infinity_are_told_as_such(tmp_path):
    """A hard tanh can forget everything at once."""
    dataset = made(networks=("elman hard_tanh",), **GAINS)
    dataset["exponents"].loc[{"gain": 2.0, "seed": 1}] = -np.inf
    dataset["standard_errors"].loc[{"gain": 2.0, "seed": 1}] = np.nan
    dataset["slope"].loc[{"gain": 2.0, "seed": 1}] = -np.inf
    row = table.rows(dataset)[-1]
    assert row["largest"] == row["slope"] == -math.inf and math.isnan(row["slope_minus_largest"])
    assert "7 measurements" in findings.findings(dataset)[-1]
    drawings = {name: picture.draw for name, picture in plot.pictures(dataset).items()}
    style.save_figures(drawings, dataset, tmp_path)
