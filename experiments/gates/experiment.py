"""Held gates and biases: run, tables and figures, for the command line."""

from experiments.experiment import Experiment
from experiments.gates import plot, run, table
from experiments.gates.config import Config
from rnn_jax import results

EXPERIMENT = Experiment(
    name="gates",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=table.to_rich,
    files=lambda dataset: {
        "table.csv": results.to_csv(table.rows(dataset)),
        "carousel.csv": results.to_csv(table.carousel_rows(dataset)),
    },
    save_figures=plot.save_figures,
    built_on=("gradient_flow",),
)
