"""What is known of a run, and at which setting each variant is shown.

The best setting, a clip norm and a learning rate, is that at which most seeds solved the task; of
equals that of the fewest updates to do so (median over seeds, infinite where a seed did not), then
of the lowest final loss (median), then the first. The same held-out sequences choose and are shown.
"""

import itertools
import math

import numpy as np
import xarray as xr

from experiments.memory.run import CUT as POINT
from experiments.memory.run import RUN


def points(dataset: xr.Dataset) -> list[dict]:
    """List every task, length and variant, as ``sel`` takes them."""
    values = (dataset[dim].values.tolist() for dim in POINT)
    return [dict(zip(POINT, point, strict=True)) for point in itertools.product(*values)]


def measured(dataset: xr.Dataset) -> xr.Dataset:
    """Add what follows of each run from its held-out losses and its gradient.

    updates: how many the runs of that variant were given, nan where it was not trained; losses:
    parts of the baseline, nan where a run diverged; left: the decades log10 ‖dL/dcarry_0‖ /
    ‖dL/dcarry_T‖ of each stage.
    """
    losses = dataset["test_loss"] / dataset["baseline"]
    num_evaluations = dataset["score"].notnull().any(RUN).sum("evaluation")
    is_trained = num_evaluations > 0
    last = {"evaluation": np.maximum(num_evaluations - 1, 0)}
    final = losses.isel(last)
    flow = dataset["log_carry_norm"]
    with np.errstate(invalid="ignore"):  # both exactly zero: not known
        left = flow.isel(time=0, drop=True) - flow.sel(time=dataset["num_steps"]).drop_vars("time")
    return dataset.assign(
        updates=final["evaluation"].where(is_trained).drop_vars("evaluation"),
        final_loss=final.where(np.isfinite(final)).drop_vars("evaluation"),
        lowest_loss=losses.min("evaluation"),
        final_score=dataset["score"].isel(last).drop_vars("evaluation"),
        is_diverged=(is_trained & ~np.isfinite(final)).drop_vars("evaluation"),
        left=left / math.log(10.0),
    )


def at_best(dataset: xr.Dataset) -> xr.Dataset:
    """Take of every task, length and variant the runs at its best setting; see the module."""
    if "final_loss" not in dataset:
        dataset = measured(dataset)
    solve = dataset["updates_to_solve"]
    merits = (
        dataset["final_loss"].fillna(np.inf).median("seed"),
        solve.fillna(np.inf).median("seed"),
        -solve.notnull().sum("seed"),  # counts most
    )
    sizes = [dataset.sizes[dim] for dim in ("clip_norm", "learning_rate")]
    order = np.lexsort(
        [
            merit.transpose(*POINT, "clip_norm", "learning_rate").values.reshape(
                *(dataset.sizes[dim] for dim in POINT), -1
            )
            for merit in merits
        ]
    )
    clip, rate = np.unravel_index(order[..., 0], sizes)
    return dataset.isel(clip_norm=(POINT, clip), learning_rate=(POINT, rate))


def shown_length(dataset: xr.Dataset, task: str) -> int:
    """Choose where a task's gradients are shown: the longest that a run has begun to learn."""
    has_begun = dataset["updates_to_onset"].sel(task=task).notnull().any(("variant", *RUN))
    lengths = dataset["length"].values[has_begun.values]
    return int(max(lengths if len(lengths) else dataset["length"].values))
