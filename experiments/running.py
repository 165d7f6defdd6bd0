"""Run an experiment: show the run that is finished, go on with the one that is not, or begin.

A run that is cut into blocks keeps each as it is computed, may be shared by several processes
(--rank, --world), and is finished by the one that finds all blocks there: tables, figures, report,
DONE. Whatever stops it, the same command goes on.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import NoReturn

import jax
import xarray as xr

from experiments import command, compilation_cache, computing, outputs, sharing
from experiments.computing import Run
from experiments.experiment import Experiment, Sweep, Whole, load
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.devices import keep_memory, num_cores, use_all_cores


def main(experiment: Experiment, argv: list[str] | None = None) -> None:
    """Run the command line of an experiment."""
    config, options = configs.parse_command_line(
        experiment.config_class, f"python -m experiments.{experiment.name}", argv
    )
    directory = results.run_directory(options.out, experiment.name, config)
    run = Run(experiment, config, directory, options.rank, options.world)
    sharing.begin(experiment, options)
    if options.coordinator:
        run = dataclasses.replace(run, rank=0, world=1)
    if run.world > 1 and isinstance(experiment.compute, Whole):
        configs.leave(f"world is {run.world}; allowed: 1, {experiment.name} is not cut into blocks")
    with sharing.leaving_at_once(), one_line_errors(run):
        if sharing.is_shared():
            agree(run)
        if sharing.follows():
            follow(run)
            return
        if results.is_finished(directory) and not options.force:
            sharing.tell([])
            dataset = load_finished(run)
        else:
            dataset = compute(run, force=options.force)
    if dataset is not None:
        try:
            outputs.show(experiment, dataset)
            print(f"results: {directory}", flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            configs.leave(f"standard output: {error.strerror}; results: {directory}", code=1)


def open_run(directory: Path) -> Run:
    """Find out what a run directory is a run of; leave with one line if it is none."""
    try:
        name = results.read_record(directory)["experiment"]
        experiment = load(name)
        config = results.read_config(directory, experiment.config_class)
    except (ModuleNotFoundError, AttributeError):
        configs.leave(f"{directory} is a run of {name!r}, which is not among these experiments")
    except (OSError, ValueError) as error:
        configs.leave(str(error))
    return Run(experiment, config, directory)


def load_finished(run: Run) -> xr.Dataset:
    """Read the dataset of a finished run, and say so; a damaged one is an error."""
    results.check_is_of(run.directory, run.experiment.name, run.config)
    by, now = results.read_record(run.directory)["code_hash"], code_hash(run.experiment)
    note = "" if by == now else f" by other code ({by}, now {now})"
    print(f"finished before{note}: {run.directory}; --force computes it again", file=sys.stderr)
    dataset = load_intact(run)
    for line in changed_data(run, dataset):
        print(f"not the same: {line}", file=sys.stderr)
    return dataset


def changed_data(run: Run, dataset: xr.Dataset) -> list[str]:
    """Say whether the data are others now than those of a dataset; nothing if they are gone."""
    if run.experiment.source is None:
        return []
    with contextlib.suppress(ValueError):
        now = run.experiment.source(run.config)
        if now != dataset.attrs["text"]:
            return [f"text {dataset.attrs['text']}, now {now}"]
    return []


def load_intact(run: Run) -> xr.Dataset:
    """Read the dataset of a finished run; leave with one line if it is damaged."""
    try:
        return computing.load(run)
    except results.StoreError as error:
        configs.leave(f"{error}; to mend it: python -m experiments.verify {run.directory}", code=1)


def compute(run: Run, force: bool = False) -> xr.Dataset | None:
    """Compute what is missing of a run and finish it; None if other processes have parts to do."""
    check(run)
    started = time.perf_counter()
    run.directory.mkdir(parents=True, exist_ok=True)  # if that fails, then at once
    record = prepare(run)
    if force and not _goes_on(run, record):
        with results.claim(run.directory):
            results.set_aside(run.directory)
    with results.claim(run.directory, run.rank, run.world):
        with results.one_at_a_time(run.directory):
            results.check_goes_on(run.directory, run.config, record)
            results.begin(run.directory, run.config, record)
        results.append_row(run.directory, event="start", rank=run.rank, world=run.world,
                    command=record["command"], time_utc=record["time_utc"])  # fmt: skip
        work = run.experiment.compute
        if isinstance(work, Whole):
            computing.compute_whole(run, work)
        elif not computing.compute_share(run, work):
            return None
        sharing.tell([])
        dataset = finish(run)
        seconds = time.perf_counter() - started
        results.append_row(run.directory, event="end", rank=run.rank, seconds=seconds)
    return dataset


def agree(run: Run) -> None:
    """See that all processes that share a run have the same config, code and data."""
    source = run.experiment.source
    data = ""
    with contextlib.suppress(ValueError):  # what is wrong with the data is said later
        data = source(run.config) if source else ""
    shards = str(sharing.batch_shards())
    sharing.agree(configs.content_hash(run.config), code_hash(run.experiment), data, shards)


def follow(run: Run) -> None:
    """Take part in the trainings of a run that another process leads; writes nothing."""
    check(run)
    prepare(run)
    if isinstance(run.experiment.compute, Sweep):
        sharing.follow(run.config, run.experiment.compute)
    print("done; the results are where rank 0 says", file=sys.stderr)


def check(run: Run) -> None:
    """Set the process up, and leave with one line where the data refuse the config."""
    use_all_cores()  # before a check makes an array
    keep_memory()
    try:
        run.experiment.check(run.config)
    except ValueError as error:
        configs.leave(str(error))


def prepare(run: Run) -> dict:
    """Set JAX up as the config wants it; returns the record of this environment."""
    use_all_cores()
    jax.config.update("jax_enable_x64", getattr(run.config, "dtype", "float32") == "float64")
    compilation_cache.use()
    more = {"cores": num_cores()} if run.experiment.depends_on_cores else {}
    if sharing.batch_shards() > 1:
        more["batch_shards"] = sharing.batch_shards()
    return results.environment_record(
        run.experiment.packages,
        experiment=run.experiment.name,
        config_hash=configs.content_hash(run.config),
        code_hash=code_hash(run.experiment),
        matmul_precision=getattr(run.config, "precision", jax.default_matmul_precision.value),
        seed=getattr(run.config, "seed", None),
        **more,
    )


def finish(run: Run, anew: bool = False) -> xr.Dataset:
    """Write what people read, and DONE, unless that is there; returns the dataset."""
    with results.one_at_a_time(run.directory):
        try:
            results.load(run.dataset_path)
        except results.StoreError:
            if not isinstance(run.experiment.compute, Sweep):
                raise
            computing.mend_blocks(run, run.experiment.compute)
        if run.experiment.timing:
            computing.measure_times(run, run.experiment.timing)
        dataset = computing.load(run)
        if anew or not results.is_finished(run.directory):
            print("tables, figures, report", file=sys.stderr)
            outputs.write(run.experiment, dataset, run.directory)
            results.remove_leftovers(run.directory)
            results.mark_done(run.directory)
    return dataset


def code_hash(experiment: Experiment) -> str:
    """Hash the code that an experiment's numbers come from."""
    here = Path(__file__).parent
    folders = [here / name for name in (experiment.name, *experiment.built_on)]
    return results.code_hash(Path(results.ROOT, "rnn_jax"), *folders)


def _goes_on(run: Run, record: dict) -> bool:
    """Tell whether an unfinished run is there that can be gone on with."""
    if results.is_finished(run.directory):
        return False
    work = run.experiment.compute
    try:
        results.check_goes_on(run.directory, run.config, record)
        if isinstance(work, Sweep) and run.dataset_path.exists():
            results.Store(run.dataset_path, work.plan(run.config))
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def one_line_errors(run: Run) -> Generator[None]:
    """Leave with one line where the disk, the memory or the directory stops the run."""

    def leave_with_hint(message: str) -> NoReturn:
        hint = command.get_hint()
        configs.leave(f"{message}; {hint}" if hint else message, code=1)

    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_with_hint(f"{error.filename or run.directory}: {error.strerror or error}")
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        leave_with_hint(str(error).splitlines()[0] if str(error) else "out of memory")
    except (results.RunDirectoryError, results.StoreError) as error:
        configs.leave(str(error), code=1)
