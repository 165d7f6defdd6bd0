"""Times of training steps: the networks take turns, so that whatever else the machine does meets
all alike; compiling is apart.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from rnn_jax.devices import wait
from rnn_jax.results import processor_name
from rnn_jax.training import Task, init_state, make_train_step

LEAST_SECONDS = 0.05  # of a turn: a short step is repeated
Runner = Callable[[int], float]  # runs a number of steps, returns seconds a step


def take_turns(
    runners: Mapping[Any, Runner], rounds: int, on_step: Callable[[], None]
) -> np.ndarray:
    """Time every runner in every round: seconds a step [runner, round].

    ``on_step`` is called 1 + rounds times a runner.
    """
    repeats = {}
    for name, runner in runners.items():
        runner(1)  # compiles
        repeats[name] = max(1, round(LEAST_SECONDS / runner(2)))
        on_step()
    seconds = np.full((len(runners), rounds), np.nan)
    for turn in range(rounds):
        for place, (name, runner) in enumerate(runners.items()):
            seconds[place, turn] = runner(repeats[name])
            on_step()
    return seconds


def training_steps(task: Task, optimizer: Any, patience: int, batch: Any, seed: int) -> Runner:
    """Make the runner of a training step on one batch, again and again."""
    step = make_train_step(task, optimizer, patience)
    key = jax.random.key(seed)
    batch = jax.tree.map(jax.numpy.asarray, batch)
    state = init_state(task, optimizer, key, 1e-6)

    def run(times: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(times):
            state = step(state, batch, key)
        wait(state.step, longest=1e-3)
        return (time.perf_counter() - started) / times

    return run


def time_attributes() -> dict[str, str]:
    """Say of a variable of seconds what it was measured on, and that it differs every time."""
    device, backend = jax.devices()[0], jax.default_backend()
    return {
        "units": "s",
        "varies": "from one measurement to the next",
        "device": processor_name() if backend == "cpu" else device.device_kind,
        "backend": backend,
    }
