"""Dataset -> sentences: who solved which task, what failed, and what the gradient did meanwhile."""

import itertools
import json
import math

import numpy as np
import xarray as xr

from experiments.memory.choice import at_best, shown_length
from experiments.memory.run import STAGES
from experiments.memory.table import (
    best_rows,
    clip_label,
    longest_rows,
    rows,
)
from experiments.wording import count
from rnn_jax.plotting.labels import task_label, variant_label
from rnn_jax.results import Row

MOST_NAMED = 6


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say which tasks and variants were trained, and what counts as solved."""
    config = json.loads(dataset.attrs["config"])
    rates = ", ".join(f"{rate:g}" for rate in config["learning_rates"])
    clips = ", ".join(clip_label(float(norm)) for norm in dataset["clip_norm"].values)
    baselines = [
        f"{task_label(task)} T = {length}: "
        f"{float(dataset['baseline'].sel(task=task, length=length)):.4g}"
        for task, length in _tasks(dataset)
    ]
    return [
        f"Trained: {', '.join(map(variant_label, config['variants']))}; H = "
        f"{config['hidden_size']} units, a linear read-out. Each with Adam's learning rate "
        f"{rates}; clip of the gradient's global norm {clips}; "
        f"{count(config['num_seeds'], 'seed')}. Every run: up to "
        f"{count(config['max_updates'], 'update')} of {count(config['batch_size'], 'sequence')}.",
        f"Tasks, and the loss of the best guess without memory: {'; '.join(baselines)}.",
        f"Solved: the loss of {count(config['test_size'], 'held-out sequence')} is below "
        f"{config['solved_below']:g} × that baseline at two evaluations in a row, one every "
        f"{count(config['evaluate_every'], 'update')}; begun to learn: below "
        f"{config['begins_below']:g} × baseline once. Shown: every variant at the setting at which "
        "most seeds solved the task, of equals the one with the fewest updates (median).",
    ]


def findings(dataset: xr.Dataset) -> list[str]:
    """Say who solved what; lengths, clips, gradients; then what to be careful about."""
    best = best_rows(dataset)
    return [
        *_ranking(dataset, best),
        *_lengths(dataset),
        *_clips(dataset),
        *_gradients(dataset, best),
        *_at_the_edge(dataset, best),
        *_lost_again(dataset),
        *_diverged(best),
    ]


def _tasks(dataset: xr.Dataset) -> list[tuple[str, int]]:
    return list(itertools.product(dataset["task"].values.tolist(), dataset["length"].values))


def _ranking(dataset: xr.Dataset, best: list[Row]) -> list[str]:
    """Say of each task and length which variants solved it: with all seeds, with some, with none.

    Of the last the lowest loss that any of their runs came to is said.
    """
    budget = json.loads(dataset.attrs["config"])["max_updates"]
    said = []
    for place, group in itertools.groupby(best, _task):
        here = sorted(group, key=lambda row: (-row["solved"], row["updates_median"]))
        by_all = [
            f"{_name(row)} {row['updates_median']:.0f}"
            for row in here
            if row["solved"] == row["seeds"]
        ]
        by_some = [
            f"{_name(row)} {row['solved']} of {row['seeds']} (at rate {row['learning_rate']:g}, "
            f"not seed {row['failed_seeds']})"
            for row in here
            if 0 < row["solved"] < row["seeds"]
        ]
        by_none = [f"{_name(row)} {_lowest(row)}" for row in here if row["solved"] == 0]
        parts = {
            "solved by every seed (median of the updates)": by_all,
            "by some seeds": by_some,
            f"by none within {budget} updates at any setting (lowest loss / baseline)": by_none,
        }
        words = [f"{what}: {', '.join(names)}" for what, names in parts.items() if names]
        said.append(f"{place}: {'; '.join(words)}.")
    return said


def _task(row: Row) -> str:
    return f"{task_label(row['task']).capitalize()}, T = {row['T']}"


def _name(row: Row) -> str:
    return variant_label(row["variant"])


def _lowest(row: Row) -> str:
    is_lost = row["diverged_of_all"] == row["runs"]
    return "diverged" if is_lost else f"{row['lowest_loss_of_all']:.2g}"


def _lengths(dataset: xr.Dataset) -> list[str]:
    """Order the variants by the longest length that most of their seeds solved."""
    if dataset.sizes["length"] < 2:
        return []
    tried, said = ", ".join(map(str, dataset["length"].values)), []
    for task, group in itertools.groupby(longest_rows(dataset), lambda row: row["task"]):
        known = [row for row in group if not math.isnan(row["by_majority"])]
        known.sort(key=lambda row: -row["by_majority"])
        names = [f"{_name(row)} {row['by_majority']:.0f}" for row in known]
        said.append(
            f"{task_label(task).capitalize()}, longest length that most seeds solved, of {tried}: "
            f"{', '.join(names) or 'none'}."
        )
    return said


def _clips(dataset: xr.Dataset) -> list[str]:
    """Count the runs solved at each clip norm, where there are several."""
    if dataset.sizes["clip_norm"] < 2:
        return []
    trained = [row for row in rows(dataset) if not math.isnan(row["solved"])]
    parts = []
    for norm in dataset["clip_norm"].values:
        here = [row for row in trained if row["clip_norm"] == norm]
        solved, total = (sum(row[key] for row in here) for key in ("solved_of_all", "runs"))
        parts.append(f"{clip_label(norm)}: {solved} of {total}")
    return [f"Runs solved by clip of the gradient's norm, all else together: {'; '.join(parts)}."]


def _gradients(dataset: xr.Dataset, best: list[Row]) -> list[str]:
    """Say what of the last step's gradient is left at t = 0 at each stage, at the shown length."""
    said = []
    for place, group in itertools.groupby(best, _task):
        here = list(group)
        if here[0]["T"] == shown_length(dataset, here[0]["task"]):
            parts = [
                f"{_name(row)} {' / '.join(_power(row[f'left_{stage}']) for stage in STAGES)}"
                for row in here
            ]
            said.append(
                f"{place}, ‖dL/dcarry_0‖ / ‖dL/dcarry_T‖ before training / when it begins to learn "
                f"/ at the end (median over seeds): {'; '.join(parts)}."
            )
    return said


def _power(decades: float) -> str:
    if math.isnan(decades):
        return "–"
    if decades == -math.inf:
        return "0"
    return f"{10**decades:.2g}" if abs(decades) < 3 else f"10^{decades:+.0f}"


def _at_the_edge(dataset: xr.Dataset, best: list[Row]) -> list[str]:
    """Name what failed at least in part, and was best at the lowest or highest learning rate."""
    rates = np.sort(dataset["learning_rate"].values)
    found = [
        f"{_name(row)} at {row['learning_rate']:g} ({_task(row)})"
        for row in best
        if row["solved"] < row["seeds"] and row["learning_rate"] in (rates[0], rates[-1])
    ]
    if len(rates) == 1 or not found:
        return []
    return [
        "Not solved by every seed, and best at the lowest or highest learning rate tried, so that "
        f"another may do better: {_some(found)}."
    ]


def _lost_again(dataset: xr.Dataset) -> list[str]:
    """Name the runs, at the best settings, that solved a task and ended where it is not solved."""
    config, best = json.loads(dataset.attrs["config"]), at_best(dataset)
    is_lost = best["updates_to_solve"].notnull() & ~(best["final_loss"] < config["solved_below"])
    runs = is_lost.stack(run=is_lost.dims)
    found = [
        f"{variant_label(run['variant'].item())} seed {run['seed'].item()} "
        f"({task_label(run['task'].item()).capitalize()}, T = {run['length'].item()})"
        for run in runs[runs.values]
    ]
    return [f"Solved, and lost again by the end: {_some(found)}."] if found else []


def _diverged(best: list[Row]) -> list[str]:
    """Count the runs whose loss was no number any more; the CSV of runs names them."""
    found = [
        f"{_name(row)} {row['diverged_of_all']} of {row['runs']} ({_task(row)})"
        for row in best
        if row["diverged_of_all"]
    ]
    return [f"Diverged, of the runs at all settings: {_some(found)}."] if found else []


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
