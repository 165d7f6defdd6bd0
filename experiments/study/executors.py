"""Where the runs of a study are computed: in this process, in processes of their own, on Ray.

Each is a function (jobs, options) that yields (index of the job, Outcome) as the jobs end, and
calls ``begun(index)`` where it knows that one has begun.
"""

import contextlib
import ctypes
import io
import itertools
import math
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any

from experiments import command, running
from experiments.experiment import load
from experiments.study import jobs
from experiments.study.config import Arguments
from experiments.study.jobs import Job, Outcome, run_job
from rnn_jax.devices import num_cores

Outcomes = Iterator[tuple[int, Outcome]]
Begun = Callable[[int], None]


class TimeLimitError(BaseException):
    """A run has had its time; no handler of errors may take it for its own."""


LEFT: list[io.TextIOWrapper] = []  # logs of runs that had their time: their devices may go on


def inline(todo: list[Job], options: Arguments, begun: Begun) -> Outcomes:
    """Run one after another in this process: the least overhead, and a debugger sees all.

    A run that has had its time is ended by an exception. Compiled code sees none: it goes on until
    this process ends, so the runs after it get a process each.
    """
    os.environ.update(jobs.environment(options.cores))  # read when JAX makes its devices
    for index, job in enumerate(todo):
        begun(index)
        yield index, run_job(job) if LEFT else _run_here(job)


def processes(todo: list[Job], options: Arguments, begun: Begun) -> Outcomes:
    """Run each in a process of its own, so many at once, on this machine."""
    workers = options.workers or max(1, num_cores() // options.cores)

    waiting, ended = iter(range(len(todo))), queue.SimpleQueue()
    active: set[threading.Thread] = set()

    def work(index: int) -> None:
        try:
            outcome = run_job(todo[index])
        except Exception as error:  # of ours; whoever waits must hear of it
            traceback.print_exc()
            outcome = Outcome("failed", repr(error))
        ended.put((threading.current_thread(), index, outcome))

    def begin_next() -> None:
        for index in itertools.islice(waiting, 1):
            begun(index)
            thread = threading.Thread(target=work, args=(index,))
            active.add(thread)
            thread.start()

    def end() -> None:
        """Stop all; no lock is taken, since a signal may have come amid anything."""
        jobs.STOPPED.set()
        until = time.monotonic() + jobs.GRACE + 1
        while any(thread.is_alive() for thread in tuple(active)) and time.monotonic() < until:
            time.sleep(jobs.PAUSE)

    with command.before_leaving(end), contextlib.ExitStack() as stack:
        stack.callback(end)
        for _ in range(workers):
            begin_next()
        while active:
            try:
                thread, index, outcome = ended.get(timeout=0.1)  # a signal is seen at once
            except queue.Empty:
                continue
            active.discard(thread)
            begin_next()
            yield index, outcome


def on_ray(todo: list[Job], options: Arguments, begun: Begun) -> Outcomes:
    """Run each as a task of Ray, which looks for a place with so many cores and GPUs free.

    A task starts the run as a process of its own, as ``processes`` does. If the task's worker dies,
    or its whole node, Ray starts the task elsewhere, and the run goes on from what it has kept.
    """
    from experiments.study import ray_cluster

    with ray_cluster.connected(options) as ray:
        task: Any = ray.remote(run_job).options(
            num_cpus=options.cores, num_gpus=options.gpus, max_retries=options.attempts - 1
        )
        waiting = list(enumerate(todo))[::-1]
        most = options.workers or ray_cluster.room(ray, options)
        pending: dict = {}

        def end() -> None:
            ray_cluster.cancel(ray, list(pending))

        with command.before_leaving(end), contextlib.ExitStack() as stack:
            stack.callback(end)
            while waiting or pending:
                while waiting and len(pending) < most:
                    index, job = waiting.pop()
                    pending[task.remote(job)] = index
                    begun(index)
                done, _ = ray.wait(list(pending), num_returns=1, timeout=0.1)
                for reference in done:
                    yield pending.pop(reference), ray_cluster.outcome(ray, reference, options)


EXECUTORS: dict[str, Callable[[list[Job], Arguments, Begun], Outcomes]] = {
    "inline": inline,
    "processes": processes,
    "ray": on_ray,
}


def _run_here(job: Job) -> Outcome:
    """Run an experiment's command in this process, in a thread that can be left behind."""
    started, codes = time.perf_counter(), []
    streams = sys.stdout, sys.stderr

    def give_back() -> None:  # what is said of a study that is stopped is not for a run's log
        sys.stdout, sys.stderr = streams

    try:
        job.directory.mkdir(parents=True, exist_ok=True)
        with (
            command.before_leaving(give_back),
            _log_of(job) as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            thread = threading.Thread(target=lambda: codes.append(_code_of(job)), daemon=True)
            thread.start()
            limit = math.inf if job.time_limit is None else job.time_limit
            while thread.is_alive() and time.perf_counter() - started < limit:
                thread.join(0.1)  # with a pause: a signal is seen at once
            timed_out = thread.is_alive()
            while thread.is_alive() and time.perf_counter() - started < limit + jobs.GRACE:
                _raise_in(thread, TimeLimitError)
                thread.join(0.5)
            if timed_out:  # what it has given the device goes on, whether the thread has ended
                LEFT.append(log)
        outcome = jobs.judge(job, codes[0] if codes else 1, timed_out, 1)
    except OSError as error:
        outcome = Outcome("failed", f"{error.filename}: {error.strerror}")
    seconds = time.perf_counter() - started
    return outcome._replace(seconds=seconds, host=socket.gethostname())


def _raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an exception in a thread, once it runs Python: compiled code it does not reach."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error)
    )


def _code_of(job: Job) -> int:
    """Run the command; returns the code that its process would leave with."""
    arguments = ["--config", str(job.config), "--out", str(job.directory.parent)]
    try:
        running.main(load(job.experiment), arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except TimeLimitError:
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _log_of(job: Job) -> Generator[io.TextIOWrapper]:
    """Open the log for what is printed; a run that is left behind goes on to write there."""
    log = io.TextIOWrapper(jobs.open_log(job.directory, 1), "utf-8", errors="replace")
    try:
        yield log
    finally:
        log.flush()
        if log not in LEFT:
            log.close()
