"""Train recurrent language models, at equal parameters, and compare them in bits per byte.

Commands: without one, or with train, it runs the comparison below (train: of one LSTM, and with a
sample at its end). evaluate, generate and score read a run: python -m
experiments.language_modelling generate RUN writes text, score RUN FILE shows what surprises.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rnn_jax.cells import CELLS
from rnn_jax.config import check_whole_numbers
from rnn_jax.generation import Sampling, check_sampling
from rnn_jax.training.optimizer import Clip, OptimizerSettings, Rule, Shape

ORDERS = range(1, 7)
SMOOTHINGS = ("Witten-Bell", "Kneser-Ney")
NGRAMS = tuple(f"{order}-gram {smoothing}" for smoothing in SMOOTHINGS for order in ORDERS)
COMPRESSORS = ("xz", "zstd", "brotli")
TIMED = ("elman", "lstm", "gru", "sru")  # the cells that equal_time has a number for


class Point(NamedTuple):
    """A network to train, or a yardstick: an entry of the dataset's first dim."""

    name: str
    kind: str  # network, n-gram or compressor
    cell: str = ""
    window: int = 0
    num_steps: int = 0
    equal_tokens: bool = False  # which comparisons it belongs to
    equal_time: bool = False
    window_study: bool = False


@dataclass(frozen=True)
class Config:
    """Cells × learning rates × seeds on one corpus, at equal tokens, at equal time, by window."""

    data: str = "stdlib_source"
    """stdlib_source, a text file, a folder of text files, or a data set that TFDS has prepared"""
    data_dir: str | None = None
    """folder of TFDS data sets; None: its own default"""
    text_column: str = "text"
    """of a TFDS data set"""
    encoding: Literal["byte", "character", "word", "bpe"] = "byte"
    """what a token is; the vocabulary is that of the training split. word: lower case, without
    white space; character and word: what is not in the vocabulary is one unknown symbol"""
    max_vocabulary: int = 2048
    """of characters, words or byte pairs, the most frequent"""
    reset_documents: bool = False
    """set the state to zero where a document begins; otherwise it is carried on"""
    cells: tuple[str, ...] = ("elman", "lstm", "gru", "sru")
    """each at equal tokens; by their names in rnn_jax.CELLS"""
    num_parameters: int = 400_000
    """of each network, as nearly as its hidden size can; see hidden_size"""
    hidden_size: int | None = None
    """H of every cell; None: as num_parameters says"""
    embedding_size: int = 64
    """E"""
    num_layers: int = 2
    """stacked recurrent layers"""
    tied: bool = False
    """the readout takes its weights from the embedding"""
    dropout: float = 0.0
    """after the embedding, between layers and before the readout"""
    recurrent_init: Literal["orthogonal", "gaussian", "identity", "uniform"] = "orthogonal"
    """of the recurrent matrices"""
    recurrent_gain: float = 1.0
    """multiplies it"""
    forget_bias: float | None = None
    """initial bias of the gate that keeps the state; None: the cell's own"""
    num_steps: int = 1000
    """of every training at equal tokens"""
    batch_size: int = 16
    """B, rows of the text that are read side by side"""
    window: int = 128
    """T, tokens through which the gradient goes back"""
    equal_time: tuple[float, ...] = (1.3, 1.0, 1.0, 1.0)
    """steps in equal time over num_steps, from measured times of a step: of elman, lstm, gru, sru,
    in this order, which alone are in this comparison; empty: no such comparison"""
    windows: tuple[int, ...] = (64, 256, 1024)
    """other T, with as many tokens a step: the rows of a batch are fewer as T is longer; empty: no
    such comparison"""
    window_cells: tuple[str, ...] = ("lstm",)
    """those of the cells that are trained at them"""
    yardsticks: tuple[str, ...] = (*NGRAMS, *COMPRESSORS)
    """1-gram Witten-Bell to 6-gram Kneser-Ney; xz, zstd, brotli"""
    learning_rates: tuple[float, ...] = (0.005,)
    """every network is trained with each; which is shown is chosen on the validation split"""
    num_seeds: int = 3
    """draws of parameters, order of documents and dropout, at every learning rate"""
    seed: int = 0
    """root of all randomness"""
    rule: Rule = "adam"
    """of the optimizer"""
    clip: Clip = "global-norm"
    """of the gradient, before the rule"""
    clip_at: float = 0.25
    """a value, a norm or a percentile, as the clip wants"""
    weight_decay: float = 0.0
    """of kernels, after the rule, times the learning rate; not with adam (adamw)"""
    schedule: Shape = "cosine"
    """of the learning rate, to reach 0 after the last step"""
    warmup_steps: int = 50
    """in which the learning rate rises; of half of the steps at most"""
    patience: int = 20
    """so many steps in a row whose gradient is not finite end a training"""
    num_validations: int = 20
    """measurements on the validation split, in equal stretches of steps"""
    validation_tokens: int = 65_536
    """of the validation split, in pieces equally far apart, are read for each"""
    flow_length: int = 1024
    """steps through which the gradient of a prediction is measured after each stretch; 0: none"""
    flow_windows: int = 16
    """places of the validation split it is measured at"""
    checkpoint_every: int = 500
    """steps between checkpoints, one more at the end of every stretch"""
    keep_checkpoints: int = 2
    """the last so many are kept, and the best"""
    sample_temperatures: tuple[float, ...] = (0.5, 0.8, 1.0)
    """texts that each network writes at its end; empty: none"""
    sample_tokens: int = 800
    """tokens of each"""
    timing_rounds: int = 5
    """turns in which a training step of every network is timed; 0: nothing is"""
    tensorboard: bool = False
    """write TensorBoard files beside each training's log"""
    precision: Literal["highest", "high", "default"] = "highest"
    """of matrix products"""
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        _check_each_once(self)
        _check_allowed("cells", self.cells, tuple(CELLS))
        _check_allowed("window_cells", self.window_cells, tuple(CELLS))
        _check_allowed("yardsticks", self.yardsticks, (*NGRAMS, *COMPRESSORS))
        for name in ("learning_rates", "equal_time"):
            for value in getattr(self, name):
                if not 0 < value < math.inf:
                    raise ValueError(f"{name} holds {value}; allowed: finite numbers above 0")
        for temperature in self.sample_temperatures:
            check_sampling(Sampling(temperature))
        if len(self.equal_time) not in (0, len(TIMED)):
            raise ValueError(
                f"equal_time has {len(self.equal_time)} numbers; allowed: {len(TIMED)}, of "
                f"{', '.join(TIMED)} in this order, or none"
            )
        least = {"seed": 0, "warmup_steps": 0, "flow_length": 0, "keep_checkpoints": 2}
        check_whole_numbers(self, least | {"timing_rounds": 0})
        if self.hidden_size is not None and self.hidden_size < 1:
            raise ValueError(f"hidden_size is {self.hidden_size}; allowed: at least 1, or None")
        if self.num_steps % self.num_validations:
            raise ValueError(
                f"num_steps is {self.num_steps}; allowed: a multiple of num_validations, "
                f"{self.num_validations}"
            )
        for window in self.windows:
            if window < 1 or self.batch_size * self.window % window:
                raise ValueError(
                    f"windows holds {window}; allowed: divisors of batch_size times window, "
                    f"{self.batch_size * self.window}, the tokens of a step"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; allowed: from 0, below 1")
        for name in ("recurrent_gain", "forget_bias", "clip_at"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; allowed: a finite number")
        if not self.data:
            raise ValueError("data is empty; allowed: a name, a file or a folder")

    @property
    def points(self) -> tuple[Point, ...]:
        """All networks and yardsticks; a network that several comparisons have is there once."""
        found: dict[tuple, Point] = {}

        def add(name: str, cell: str, window: int, num_steps: int, comparison: str) -> None:
            known = found.get((cell, window, num_steps))
            point = known or Point(name, "network", cell, window, num_steps)
            belongs: Any = {comparison: True}
            found[cell, window, num_steps] = point._replace(**belongs)

        for cell in self.cells:
            add(cell, cell, self.window, self.num_steps, "equal_tokens")
        factors = dict(zip(TIMED, self.equal_time, strict=False))
        for cell in [c for c in self.cells if c in factors]:
            stretch = max(1, round(factors[cell] * self.num_steps / self.num_validations))
            num_steps = stretch * self.num_validations
            add(f"{cell} time", cell, self.window, num_steps, "equal_time")
        for cell in [c for c in self.window_cells if self.windows and c in self.cells]:
            for window in sorted({*self.windows, self.window}):
                add(f"{cell} window {window}", cell, window, self.num_steps, "window_study")
        yardsticks = [
            Point(name, "compressor" if name in COMPRESSORS else "n-gram")
            for name in self.yardsticks
        ]
        return (*found.values(), *yardsticks)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a step."""
        return self.batch_size * self.window

    def rows_of(self, point: Point) -> int:
        """B of a network: at every window a step reads as many tokens."""
        return self.batch_tokens // point.window

    def optimizer_of(self, point: Point) -> OptimizerSettings:
        """What the optimizer of a network is made of; a short training warms up shorter."""
        return OptimizerSettings(
            rule=self.rule,
            clip=self.clip,
            clip_at=self.clip_at,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_steps=min(self.warmup_steps, point.num_steps // 2),
        )


def _check_each_once(config: Config) -> None:
    """Check the lists: each entry once, and at least one where there must be."""
    for name in ("cells", "learning_rates"):
        if not getattr(config, name):
            raise ValueError(f"{name} is empty; allowed: one or more")
    lists = ("cells", "learning_rates", "windows", "window_cells", "yardsticks")
    for name in (*lists, "sample_temperatures"):
        values = getattr(config, name)
        if len(set(values)) < len(values):
            raise ValueError(f"{name} is {values}; allowed: each once")


def _check_allowed(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for value in values:
        if value not in allowed:
            raise ValueError(f"{name} holds {value!r}; allowed: {', '.join(allowed)}")
