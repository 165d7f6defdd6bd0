"""The sweep: its run, tables and figures, for the command line."""

import json

import xarray as xr
from rich.console import Group

from experiments.experiment import Experiment
from experiments.gradient_flow import plot, run, table
from experiments.gradient_flow.config import Config
from rnn_jax import results


def show(dataset: xr.Dataset) -> Group:
    held = json.loads(dataset.attrs["config"])["gate"]
    note = f"; held where the cell has it: {', '.join(held)}" if held else ""
    tables = [table.to_rich(table.rows(dataset), note)]
    if "clip" in dataset.dims:
        tables.append(table.clips_to_rich(table.clip_rows(dataset)))
    return Group(*tables)


def files(dataset: xr.Dataset) -> dict[str, str]:
    texts = {"table.csv": results.to_csv(table.rows(dataset))}
    if "clip" in dataset.dims:
        texts["clips.csv"] = results.to_csv(table.clip_rows(dataset))
    return texts


EXPERIMENT = Experiment(
    name="gradient_flow",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=show,
    files=files,
    save_figures=plot.save_figures,
)
