"""What an experiment's command line does around its own run: one way for all of them.

Read the config, show the run if it is finished, else compute it with a progress bar, write the run
directory (config, environment, dataset, text files, figures, DONE last), print its table.
"""

import sys
from pathlib import Path

import jax
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import outputs
from experiments.experiment import Experiment
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.sweep import use_all_cores


def main(experiment: Experiment, argv: list[str] | None = None) -> None:
    """Run the command line of an experiment."""
    config, options = configs.parse_command_line(
        experiment.config_class, f"python -m experiments.{experiment.name}", argv
    )
    use_all_cores()
    jax.config.update("jax_enable_x64", getattr(config, "dtype", "float32") == "float64")
    directory = results.run_directory(options.out, experiment.name, config)
    here = Path(__file__).parent
    folders = [here / name for name in (experiment.name, *experiment.built_on)]
    code = results.code_hash(Path(results.ROOT, "rnn_jax"), *folders)
    finished = results.finished_with(directory)
    if finished and not options.force:
        note = "" if finished == code else f" by other code ({finished}, now {code})"
        print(f"finished before{note}: {directory}; --force computes it again", file=sys.stderr)
        dataset = results.load_dataset(directory)
    else:
        try:
            experiment.check(config)
        except ValueError as error:
            configs.leave(str(error))
        try:
            dataset = _compute(experiment, config, directory, code)
        except KeyboardInterrupt:
            configs.leave("interrupted; the same command starts it again", code=130)
    outputs.show(experiment, dataset)
    print(f"results: {directory}")


def _compute(experiment: Experiment, config, directory: Path, code: str) -> xr.Dataset:
    try:
        record = results.environment_record(
            code_hash=code,
            matmul_precision=getattr(config, "precision", jax.default_matmul_precision.value),
            seed=getattr(config, "seed", None),
        )
        results.prepare(directory, config, record)
    except OSError as error:
        configs.leave(f"--out {directory.parent}: {error.strerror}", code=1)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks, left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(experiment.name, total=experiment.num_blocks(config))
        dataset = experiment.run(config, lambda: progress.advance(task))
    results.save_dataset(directory, dataset)
    outputs.write(experiment, dataset, directory)
    results.mark_done(directory)
    return dataset
