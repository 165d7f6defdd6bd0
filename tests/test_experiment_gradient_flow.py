"""The sweep as a user runs it: numbers, run directory, figures, errors."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

import xarray as xr
from helpers import only_run, run_again, run_experiment, run_experiments

ROOT = Path(__file__).parent.parent
SMALL = "--num-seeds 2 --hidden-size 8 --input-size 4 --num-steps 30 --batch-size 2 --drop-first 5"


LINEAR = f"{SMALL} --cells elman --activation identity --input none --weights 1.5 0.5 1"
CHOICES = {
    "linear": [f"{LINEAR} --block-size 2"],
    "forced": [LINEAR, LINEAR, f"{LINEAR} --force"],
    "noise": [
        f"{SMALL} --cells elman --input noise --recurrent-matrix gaussian --activation relu "
        "--weights 0.5 1"
    ],
    "next byte": [
        f"{SMALL} --cells lstm --loss next_byte --recurrent-matrix identity --precision default "
        "--weights 0.5 1"
    ],
    "float64": [
        f"{SMALL} --cells elman sru --recurrent-matrix scalar --hidden-size 1 --dtype float64 "
        "--weights 0.5 1"
    ],
    "held": [
        f"{SMALL} --cells elman lstm gru sru --gate forget=1 update=0 --gate-means --weights 0.5"
    ],
    "clipped": [
        f"{SMALL} --cells elman --weights 1 3 --clip none value per-step --clip-thresholds 1 10"
    ],
}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = run_experiment("gradient_flow", f"{SMALL} --weights 0.5 1.5 2.5", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
    """The runs of CHOICES: their folder, and what they printed."""
    folder = tmp_path_factory.mktemp("choices")
    return folder, run_experiments("gradient_flow", CHOICES, folder)


def test_the_table_has_a_row_a_cell_and_weight(small_run):
    folder, done = small_run
    directory, dataset = only_run(folder)
    rows = list(csv.DictReader((directory / "table.csv").read_text().splitlines()))
    assert [(row["cell"], float(row["recurrent_weight"])) for row in rows] == [
        (cell, weight) for cell in ("elman", "lstm", "gru", "sru") for weight in (0.5, 1.5, 2.5)
    ]
    for row in rows:
        at = {"cell": row["cell"], "recurrent_weight": float(row["recurrent_weight"])}
        point = dataset.sel(at)
        assert float(row["slope"]) == float(np.mean(point["slope"].values))  # every digit
        assert float(row["theory_slope"]) == point["theory_slope"] or row["cell"] != "elman"
        assert f"{float(row['slope']):+.4f}" in done.stdout
        assert 0 < float(row["slope_std"]) < 1 and float(row["horizon"]) >= 1


def test_the_dataset_says_what_it_is(small_run):
    directory, dataset = only_run(small_run[0])
    assert dict(dataset.sizes) == {
        "cell": 4, "recurrent_weight": 3, "seed": 2, "time": 31, "step": 30, "leaf": 2,
        "block": 8,
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


def test_a_finished_run_is_shown(small_run, capsys):
    folder, first = small_run
    out, errors = run_again("gradient_flow", f"{SMALL} --weights 0.5 1.5 2.5", folder, capsys)
    assert "finished before" in errors and out == first.stdout


def test_force_computes_it_again_and_keeps_the_old(choices):
    folder, printed = choices
    assert printed["forced"][1].count("finished before") == 1  # the second of three
    old, new = sorted((folder / "forced").iterdir(), key=lambda path: len(path.name), reverse=True)
    assert old.name.startswith(new.name)
    before, after = (xr.open_zarr(path / "results.zarr").load() for path in (old, new))
    assert before.identical(after)


def test_linear_networks_give_ln_w_and_a_weight_keeps_its_place(choices):
    _, dataset = only_run(choices[0] / "linear")
    for weight in (0.5, 1.0, 1.5):
        point = dataset.sel(cell="elman", recurrent_weight=weight)
        np.testing.assert_allclose(point["slope"], np.log(weight), atol=1e-5)
        np.testing.assert_allclose(point["theory_slope"], np.log(weight))
        assert str(point["theory_relation"].values) == "="


@pytest.mark.parametrize("name", ["noise", "next byte", "float64"])
def test_every_choice_runs(choices, name):
    directory, dataset = only_run(choices[0] / name)
    assert np.isfinite(dataset["loss"]).all()
    record = json.loads((directory / "environment.json").read_text())
    assert record["matmul_precision"] == ("default" if name == "next byte" else "highest")
    assert dataset["slope"].dtype == (np.float64 if name == "float64" else np.float32)


def test_the_sweep_holds_a_gate_in_the_cells_that_have_it(choices):
    _, dataset = only_run(choices[0] / "held")
    means = dataset["gate_mean"].sel(recurrent_weight=0.5)
    for cell in ("lstm", "sru"):
        assert np.all(means.sel(cell=cell, gate="forget") == 1)
    assert np.all(means.sel(cell="gru", gate="update") == 0)
    out, _ = choices[1]["held"]
    assert "forget=1" in out and "update=0" in out


def test_sharded_and_plain_give_the_same_bits():
    """For a cell of which the derivatives are kept; test_sweep.py has one of which products are."""
    code = (
        "import sys; from experiments.gradient_flow import run; "
        "from experiments.gradient_flow.config import Config; import jax; "
        "jax.config.update('jax_num_cpu_devices', int(sys.argv[1])); "
        "config = Config(cells=('elman',), weights=tuple(0.1 * i for i in range(1, 20)), "
        "num_seeds=1, num_steps=200, hidden_size=32); "
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
        ("--clip norm", "norm"),
        ("--clip value --clip-thresholds 0", "clip_thresholds holds 0"),
    ],
)
def test_bad_input_is_one_line(arguments, given, tmp_path, capsys):
    from experiments import running
    from experiments.gradient_flow.experiment import EXPERIMENT

    with pytest.raises(SystemExit) as stop:
        running.main(EXPERIMENT, ["--out", str(tmp_path), *arguments.split()])
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert given in printed.err
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


CLIPPED = dict(
    cells=("lstm",), weights=(0.5, 3.0), num_seeds=1, hidden_size=6, input_size=4, num_steps=12,
    batch_size=2, drop_first=2, dtype="float64", clip_thresholds=(0.2, 5.0),
    clip=("none", "value", "global-norm", "per-step"),
)  # fmt: skip


def test_clips_leave_of_each_step_what_a_copy_of_the_parameters_there_gets():
    """Against ordinary differentiation of a scan of ``step`` by one copy of params a step."""
    import jax
    import jax.numpy as jnp

    from experiments.gradient_flow import run
    from experiments.gradient_flow.config import Config
    from rnn_jax import gradient_flow, step, unroll

    config = Config(**CLIPPED)
    dataset = run.run(config).squeeze("cell").squeeze("seed")
    cell = run.make_cell(config, 0)
    params, xs, carry, projection, _ = run.draw(config, cell, seed=0)

    def loss(copies, weight):
        def body(carry, inputs):
            return step(cell, *inputs[:1], carry, inputs[1], weight)

        return (jax.lax.scan(body, carry, (copies, xs))[0].hidden * projection).sum()

    def read(last, ys):
        return (last.hidden * projection).sum()

    def of_unroll(params, weight, c):
        return read(
            *unroll(
                cell, params, xs, initial_carry=carry, recurrent_weight=weight, max_carry_norm=c
            )
        )

    def norms(parts):
        flat = [np.asarray(part).reshape(len(part), -1) for part in parts]
        return np.linalg.norm(np.concatenate(flat, axis=1), axis=1)

    by_copies, by_params = jax.jit(jax.grad(loss)), jax.jit(jax.grad(of_unroll))
    copies = jax.tree.map(lambda a: jnp.broadcast_to(a, (12, *a.shape)), params)
    for weight in config.weights:
        parts = jax.tree.map(np.asarray, by_copies(copies, weight))
        g = jax.tree.map(lambda part: part.sum(0), parts)
        at = dataset.sel(recurrent_weight=weight)
        np.testing.assert_allclose(at["norm_before"], norms([a[None] for a in g])[0], rtol=1e-9)
        for c in config.clip_thresholds:
            point = at.sel(threshold=c)
            ratios = jax.tree.map(lambda a, c=c: np.minimum(1, c / np.abs(a)), g)
            scale = min(1.0, c / norms([a[None] for a in g])[0])
            expected = {
                "none": norms(parts),
                "value": norms([part * r for part, r in zip(parts, ratios, strict=True)]),
                "global-norm": scale * norms(parts),
            }
            for clip, left in expected.items():
                np.testing.assert_allclose(point["step_norm"].sel(clip=clip), left, rtol=1e-9)
            after = [np.clip(a, -c, c)[None] for a in g]
            np.testing.assert_allclose(point["norm_after"].sel(clip="value"), norms(after)[0])
            changed = np.mean(np.concatenate([np.abs(a).ravel() > c for a in g]))
            np.testing.assert_allclose(point["clipped_fraction"].sel(clip="value"), changed)
            inside = by_params(params, weight, c)
            per_step = point.sel(clip="per-step")
            np.testing.assert_allclose(per_step["norm_after"], norms([a[None] for a in inside])[0])
            assert float(point["clip_angle"].sel(clip="global-norm")) < 1e-6
            flow = gradient_flow(
                cell, params, xs, read, initial_carry=carry, recurrent_weight=weight,
                max_carry_norm=c,
            )  # fmt: skip
            share = np.mean(flow.log_clip_factor[1:] < 0)
            np.testing.assert_allclose(per_step["clipped_fraction"], share)
    assert 0 < float(at.sel(clip="per-step", threshold=0.2)["clipped_fraction"]) <= 1
    assert float(at.sel(clip="per-step", threshold=0.2)["clip_angle"]) > 0.1


def test_without_a_clip_the_dataset_has_no_clip_and_with_one_figures_and_a_table(
    small_run, choices
):
    assert "clip" not in only_run(small_run[0])[1].dims
    directory, dataset = only_run(choices[0] / "clipped")
    with (directory / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2
    for row in rows:
        keys = {"recurrent_weight": float(row["recurrent_weight"]), "clip": row["clip"]}
        point = dataset.sel(cell="elman", threshold=float(row["threshold"]), **keys)
        expected = np.exp(np.log(point["norm_after"]).mean())
        np.testing.assert_allclose(float(row["norm_after"]), expected, rtol=1e-5)
    names = {path.stem for path in (directory / "figures").iterdir()}
    assert {"clip_by_weight_and_time", "clip_against_weight"} <= names
    assert "per-step" in choices[1]["clipped"][0]
