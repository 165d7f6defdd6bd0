"""One unit worked through, swept, trained: run, tables, figures, for the command line."""

from experiments.experiment import Experiment
from experiments.one_unit import plot, run, table, text
from experiments.one_unit.config import Config

EXPERIMENT = Experiment(
    name="one_unit",
    config_class=Config,
    num_blocks=run.num_blocks,
    run=run.run,
    show=table.show,
    files=table.files,
    save_figures=plot.save_figures,
    check=text.make_task,
)
