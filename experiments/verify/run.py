"""Check a run's dataset against its checksums; compute what is damaged, and only that, again.

python -m experiments.verify RUN: code 0 says that all is as it was written, or is again.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments import computing, running
from experiments.computing import Run
from experiments.experiment import Whole
from rnn_jax import config as configs
from rnn_jax import results


@dataclass(frozen=True)
class Arguments:
    """Check a run's dataset against its checksums; compute what is damaged again."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory"""
    check_only: bool = False
    """name what is damaged and leave it: code 1"""


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = configs.parse_arguments(Arguments, "python -m experiments.verify", argv)
    run = running.open_run(arguments.run)
    with running.one_line_errors(run):
        if not run.dataset_path.exists():
            configs.leave(
                f"{run.dataset_path} is not there; the run's own command makes it", code=1
            )
        record = running.prepare(run)
        if arguments.check_only:  # of an archive that cannot be written, say
            damaged = check(run)
            if damaged:
                configs.leave(f"damaged: {len(damaged)}; without --check-only it is mended", code=1)
            return
        with results.claim(run.directory):
            if check(run):
                mend(run, record)


def check(run: Run) -> list[str]:
    """Name what does not read as it was written."""
    work = run.experiment.compute
    if isinstance(work, Whole):
        try:
            results.load(run.dataset_path)
            damaged = []
        except results.StoreError as error:
            damaged = [str(error)]
    else:
        plan = work.plan(run.config)
        store = _open(run, plan)
        damaged = ["metadata"] if store is None else store.damaged_template()
        blocks = [] if store is None else store.damaged()
        damaged += [f"block {index} ({plan.describe(index)})" for index in blocks]
    for name in damaged:
        print(f"damaged: {name}", file=sys.stderr)
    if not damaged:
        print(f"all as it was written: {run.directory}{_progress(run)}")
    return damaged


def mend(run: Run, record: dict) -> None:
    """Compute what is damaged again, and write what is made of it."""
    results.check_goes_on(run.directory, run.config, record)
    was_finished = results.is_finished(run.directory)
    results.take_mark(run.directory)  # killed from here on, the run's own command goes on
    work = run.experiment.compute
    if isinstance(work, Whole):
        computing.compute_whole(run, work)
    else:
        store = results.Store.restore(run.dataset_path, work.plan(run.config))
        damaged = store.damaged()
        for index in damaged:
            store.discard(index)
        computing.compute_blocks(run, work, store, damaged, len(damaged))
    if was_finished:
        running.finish(run, results.load(run.dataset_path))
    print(f"mended: {run.directory}{_progress(run)}")


def _open(run: Run, plan: results.Blocks) -> results.Store | None:
    try:
        return results.Store(run.dataset_path, plan)
    except results.StoreError:
        return None


def _progress(run: Run) -> str:
    """Say how far an unfinished run is."""
    work = run.experiment.compute
    if results.is_finished(run.directory) or isinstance(work, Whole):
        return ""
    plan = work.plan(run.config)
    store = results.Store(run.dataset_path, plan)
    return f"; {len(store.done())} of {plan.num_blocks} blocks, its own command goes on"
