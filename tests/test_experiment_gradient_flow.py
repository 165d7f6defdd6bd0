"""The sweep as a user runs it: numbers, run directory, figures, errors."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

import xarray as xr

ROOT = Path(__file__).parent.parent
SMALL = "--num-seeds 2 --hidden-size 8 --input-size 4 --num-steps 30 --batch-size 2 --drop-first 5"


def sweep(arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "experiments.gradient_flow", "--out", str(folder)]
        + arguments.split(),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def only_run(folder):
    (directory,) = folder.iterdir()
    return directory, xr.open_zarr(directory / "results.zarr").load()


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = sweep(f"{SMALL} --weights 0.5 1.5 2.5", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_table_has_a_row_a_cell_and_weight(small_run):
    folder, done = small_run
    directory, dataset = only_run(folder)
    rows = list(csv.DictReader((directory / "table.csv").read_text().splitlines()))
    assert [(row["cell"], row["w"]) for row in rows] == [
        (cell, weight)
        for cell in ("elman", "lstm", "gru", "sru")
        for weight in ("0.5", "1.5", "2.5")
    ]
    for row in rows:
        mean = float(
            dataset["slope"].sel(cell=row["cell"], recurrent_weight=float(row["w"])).mean()
        )
        assert abs(float(row["slope"]) - mean) < 1e-4
        assert row["slope"] in done.stdout


def test_the_dataset_says_what_it_is(small_run):
    directory, dataset = only_run(small_run[0])
    assert dict(dataset.sizes) == {
        "cell": 4, "recurrent_weight": 3, "seed": 2, "time": 31, "step": 30, "leaf": 2
    }  # fmt: skip
    for variable in dataset.data_vars.values():
        assert variable.attrs["long_name"]
    config = json.loads((directory / "config.json").read_text())
    assert json.loads(dataset.attrs["config"]) == config
    assert "standard library" in dataset.attrs["text"]
    environment = json.loads((directory / "environment.json").read_text())
    assert environment["matmul_precision"] == "highest" and environment["packages"]["jax"]
    assert (directory / "DONE").exists()
    lstm_only = np.isfinite(dataset["leaf_log_norm"].sel(leaf="cell")).all(["seed", "time"])
    assert lstm_only.sel(cell="lstm").all() and not lstm_only.sel(cell="gru").any()


def test_one_point_is_what_gradient_flow_gives(small_run):
    """The dataset's numbers against a call by hand, each step apart, no sweep between."""
    from experiments.gradient_flow import run
    from experiments.gradient_flow.config import Config
    from rnn_jax import config as configs
    from rnn_jax import gradient_flow

    directory, dataset = only_run(small_run[0])
    config = configs.from_json(Config, (directory / "config.json").read_text())
    cell = run.make_cell(config, 1)
    params, xs, carry, projection, _ = run.draw(config, cell, seed=1)
    flow = gradient_flow(
        cell, params, xs, lambda last, ys: (last.hidden * projection).sum(),
        initial_carry=carry, recurrent_weight=1.5,
    )  # fmt: skip
    stored = dataset["log_carry_norm"].sel(cell="lstm", recurrent_weight=1.5, seed=1)
    np.testing.assert_allclose(stored, flow.log_carry_norm.mean(-1), atol=2e-4)
    shares = np.abs(np.asarray(flow.weight_share)).mean(-1)
    stored = dataset["log_weight_share"].sel(cell="lstm", recurrent_weight=1.5, seed=1)
    np.testing.assert_allclose(np.exp(stored), shares, rtol=2e-4)


def test_figures_are_drawn(small_run):
    directory, _ = only_run(small_run[0])
    names = {path.name for path in (directory / "figures").iterdir()}
    assert names == {
        "norm_against_time.png",
        "norm_by_weight_and_time.png",
        "slope_against_weight.png",
        "weight_share.png",
    }
    assert all((directory / "figures" / name).stat().st_size > 10_000 for name in names)


def test_a_finished_run_is_shown_not_computed_and_force_keeps_the_old(small_run):
    folder, first = small_run
    again = sweep(f"{SMALL} --weights 0.5 1.5 2.5", folder)
    assert again.returncode == 0 and "finished before" in again.stderr
    assert again.stdout == first.stdout
    _, before = only_run(folder)
    forced = sweep(f"{SMALL} --weights 0.5 1.5 2.5 --force", folder)
    assert forced.returncode == 0, forced.stderr
    old, new = sorted(folder.iterdir(), key=lambda path: len(path.name), reverse=True)
    after = xr.open_zarr(new / "results.zarr").load()
    assert before.identical(after) and before.identical(xr.open_zarr(old / "results.zarr").load())
    old.rename(folder.parent / "old")


def test_linear_networks_give_ln_w_and_a_weight_keeps_its_place(tmp_path):
    done = sweep(
        f"{SMALL} --cells elman --activation identity --input none --weights 1.5 0.5 1"
        " --block-size 2",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    _, dataset = only_run(tmp_path)
    for weight in (0.5, 1.0, 1.5):
        point = dataset.sel(cell="elman", recurrent_weight=weight)
        np.testing.assert_allclose(point["slope"], np.log(weight), atol=1e-5)
        np.testing.assert_allclose(point["theory_slope"], np.log(weight))
        assert str(point["theory_relation"].values) == "="


@pytest.mark.parametrize(
    "arguments",
    [
        "--cells elman --input noise --recurrent-matrix gaussian --activation relu",
        "--cells lstm --loss next_byte --recurrent-matrix identity --precision default",
        "--cells elman sru --recurrent-matrix scalar --hidden-size 1 --dtype float64",
    ],
)
def test_every_choice_runs(arguments, tmp_path):
    done = sweep(f"{SMALL} --weights 0.5 1 {arguments}", tmp_path)
    assert done.returncode == 0, done.stderr
    directory, dataset = only_run(tmp_path)
    assert np.isfinite(dataset["loss"]).all()
    record = json.loads((directory / "environment.json").read_text())
    assert record["matmul_precision"] == ("default" if "default" in arguments else "highest")
    if "float64" in arguments:
        assert dataset["slope"].dtype == np.float64


def test_sharded_and_plain_give_the_same_bits(tmp_path):
    code = (
        "import sys; from experiments.gradient_flow import run; "
        "from experiments.gradient_flow.config import Config; import jax; "
        "jax.config.update('jax_num_cpu_devices', int(sys.argv[1])); "
        "config = Config(weights=tuple(0.1 * i for i in range(1, 20)), num_seeds=1, num_steps=200, "
        "hidden_size=32); "
        "data = run.run(config); "
        "print(b''.join(data[name].values.tobytes() for name in run.MEANINGS).hex())"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code, devices],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=300,
        ).stdout
        for devices in ("1", "2")
    ]  # fmt: skip
    assert printed[0] == printed[1] and len(printed[0]) > 1000


@pytest.mark.parametrize(
    "arguments, given",
    [
        ("--cells elman lsmt", "lsmt"),
        ("--weights nan", "nan"),
        ("--num-steps 0", "num_steps is 0"),
        ("--wieghts 1", "--wieghts"),
        ("--loss next_byte --input noise", "next_byte"),
        ("--out /dev/null/runs", "/dev/null/runs"),
    ],
)
def test_bad_input_is_one_line(arguments, given, tmp_path):
    done = sweep(arguments, tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert given in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_bound_holds_where_sequences_die():
    """ReLU units die one sequence after another; the mean slope stays under ln w."""
    from experiments.gradient_flow import run
    from experiments.gradient_flow.config import Config

    config = Config(
        cells=("elman",), activation="relu", weights=(0.9, 1.0), hidden_size=3, num_seeds=6,
        num_steps=60, seed=1, drop_first=5,
    )  # fmt: skip
    dataset = run.run(config)
    assert (dataset["zero_fraction"].isel(time=0) > 0).any()
    assert (dataset["theory_relation"] == "≤").all()
    assert (dataset["slope"] <= dataset["theory_slope"] + 1e-4).all()


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"activation": "identity"}, (np.log(2), "=")),
        ({"input": "none"}, (np.log(2), "=")),
        ({"input": "noise", "noise_variance": 0.0}, (np.log(2), "=")),
        ({}, (np.log(2), "≤")),
        ({"activation": "sigmoid"}, (np.log(0.5), "≤")),
        ({"recurrent_matrix": "gaussian", "activation": "identity"}, (np.log(2), "≈")),
        ({"recurrent_matrix": "gaussian", "input": "none", "initial_state": 1.0}, (0.154724, "≈")),
        ({"recurrent_matrix": "gaussian"}, (np.nan, "")),
        ({"loss": "next_byte"}, (np.nan, "")),
    ],
)
def test_theory_says_what_it_can(settings, expected):
    from experiments.gradient_flow import theory
    from experiments.gradient_flow.config import Config

    value, relation = theory.slope(Config(**settings), "elman", 2.0)
    np.testing.assert_allclose(value, expected[0], atol=1e-6)
    assert relation == expected[1]
    assert theory.slope(Config(**settings), "lstm", 2.0)[1] == ""
