"""Memory tasks: the run and what people see of it, for the command line."""

from experiments.experiment import Experiment, Sweep
from experiments.memory import findings, plot, run, table
from experiments.memory.config import Config

EXPERIMENT = Experiment(
    name="memory",
    config_class=Config,
    compute=Sweep(run.plan, run.blocks, unit="trainings"),
    title="How long a network remembers",
    question="Something is said early in a sequence and asked for at its end. Which cell, from "
    "which initialization, learns to keep it, over how many steps, and what does the gradient by "
    "the state look like before it has learned, when it begins to, and at the end?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    depends_on_cores=True,
)
