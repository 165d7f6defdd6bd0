"""Command line: work one unit through, sweep w, train; print the tables, draw the figures."""

from experiments import command
from experiments.one_unit import plot, run, table, text
from experiments.one_unit.config import Config

EXPERIMENT = command.Experiment(
    name="one_unit",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=table.show,
    files=table.files,
    save_figures=plot.save_figures,
    check=text.make_task,
)

if __name__ == "__main__":
    command.main(EXPERIMENT)
