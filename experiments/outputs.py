"""What people see of a dataset: the tables on the terminal, and the files of a run directory."""

from pathlib import Path

import xarray as xr
from rich.console import Console

from experiments.experiment import Experiment
from rnn_jax import results


def show(experiment: Experiment, dataset: xr.Dataset) -> None:
    """Print the tables."""
    Console().print(experiment.show(dataset))


def write(experiment: Experiment, dataset: xr.Dataset, directory: Path) -> None:
    """Write tables and figures into the run directory, whose two records are there."""
    for name, text in experiment.files(dataset).items():
        results.write_text(directory / name, text)
    experiment.save_figures(dataset, directory / "figures")
