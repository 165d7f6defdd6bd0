"""The sweep: its run and what people see of it, for the command line."""

from experiments.experiment import Experiment, Sweep
from experiments.gradient_flow import findings, plot, run, table
from experiments.gradient_flow.config import Config

EXPERIMENT = Experiment(
    name="gradient_flow",
    config_class=Config,
    compute=Sweep(run.plan, run.blocks),
    title="Gradient flow against the recurrent weight",
    question="A recurrent network h_t = f(w·R h_{t−1} + z_t) reads a sequence, and a loss L is "
    "taken of it. How large is dL/dcarry_t, the gradient by the state, at every earlier step t, as "
    "the recurrent weight w grows? Where does it vanish, where does it explode, and what do gates "
    "change?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    curves=plot.curves,
)
