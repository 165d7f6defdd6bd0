"""What measurements of rnn_jax alone share: points in processes of their own, turns, stages.

``python -m experiments.speed.NAME '{"setting": value, ...}'`` measures a point and prints one line
of JSON, the last of its output. Nothing heavy is imported here: imports are measured as well.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.command import before_leaving

ROOT = Path(__file__).resolve().parents[2]


class PointError(Exception):
    """A point's process crashed or gave no answer: one line."""


def ask(name: str, settings: dict, timeout: float, environment: Mapping = os.environ) -> dict:
    """Measure one point by ``experiments.speed.NAME`` in a fresh process."""
    command = [sys.executable, "-m", f"experiments.speed.{name}", json.dumps(settings)]
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    )
    with process, before_leaving(process.kill):
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise PointError(f"no answer within {timeout:g} s") from None
    lines = (errors if process.returncode else output).split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    if process.returncode:
        raise PointError(f"ended with code {process.returncode}: {last.strip()}"[:200])
    return json.loads(last)


def ask_each(name: str, columns: Sequence[str], rows: Sequence, config, report) -> dict:
    """Measure a point a row, one after another; ``columns`` names what a row holds."""
    found, device = [], {}
    for row in rows:
        report(f"{name}, {' '.join(map(str, row))}")
        settings = dict(zip(columns, row, strict=True))
        settings |= {"seed": config.seed, "rounds": config.rounds}
        try:
            point = ask(name, settings, config.timeout)
            device = {"device": point.pop("device")}
        except PointError as error:
            point = {"error": str(error)}
        found.append({"row": row} | point)
    return {"rows": found} | device


def answer(measure: Callable[..., dict]) -> None:
    """Be the process of a point."""
    print(json.dumps(measure(**json.loads(sys.argv[1]))), flush=True)


def name_of(row: Sequence) -> str:
    """(cell, *sizes) as the tables write it: LSTM 128×32×256."""
    cell, *sizes = row
    return f"{'Elman' if cell == 'elman' else cell.upper()} {'×'.join(map(str, sizes))}"


def take_turns(
    calls: Sequence[Callable[[], Any]],
    rounds: int,
    turn_seconds: float = 0.02,
    long: float = math.inf,
) -> list[list[float]]:
    """Time calls that wait for their end, each once a round: the seconds of each call's turns.

    All have been called before. In a turn a short call repeats, and the median counts. After two
    rounds no other begins that would end later than ``long`` seconds after the start.
    """
    found: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    for count in range(rounds):
        if count >= 2 and (time.perf_counter() - begin) * (count + 1) / count > long:
            break
        for call, seconds in zip(calls, found, strict=True):
            turn: list[float] = []
            while not turn or sum(turn) < turn_seconds:
                start = time.perf_counter()
                call()
                turn.append(time.perf_counter() - start)
            seconds.append(statistics.median(turn))
    return found


def compile_by_stages(jitted, *arguments) -> tuple[Any, dict[str, float]]:
    """Compile a jitted function for these arguments: (what can be called, seconds by stage)."""
    times = [time.perf_counter()]
    stage, seconds = jitted, {}
    for name, go_on in (
        ("trace", lambda stage: stage.trace(*arguments)),
        ("lower", lambda stage: stage.lower()),
        ("compile", lambda stage: stage.compile()),
    ):
        stage = go_on(stage)
        times.append(time.perf_counter())
        seconds[name] = times[-1] - times[-2]
    return stage, seconds


def training_step(cell, **options) -> Callable:
    """Make the jitted step (params, xs, projection) -> (loss, gradients by params and xs).

    options: those of ``unroll``.
    """
    import jax
    import jax.numpy as jnp

    from rnn_jax import unroll

    def loss(params, xs, projection):
        return jnp.sum(unroll(cell, params, xs, **options)[1] * projection)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def training_arguments(cell, num_steps: int, batch: int, seed: int) -> tuple:
    """Draw (params, xs, projection) of a training step, inputs as wide as the state."""
    import jax

    keys = jax.random.split(jax.random.key(seed), 3)
    params = cell.init(keys[0], cell.hidden_size)
    shape = (num_steps, batch, cell.hidden_size)
    return params, *(jax.random.normal(key, shape, "float32") for key in keys[1:])
