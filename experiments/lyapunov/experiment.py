"""Lyapunov exponents: the run and what people see of it, for the command line."""

from experiments.experiment import Experiment, Sweep
from experiments.lyapunov import findings, plot, run, table
from experiments.lyapunov.config import Config

EXPERIMENT = Experiment(
    name="lyapunov",
    config_class=Config,
    compute=Sweep(run.plan, run.blocks, unit="points"),
    title="Lyapunov exponents of recurrent networks",
    question="How fast do small differences between two states of a network grow, and along how "
    "many directions? Where is the edge of chaos, what do gain, noise, gates and training do to "
    "it, and is the gradient's growth backwards through time the largest exponent?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    built_on=("memory",),
    depends_on_cores=True,
)
