"""Text classification: the run and what people see of it, for the command line."""

from experiments.experiment import Experiment, Sweep, Whole
from experiments.text_classification import corpus, findings, layout, plot, run, table, timing
from experiments.text_classification.config import Config
from experiments.trained.blocks import PARTLY

EXPERIMENT = Experiment(
    name="text_classification",
    config_class=Config,
    compute=Sweep(layout.plan, run.blocks, unit="trainings", partly=PARTLY),
    title="Text classification, and the gradient through time as it is learned",
    question="An Elman network, an LSTM, a GRU and an SRU learn to classify texts, with the same "
    "steps, learning rates and seeds. Which learns it, how does each compare with a convolution "
    "and with logistic regressions, and how far back does the gradient of each reach as it learns?",
    set_up=findings.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    check=run.check,
    source=lambda config: corpus.read_texts(config).source,
    timing=Whole(timing.num_turns, timing.measure),
    packages=("orbax-checkpoint", "scikit-learn", "tensorflow-datasets"),
    extras=("text", "movie-reviews"),
    built_on=("trained",),
    shares_batches=True,
    depends_on_cores=True,
)
