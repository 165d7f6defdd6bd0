"""Figures of memory tasks, from the dataset of ``experiments.memory`` at the settings shown.

Every variant has one clip norm and one learning rate here: seeds are what is left of its runs.
A colour is a cell; a marker and a dash are how it begins.
"""

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rnn_jax.plotting.gates import DASHES
from rnn_jax.plotting.labels import task_label, variant_label
from rnn_jax.plotting.style import label_powers_of_ten, series_style, without_grid
from rnn_jax.plotting.training import LEAST_DECADE, STEP_COLOURS, limits, network_style, ticks_at

LN10 = math.log(10.0)
MOST_DECADES = 16.0  # of a gradient: float64 adds nothing beyond, and the others are seen better
HIGHEST_LOSS = 20.0  # × baseline: above it nothing is drawn
STAGES = {"start": "before training", "onset": "when it begins to learn", "end": "at the end"}


def learning_curves(dataset: xr.Dataset) -> Figure:
    """Draw held-out loss / baseline against updates: a panel a task and length, a line a variant.

    Thick: median over seeds, a diverged one counting as infinite; band: their range.
    """
    tasks, lengths = dataset["task"].values, dataset["length"].values
    updates = dataset["evaluation"].values
    config = json.loads(dataset.attrs["config"])
    figure, grid = _grid(len(lengths), len(tasks), 4.6, 3.2)
    losses = dataset["test_loss"] / dataset["baseline"]
    is_done = dataset["score"].notnull()
    losses = losses.where(np.isfinite(losses), np.inf).where(is_done)
    limit = config["solved_below"]
    least = np.clip(np.nan_to_num(0.7 * losses.min(), nan=limit), limit / 1000, limit / 5)
    for axes, (length, task) in zip(grid.flat, np.ndindex(grid.shape), strict=True):
        one = losses.isel(task=task, length=length)
        for variant in map(str, dataset["variant"].values):
            of_seeds = one.sel(variant=variant).transpose("seed", "evaluation").values
            done = ~np.isnan(of_seeds).any(axis=0)
            of_seeds, at = of_seeds[:, done], updates[done]
            style = _line(dataset, variant)
            colour, every = style["color"], max(1, len(updates) // 8)
            axes.plot(at, np.median(of_seeds, axis=0), markevery=every, **style)
            ends = np.minimum([of_seeds.min(axis=0), of_seeds.max(axis=0)], 2 * HIGHEST_LOSS)
            axes.fill_between(at, *ends, color=colour, alpha=0.1, linewidth=0)
        axes.axhline(1.0, color="black", linewidth=0.9, linestyle=":")
        axes.axhline(limit, color="black", linewidth=0.9, linestyle="--")
        axes.set_yscale("log")
        axes.set_ylim(least, HIGHEST_LOSS)
        axes.set_xlim(-0.02 * updates[-1], 1.02 * updates[-1])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_title(_title(tasks[task], lengths[length]))
    _legend_by_cell(figure, dataset)
    figure.supxlabel("updates", fontsize=11)
    figure.supylabel("held-out loss / baseline", fontsize=11)
    return figure


def gradient_through_time(dataset: xr.Dataset, task: str, length: int) -> Figure:
    """Draw ‖dL/dcarry_t‖ relative to the last step's against T - t: a panel a variant.

    A line a stage of training: mean of the logarithm over the seeds that came to it; band: range.
    """
    one = dataset.sel(task=task, length=length)
    num_steps = int(one["num_steps"])
    steps_back = np.arange(num_steps, -1, -1)
    variants = [str(variant) for variant in one["variant"].values]
    columns = min(len(variants), 2 if len(variants) <= 4 else 3 if len(variants) <= 9 else 4)
    figure, grid = _grid(math.ceil(len(variants) / columns), columns, 3.3, 2.5)
    flows = one["log_carry_norm"].isel(time=slice(0, num_steps + 1)).transpose(..., "time") / LN10
    with np.errstate(invalid="ignore"):
        flows = flows - flows.isel(time=-1)
    flows = flows.where(np.isfinite(flows) & (flows > LEAST_DECADE))
    low, high = np.clip(limits(flows.values), -MOST_DECADES, MOST_DECADES)
    for place in range(len(variants), grid.size):
        grid.flat[place].set_axis_off()
        grid.flat[place - columns].tick_params(labelbottom=True)
    for axes, variant in zip(grid.flat, variants, strict=False):
        for colour, stage in zip(STEP_COLOURS([0.0, 0.55, 0.95]), STAGES, strict=True):
            of_seeds = flows.sel(variant=variant, stage=stage).transpose("seed", "time").values
            of_seeds = of_seeds[np.isfinite(of_seeds[:, -1])]
            if len(of_seeds):
                axes.plot(steps_back, of_seeds.mean(axis=0), color=colour, linewidth=1.6)
                ends = of_seeds.min(axis=0), of_seeds.max(axis=0)
                axes.fill_between(steps_back, *ends, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(low, high)
        label_powers_of_ten(axes.yaxis)
        solved = one["updates_to_solve"].sel(variant=variant).notnull().values
        axes.set_title(
            f"{variant_label(variant)} ({solved.sum()}/{solved.size} solved)", fontsize=10
        )
    handles = [
        Line2D([], [], color=colour, label=label)
        for colour, label in zip(STEP_COLOURS([0.0, 0.55, 0.95]), STAGES.values(), strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    figure.supxlabel("steps before the end, T − t", fontsize=11)
    figure.supylabel("‖dL/dcarry$_t$‖ / ‖dL/dcarry$_T$‖", fontsize=11)
    return figure


def solved_by_length(dataset: xr.Dataset) -> Figure:
    """Draw which part of the seeds solved each length: a panel a task, a row a variant."""
    tasks, lengths = dataset["task"].values, dataset["length"].values
    variants = [str(variant) for variant in dataset["variant"].values]
    size = (0.75 * len(lengths) + 0.6, 0.32 * len(variants) + 0.7)
    figure, grid = _grid(1, len(tasks), *size)
    is_known = dataset["score"].isel(evaluation=0).notnull().any("seed")
    solved = dataset["updates_to_solve"].notnull()
    shares = solved.mean("seed").where(is_known).transpose("task", "variant", "length").values
    for axes, task, share in zip(grid.flat, tasks, shares, strict=True):
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(share.shape):
            value = float(share[row, column])
            words = "–" if np.isnan(value) else f"{value * dataset.sizes['seed']:.0f}"
            colour = "white" if value > 0.6 else "black"
            axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(len(lengths)), [f"{length}" for length in lengths])
        axes.set_yticks(range(len(variants)), list(map(variant_label, variants)))
        without_grid(axes)
        axes.set_title(_title(task))
    figure.colorbar(image, ax=grid, label="share of the seeds")
    figure.supxlabel("length T", fontsize=11)
    figure.suptitle(f"Seeds, of {dataset.sizes['seed']}, that solved it", fontsize=11)
    return figure


def updates_against_length(dataset: xr.Dataset) -> Figure:
    """Draw the updates to solve against the length: a panel a task, a line a variant's median."""
    tasks, lengths = dataset["task"].values, dataset["length"].values
    budget = dataset["evaluation"].values[-1]
    figure, grid = _grid(1, len(tasks), 4.6, 4.0)
    solve = dataset["updates_to_solve"].fillna(np.inf).transpose(..., "length", "seed")
    for axes, task in zip(grid.flat, tasks, strict=True):
        for variant in map(str, dataset["variant"].values):
            of_seeds = solve.sel(task=task, variant=variant).values
            style = _line(dataset, variant)
            axes.plot(lengths, np.median(of_seeds, axis=1), **style)
            x = np.repeat(lengths, of_seeds.shape[1])
            points = {"color": style["color"], "s": 9, "alpha": 0.4, "linewidths": 0}
            axes.scatter(x, np.where(np.isfinite(of_seeds), of_seeds, np.nan).ravel(), **points)
        axes.axhline(budget, color="black", linewidth=0.9, linestyle="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks_at(axes, lengths)
        axes.set_xlim(lengths.min() / 1.15, lengths.max() * 1.15)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        if not np.isfinite(solve.sel(task=task).values).any():
            axes.set_ylim(budget / 20, 1.3 * budget)
            axes.text(0.5, 0.5, "no run solved it", ha="center", transform=axes.transAxes)
        axes.set_title(_title(task))
    _legend_by_cell(figure, dataset)
    figure.supxlabel("length T", fontsize=11)
    figure.supylabel("updates to solve (dashes: the budget)", fontsize=11)
    return figure


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Lay out panels of that size that share their axes."""
    return plt.subplots(
        rows,
        columns,
        figsize=(width * columns + 1.0, height * rows + 1.0),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )


def _by_cell(dataset: xr.Dataset) -> dict[str, list[str]]:
    by_cell: dict[str, list[str]] = {}
    for variant in map(str, dataset["variant"].values):
        by_cell.setdefault(variant.split()[0], []).append(variant)
    return by_cell


def _line(dataset: xr.Dataset, variant: str) -> dict:
    cell = variant.split()[0]
    index = _by_cell(dataset)[cell].index(variant)
    return {
        "color": network_style(cell)["color"],
        "marker": series_style(index)["marker"],
        "linestyle": DASHES[index % len(DASHES)],
        "markersize": 4.5,
        "linewidth": 1.4,
    }


def _legend_by_cell(figure: Figure, dataset: xr.Dataset) -> None:
    """Put a legend above the figure, a column a cell."""
    by_cell = _by_cell(dataset)
    tallest = max(map(len, by_cell.values()))
    handles = []
    for variants in by_cell.values():
        handles += [Line2D([], [], label=variant_label(v), **_line(dataset, v)) for v in variants]
        empty = tallest - len(variants)
        handles += [Line2D([], [], linestyle="none", label=" ") for _ in range(empty)]
    place = {"loc": "outside upper center", "ncols": len(by_cell)}
    figure.legend(handles=handles, fontsize=9, handlelength=3.5, **place)


def _title(task: str, length: int | None = None) -> str:
    return task_label(task) if length is None else f"{task_label(task)}, T = {length}"
