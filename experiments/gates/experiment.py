"""Held gates and biases: the run and what people see of it, for the command line."""

from functools import partial

from experiments.experiment import Experiment, Whole
from experiments.gates import findings, plot, run, table
from experiments.gates.config import Config
from experiments.gradient_flow.plot import curves

EXPERIMENT = Experiment(
    name="gates",
    config_class=Config,
    compute=Whole(run.num_blocks, run.run),
    title="What a gate costs or saves",
    question="A gated cell has a path on which the state is carried over: c_t = f c_{t−1} + ... "
    "How far does the gradient reach back through it, and what happens when a gate is held at a "
    "value, or begins with another bias?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    curves=partial(curves, by="variant"),
    built_on=("gradient_flow",),
)
