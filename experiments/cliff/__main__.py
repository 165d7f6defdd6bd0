"""Command line: surface, paths, thresholds; print the tables, draw the figures, keep a run."""

from experiments import command
from experiments.cliff import plot, run, table
from experiments.cliff.config import Config

EXPERIMENT = command.Experiment(
    name="cliff",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=table.to_rich,
    files=table.files,
    save_figures=plot.save_figures,
)

if __name__ == "__main__":
    command.main(EXPERIMENT)
