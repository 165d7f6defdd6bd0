"""Several trainings at once, each in a thread with a device of its own, and who watches them."""

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import jax

from experiments import command
from experiments.experiment import Workplace
from rnn_jax.training import Progress

Result = TypeVar("Result")
MOST = 8  # at once: each device compiles for itself


def on_devices(
    work: Callable[[int], Result],
    indices: Iterable[int],
    stop: Callable[[], None],
    at_once: int = MOST,
) -> Iterator[tuple[int, Result]]:
    """Yield (index, work(index)) as each ends; on every local device one at a time.

    ``stop`` ends those that go on, when one has failed: they are waited for.
    """
    indices = list(indices)
    free: queue.Queue = queue.Queue()
    for device in jax.local_devices()[: max(1, min(len(indices), at_once))]:
        free.put(device)

    def on_one(index: int) -> Result:
        device = free.get()
        try:
            with jax.default_device(device):
                return work(index)
        finally:
            free.put(device)

    pool = concurrent.futures.ThreadPoolExecutor(free.qsize())
    to_come = iter(indices)
    pending = {pool.submit(on_one, index): index for index in islice(to_come, free.qsize())}
    try:
        while pending:
            # with a pause: a signal is seen at once
            done, _ = concurrent.futures.wait(pending, 0.1, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                index, result = pending.pop(future), future.result()
                for following in islice(to_come, 1):  # none, where this one has failed
                    pending[pool.submit(on_one, following)] = following
                yield index, result
    finally:
        stop()
        pool.shutdown()


class Watch:
    """What the trainings that go on at once tell whoever watches; one a process."""

    def __init__(self, workplace: Workplace):
        self._workplace, self._lock, self._is_stopped = workplace, threading.Lock(), False
        self._under_way: set[int] = set()  # past their first step, not yet at their last
        self._parts: dict[int, float] = {}
        self._reads = [(time.perf_counter(), 0)]
        self.log = workplace.log

    def begin(self, index: int, name: str) -> None:
        """Say that a training begins."""
        with self._lock:
            self._parts[index] = 0.0
            self._workplace.report(sum(self._parts.values()), f"{name} begins: it compiles")

    def report(self, index: int, name: str, words: str, progress: Progress) -> None:
        """Say how far a training is, ``words`` of it, and how fast all of them are together."""
        with self._lock:
            self._parts[index] = progress.step / progress.num_steps
            self._reads = [*self._reads[-20:], (time.perf_counter(), progress.num_tokens)]
            (first, _), (last, _) = self._reads[0], self._reads[-1]
            speed = sum(tokens for _, tokens in self._reads[1:]) / max(last - first, 1e-9)
            line = f"{name} {words}; {speed / 1000:.0f}k tokens/s"
            self._workplace.report(sum(self._parts.values()), line)

    def say(self, name: str, line: str) -> None:
        """Print a line about a training."""
        self._workplace.say(f"{name}: {line}")

    def done(self, index: int) -> None:
        """Count a training as a whole one from here on."""
        with self._lock:
            self._parts.pop(index, None)

    def should_stop(self, index: int) -> bool:
        """Tell a training after each of its steps whether it is to be kept and left."""
        self._under_way.add(index)
        return self._is_stopped

    def left(self, index: int) -> None:
        """Say that a training has come to its end, or was left."""
        self._under_way.discard(index)

    def stop(self) -> None:
        """End those that go on: each is kept at the step where it is."""
        self._is_stopped = True

    def stop_and_wait(self) -> None:
        """Do so, and wait until they are kept; one that compiles has nothing to keep."""
        self.stop()
        until = time.monotonic() + command.PATIENCE
        while self._under_way and time.monotonic() < until:
            time.sleep(0.01)
