"""Dataset -> tables: who solved what, which seeds failed, the longest length, every run."""

import json
import math

import numpy as np
import xarray as xr

from experiments.memory.choice import POINT, at_best, measured, points
from experiments.memory.run import RUN, STAGES
from rnn_jax.plotting.labels import task_label, variant_label
from rnn_jax.results import Column, Row, Table

OF_RUN = (
    "updates_to_onset",
    "updates_to_solve",
    "updates",
    "final_loss",
    "lowest_loss",
    "final_score",
)


def tables(dataset: xr.Dataset) -> list[Table]:
    """Lay out who solved what, which seeds failed, the longest lengths; the runs for the CSV."""
    config = json.loads(dataset.attrs["config"])
    variant = Column("variant", "variant", lambda row: variant_label(row["variant"]), is_word=True)
    clip = Column("clip_norm", "clip", lambda row: clip_label(row["clip_norm"]))
    of_row = [variant, clip] if dataset.sizes["clip_norm"] > 1 else [variant]
    summary = Table(
        name="table",
        title="Solved at the best learning rate",
        rows=rows(dataset),
        columns=[
            *of_row,
            Column("learning_rate", "rate", "g"),
            Column("solved", "solved", lambda row: _of(row, "solved", "seeds")),
            Column(
                "updates_median", "updates", lambda row: _best_and_median(row, "updates", ".0f")
            ),
            Column("loss_median", "loss", lambda row: _best_and_median(row, "loss", ".2g")),
            Column("solved_of_all", "in all", lambda row: _of(row, "solved_of_all", "runs")),
        ],
        note=f"solved: seeds whose held-out loss is below {config['solved_below']:g} × baseline at "
        f"two evaluations in a row within {config['max_updates']} updates; updates to it and final "
        "loss / baseline: best and median of the seeds; in all: at all learning rates.",
        group=lambda row: (row["task"], row["T"]),
        group_title=_group_title,
    )
    failed = Table(
        name="failed",
        title="Seeds that did not solve it, by learning rate",
        rows=failed_rows(dataset),
        columns=[
            *of_row,
            *(Column(f"{rate:g}", f"{rate:g}") for rate in dataset["learning_rate"].values),
        ],
        group=lambda row: (row["task"], row["T"]),
        group_title=_group_title,
    )
    longest = Table(
        name="longest",
        title="Longest length solved at the best setting",
        rows=longest_rows(dataset),
        columns=[
            Column("task", "task", lambda row: task_label(row["task"]), is_word=True),
            variant,
            Column("by_majority", "by most seeds", "g"),
            Column("by_one", "by one seed", "g"),
        ],
        note=f"Lengths tried: {', '.join(map(str, dataset['length'].values))}. A shorter one may "
        "have failed: see the table.",
        group=lambda row: row["task"],
        is_printed=dataset.sizes["length"] > 1,
    )
    runs = Table(
        name="runs",
        title="Every run",
        rows=run_rows(dataset),
        columns=[
            *(Column(name, name, is_word=True) for name in ("task", "variant")),
            *(Column(name, name.replace("_", " "), "g") for name in ("length", *RUN)),
            *(Column(name, name.replace("_", " "), ".4g") for name in OF_RUN),
            Column("is_diverged", "diverged", is_word=True),
        ],
        is_printed=False,
    )
    return [summary, failed, longest, runs]


def clip_label(norm: float) -> str:
    return "none" if math.isinf(norm) else f"{norm:g}"


def _of(row: Row, part: str, whole: str) -> str:
    return "–" if math.isnan(row[part]) else f"{row[part]:.0f}/{row[whole]}"


def _best_and_median(row: Row, what: str, form: str) -> str:
    values = (row[f"{what}_{which}"] for which in ("best", "median"))
    return " / ".join(format(v, form) if math.isfinite(v) else "–" for v in values)


def _group_title(row: Row) -> str:
    return f"{task_label(row['task'])}, T = {row['T']}"


def rows(dataset: xr.Dataset) -> list[Row]:
    """One row a task, length, variant and clip norm, at its best learning rate.

    left_...: median over seeds of the decades by which ‖dL/dcarry_0‖ differs from ‖dL/dcarry_T‖.
    """
    runs = measured(dataset)
    by_clip = [runs.sel(clip_norm=[norm]) for norm in dataset["clip_norm"].values]
    best = list(map(at_best, by_clip))
    return [
        _row(some.sel(point), shown.sel(point))
        for point in points(dataset)
        for some, shown in zip(by_clip, best, strict=True)
    ]


def best_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a task, length and variant, at the best of all its settings; those trained alone."""
    runs = measured(dataset)
    best = at_best(runs)
    found = [_row(runs.sel(point), best.sel(point)) for point in points(dataset)]
    return [row for row in found if not math.isnan(row["solved"])]


def _row(runs: xr.Dataset, best: xr.Dataset) -> Row:
    is_trained = bool(best["updates"].notnull())
    solve = best["updates_to_solve"].fillna(np.inf).values
    is_solved = np.isfinite(solve)
    losses = best["final_loss"].fillna(np.inf).values
    solve_of_all = runs["updates_to_solve"]
    unknown_if_untrained = {
        "learning_rate": float(best["learning_rate"]),
        "solved": int(is_solved.sum()),
        "began": int(best["updates_to_onset"].notnull().sum()),
        "updates_best": float(solve.min()),
        "updates_median": float(np.median(solve)),
        "loss_best": float(losses.min()),
        "loss_median": float(np.median(losses)),
        "solved_of_all": int(solve_of_all.notnull().sum()),
    }
    if not is_trained:
        unknown_if_untrained = dict.fromkeys(unknown_if_untrained, math.nan)
    return {
        "task": str(best["task"].item()),
        "T": int(best["length"]),
        "variant": str(best["variant"].item()),
        "clip_norm": float(best["clip_norm"]),
        "seeds": len(solve),
        "runs": int(solve_of_all.size),
        **unknown_if_untrained,
        "failed_seeds": _numbers(best["seed"], ~is_solved) if is_trained else "–",
        "updates": float(best["updates"]),
        "baseline": float(best["baseline"]),
        "lowest_loss_of_all": float(runs["lowest_loss"].min()),
        "diverged_of_all": int(runs["is_diverged"].sum()),
        **{
            f"left_{stage}": float(best["left"].sel(stage=stage).median("seed")) for stage in STAGES
        },
    }


def failed_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a task, length, variant and clip norm: which seeds failed at each learning rate."""
    is_trained = measured(dataset)["updates"].notnull()
    has_failed = dataset["updates_to_solve"].isnull().transpose(..., "learning_rate", "seed")
    rates = [f"{rate:g}" for rate in dataset["learning_rate"].values]
    found = []
    for point in points(dataset):
        for norm in dataset["clip_norm"].values:
            by_rate = has_failed.sel(point).sel(clip_norm=norm).values
            numbers = [_numbers(dataset["seed"], of_rate) for of_rate in by_rate]
            if not is_trained.sel(point):
                numbers = ["–"] * len(rates)
            task, length, variant = point.values()
            row = {"task": task, "T": length, "variant": variant, "clip_norm": float(norm)}
            found.append(row | dict(zip(rates, numbers, strict=True)))
    return found


def _numbers(seeds: xr.DataArray, is_one: np.ndarray) -> str:
    return "all" if is_one.all() else " ".join(map(str, seeds.values[is_one])) or "none"


def longest_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a task and variant: the longest length that most seeds solved, and that one did."""
    solved = at_best(dataset)["updates_to_solve"].notnull().mean("seed")
    return [
        {
            "task": str(task),
            "variant": str(variant),
            "by_majority": _longest(solved.sel(task=task, variant=variant) > 0.5),
            "by_one": _longest(solved.sel(task=task, variant=variant) > 0),
        }
        for task in dataset["task"].values
        for variant in dataset["variant"].values
    ]


def _longest(is_solved: xr.DataArray) -> float:
    lengths = is_solved["length"].values[is_solved.values]
    return float(lengths.max()) if len(lengths) else math.nan


def run_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a run."""
    runs = measured(dataset)[[*OF_RUN, "is_diverged"]].reset_coords(drop=True)
    return runs.to_dataframe([*POINT, *RUN]).reset_index().to_dict("records")
