"""Language models: the run and what people see of it, for the command line."""

from experiments.experiment import Experiment, Sweep, Whole
from experiments.language_modelling import (
    corpus,
    findings,
    layout,
    plot,
    run,
    set_up,
    table,
    timing,
)
from experiments.language_modelling.config import Config
from experiments.trained.blocks import PARTLY

EXPERIMENT = Experiment(
    name="language_modelling",
    config_class=Config,
    compute=Sweep(layout.plan, run.blocks, unit="trainings and yardsticks", partly=PARTLY),
    title="Language models in bits per byte, and how far back a prediction's gradient reaches",
    question="Recurrent networks learn to predict the next symbol of a text. How well, after how "
    "many tokens and how much time, beside n-grams and compressors; how far back does the gradient "
    "of a prediction reach, and what does the length of the window do through which it goes back?",
    set_up=set_up.set_up,
    tables=table.tables,
    findings=findings.findings,
    pictures=plot.pictures,
    check=run.check,
    source=lambda config: corpus.read_documents(config).source,
    timing=Whole(timing.num_turns, timing.measure),
    texts=findings.samples,
    packages=("orbax-checkpoint", "tokenizers", "brotli", "numcodecs"),
    extras=("text",),
    built_on=("trained",),
    shares_batches=True,
    depends_on_cores=True,
)
