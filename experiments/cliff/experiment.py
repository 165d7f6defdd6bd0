"""The surface, paths and thresholds: run, tables and figures, for the command line."""

from experiments.cliff import plot, run, table
from experiments.cliff.config import Config
from experiments.experiment import Experiment

EXPERIMENT = Experiment(
    name="cliff",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=table.to_rich,
    files=table.files,
    save_figures=plot.save_figures,
)
