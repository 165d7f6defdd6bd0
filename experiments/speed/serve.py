"""The process of a library: ``python -m experiments.speed.serve JOB LIBRARY CORES PRECISION``.

It reads a command a line from stdin and answers a line on stdout, both JSON; it ends with stdin.
While another library has its turn it waits for the next line and takes no time from it.
"""

import json
import os
import signal
import statistics
import sys
import threading
import time
from importlib import metadata
from typing import Any

import numpy as np

from experiments.speed import jobs
from experiments.speed.libraries import LIBRARIES

COLD = 0.5  # a shorter call is preceded by one that does not count: threads have to wake up
LONG = 1.0  # a longer call is made once a turn


class Server:
    """Holds the call of one row."""

    def __init__(self, table: str, library: str, precision: str):
        self.job, self.precision = jobs.load(table), precision
        self.make_call = self.job.RUNNERS[library]
        self.set_precision = LIBRARIES[library].set_precision
        self.call: Any = None  # () -> array, of the row in hand
        self.last = 0.0  # seconds of the last call

    def compile(self, row: list, seed: int) -> dict:
        self.call = None  # the memory of the row before goes first
        arrays = self.job.inputs(tuple(row), seed)
        dtype = "bfloat16" if self.precision == "bfloat16" else "float32"
        start = time.perf_counter()
        self.call = self.make_call(tuple(row), arrays, dtype)
        self.call()
        seconds = time.perf_counter() - start
        self.last = 0.0  # not known: this one compiled
        return {"seconds": seconds}

    def time(self, turn_seconds: float) -> dict:
        if self.last < COLD:
            self.call()
        seconds, total = [], 0.0
        while not seconds or (total < turn_seconds and self.last <= LONG):
            start = time.perf_counter()
            self.call()
            self.last = time.perf_counter() - start
            seconds.append(self.last)
            total += self.last
        return {"seconds": statistics.median(seconds)}

    def values(self, row: list, seed: int) -> dict:
        """Compute in float32 with exact products, whatever precision is timed."""
        self.set_precision("highest")
        try:
            call = self.make_call(tuple(row), self.job.inputs(tuple(row), seed), "float32")
            return {"values": np.asarray(call()).tolist()}
        finally:
            self.set_precision(self.precision)


def main(table: str, library: str, cores: str, precision: str) -> None:
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        answer(**LIBRARIES[library].set_up(int(cores), precision))
    except metadata.PackageNotFoundError as error:
        answer(error=f"{error.name} is not installed")
        return
    server = Server(table, library, precision)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer(**getattr(server, command.pop("do"))(**command))
        except jobs.NotOffered as reason:
            answer(missing=str(reason))
        except Exception as error:  # the table has a line for it
            answer(error=f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """Leave when the parent is gone, in the middle of a call too, with all that was started."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        if os.getpgrp() == os.getpid():  # the group is our own
            os.killpg(0, signal.SIGTERM)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
