"""Run a study: what is finished is skipped, the rest goes to an executor, all is put together.

Its directory, OUT/study-<hash>, has study.json, a log (metrics.jsonl), status.csv (one row a run),
the tables of all runs as one CSV each, and results.zarr, the datasets of all runs as one.
"""

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from experiments import command, running
from experiments.computing import progress
from experiments.experiment import load
from experiments.study import collect, status
from experiments.study.config import Arguments, read_study
from experiments.study.executors import EXECUTORS, LEFT
from experiments.study.jobs import LOG, Job, Outcome, num_starts
from experiments.study.points import Point, Runs, points_of, study_directory
from experiments.wording import count
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.devices import num_cores

CONFIG = "study.json"
FAILURES = (
    "not finished, see above; the same command tries them again",
    "damaged, see above: verify mends them, then the same command puts all together",
)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    options = configs.parse_arguments(Arguments, "python -m experiments.study", argv)
    try:
        study = read_study(options.file)
        experiment = load(study.experiment)
    except ValueError as error:
        configs.leave(str(error))
    try:
        points = points_of(study, experiment, options.out)
    except ValueError as error:
        configs.leave(f"{options.file}: {error}")
    if options.out.exists() and not options.out.is_dir():
        configs.leave(f"out is {options.out}, a file; allowed: a folder")
    if options.executor != "ray" and options.cores > num_cores():
        configs.leave(f"cores is {options.cores}; allowed: up to {num_cores()}, of this machine")
    runs = Runs(study, experiment, points, study_directory(study, options.out))
    if options.list:
        status.show(runs)
        return
    try:
        failed = compute(runs, options)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error.filename or runs.directory}: {error.strerror or error}",
              file=sys.stderr)  # fmt: skip
        end(1)
    except ValueError as error:  # of a directory, a store; too much to be put together
        print(f"error: {error}", file=sys.stderr)
        end(1)
    for number, words in zip(failed, FAILURES, strict=True):
        if number:
            whole = count(len(runs.points), "run")
            print(f"error: {number} of {whole} {words}", file=sys.stderr)
    end(1 if any(failed) else 0)


def end(code: int) -> NoReturn:
    """Leave; at once where a run that could not be ended would keep this process."""
    if LEFT:
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)


def compute(runs: Runs, options: Arguments) -> tuple[int, int]:
    """Compute what is not finished of our share, put all together: how many failed, are damaged."""
    directory, points = runs.directory, runs.points
    mine = range(options.rank, len(points), options.world)
    todo = [index for index in mine if not results.is_finished(points[index].directory)]
    with results.claim(directory, options.rank, options.world):
        with results.one_at_a_time(directory):
            write_records(runs)
        results.append_row(directory, event="start", rank=options.rank, world=options.world,
                    executor=options.executor, time_utc=time.time())  # fmt: skip
        say_what_is_kept(runs, len(mine) - len(todo), len(mine))
        outcomes = execute(runs, todo, options)
        failed = sum(not results.is_finished(points[index].directory) for index in outcomes)
        left = sum(not results.is_finished(point.directory) for point in points) - failed
        if left > 0:
            ours = (
                f"rank {options.rank} of {options.world}: its {count(len(mine), 'run')} are through"
            )
            print(f"{ours}; {left} of {len(points)} are left to other ranks, the last of which "
                  "puts all together")  # fmt: skip
            return failed, 0
        with results.one_at_a_time(directory):
            return failed, put_together(runs)


def execute(runs: Runs, todo: list[int], options: Arguments) -> dict[int, Outcome]:
    """Give the runs to the executor; says at once what fails, and where its log is."""
    directory, points = runs.directory, runs.points
    jobs = [
        Job(
            experiment=runs.experiment.name,
            directory=points[index].directory.resolve(),
            config=config_file(runs, points[index]).resolve(),
            cores=options.cores,
            time_limit=options.time_limit,
            attempts=options.attempts,
            starts_before=num_starts(points[index].directory),
            working_directory=Path.cwd(),
        )
        for index in todo
    ]
    outcomes: dict[int, Outcome] = {}
    active: dict[int, None] = {}
    if not jobs:
        return outcomes

    before = sum(results.is_finished(point.directory) for point in points)

    def hint() -> None:
        finished = before + sum(outcome.status == "finished" for outcome in outcomes.values())
        words = f"{finished} of {len(points)} runs are finished, the same command goes on"
        command.set_hint(words, of_all=True)

    hint()
    with progress(f"study of {runs.experiment.name}", "runs", len(jobs)) as bar:

        def report() -> None:
            failed = sum(outcome.status != "finished" for outcome in outcomes.values())
            words = "; ".join(points[todo[i]].name for i in list(active)[:3])
            words += f"; and {len(active) - 3} more" if len(active) > 3 else ""
            words = f"under way: {words} " * bool(active) + f"({failed} failed)" * bool(failed)
            bar.report(0.0, words)

        def begun(index: int) -> None:
            active[index] = None
            point = points[todo[index]]
            results.append_row(directory, event="begin", run=point.directory.name)
            report()

        for index, outcome in EXECUTORS[options.executor](jobs, options, begun):
            outcomes[todo[index]] = outcome
            active.pop(index, None)
            point = points[todo[index]]
            status.log_outcome(runs, point, outcome)
            bar.advance()
            if outcome.status != "finished":
                bar.say(f"{outcome.status}: {point.name}: {outcome.words}; "
                        f"log: {point.directory / LOG}")  # fmt: skip
            elif outcome.attempts > 1 or not sys.stderr.isatty():  # no bar there, but a log
                again = f", at start {outcome.attempts}" * (outcome.attempts > 1)
                bar.say(f"{len(outcomes)} of {len(jobs)}: finished: {point.name}, "
                        f"{outcome.seconds:.1f} s{again}")  # fmt: skip
            hint()
            report()
    return outcomes


def put_together(runs: Runs) -> int:
    """Write the runs' tables and datasets as one; returns how many runs cannot be read."""
    experiment, finished, found = runs.experiment, [], []
    before = status.last_rows(runs)
    begun = [point for point in runs.points if results.is_finished(point.directory)]
    for point in begun:
        try:
            results.check_is_of(point.directory, experiment.name, point.config)
            found += collect.load_all(experiment, [point])
            finished.append(point)
            if before.get(point.directory.name, {}).get("status") == status.DAMAGED:
                status.log_outcome(runs, point, Outcome("finished"))
        except (results.StoreError, results.RunDirectoryError) as error:
            words = f"{error}; to mend it: python -m experiments.verify {point.directory}"
            print(f"{status.DAMAGED}: {words}", file=sys.stderr)
            status.log_outcome(runs, point, Outcome(status.DAMAGED, words))
    overview = status.table(runs)
    results.write_text(runs.directory / "status.csv", results.to_csv(overview))
    if finished:
        for table in collect.tables(experiment, finished, found):
            results.write_text(runs.directory / f"{table.name}.csv", results.to_csv(table))
            if table.is_printed:
                Console().print(results.to_rich(table))
        codes = sorted({row["code"] for row in overview.rows if row["status"] == "finished"})
        if len(codes) > 1:
            print(f"not all by the same code: {', '.join(codes)} (status.csv)", file=sys.stderr)
        whole = collect.dataset(experiment, finished, runs=found)
        whole.attrs["code_hash"] = ", ".join(codes)
        path = runs.directory / results.DATASET
        results.Store.replace(path, results.Blocks(whole, {}))
    results.remove_leftovers(runs.directory)
    print(f"{len(finished)} of {count(len(runs.points), 'run')} together: {runs.directory}")
    return len(begun) - len(finished)


def say_what_is_kept(runs: Runs, kept: int, of: int) -> None:
    """Say how many runs are finished from before, and whether by other code."""
    if not kept:
        return
    codes = Counter(status.code_of(point) for point in runs.points)
    others = codes.total() - codes[running.code_hash(runs.experiment)] - codes[""]
    note = f", {others} of them by other code" if others else ""
    print(f"{kept} of {of} runs are finished from before{note}", file=sys.stderr)


def write_records(runs: Runs) -> None:
    """Write the study and the config of every run, unless they are there."""
    texts = {config_file(runs, point): configs.to_json(point.config) for point in runs.points}
    texts[runs.directory / CONFIG] = configs.to_json(runs.study)
    (runs.directory / "configs").mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        if not path.exists():  # of a newer code, a config has other settings and another name
            results.write_text(path, text)


def config_file(runs: Runs, point: Point) -> Path:
    """Return where the config that a run is started with is kept."""
    return runs.directory / "configs" / f"{point.directory.name}.json"
