"""The process of one library: ``python -m experiments.speed.serve JOB LIBRARY CORES``.

It reads a command a line from stdin and answers a line on stdout, both JSON; it ends with stdin.
While another library has its turn it waits for the next line and takes no time from it.
"""

import json
import os
import statistics
import sys
import threading
import time
from typing import Any

import numpy as np

from experiments.speed import jobs
from experiments.speed.libraries import LIBRARIES


class Server:
    """Holds the call of one row."""

    def __init__(self, job_name: str, library: str):
        self.job, self.library = jobs.load(job_name), library
        self.call: Any = None  # () -> array, of the row in hand

    def compile(self, row: tuple[int, ...], seed: int) -> dict:
        self.call = None  # the memory of the row before goes first
        arrays = self.job.inputs(row, seed)
        start = time.perf_counter()
        self.call = self.job.RUNNERS[self.library](row, arrays)
        self.call()
        return {"seconds": time.perf_counter() - start}

    def time(self, turn_seconds: float) -> dict:
        self.call()  # the threads of this process have slept while others had their turn
        seconds = []
        while sum(seconds) < turn_seconds or not seconds:
            start = time.perf_counter()
            self.call()
            seconds.append(time.perf_counter() - start)
        return {"seconds": statistics.median(seconds)}

    def values(self, row: tuple[int, ...], seed: int) -> dict:
        call = self.job.RUNNERS[self.library](row, self.job.inputs(row, seed))
        return {"values": np.asarray(call()).tolist()}


def main(job_name: str, library: str, cores: str) -> None:
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        answer(**LIBRARIES[library].set_up(int(cores)))
    except ImportError as error:
        answer(error=f"not installed ({error})")
        return
    server = Server(job_name, library)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer(**getattr(server, command.pop("do"))(**command))
        except Exception as error:  # the table has a line for it
            answer(error=f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """Leave when the parent is gone, in the middle of a call too."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
