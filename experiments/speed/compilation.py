"""What comes before the numbers: import, trace, lower and compile, in fresh processes.

The default config of ``experiments.gradient_flow``, up to the first block of each cell, by its own
functions; and a training step. Without what earlier processes compiled, as on a fresh machine, and
with it (experiments/compilation_cache.py).
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

from experiments.speed import points

TITLE = "Compile time: the default sweep and a training step"
NOTE = (
    "Seconds, each line a fresh process. Trace, lower, compile, and call (the first, without "
    "these) are of the programs named; small: compiling the programs that draw parameters and "
    "inputs; in all: from the start, what has no column included. Cache: what XLA compiled for "
    "earlier processes, none of it or all. "
    "Sweep: the default config of experiments.gradient_flow{sweep_cut} up to the first block of "
    "each cell; training: a step at T {training[0]}, B {training[1]}, H {training[2]}."
)
CELLS = ("elman", "lstm", "gru", "sru")
TRAINING = (128, 32, 256)
QUICK_CELLS, QUICK_TRAINING = ("elman",), (8, 2, 4)
QUICK_SWEEP = {"num_steps": 10, "hidden_size": 4, "drop_first": 2}
STAGES = ("import", "trace", "lower", "compile", "first_call", "small_programs")


def measure(config, report) -> dict:
    cells = QUICK_CELLS if config.quick else CELLS
    training = QUICK_TRAINING if config.quick else TRAINING
    rows = []
    alone = [(cell,) for cell in cells]
    for job, of in [*(("sweep", of) for of in dict.fromkeys([*alone, cells])),
                    *(("training", of) for of in alone)]:  # fmt: skip
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "XDG_CACHE_HOME": home}
            environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # it would be used instead
            for cache in ("empty", "warm"):
                report(f"compile time of the {job}, {' '.join(of)}, cache {cache}")
                row = {"job": job, "cells": list(of), "cache": cache}
                settings = {"job": job, "cells": of, "training": training, "quick": config.quick}
                try:
                    row |= points.ask("compilation", settings, config.timeout, environment)
                except points.PointError as error:
                    row["error"] = str(error)
                rows.append(row)
    device = {name: row.pop(name) for row in rows for name in ("device",) if name in row}
    cut = f", cut down to T {QUICK_SWEEP['num_steps']}, H {QUICK_SWEEP['hidden_size']},"
    sizes = {"training": training, "sweep_cut": cut if config.quick else ""}
    return {"rows": rows, **sizes} | device


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    header = ["", "cache", "import", "trace", "lower", "compile", "small", "call", "in all"]
    stages = ("import", "trace", "lower", "compile", "small_programs", "first_call", "in_all")
    lines = []
    for row in found["rows"]:
        first = [f"{row['job']}, {' '.join(row['cells'])}", row["cache"]]
        if "error" in row:
            lines.append([*first, row["error"], *["–"] * (len(header) - 3)])
        else:
            lines.append([*first, *(f"{row[stage]:.2f}" for stage in stages)])
    return header, lines


# What follows runs in the process of a point.


class Stages:
    """Seconds by stage, added up; starts when it is made, with the imports."""

    def __init__(self):
        self.start = time.perf_counter()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.small: list[float] = []  # a program each

    def imported(self) -> None:
        """Set JAX up as experiments/running.py does; from here on programs are compiled."""
        import jax

        from experiments import compilation_cache
        from rnn_jax.devices import use_all_cores

        self.seconds["import"] = time.perf_counter() - self.start
        use_all_cores()
        compilation_cache.use()

        def listen(event: str, duration_secs: float, **_):
            if event == "/jax/core/compile/backend_compile_duration":
                self.small.append(duration_secs)

        jax.monitoring.register_event_duration_secs_listener(listen)

    def measured(self, jitted: Callable) -> Callable:
        """Return a jitted function that takes its stages one by one."""

        def call(*arguments):
            import jax

            before = len(self.small)
            program, seconds = points.compile_by_stages(jitted, *arguments)
            del self.small[before:]  # it has a column of its own
            start = time.perf_counter()
            found = jax.block_until_ready(program(*arguments))
            seconds["first_call"] = time.perf_counter() - start
            for name, more in seconds.items():
                self.seconds[name] += more
            return found

        return call

    def finished(self) -> dict:
        import jax

        in_all = time.perf_counter() - self.start
        found = self.seconds | {"small_programs": sum(self.small), "in_all": in_all}
        return found | {"device": jax.devices()[0].device_kind}


def measure_point(job: str, cells: list[str], training: list[int], quick: bool) -> dict:
    stages = Stages()
    if job == "sweep":
        first_blocks(stages, cells, quick)
    else:
        training_step(stages, cells[0], *training)
    return stages.finished()


def first_blocks(stages: Stages, cells: list[str], quick: bool) -> None:
    """Compute the first block of each cell as ``python -m experiments.gradient_flow`` does."""
    from experiments import experiment, running  # noqa: F401 (what the command imports)

    experiment.load("gradient_flow")
    from experiments.gradient_flow import run
    from experiments.gradient_flow.config import Config
    from rnn_jax.sweep import make_sweep

    stages.imported()
    config = Config(cells=tuple(cells))
    if quick:
        config = replace(config, **QUICK_SWEEP)
    whole = run.plan(config)
    of_cell = [whole.place(index)["cell"].start for index in range(whole.num_blocks)]
    firsts = [of_cell.index(i) for i in range(len(cells))]

    def make_measured(fn, chunk):
        return stages.measured(make_sweep(fn, chunk))

    with mock.patch.object(run, "make_sweep", make_measured):
        for _ in run.blocks(config, firsts):
            pass


def training_step(stages: Stages, name: str, num_steps: int, batch: int, hidden: int) -> None:
    from rnn_jax import CELLS as FACTORIES

    stages.imported()
    cell = FACTORIES[name](hidden)
    arguments = points.training_arguments(cell, num_steps, batch, seed=0)
    stages.measured(points.training_step(cell))(*arguments)


if __name__ == "__main__":
    points.answer(measure_point)
