"""What all runs of a study came to, as one dataset and as tables: against plain loops."""

import csv
import io
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr"):
    pytest.importorskip(module)

import xarray as xr
from helpers import raises_one_line
from rich.console import Console

from experiments import experiment
from experiments.experiment import Experiment, Sweep, Whole
from experiments.study import collect
from experiments.study.points import Point
from rnn_jax import results
from rnn_jax.results import Column, Table


@dataclass(frozen=True)
class Config:
    hidden_size: int = 8
    seed: int = 0
    variants: tuple[str, ...] = ("gru",)
    learning_rates: tuple[float, ...] = (0.01,)
    forget_bias: float | None = None
    num_steps: int = 3


def toy(tables=lambda dataset: []):
    """Make an experiment of that config; its datasets are written by ``keep``."""
    never = Whole(lambda config: 0, lambda config, on_step: xr.Dataset())
    nothing, no_pictures = lambda dataset: [], lambda dataset: {}
    return Experiment("toy", Config, never, "Toys", "?", nothing, tables, nothing, no_pictures)


def keep(folder, overrides, datasets, config_class=Config):
    """Write one dataset a run; returns the points."""
    points = []
    for number, (override, dataset) in enumerate(zip(overrides, datasets, strict=True)):
        directory = folder / f"toy-{number:012x}"
        directory.mkdir(parents=True)
        results.Store.replace(directory / results.DATASET, results.Blocks(dataset, {}))
        points.append(Point(override, config_class(**override), directory))
    return points


def entry(value):
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str) else float(value)


def cells(dataset, names, without=()):
    """List every value by its name and coordinates: {(name, {(dim, coordinate)}): value}."""
    found = {}
    for name in names:
        variable = dataset[name]
        indexes = [dataset[dim].values.tolist() for dim in variable.dims]  # places if it has none
        for place in np.ndindex(variable.shape):
            where = {
                (dim, index[i])
                for dim, index, i in zip(variable.dims, indexes, place, strict=True)
                if dim not in without
            }
            found[name, frozenset(where)] = entry(variable.values[place])
    return found


def check_values(joined, points, datasets):
    """Assert that each value of a run is in its place, and that there is nothing else."""
    assert [point.directory.name[4:] for point in points] == joined["run"].values.tolist()
    expected = {}
    for point, dataset in zip(points, datasets, strict=True):
        along = {dim for dim in dataset.dims if dim not in joined.dims}
        for (name, where), value in cells(dataset, dataset.data_vars, along).items():
            expected[name, where | {("run", point.directory.name[4:])}] = value
    found = cells(joined, joined.data_vars)
    for key, value in found.items():
        wanted = expected.pop(key, "" if joined[key[0]].dtype == object else math.nan)
        assert value == wanted or (value != value and wanted != wanted), key
    assert not expected


def a_run(variant="gru", num_steps=3, seeds=2, begin=0.0, **more):
    """Make what a run might have kept, of all kinds of variables."""
    draw = np.random.default_rng(int(begin) + num_steps)
    time = np.arange(num_steps)
    loss = draw.normal(size=(1, seeds, num_steps)).astype(np.float32) + np.float32(begin)
    return xr.Dataset(
        {
            "loss": (("variant", "seed", "time"), loss, {"units": "nat", "long_name": "loss"}),
            "steps": ("variant", [num_steps], {"units": "steps"}),
            "came_down": (("seed", "level"), np.ones((seeds, 2), bool)),
            "symbol": ("time", np.array([f"s{t}" for t in time], object)),
            **more,
        },
        {
            "variant": np.array([variant], object),
            "seed": np.arange(seeds),
            "time": ("time", time, {"units": "steps"}),
            "row_step": ("time", 5 * time),
        },
        {"title": "Toys", "text": f"of {num_steps}", "config": "{}"},
    )


def test_runs_of_the_same_shape_keep_their_dtypes_and_attributes(tmp_path):
    overrides = [{"variants": ("gru",)}, {"variants": ("lstm",)}]
    datasets = [a_run("gru", begin=1.0), a_run("lstm", begin=2.0)]
    points = keep(tmp_path, overrides, datasets)
    joined = collect.dataset(toy(), points)
    check_values(joined, points, datasets)
    assert joined["loss"].dims == ("run", "seed", "time")
    kinds = {"loss": np.float32, "steps": np.int64, "came_down": bool, "symbol": object}
    assert {name: joined[name].dtype for name in kinds} == kinds
    assert joined["variant"].dims == ("run",) and "variants" not in joined.coords
    assert joined["variant"].values.tolist() == ["gru", "lstm"]
    assert joined["row_step"].dims == ("time",)  # the same in all
    assert joined["loss"].attrs == {"units": "nat", "long_name": "loss"}
    assert joined["time"].attrs == {"units": "steps"}
    assert joined.attrs["title"] == "Toys" and joined.attrs["experiment"] == "toy"
    assert json.loads(joined.attrs["config"]) == {
        "hidden_size": 8, "seed": 0, "learning_rates": [0.01], "forget_bias": None, "num_steps": 3,
    }  # fmt: skip


def test_runs_of_other_shapes_have_nothing_where_they_have_nothing(tmp_path):
    overrides = [{}, {"num_steps": 5}, {"seed": 1}]
    more = {"extra": ("seed", [7, 8, 9])}
    datasets = [a_run(), a_run(num_steps=5, begin=4.0), a_run(seeds=3, begin=9.0, **more)]
    points = keep(tmp_path, overrides, datasets)
    joined = collect.dataset(toy(), points)
    check_values(joined, points, datasets)
    assert joined["num_steps"].values.tolist() == [3, 5, 3]
    assert joined["config_seed"].values.tolist() == [0, 0, 1]  # seed itself is a dim
    assert joined["steps"].dtype == np.int64 and joined["extra"].dtype == np.float64
    assert joined["loss"].dtype == np.float32 and joined["came_down"].dtype == np.float64
    assert joined["row_step"].dims == ("run", "time") and "text" not in joined.attrs
    assert joined["variant"].dims == ("variant",)  # the same in all


def test_numbers_of_a_coordinate_are_in_order_and_words_as_they_come(tmp_path):
    overrides = [{"learning_rates": (0.03, 0.01)}, {"learning_rates": (0.02,)}]
    datasets = [
        xr.Dataset({"loss": (("learning_rate", "clip"), [[1.0], [2.0]])},
                   {"learning_rate": [0.03, 0.01], "clip": ["value"]}),
        xr.Dataset({"loss": (("learning_rate", "clip"), [[3.0, 4.0]])},
                   {"learning_rate": [0.02], "clip": ["none", "value"]}),
    ]  # fmt: skip
    points = keep(tmp_path, overrides, datasets)
    joined = collect.dataset(toy(), points)
    check_values(joined, points, datasets)
    assert joined["learning_rate"].values.tolist() == [0.01, 0.02, 0.03]
    assert joined["clip"].values.tolist() == ["value", "none"]
    assert joined["learning_rates"].values.tolist() == ["0.03 0.01", "0.02"]


def test_a_variable_without_a_dim_that_has_one_entry_is_put_along_it(tmp_path):
    one = a_run().assign(cell=((), "gru"))
    two = xr.concat([a_run("lstm"), a_run("sru")], "variant", data_vars="minimal")
    two = two.assign(cell=("variant", ["lstm", "sru"]))
    points = keep(tmp_path, [{}, {"variants": ("lstm", "sru")}], [one, two])
    joined = collect.dataset(toy(), points)
    assert joined["cell"].dims == ("run", "variant")
    assert joined["cell"].values.tolist() == [["gru", "", ""], ["", "lstm", "sru"]]
    assert joined["variants"].values.tolist() == ["gru", "lstm sru"]


def test_two_settings_that_happen_to_agree_are_both_kept(tmp_path):
    """Only that of the dim's own name is left out."""
    datasets = [
        xr.Dataset({"loss": ("learning_rate", [1.0])}, {"learning_rate": [rate]}) for rate in (1, 2)
    ]
    overrides = [{"learning_rates": (rate,), "hidden_size": rate} for rate in (1, 2)]
    joined = collect.dataset(toy(), keep(tmp_path, overrides, datasets))
    assert joined["hidden_size"].values.tolist() == joined["learning_rate"].values.tolist()
    assert "learning_rates" not in joined.coords


def test_it_comes_back_from_the_disk_equal(tmp_path):
    overrides = [{"forget_bias": None, "variants": ("gru",)}, {"forget_bias": 1.5, "num_steps": 4}]
    datasets = [a_run(), a_run("lstm", num_steps=4)]
    joined = collect.dataset(toy(), keep(tmp_path, overrides, datasets))
    assert joined["forget_bias"].values.tolist() == ["none", "1.5"]
    path = tmp_path / "all.zarr"
    results.Store.replace(path, results.Blocks(joined, {}))
    xr.testing.assert_identical(results.load(path), joined)
    opened = xr.open_zarr(path).load()
    xr.testing.assert_equal(opened[list(joined.data_vars)], joined)


def test_a_product_is_unstacked(tmp_path):
    sizes = [(8, 0), (8, 1), (16, 0), (16, 1)]
    overrides = [{"hidden_size": size, "seed": seed} for size, seed in sizes]
    datasets = [xr.Dataset({"loss": ("time", [size + seed, 0])}) for size, seed in sizes]
    joined = collect.dataset(toy(), keep(tmp_path, overrides, datasets))
    table = joined.set_index(run=["hidden_size", "seed"]).unstack("run")
    assert table["loss"].sizes == {"time": 2, "hidden_size": 2, "seed": 2}
    for size, seed in sizes:
        assert table["loss"].sel(hidden_size=size, seed=seed).values.tolist() == [size + seed, 0]


def memory():
    for settings in ({}, {"lengths": (10, 14)}, {"variants": ("sru",), "learning_rates": (0.1,)}):
        small = {"lengths": (10,), "variants": ("gru", "lstm"), "max_updates": 40, "num_seeds": 2}
        yield small | {"evaluate_every": 20, "clip_norms": (0.0, 1.0)} | settings


def gradient_flow():
    small = {"num_steps": 4, "drop_first": 1, "num_seeds": 1, "hidden_size": 3, "batch_size": 2}
    for settings in ({"cells": ("elman", "lstm")}, {"cells": ("gru",)}, {"dtype": "float64"}):
        yield small | {"weights": (0.5, 1.0), "cells": ("sru",)} | settings
    yield small | {"weights": (1.0,), "num_steps": 6, "gate_means": True}


def lyapunov():
    small = {"hidden_size": 4, "num_seeds": 2, "networks": ("elman", "lstm"), "gains": (0.5, 2.0)}
    for settings in ({}, {"gains": (1.0,)}, {"hidden_size": 6, "num_exponents": 3}):
        yield small | settings


@pytest.mark.parametrize("make", [memory, gradient_flow, lyapunov], ids=lambda make: make.__name__)
def test_the_datasets_of_experiments(make, tmp_path):
    known = experiment.load(make.__name__)
    assert isinstance(known.compute, Sweep)
    overrides = list(make())
    draw, datasets = np.random.default_rng(2), []
    for settings in overrides:
        plan = known.compute.plan(known.config_class(**settings))
        dataset = plan.template.copy(deep=True)
        filled = {name: dataset[name].copy(data=draw.normal(size=dataset[name].shape))
                  for name in plan.names}  # fmt: skip
        datasets.append(dataset.assign(filled))
    points = keep(tmp_path, overrides, datasets, known.config_class)
    joined = collect.dataset(known, points)
    check_values(joined, points, datasets)
    path = tmp_path / "all.zarr"
    results.Store.replace(path, results.Blocks(joined, {}))
    xr.testing.assert_identical(results.load(path), joined)


def test_variables_of_other_dims_stay_apart(tmp_path):
    """Exponents against the gain, and against updates: two questions to one experiment."""
    axes = ("gain", "update")
    datasets = [xr.Dataset({"slope": ((dim,), [1.0, 2.0])}, {dim: [3, 4]}) for dim in axes]
    joined = collect.dataset(toy(), keep(tmp_path, [{}, {"seed": 1}], datasets))
    assert joined["slope"].dims == ("run", "gain")
    assert joined["slope_update"].dims == ("run", "update")
    np.testing.assert_array_equal(joined["slope"], [[1, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(joined["slope_update"], [[np.nan, np.nan], [1, 2]])


def test_what_would_be_too_large_is_refused_before_memory_is_taken(tmp_path):
    """Eight runs of 60³ numbers at their own places along every dim: 8 × 480³ × 4 bytes."""
    datasets = [
        xr.Dataset(
            {"loss": (("a", "b", "c"), np.zeros((60, 60, 60), np.float32))},
            {dim: np.arange(60) + (60 * i if dim != "c" else 60 * (i % 4)) for dim in "abc"},
        )
        for i in range(8)
    ]
    points = keep(tmp_path, [{"seed": i} for i in range(8)], datasets)
    with raises_one_line("1.65 GiB", "a has 480 entries, in one run up to 60", "up to 1 GiB"):
        collect.dataset(toy(), points, most_bytes=2**30)
    with raises_one_line("first 3 of 8 runs", "up to 0.00195 GiB"):
        collect.dataset(toy(), points, most_bytes=2**21)


def test_a_damaged_run_is_named(tmp_path):
    points = keep(tmp_path, [{}, {"seed": 1}], [a_run(), a_run()])
    chunk = next((points[1].directory / results.DATASET / "loss").glob("0*"))
    chunk.write_bytes(chunk.read_bytes()[:-3])
    for read in (collect.dataset, collect.tables):
        with pytest.raises(results.StoreError, match=points[1].directory.name):
            read(toy(), points)


def toy_tables(dataset):
    """Lay out tables whose columns and texts differ from run to run."""
    steps = dataset.sizes["time"]
    rows = [
        {"task": f"task {i}", "loss": float(loss), "seed": i}
        | ({"only_here": i} if steps > 3 else {})
        for i, loss in enumerate(dataset["loss"].values[0, :, -1])
    ]
    return [
        Table(
            name="table",
            title="Losses",
            rows=rows,
            columns=[
                Column("loss", "loss", lambda row: f"{steps}:{row['loss']:.2f}",
                       colours={rows[0]["loss"]: "red"}),
                *([Column("only_here", "here", "d")] if steps > 3 else []),
            ],
            note=f"of {steps} steps",
            group=lambda row: row["task"],
            group_title=lambda row: row["task"],
            is_shown=lambda row: row["seed"] < 2,
        ),
        Table("runs", "All", rows, [Column("loss", "loss")], is_printed=False),
    ]  # fmt: skip


def test_tables_are_stacked_behind_the_settings(tmp_path):
    overrides = [{"seed": 3, "variants": ("gru", "sru")}, {"num_steps": 4, "forget_bias": 0.5}]
    datasets = [a_run(seeds=3), a_run(num_steps=4)]
    points = keep(tmp_path, overrides, datasets)
    table, for_the_csv = collect.tables(toy(toy_tables), points)
    assert (for_the_csv.name, len(for_the_csv.rows), for_the_csv.is_printed) == ("runs", 5, False)
    assert (table.name, table.title, table.note) == ("table", "Losses", "")
    headings = ["seed", "variants", "num_steps", "forget_bias", "part", "loss", "here"]
    assert [column.heading for column in table.columns] == headings
    assert [c.heading for c in table.columns if c.is_word] == ["variants", "forget_bias", "part"]
    rows = list(csv.DictReader(io.StringIO(results.to_csv(table))))
    assert [row["config_seed"] for row in rows] == ["3", "3", "3", "0", "0"]  # rows have a seed
    assert [row["seed"] for row in rows] == ["0", "1", "2", "0", "1"]
    assert [row["forget_bias"] for row in rows] == ["none"] * 3 + ["0.5"] * 2
    assert [row["only_here"] for row in rows] == ["nan"] * 3 + ["0", "1"]
    wanted = [float(x) for d in datasets for x in d["loss"].values[0, :, -1]]
    assert [float(row["loss"]) for row in rows] == wanted
    assert len(table.shown()) == 4
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(results.to_rich(table))
    lines = [line for line in console.export_text().splitlines() if ":" in line]
    cells_of = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    for cells_of_row, of, place in zip(cells_of, (0, 0, 1, 1), (0, 1, 0, 1), strict=True):
        steps, here = (3, "–") if of == 0 else (4, str(place))
        loss = f"{steps}:{datasets[of]['loss'].values[0, place, -1]:.2f}"
        settings = ["3", "gru sru", "3", "none"] if of == 0 else ["0", "gru", "4", "0.5"]
        assert cells_of_row == [*settings, f"task {place}", loss, here]
    page = results.to_html(table)
    assert page.count("<tr>") == 1 + 4 and page.count('class="number red"') == 2
