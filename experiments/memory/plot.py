"""Dataset -> figures of every variant at its best setting; nothing is computed here."""

from collections.abc import Callable
from functools import partial

import xarray as xr

from experiments.experiment import Picture
from experiments.memory.choice import at_best, shown_length
from rnn_jax.plotting.labels import task_label


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn: more where there are several lengths."""
    from rnn_jax.plotting import memory as figures

    drawn = {
        "learning_curves": _picture(
            "Held-out loss, as part of the loss of the best guess without memory, against "
            "updates, on a logarithmic axis: a panel a task and length, a line a variant at its "
            "best setting (thick: median over seeds; band: their range). Dots: the baseline; "
            "dashes: below them it is solved. A line ends where all runs of its variant have.",
            figures.learning_curves,
        )
    }
    for task in map(str, dataset["task"].values):
        length = shown_length(dataset, task)
        drawn[f"gradient_{task}"] = _picture(
            f"{task_label(task).capitalize()}, T = {length}: norm of the gradient by the state "
            "relative to the last step's, on a logarithmic axis, against steps before the end; a "
            "panel a variant, a line a stage of its training: mean over the seeds that came to "
            "it; band: their range. A line along the dots keeps its size, one that falls forgets."
            + " Every step's output is read: the later ones add to it."
            * (task == "copying"),
            partial(figures.gradient_through_time, task=task, length=length),
        )
    if dataset.sizes["length"] > 1:
        drawn["solved_by_length"] = _picture(
            "How many of the seeds solved each length, every variant at its best setting there; "
            "a dash: not trained.",
            figures.solved_by_length,
        )
        drawn["updates_against_length"] = _picture(
            "Updates until a task is solved against its length, both logarithmic: lines: median "
            "over seeds, where most solved it; points: each seed that did; dashes: the budget.",
            figures.updates_against_length,
        )
    return drawn


def _picture(caption: str, draw: Callable) -> Picture:
    return Picture(caption, lambda dataset: draw(at_best(dataset)))
