"""Compute a run into its directory: whole, or block by block, each kept as soon as it is there.

The log gets a row for every block once it is kept; a progress bar says how far it is.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import xarray as xr
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from experiments import command, compilation_cache, sharing
from experiments.experiment import Experiment, Sweep, Whole, Workplace
from rnn_jax import results

TIMING = "timing.zarr"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of an experiment: what is asked, where it is kept, which share of it is ours."""

    experiment: Experiment
    config: object
    directory: Path
    rank: int = 0
    world: int = 1

    @property
    def dataset_path(self) -> Path:
        return self.directory / results.DATASET

    @property
    def timing_path(self) -> Path:
        return self.directory / TIMING


def load(run: Run) -> xr.Dataset:
    """Read a run's dataset, its times with it; StoreError if either is not whole."""
    dataset = results.load(run.dataset_path)
    if run.experiment.timing is None:
        return dataset
    timing = results.load(run.timing_path)
    return dataset.merge(timing, combine_attrs="override")


def measure_times(run: Run, work: Whole) -> None:
    """Measure what is different every time, alone; what was measured before and is whole stays."""
    try:
        results.load(run.timing_path)
    except results.StoreError:
        if not work.num_steps(run.config):
            results.Store.replace(run.timing_path, results.Blocks(xr.Dataset(), {}))
            return
        with progress("times", "steps", work.num_steps(run.config)) as bar:
            dataset = work.run(run.config, bar.advance)
        results.Store.replace(run.timing_path, results.Blocks(dataset, {}))


def compute_whole(run: Run, work: Whole) -> None:
    """Compute a dataset and write it."""
    started = time.perf_counter()
    with progress(run.experiment.name, "steps", work.num_steps(run.config)) as bar:
        dataset = work.run(run.config, bar.advance)
    results.append_row(run.directory, event="whole", seconds=time.perf_counter() - started)
    results.Store.replace(run.dataset_path, results.Blocks(dataset, {}))


def mend_whole(run: Run, work: Whole) -> None:
    """Compute a damaged dataset again."""
    try:
        results.load(run.dataset_path)
    except results.StoreError:
        compute_whole(run, work)


def compute_share(run: Run, work: Sweep) -> bool:
    """Compute this process's share of the blocks; False if others are left to other processes.

    Whether blocks that are kept from before still read as they were written is seen at the end.
    """
    with results.one_at_a_time(run.directory):
        store = open_store(run, work)
    num_blocks = store.blocks.num_blocks
    mine = range(run.rank, num_blocks, run.world)
    kept = set(store.done())
    wanted = [index for index in mine if index not in kept]
    if len(wanted) < len(mine):
        print(f"{len(mine) - len(wanted)} of {len(mine)} {work.unit} are kept from before: "
              f"{run.directory}", file=sys.stderr)  # fmt: skip
    compute_blocks(run, work, store, wanted, len(mine), len(kept))
    missing = len(store.missing())
    if missing:
        print(
            f"rank {run.rank} of {run.world}: its {len(mine)} {work.unit} are done; {missing} of "
            f"{num_blocks} are left to other ranks, the last of which writes the report"
        )
    return not missing


def mend_blocks(run: Run, work: Sweep, all_missing: bool = False) -> int:
    """Compute damaged blocks again, and missing ones if asked; returns how many are missing still.

    Alone, or one process at a time.
    """
    store = open_store(run, work)
    damaged = store.damaged()
    for index in damaged:
        print(f"damaged, computed again: block {index} ({store.blocks.describe(index)})",
              file=sys.stderr)  # fmt: skip
        store.discard(index)
    missing = store.missing()
    wanted = missing if all_missing else damaged
    if wanted:
        kept = store.blocks.num_blocks - len(missing)
        compute_blocks(run, work, store, wanted, len(wanted), kept)
    return len(missing) - len(wanted)


def open_store(run: Run, work: Sweep) -> results.Store:
    """Open the dataset, or make it; what stands there from the start is written anew if damaged."""
    plan = work.plan(run.config)
    try:
        store = results.Store(run.dataset_path, plan)
        damaged = store.damaged_template()
    except results.OtherDataError:
        raise
    except results.StoreError as error:
        damaged = [str(error)]
    if damaged:
        print(f"damaged, written again: {', '.join(damaged)}", file=sys.stderr)
        store = results.Store.restore(run.dataset_path, plan)
    return store


def compute_blocks(
    run: Run, work: Sweep, store: results.Store, wanted: list[int], total: int, kept: int
) -> None:
    """Compute blocks and keep each; the log gets a row for each once it is kept.

    total: of the progress bar; kept: how many of all blocks are there already.
    """
    num_blocks = store.blocks.num_blocks

    def hint() -> None:
        partly = f" ({work.partly})" if work.partly else ""
        command.set_hint(
            f"{kept} of {num_blocks} {work.unit} are kept{partly}, the same command goes on"
        )

    def log(**row) -> None:
        results.append_row(run.directory, rank=run.rank, **row)
        compilation_cache.publish()  # a long block may not see its end

    hint()
    if wanted:
        sharing.tell(wanted)
    with progress(run.experiment.name, work.unit, total, total - len(wanted)) as bar:
        workplace = Workplace(run.directory, bar.report, log, bar.say)
        before = time.perf_counter()
        for index, values in work.blocks(run.config, wanted, workplace):
            computed = time.perf_counter()
            store.write(index, values)
            now = time.perf_counter()
            results.append_row(run.directory, event="block", block=index, rank=run.rank,
                        seconds=now - before, store_seconds=now - computed)  # fmt: skip
            before = now
            bar.advance()
            kept += 1
            hint()
            compilation_cache.publish()


class _WithWords(Progress):
    """A bar, and under it what is going on."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["words"]:
                yield Text(task.fields["words"], style="dim", overflow="ellipsis", no_wrap=True)


class _Bar:
    """A progress bar on standard error."""

    def __init__(self, progress: Progress, task: TaskID, completed: int):
        self._progress, self._task, self._completed = progress, task, completed

    def advance(self) -> None:
        self._completed += 1
        self._progress.update(self._task, completed=self._completed)

    def report(self, partly: float, words: str) -> None:
        self._progress.update(self._task, completed=self._completed + partly, words=words)

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(name: str, unit: str, total: int, completed: int = 0) -> Generator[_Bar]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(max_width=40, ratio=1)),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, left:"),
        TimeRemainingColumn(),
    )
    progress = _WithWords(*columns, console=Console(file=sys.stderr))
    with command.before_leaving(progress.stop), progress:
        task = progress.add_task(name, total=total, completed=completed, unit=unit, words="")
        yield _Bar(progress, task, completed)
