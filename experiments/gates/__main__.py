"""Command line: hold gates, set biases, print the tables, draw the figures."""

from experiments import command
from experiments.gates import plot, run, table
from experiments.gates.config import Config
from rnn_jax import results

EXPERIMENT = command.Experiment(
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

if __name__ == "__main__":
    command.main(EXPERIMENT)
