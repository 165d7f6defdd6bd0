"""The loss cliff of one unit: known values, descent with and without a clip, the command line."""

import csv

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from helpers import only_run, run_again, run_experiment

from experiments import running
from experiments.cliff import run
from experiments.cliff.config import Config
from experiments.cliff.experiment import EXPERIMENT

QUICK = "--config experiments/cliff/presets/quick.json"


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = run_experiment("cliff", QUICK, folder)
    assert done.returncode == 0, done.stderr
    return folder, done, *only_run(folder)


@pytest.fixture(scope="module")
def points(quick_run):
    """Known points: (4.5, 5, 6) on the wall, then (5, -2.6), (5, -2.62), (2, -1), (0, 0)."""
    dataset = quick_run[-1]
    names = [name for name in dataset.data_vars if name.startswith("point_")]
    return {name: dataset[name].values for name in names}


def printed(value, text):
    """Whether ``value`` is ``text`` to half a unit of its last digit."""
    digits, _, exponent = text.partition("e")
    decimals = len(digits.partition(".")[2])
    return abs(value - float(text)) <= 0.5 * 10.0 ** (int(exponent or 0) - decimals) * (1 + 1e-9)


@pytest.mark.parametrize(
    "i, b, state_by_bias, by_weight, by_bias",
    [
        (0, "-2.3010669904", "2.674320e2", "-6.066785", "-9.746476"),
        (1, "-2.6122966560", "1.815581e4", "-4.118706e2", "-6.616828e2"),
        (2, "-3.2347559872", "7.054905e7", "-1.600429e6", "-2.571138e6"),
    ],
)
def test_values_on_the_wall(points, i, b, state_by_bias, by_weight, by_bias):
    assert points["point_loss"].dtype == np.float64
    assert printed(points["point_b"][i], b)
    assert printed(points["point_loss"][i], "0.00601256")
    assert printed(points["point_state_by_bias"][i], state_by_bias)
    assert printed(points["point_loss_by_weight"][i], by_weight)
    assert printed(points["point_loss_by_bias"][i], by_bias)


def test_values_off_the_wall(points):
    state, loss = points["point_state"], points["point_loss"]
    by_weight, by_bias = points["point_loss_by_weight"], points["point_loss_by_bias"]
    assert printed(state[3], "1.4498687349") and printed(loss[3], "0.0120952114")
    assert printed(by_weight[3], "0.1194587") and printed(by_bias[3], "0.1476018")
    assert printed(state[4], "-2.0494705443") and printed(loss[4], "0.3432719072")
    np.testing.assert_allclose(loss[5:], 0.04, rtol=1e-14)
    np.testing.assert_allclose(by_weight[5:], [-0.1, -0.05], rtol=1e-14)
    np.testing.assert_allclose(by_bias[5:], [-0.2, -0.1], rtol=1e-14)


def test_the_state_grows_along_the_wall_as_the_closed_form_says(points):
    exact = points["point_state_by_bias_exact"]
    np.testing.assert_allclose(points["point_state_by_bias"][:3], exact[:3], rtol=1e-7)
    assert np.isnan(exact[3:]).all()


def test_the_wall_throws_off_without_a_clip_and_lets_down_with_one():
    """The same start, rate and steps; the jump comes early, before rounding can change it."""
    config = Config()
    paths = {name: run.path(config, name) for name in run.path_names()}
    jumps = {name: np.hypot(np.diff(path.w), np.diff(path.b)).max() for name, path in paths.items()}
    late = {name: np.median(path.loss[-50:]) for name, path in paths.items()}
    assert jumps["none"] > 10 and late["none"] > 0.08
    np.testing.assert_allclose(late["none"], 0.09, atol=0.01)  # saturated: (1 - 0.7)²
    for name in ("value", "global-norm", "percentile"):
        assert jumps[name] < 1 and late[name] < config.low_loss, name
        assert paths[name].norm_before.max() > 1
    rate, rounding = config.learning_rate, 1 + 1e-12
    assert jumps["value"] <= rate * 2**0.5 * config.max_abs * rounding
    assert jumps["global-norm"] <= rate * config.max_norm * rounding
    np.testing.assert_array_equal(paths["none"].norm_before, paths["none"].norm_after)
    assert paths["global-norm"].norm_after.max() <= config.max_norm * rounding


def test_the_quick_preset_writes_everything(quick_run):
    _, done, directory, dataset = quick_run
    assert (directory / "DONE").exists()
    names = {path.name for path in (directory / "figures").iterdir()}
    assert names == {
        "gradient_norm_plane.png",
        "surface_3d.png",
        "surface_plane.png",
        "thresholds.png",
    }
    assert all((directory / "figures" / name).stat().st_size > 10_000 for name in names)
    for variable in dataset.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.dtype in (np.float64, bool)
    assert np.isfinite(dataset["surface_loss"]).all()
    assert "Points with known values" in done.stdout and "…" not in done.stdout
    tables = {path.stem for path in directory.glob("*.csv")}
    assert tables == {"points", "paths", "path_ends", "thresholds"}
    with (directory / "paths.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == dataset.sizes["path"] * dataset.sizes["step"]
    last = dataset.sel(path="percentile").isel(step=-1)
    assert float(rows[-1]["loss"]) == float(last["path_loss"])  # every digit
    for clip in ("global-norm", "percentile"):  # more starts come down than without a clip
        best = dataset["sweep_came_down"].sel(clip=clip).mean("start").max()
        assert best > dataset["unclipped_came_down"].mean()


def test_a_finished_run_is_shown(quick_run, capsys):
    folder, first, _, _ = quick_run
    out, errors = run_again("cliff", QUICK, folder, capsys)
    assert "finished before" in errors and out == first.stdout


@pytest.mark.parametrize(
    "arguments, given",
    [
        ("--grid-size 1", "grid_size is 1"),
        ("--learning-rate nan", "learning_rate is nan"),
        ("--thresholds 1 0.1", "thresholds is (1.0, 0.1)"),
        ("--dtype float32", "float32"),
    ],
)
def test_bad_input_is_one_line(arguments, given, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        running.main(EXPERIMENT, ["--out", str(tmp_path), *arguments.split()])
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert given in printed.err and "allowed" in printed.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "settings",
    [{"percentile": 101.0}, {"seed": -1}, {"thresholds": (0.0, 1.0)}, {"max_norm": 0.0}],
)
def test_a_config_says_what_is_allowed(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is .*; allowed: "):
        Config(**settings)
