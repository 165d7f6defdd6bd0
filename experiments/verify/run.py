"""Check a run's dataset against its checksums; compute what is damaged, and only that, again.

python -m experiments.verify RUN: code 0 says that all is as it was written, or is again.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
import xarray as xr

from experiments import computing, outputs, running
from experiments.computing import Run
from experiments.experiment import Whole
from rnn_jax import config as configs
from rnn_jax import results


@dataclass(frozen=True)
class Arguments:
    """Check a run's dataset against its checksums, and that its files are there.

    What is damaged, and only that, is computed again; tables, figures and report are written anew.
    """

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory"""
    check_only: bool = False
    """name what is damaged and leave it: code 1"""


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = configs.parse_arguments(Arguments, "python -m experiments.verify", argv)
    run = running.open_run(arguments.run)
    with running.one_line_errors(run):
        if not run.dataset_path.exists() and not results.is_finished(run.directory):
            configs.leave(
                f"{run.dataset_path} is not there; the run's own command makes it", code=1
            )
        if arguments.check_only:  # of an archive that cannot be written, say
            damaged = check(run)
            if damaged:
                configs.leave(f"damaged: {len(damaged)}; without --check-only it is mended", code=1)
            return
        with results.claim(run.directory):
            if check(run):
                try:
                    run.experiment.check(run.config)
                except ValueError as error:
                    configs.leave(f"it cannot be mended: {error}", code=1)
                record = running.prepare(run)
                results.check_goes_on(run.directory, run.config, record)
                mend(run)  # killed from here on: the same command goes on


def check(run: Run) -> list[str]:
    """Name what is not as it was written, by its own checksums: no matter what code is here now."""
    damaged, missing = [], 0
    try:
        store = results.Store.open(run.dataset_path)
        missing = len(store.missing())
        is_whole = results.is_finished(run.directory) and not missing
        dataset = _load(run) if is_whole else None
        if dataset is not None:
            damaged += outputs.missing_files(run.experiment, dataset, run.directory)
        else:  # read it piece by piece, to name every one
            damaged += store.damaged_template()
            blocks = store.damaged()
            damaged += [f"block {index} ({store.blocks.describe(index)})" for index in blocks]
            if missing and results.is_finished(run.directory):
                damaged.append(f"{missing} blocks are missing")
            if is_whole and not damaged:
                computing.load(run)  # what is not whole says so: the times
    except results.StoreError as error:
        damaged.append(str(error))
    for name in damaged:
        print(f"damaged: {name}", file=sys.stderr)
    if not damaged:
        rest = f"; {missing} blocks are still to be computed, by its own command" if missing else ""
        print(f"all as it was written: {run.directory}{rest}")
    return damaged


def _load(run: Run) -> xr.Dataset | None:
    try:
        return computing.load(run)
    except results.StoreError:
        return None


def mend(run: Run) -> None:
    """Compute what is damaged again, and write what is made of it."""
    work = run.experiment.compute
    if isinstance(work, Whole):
        computing.mend_whole(run, work)
        missing = 0
    else:
        missing = computing.mend_blocks(run, work, all_missing=results.is_finished(run.directory))
    if not missing:
        running.finish(run, anew=True)
    rest = f"; {missing} blocks are still to be computed, by its own command" if missing else ""
    print(f"mended: {run.directory}{rest}")
