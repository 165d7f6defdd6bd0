"""One unit worked through, swept, trained: the run and what people see, for the command line."""

from experiments.experiment import Experiment, Whole
from experiments.one_unit import findings, plot, run, table, text
from experiments.one_unit.config import Config

EXPERIMENT = Experiment(
    name="one_unit",
    config_class=Config,
    compute=Whole(run.num_blocks, run.run),
    title="One unit, worked through on text",
    question="Why does a gradient vanish or explode on its way back through a text? Here with one "
    "number as the state, so that every step can be multiplied by hand; and can such a unit learn "
    "to remember its first word?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    check=text.make_task,
)
