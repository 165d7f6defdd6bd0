"""The surface, paths and thresholds: the run and what people see of it, for the command line."""

from experiments.cliff import findings, plot, run, table
from experiments.cliff.config import Config
from experiments.experiment import Experiment, Whole

EXPERIMENT = Experiment(
    name="cliff",
    config_class=Config,
    compute=Whole(run.num_blocks, run.run),
    title="The loss cliff, and what a clip does there",
    question="A network of one unit already has a wall in its loss. What does it do to plain "
    "gradient descent, and does clipping the gradient help?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
)
