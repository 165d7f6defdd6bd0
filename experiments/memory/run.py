"""Config -> dataset: a block is one task, length and variant; all its runs train together."""

import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import jax
import numpy as np
import xarray as xr

from experiments.experiment import Workplace
from experiments.memory.config import Config
from experiments.memory.training import Report, train
from rnn_jax.results import Blocks, padded, unknown_variables

CUT = ("task", "length", "variant")
RUN = ("clip_norm", "learning_rate", "seed")
STAGES = ("start", "onset", "end")
MEANINGS = {  # name: (dims beside those that are cut; long name; units)
    "train_loss": ((*RUN, "evaluation"), "loss, mean over the updates since the last evaluation",
                   "that of the baseline"),
    "test_loss": ((*RUN, "evaluation"), "loss of the held-out sequences", "that of the baseline"),
    "score": ((*RUN, "evaluation"), "share right of the held-out sequences", "1"),
    "log_carry_norm": ((*RUN, "stage", "time"), "ln ‖dL/dcarry_t‖, mean over sequences", "nat"),
    "updates_to_onset": (RUN, "updates until the held-out loss is below begins_below × baseline",
                         "updates"),
    "updates_to_solve": (RUN, "updates until it is below solved_below × baseline twice running",
                         "updates"),
}  # fmt: skip


@functools.cache
def plan(config: Config) -> Blocks:
    """Lay the dataset out, and cut it."""
    tasks = {(n, t): config.task(n, t) for n in config.tasks for t in config.lengths}
    num_steps = [[tasks[n, t].num_steps for t in config.lengths] for n in config.tasks]
    coordinates = {
        "task": list(config.tasks),
        "length": list(config.lengths),
        "variant": list(config.variants),
        "clip_norm": [norm or np.inf for norm in config.clip_norms],
        "learning_rate": list(config.learning_rates),
        "seed": list(range(config.num_seeds)),
        "evaluation": [i * config.evaluate_every for i in range(config.num_evaluations)],
        "stage": list(STAGES),
        "time": list(range(max(map(max, num_steps)) + 1)),
    }
    known = {
        "baseline": (
            ("task", "length"),
            [[tasks[n, t].baseline for t in config.lengths] for n in config.tasks],
            {"long_name": "loss of the best guess without memory",
             "units": "squared (adding), nat (copying, temporal order)"},
        ),
        "num_steps": (("task", "length"), num_steps, {"long_name": "steps of a sequence"}),
    }  # fmt: skip
    template = xr.Dataset(
        unknown_variables(MEANINGS, coordinates, CUT) | known,
        {
            dim: (dim, values, COORDINATE_MEANINGS.get(dim, {}))
            for dim, values in coordinates.items()
        },
        {"title": "Memory tasks at growing lengths", "config": json.dumps(asdict(config))},
    )
    return Blocks(template, dict.fromkeys(CUT, 1))


COORDINATE_MEANINGS = {
    "length": {"long_name": "T, as the task counts it", "units": "steps"},
    "clip_norm": {"long_name": "largest global norm of the gradient; inf: no clip"},
    "evaluation": {"long_name": "updates done", "units": "updates"},
    "time": {"long_name": "t; 0 is the initial carry", "units": "steps"},
}


def blocks(
    config: Config, wanted: Iterable[int], workplace: Workplace | None = None
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Compute the wanted blocks; yields (index, what belongs there), one after another."""
    whole = plan(config)
    points = list(itertools.product(config.tasks, config.lengths, config.variants))
    for index in wanted:
        name, length, variant = points[index]
        task = config.task(name, length)
        reports: list[Report] = []
        with jax.default_matmul_precision(config.precision):
            for _, report in train(config, task, variant):
                reports.append(report)
                losses = np.stack([r.test_loss for r in reports]) / task.baseline
                if workplace:
                    part = len(reports) / config.num_evaluations
                    workplace.report(part, _words(config, name, length, variant, losses))
                if np.all(_is_over(config, losses)):
                    break
        values = _summarize(config, task.baseline, reports)
        yield (
            index,
            {name: _in_place(values[name], whole.shape(name, index)) for name in whole.names},
        )


def _words(config: Config, name: str, length: int, variant: str, losses: np.ndarray) -> str:
    solved = np.isfinite(first_below(losses, config.solved_below, in_a_row=2))
    return (
        f"{name} {length}, {variant}: {(len(losses) - 1) * config.evaluate_every} updates, "
        f"{solved.sum()} of {solved.size} runs solved"
    )


def _is_over(config: Config, losses: np.ndarray) -> np.ndarray:
    """Tell which runs have solved the task, or have diverged: a loss was no number."""
    solved = np.isfinite(first_below(losses, config.solved_below, in_a_row=2))
    return solved | ~np.isfinite(losses).all(axis=0)


def first_below(losses: np.ndarray, limit: float, in_a_row: int = 1) -> np.ndarray:
    """Number the first evaluation [R] from which losses [evaluations, R] are below; nan: none."""
    found = np.full(losses.shape[1], np.nan)
    for i in reversed(range(len(losses) - in_a_row + 1)):
        found = np.where(np.all(losses[i : i + in_a_row] < limit, axis=0), i, found)
    return found


def _summarize(config: Config, baseline: float, reports: list[Report]) -> dict[str, np.ndarray]:
    """Turn the reports of all evaluations into the block's variables, runs first."""
    found = {
        field: np.stack([np.asarray(getattr(report, field)) for report in reports], axis=1)
        for field in Report._fields
    }
    losses = found["test_loss"].T / baseline
    onset = first_below(losses, config.begins_below)
    solved = first_below(losses, config.solved_below, in_a_row=2)
    flow = found.pop("log_carry_norm")
    at_onset = flow[np.arange(len(flow)), np.nan_to_num(onset).astype(int)]
    at_onset = np.where(np.isnan(onset)[:, None], np.nan, at_onset)
    return found | {
        "log_carry_norm": np.stack([flow[:, 0], at_onset, flow[:, -1]], axis=1),
        "updates_to_onset": onset * config.evaluate_every,
        "updates_to_solve": solved * config.evaluate_every,
    }


def _in_place(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Shape values [R, ...] as their block; nan where a run or a sequence ended before."""
    runs = shape[: len(CUT) + len(RUN)]
    return padded(values.reshape(*runs, *values.shape[1:]), shape)
