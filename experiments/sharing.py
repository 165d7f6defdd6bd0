"""Several processes that share every batch of a run's trainings (jax.distributed).

The first leads: it reads, writes and finishes the run, and tells the others which blocks come next.
They compute the same blocks, each with its part of every batch, and write nothing. If one ends
before its time, the others end too: the same commands go on.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments import command
from experiments.experiment import Experiment, Sweep, Workplace
from rnn_jax import config as configs
from rnn_jax.config import RunOptions
from rnn_jax.results import RunDirectoryError
from rnn_jax.training import Placement, cut_over

HEARTBEAT = 20  # seconds after which a process that says nothing is taken for dead
_batch_shards, _is_over = 1, False


def begin(experiment: Experiment, options: RunOptions) -> None:
    """Say how many devices share a batch, and meet the other processes if there are any.

    Before JAX makes its devices. Leaves with one line on bad input.
    """
    global _batch_shards
    if options.batch_shards > 1 and not experiment.shares_batches:
        configs.leave(
            f"batch_shards is {options.batch_shards}; allowed: 1, {experiment.name} has no batches "
            "to be shared"
        )
    _batch_shards = options.batch_shards
    if not options.coordinator:
        return
    print(f"rank {options.rank} of {options.world} meets the others at {options.coordinator}",
          file=sys.stderr, flush=True)  # fmt: skip
    # meanwhile a signal ends the process at once: nothing in Python would see it
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in command.REASONS}
    try:
        jax.distributed.initialize(
            options.coordinator,
            options.world,
            options.rank,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        configs.leave(f"coordinator is {options.coordinator}: {reason}", code=1)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)  # JAX has taken SIGTERM for itself


def agree(*what: str) -> None:
    """Leave, all of them, with one line if the processes were not started for the same."""
    digest = hashlib.sha256("\n".join(map(str, what)).encode()).digest()[:16]
    own = np.frombuffer(digest, np.int32)
    if (_together(multihost_utils.process_allgather, own) != own).any():
        configs.leave(
            "the processes differ in config, code, data or batch_shards; allowed: the same command "
            "for every rank"
        )


def batch_shards() -> int:
    """Return how many devices share a batch."""
    return _batch_shards


def is_shared() -> bool:
    """Tell whether there are other processes."""
    return jax.distributed.is_initialized()


def follows() -> bool:
    """Tell whether another process leads."""
    return is_shared() and jax.process_index() > 0


@contextlib.contextmanager
def leaving_at_once() -> Generator[None]:
    """Where a process leaves with an error, do not let JAX wait for the others before."""
    try:
        yield
    except SystemExit as stop:
        if is_shared():
            sys.stderr.flush()
            os._exit(int(stop.code or 0))
        raise


def tell(wanted: list[int]) -> None:
    """Tell those that follow which blocks come next; none: that was all, and they may leave."""
    global _is_over
    if _is_over and wanted:
        raise RunDirectoryError("blocks are damaged that the others helped with; run it again")
    if is_shared():
        _send(len(wanted))
        if wanted:
            _send(wanted)
        else:
            _is_over = True
            jax.distributed.shutdown()


def follow(config: Any, work: Sweep) -> None:
    """Compute what the leading process computes, until it says that this was all."""

    def ignore(*_, **__) -> None:
        pass

    while count := int(_send(0)):
        wanted = _send([0] * count).tolist()
        with tempfile.TemporaryDirectory() as folder:
            workplace = Workplace(Path(folder), ignore, ignore, ignore)
            for _ in work.blocks(config, wanted, workplace):
                pass
    jax.distributed.shutdown()


def placement_of(batch_size: int) -> Placement:
    """Choose the devices that share a batch, as many of every process; ValueError: too few."""
    if _batch_shards == 1:
        return Placement()
    world = jax.process_count()
    devices = [
        device
        for process in range(world)
        for device in jax.local_devices(process_index=process)[: _batch_shards // world]
    ]
    if len(devices) < _batch_shards:
        raise ValueError(
            f"batch_shards is {_batch_shards}; allowed: up to {len(jax.devices())}, the devices "
            "that there are"
        )
    return cut_over(devices, batch_size)


def _send(numbers: int | list[int]) -> np.ndarray:
    """Give everybody the numbers of the process that leads."""
    return _together(multihost_utils.broadcast_one_to_all, np.asarray(numbers, np.int32))


def _together(function: Callable, numbers: np.ndarray) -> np.ndarray:
    """Call a function that all processes call; a signal is seen meanwhile."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = pool.submit(function, numbers)
        while not found.done():
            concurrent.futures.wait([found], 0.1)
        return np.asarray(found.result())
