"""Command line: sweep, print the table, draw the figures, keep everything in a run directory."""

from experiments import command
from experiments.gradient_flow import plot, run, table
from experiments.gradient_flow.config import Config

EXPERIMENT = command.Experiment(
    name="gradient_flow",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=lambda dataset: table.to_rich(table.rows(dataset)),
    files=lambda dataset: {"table.csv": table.to_csv(table.rows(dataset))},
    save_figures=plot.save_figures,
)

if __name__ == "__main__":
    command.main(EXPERIMENT)
