"""Run a study: what is finished is skipped, the rest goes to an executor, all is put together.

Its directory, OUT/study-<hash>, has study.json, a log (metrics.jsonl), status.csv (one row a run),
the tables of all runs as one CSV each, and results.zarr, the datasets of all runs as one.
"""

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, NoReturn

from rich.console import Console

from experiments import command, running
from experiments.computing import progress
from experiments.experiment import Experiment, load
from experiments.study import collect
from experiments.study.config import Arguments, Study, read_study
from experiments.study.executors import EXECUTORS, LEFT
from experiments.study.jobs import LOG, Job, Outcome
from experiments.study.points import Point, points_of, study_directory
from experiments.wording import count
from rnn_jax import config as configs
from rnn_jax import results

CONFIG = "study.json"


class Runs(NamedTuple):
    """A study, laid out."""

    study: Study
    experiment: Experiment
    points: list[Point]
    directory: Path


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
    runs = Runs(study, experiment, points, study_directory(study, options.out))
    if options.list:
        show_runs(runs)
        return
    try:
        failed = compute(runs, options)
    except BrokenPipeError:
        raise
    except OSError as error:
        configs.leave(f"{error.filename or runs.directory}: {error.strerror or error}", code=1)
    except ValueError as error:  # of a directory, a store; too much to be put together
        configs.leave(str(error), code=1)
    if failed:
        words = f"{failed} of {count(len(runs.points), 'run')} not finished, see above"
        print(f"error: {words}; the same command tries them again", file=sys.stderr)
    end(1 if failed else 0)


def end(code: int) -> NoReturn:
    """Leave; at once where a run that could not be ended would keep this process."""
    if LEFT:
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code)


def compute(runs: Runs, options: Arguments) -> int:
    """Compute what is not finished of our share, put all together; returns how many failed."""
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
        failed = sum(outcome.status != "finished" for outcome in outcomes.values())
        left = sum(not results.is_finished(point.directory) for point in points) - failed
        if left > 0:
            ours = (
                f"rank {options.rank} of {options.world}: its {count(len(mine), 'run')} are through"
            )
            print(f"{ours}; {left} of {len(points)} are left to other ranks, the last of which "
                  "puts all together")  # fmt: skip
            return failed
        with results.one_at_a_time(directory):
            return failed + put_together(runs)


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
            working_directory=Path.cwd(),
        )
        for index in todo
    ]
    outcomes: dict[int, Outcome] = {}
    active: dict[int, None] = {}
    if not jobs:
        return outcomes

    def hint() -> None:
        finished = sum(results.is_finished(point.directory) for point in points)
        command.set_hint(f"{finished} of {len(points)} runs are finished, the same command goes on")

    hint()
    with progress(f"study of {runs.experiment.name}", "runs", len(jobs)) as bar:

        def report() -> None:
            failed = sum(outcome.status != "finished" for outcome in outcomes.values())
            words = "; ".join(points[todo[i]].name for i in list(active)[:3])
            words += f"; and {len(active) - 3} more" if len(active) > 3 else ""
            bar.report(0.0, f"under way: {words}" + f" ({failed} failed)" * bool(failed))

        def begun(index: int) -> None:
            active[index] = None
            report()

        for index, outcome in EXECUTORS[options.executor](jobs, options, begun):
            outcomes[todo[index]] = outcome
            active.pop(index, None)
            point = points[todo[index]]
            results.append_row(directory, event="run", run=point.directory.name,
                        **outcome._asdict())  # fmt: skip
            if outcome.status != "finished":
                bar.say(f"{outcome.status}: {point.name}: {outcome.words}; "
                        f"log: {point.directory / LOG}")  # fmt: skip
            bar.advance()
            hint()
            report()
    return outcomes


def put_together(runs: Runs) -> int:
    """Write the runs' tables and datasets as one; returns how many runs cannot be read."""
    experiment, finished, found = runs.experiment, [], []
    begun = [point for point in runs.points if results.is_finished(point.directory)]
    for point in begun:
        try:
            results.check_is_of(point.directory, experiment.name, point.config)
            found += collect.load_all(experiment, [point])
            finished.append(point)
        except (results.StoreError, results.RunDirectoryError) as error:
            print(f"damaged: {error}; to mend it: python -m experiments.verify {point.directory}",
                  file=sys.stderr)  # fmt: skip
    results.write_text(runs.directory / "status.csv", results.to_csv(runs_table(runs)))
    if finished:
        for table in collect.tables(experiment, finished, found):
            results.write_text(runs.directory / f"{table.name}.csv", results.to_csv(table))
            Console().print(results.to_rich(table))
        whole = collect.dataset(experiment, finished, runs=found)
        path = runs.directory / results.DATASET
        results.Store.replace(path, results.Blocks(whole, {}))
    results.remove_leftovers(runs.directory)
    print(f"{len(finished)} of {count(len(runs.points), 'run')} together: {runs.directory}")
    return len(begun) - len(finished)


def say_what_is_kept(runs: Runs, kept: int, of: int) -> None:
    """Say how many runs are finished from before, and whether by other code."""
    if not kept:
        return
    now = running.code_hash(runs.experiment)
    found = [p.directory for p in runs.points if results.is_finished(p.directory)]
    others = Counter(results.read_record(directory)["code_hash"] for directory in found)
    del others[now]
    note = f", {others.total()} of them by other code" if others.total() else ""
    print(f"{kept} of {of} runs are finished from before{note}", file=sys.stderr)


def write_records(runs: Runs) -> None:
    """Write the study and the config of every run, unless they are there."""
    path = runs.directory / CONFIG
    if not path.exists():
        (runs.directory / "configs").mkdir(parents=True, exist_ok=True)
        for point in runs.points:
            results.write_text(config_file(runs, point), configs.to_json(point.config))
        results.write_text(path, configs.to_json(runs.study))


def config_file(runs: Runs, point: Point) -> Path:
    """Return where the config that a run is started with is kept."""
    return runs.directory / "configs" / f"{point.directory.name}.json"


def runs_table(runs: Runs) -> results.Table:
    """Lay out the runs: what each overrides, how far it is, how it went."""
    last = {row["run"]: row for row in results.read_log(runs.directory) if row["event"] == "run"}
    rows = []
    for point in runs.points:
        row = last.get(point.directory.name, {})
        finished = results.is_finished(point.directory)
        begun = (point.directory / LOG).exists() or point.directory.exists()
        status = "finished" if finished else row.get("status", "begun" if begun else "to do")
        memory = row.get("peak_memory", float("nan"))
        rows.append(
            {
                "settings": point.name,
                "directory": point.directory.name,
                "hash": point.directory.name.rpartition("-")[-1],
                "status": status,
                "attempts": row.get("attempts", 0),
                "seconds": row.get("seconds", float("nan")),
                "peak_memory": memory / 1e6,
                "host": row.get("host", ""),
                "reason": "" if finished else row.get("words", ""),
            }
        )
    return results.Table(
        name="status",
        title=f"{runs.experiment.name}: {count(len(rows), 'run')}",
        rows=rows,
        columns=[
            results.Column("settings", "run", is_word=True),
            results.Column("status", "status", is_word=True),
            results.Column("attempts", "starts", "d"),
            results.Column("seconds", "s", ".1f"),
            results.Column("peak_memory", "MB", ".0f"),
            results.Column("hash", "hash"),
            results.Column("reason", "why", is_word=True),
        ],
        note="starts, seconds, most memory taken: of the last command that ran it",
    )


def show_runs(runs: Runs) -> None:
    """Print how far each run is."""
    table = runs_table(runs)
    Console().print(results.to_rich(table))
    numbers = Counter(row["status"] for row in table.rows)
    print(", ".join(f"{number} {status}" for status, number in numbers.items()))
