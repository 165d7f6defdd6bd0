"""What is said of memory tasks: tables, sentences and figures of a dataset made by hand; a run."""

import csv
import json
import math

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from helpers import only_run, run_again, run_experiment

from experiments.memory import choice, findings, plot, run, table
from experiments.memory.config import Config
from rnn_jax import results
from rnn_jax.plotting import style
from rnn_jax.results.tables import cell_text

# of a variant: updates to learn adding at T = 100 (inf: never), decades of gradient a step back
MADE = {
    "elman gaussian": (math.inf, 0.12),
    "elman orthogonal": (2400, 0.02),
    "elman relu identity": (700, 0.001),
    "lstm bias=0": (1900, 0.1),
    "lstm": (1200, 0.06),
    "lstm bias=5": (700, 0.004),
    "lstm chrono": (800, 0.006),
    "gru": (450, 0.1),
    "gru chrono": (350, 0.008),
    "sru": (1100, 0.14),
    "sru bias=5": (900, 0.003),
    "sru chrono": (650, 0.005),
}


def make_dataset(solve=None, known=None, **settings):
    """Make what a run might have measured.

    solve: (task, length, variant, clip, rate, seed) -> updates after which it is solved (inf:
    never, nan: diverged); known: whether (task, length, variant) was trained.
    """
    config = Config(**{"variants": tuple(MADE), **settings})
    dataset = run.plan(config).template.copy(deep=True)
    draw = np.random.default_rng(5)
    updates = dataset["evaluation"].values
    for point in choice.points(dataset):
        if known and not known(*point.values()):
            continue
        of_task = dataset[["baseline", "num_steps"]].sel(task=point["task"], length=point["length"])
        baseline, num_steps = float(of_task["baseline"]), int(of_task["num_steps"])
        runs = [
            (clip, rate, seed)
            for clip in dataset["clip_norm"].values
            for rate in dataset["learning_rate"].values
            for seed in dataset["seed"].values
        ]
        ends = [(solve or _made)(*point.values(), *one, draw) for one in runs]
        is_over = [math.isnan(end) or end + config.evaluate_every <= updates[-1] for end in ends]
        last = updates[-1]
        if all(is_over):
            last = min(last, max([0 if math.isnan(e) else e for e in ends]) + config.evaluate_every)
        decades = MADE.get(point["variant"], (0, 0.05))[1]
        for one, end in zip(runs, ends, strict=True):
            at = point | dict(zip(run.RUN, one, strict=True))
            half = max(1.0, 0.8 * end)
            losses = 7 * np.exp(-updates / 20) + 1 / (1 + (updates / half) ** 11)
            losses *= np.exp(0.01 * draw.normal(size=len(updates)))
            if math.isfinite(end):
                losses = np.where(updates < end, np.maximum(losses, 0.11), losses.clip(0.003, 0.09))
            else:
                losses = np.maximum(losses, 0.93)
            if math.isnan(end):
                losses[1:] = np.nan
            losses[updates > last] = np.nan
            begun = updates[losses < config.begins_below]
            is_solved = math.isfinite(end) and end + config.evaluate_every <= updates[-1]
            dataset["test_loss"].loc[at] = losses * baseline
            dataset["train_loss"].loc[at] = losses * baseline
            dataset["score"].loc[at] = np.where(
                updates > last, np.nan, np.nan_to_num(np.exp(-3 * losses))
            )
            dataset["updates_to_onset"].loc[at] = begun[0] if len(begun) else np.nan
            dataset["updates_to_solve"].loc[at] = end if is_solved else np.nan
            back = num_steps - np.arange(num_steps + 1)
            is_reached = {"start": True, "onset": len(begun) > 0, "end": not math.isnan(end)}
            parts = {"start": 1.0, "onset": 0.5, "end": 0.2 if len(begun) else 0.9}
            for stage, part in parts.items():
                if is_reached[stage]:
                    flow = -2 - math.log(10) * decades * part * back + 0.2 * draw.normal()
                    flow += 0.3 * np.sin(back / 9 + draw.normal())
                    time = {"stage": stage, "time": slice(0, num_steps)}
                    dataset["log_carry_norm"].loc[at | time] = flow
    return dataset


def _made(task, length, variant, clip, rate, seed, draw):
    """Invent it: longer is harder, copying hardest, a high rate loses some runs."""
    if rate >= 0.03 and variant.startswith("elman relu"):
        return math.nan
    far = {"adding": 1.0, "temporal_order": 0.8, "copying": 4.0}[task] * (length / 100) ** 0.9
    rate_costs = 1 + abs(math.log10(rate / 0.01)) * (2 if rate > 0.01 else 1)
    end = MADE[variant][0] * far * rate_costs * math.exp(0.15 * draw.normal())
    return math.inf if math.isinf(end) else 50 * round(end / 50)


def constant(table_of_ends):
    """Make ``solve`` from {(rate, seed): updates}, whatever the task, length, variant and clip."""
    return lambda task, length, variant, clip, rate, seed, draw: table_of_ends[rate, seed]


ONE = dict(tasks=("adding",), lengths=(10,), variants=("lstm",), num_seeds=1, learning_rates=(0.1,))
NEVER = math.inf


@pytest.mark.parametrize(
    ("ends", "best"),
    [
        ([[300, 300, NEVER, NEVER], [900, 900, 900, NEVER]], 0.03),  # more seeds, though slower
        ([[900, 900, 900, NEVER], [300, 300, NEVER, NEVER]], 0.01),
        ([[500, 500, 500, 500], [100, 450, 450, 900]], 0.03),  # the median, not the slowest
        ([[500, 500, NEVER, NEVER], [500, 500, NEVER, math.nan]], 0.01),  # medians of loss
        ([[NEVER] * 4, [math.nan] * 4], 0.01),
        ([[math.nan] * 4, [NEVER] * 4], 0.03),
        ([[math.nan] * 4, [math.nan] * 4], 0.01),  # of equals the first
    ],
)
def test_the_setting_shown_solves_most_then_soonest_then_has_the_lowest_loss(ends, best):
    rates = (0.01, 0.03)
    solve = constant(
        {(rate, i): e for rate, of in zip(rates, ends, strict=True) for i, e in enumerate(of)}
    )
    settings = ONE | dict(num_seeds=4, learning_rates=rates)
    dataset = make_dataset(solve, **settings)
    shown = choice.at_best(dataset).squeeze()
    assert float(shown["learning_rate"]) == best
    expected = dataset.sel(learning_rate=best).squeeze()
    np.testing.assert_array_equal(shown["test_loss"], expected["test_loss"])
    (row,) = table.rows(dataset)
    assert row["learning_rate"] == best
    at_best = ends[rates.index(best)]
    assert row["solved"] == sum(map(math.isfinite, at_best))
    assert row["solved_of_all"] == sum(map(math.isfinite, ends[0] + ends[1]))


def test_clips_have_rows_of_their_own_and_figures_show_the_best_of_them():
    def solve(task, length, variant, clip, rate, seed, draw):
        return 400 if math.isinf(clip) and rate == 0.03 else 600 if rate == 0.01 else NEVER

    settings = ONE | dict(num_seeds=2, clip_norms=(1.0, 0.0), learning_rates=(0.01, 0.03))
    dataset = make_dataset(solve, **settings)
    clipped, free = table.rows(dataset)
    assert (clipped["clip_norm"], clipped["learning_rate"]) == (1.0, 0.01)
    assert (free["clip_norm"], free["learning_rate"]) == (math.inf, 0.03)
    (best,) = table.best_rows(dataset)
    assert best["clip_norm"] == math.inf and best["updates_median"] == 400 and best["runs"] == 8
    said = " ".join(findings.findings(dataset))
    assert "none: 4 of 4" in said and "1: 2 of 4" in said
    shown = {t.name: cell_text(t.columns[1], t.rows[0]) for t in table.tables(dataset)[:2]}
    assert shown == {"table": "1", "failed": "1"}


def test_the_tables_say_which_seeds_failed_at_which_rate():
    ends = {(0.01, 0): 300, (0.01, 1): NEVER, (0.01, 2): 500, (0.03, 0): math.nan}
    ends |= {(0.03, 1): 1450, (0.03, 2): 1500, (0.1, 0): NEVER, (0.1, 1): NEVER, (0.1, 2): NEVER}
    settings = ONE | dict(num_seeds=3, learning_rates=(0.01, 0.03, 0.1))
    dataset = make_dataset(constant(ends), **settings)
    summary, failed, longest, runs = table.tables(dataset)
    (row,) = summary.rows
    texts = [cell_text(column, row) for column in summary.columns]
    assert texts[:4] == ["LSTM", "0.01", "2/3", "300 / 500"] and texts[-1] == "3/9"
    assert row["failed_seeds"] == "1" and row["diverged_of_all"] == 1 and row["began"] == 2
    losses = (dataset["test_loss"] * 6).sel(learning_rate=0.01).squeeze().values
    np.testing.assert_allclose(row["loss_median"], np.median(losses[:, -1]))
    np.testing.assert_allclose(row["loss_best"], np.min(losses[:, -1]))
    (row,) = failed.rows
    assert [cell_text(column, row) for column in failed.columns[1:]] == ["1", "0 2", "all"]
    assert len(runs.rows) == 9 and sum(r["is_diverged"] for r in runs.rows) == 1
    assert [cell_text(c, longest.rows[0]) for c in longest.columns] == [
        "adding",
        "LSTM",
        "10",
        "10",
    ]
    for made in (summary, failed, longest, runs):
        for write in (results.to_csv, results.to_html, results.to_latex, results.to_rich):
            assert write(made)
    said = " ".join(findings.findings(dataset))
    assert "LSTM 2 of 3 (at rate 0.01, not seed 1)" in said
    assert "LSTM 1 of 9 (Adding, T = 10)" in said  # diverged
    assert "best at the lowest or highest learning rate" in said


def test_half_the_seeds_are_no_median_and_no_majority():
    dataset = make_dataset(constant({(0.1, 0): 300, (0.1, 1): NEVER}), **ONE | dict(num_seeds=2))
    (row,) = table.rows(dataset)
    assert row["updates_best"] == 300 and row["updates_median"] == math.inf
    assert cell_text(table.tables(dataset)[0].columns[3], row) == "300 / –"
    (row,) = table.longest_rows(dataset)
    assert math.isnan(row["by_majority"]) and row["by_one"] == 10


def test_the_last_loss_is_that_of_the_last_evaluation_before_an_early_stop():
    dataset = make_dataset(constant({(0.1, 0): 300, (0.1, 1): 450}), **ONE | dict(num_seeds=2))
    assert dataset["test_loss"].isel(evaluation=-1).isnull().all()
    (row,) = table.rows(dataset)
    last = dataset["test_loss"].sel(evaluation=500).squeeze() * 6
    assert row["updates"] == 500 and row["diverged_of_all"] == 0
    np.testing.assert_allclose(row["loss_median"], last.median())


def test_what_was_solved_and_lost_again_is_said():
    dataset = make_dataset(constant({(0.1, 0): 300}), **ONE)
    assert "lost again" not in " ".join(findings.findings(dataset))
    dataset["test_loss"].loc[{"evaluation": 350}] = 0.1
    said = " ".join(findings.findings(dataset))
    assert "lost again by the end: LSTM seed 0 (Adding, T = 10)" in said


def test_the_longest_length_solved_and_the_length_shown():
    def solve(task, length, variant, clip, rate, seed, draw):
        most = {"lstm": 40, "gru": 20}.get(variant, 0)
        return 300 if length <= most and (length < most or seed < 2) else NEVER

    settings = dict(lengths=(10, 20, 40, 80), variants=("lstm", "gru", "sru"), num_seeds=4)
    dataset = make_dataset(solve, tasks=("copying",), learning_rates=(0.1,), **settings)
    rows = {row["variant"]: row for row in table.longest_rows(dataset)}
    assert [rows["lstm"][by] for by in ("by_majority", "by_one")] == [20, 40]
    assert [rows["gru"][by] for by in ("by_majority", "by_one")] == [10, 20]
    assert math.isnan(rows["sru"]["by_majority"]) and math.isnan(rows["sru"]["by_one"])
    assert choice.shown_length(dataset, "copying") == 40
    assert "of 10, 20, 40, 80: LSTM 20, GRU 10." in " ".join(findings.findings(dataset))
    figure = drawn(dataset, "solved_by_length")
    (axes, _) = figure.axes
    shares = np.asarray(axes.images[0].get_array())
    np.testing.assert_array_equal(shares, [[1, 1, 0.5, 0], [1, 0.5, 0, 0], [0, 0, 0, 0]])
    of_lstm = drawn(dataset, "updates_against_length").axes[0].lines[0]
    np.testing.assert_array_equal(of_lstm.get_ydata(), [300, 300, NEVER, NEVER])


def test_the_gradient_left_is_that_between_the_ends_of_each_sequence():
    settings = dict(tasks=("copying",), lengths=(10, 20), variants=("lstm",), num_seeds=1)
    dataset = make_dataset(constant({(0.1, 0): 300}), learning_rates=(0.1,), **settings)
    flow = dataset["log_carry_norm"].squeeze().transpose("length", "stage", "time").values
    for row, of_length, num_steps in zip(table.rows(dataset), flow, (30, 40), strict=True):
        assert np.isnan(of_length[:, num_steps + 1 :]).all()
        expected = (of_length[:, 0] - of_length[:, num_steps]) / math.log(10)
        found = [row[f"left_{stage}"] for stage in run.STAGES]
        np.testing.assert_allclose(found, expected)
    # one panel, its lines the stages in order, over T + 20 steps
    axes = drawn(dataset, "gradient_copying").axes[0]
    for line, of_stage in zip(axes.lines, flow[1], strict=False):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(40, -1, -1))
        relative = (of_stage - of_stage[40]) / math.log(10)
        np.testing.assert_allclose(line.get_ydata(), relative, atol=1e-12)


def test_learning_curves_are_medians_over_seeds_at_the_best_rate():
    ends = {(0.1, 0): 300, (0.1, 1): NEVER, (0.1, 2): math.nan}
    dataset = make_dataset(constant(ends), **ONE | dict(num_seeds=3))
    line = drawn(dataset, "learning_curves").axes[0].lines[0]
    losses = 6 * dataset["test_loss"].squeeze().transpose("seed", "evaluation").values
    expected = np.maximum(losses[0], losses[1])[1:]  # the diverged one is above
    np.testing.assert_allclose(line.get_ydata(), [np.median(losses[:, 0]), *expected])


def drawn(dataset, name):
    return plot.pictures(dataset)[name].draw(dataset)


@pytest.fixture(autouse=True)
def closed_figures():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("solve", "known", "settings"),
    [
        (None, None, dict(tasks=("temporal_order",), lengths=(20, 50))),
        (None, None, ONE),
        (constant({(0.1, 0): NEVER}), None, ONE | dict(lengths=(10, 20))),
        (constant({(0.1, 0): math.nan}), None, ONE | dict(lengths=(10, 20))),
        (None, lambda *point: False, ONE | dict(lengths=(10, 20), tasks=("adding", "copying"))),
        (None, lambda task, length, variant: length == 10, ONE | dict(lengths=(10, 20))),
    ],
    ids=["many", "one", "not solved", "diverged", "not trained", "trained in part"],
)
def test_whatever_came_out_is_drawn_and_said(tmp_path, solve, known, settings):
    dataset = make_dataset(solve, known, **settings)
    drawings = {name: picture.draw for name, picture in plot.pictures(dataset).items()}
    assert len(drawings) == 1 + dataset.sizes["task"] + 2 * (dataset.sizes["length"] > 1)
    style.save_figures(drawings, dataset, tmp_path)
    for name in drawings:
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    tables = table.tables(dataset)
    assert len(tables[0].rows) == len(choice.points(dataset))
    texts = [results.to_latex(made) for made in tables]
    said = " ".join([*texts, *findings.set_up(dataset), *findings.findings(dataset)])
    assert "nan" not in said.replace("diverged", "")
    if known:
        for made, dashes in ((tables[0], ["–", "–", "– / –", "– / –", "–"]), (tables[1], ["–"])):
            assert [cell_text(column, made.rows[-1]) for column in made.columns[1:]] == dashes


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    quick = "--config experiments/memory/presets/quick.json"
    done = run_experiment("memory", quick, folder)
    assert done.returncode == 0, done.stderr
    return folder, done, quick


def test_the_quick_preset_trains_every_task_and_variant(quick_run, capsys):
    folder, done, quick = quick_run
    directory, dataset = only_run(folder)
    rows = list(csv.DictReader((directory / "table.csv").read_text().splitlines()))
    assert len(rows) == len(choice.points(dataset)) > 1
    for variant in dataset["variant"].values:
        assert table.variant_label(variant) in done.stdout
    names = {path.stem for path in (directory / "figures").iterdir()}
    assert names == {"learning_curves", *(f"gradient_{task}" for task in dataset["task"].values)}
    out, errors = run_again("memory", quick, folder, capsys)
    assert "finished before" in errors and out == done.stdout


def test_a_run_begins_without_memory_and_measures_every_step(quick_run):
    _, dataset = only_run(quick_run[0])
    first = dataset.isel(evaluation=0)
    assert np.all(first["test_loss"] > 0.9 * dataset["baseline"])  # of 32 sequences
    assert np.all(first["train_loss"].isnull()) and np.all(np.isfinite(first["score"]))
    flow = dataset["log_carry_norm"].sel(stage="start")
    is_step = dataset["time"] <= dataset["num_steps"]
    assert np.all(np.isfinite(flow).where(is_step, True))
    assert np.all(flow.isnull().where(~is_step, True))


def test_onset_and_solution_are_where_the_losses_say(quick_run):
    """By a plain loop over the evaluations of every run."""
    _, dataset = only_run(quick_run[0])
    updates = dataset["evaluation"].values
    losses = (dataset["test_loss"] / dataset["baseline"]).transpose(..., "evaluation").values
    order = dataset["test_loss"].isel(evaluation=0).dims
    config = json.loads(dataset.attrs["config"])
    limits = {
        "updates_to_onset": (config["begins_below"], 1),
        "updates_to_solve": (config["solved_below"], 2),
    }
    for name, (limit, in_a_row) in limits.items():
        found = dataset[name].transpose(*order).values
        for index in np.ndindex(found.shape):
            below = [loss < limit for loss in losses[index]]
            first = [
                u for i, u in enumerate(updates) if below[i : i + in_a_row] == [True] * in_a_row
            ]
            np.testing.assert_equal(found[index], first[0] if first else np.nan)
    assert dataset["updates_to_onset"].notnull().any()
    assert dataset["updates_to_onset"].isnull().any()
