"""Hold gates, or set the bias of the gate that keeps the state: what each costs or saves."""

from dataclasses import dataclass, replace
from typing import Literal

from experiments.gradient_flow.config import Config as SweepConfig
from rnn_jax.config import check_lists


@dataclass(frozen=True)
class Config:
    """Variants of cells × weights × seeds, on the sweep of ``experiments.gradient_flow``."""

    variants: tuple[str, ...] = (
        "elman",
        "lstm",
        "lstm forget=1",
        "lstm input=0",
        "lstm output=1",
        "lstm bias=0",
        "lstm bias=5",
        "lstm chrono=200",
        "gru",
        "gru update=0",
        "gru reset=1",
        "gru bias=1",
        "gru bias=5",
        "gru chrono=200",
        "sru",
        "sru forget=1",
        "sru reset=1",
        "sru bias=1",
        "sru bias=5",
        "sru chrono=200",
    )
    """a cell, then held gates (forget=1), a bias of the gate that keeps the state, chrono=steps"""
    weights: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    """recurrent weights w"""
    shown_weight: float = 1.0
    """the weight at which curves over time are drawn"""
    carousel: tuple[float, ...] = (1.0, 0.99, 0.95, 0.8)
    """constant forget gates of the LSTM without recurrent product (w = 0): dc_T/dc_t = f^(T-t)"""
    num_seeds: int = 2
    """draws of parameters, inputs and loss at every point"""
    seed: int = 0
    """root of all randomness"""
    hidden_size: int = 64
    """H"""
    num_steps: int = 200
    """T"""
    batch_size: int = 8
    """B, sequences at every point"""
    precision: Literal["highest", "high", "default"] = "highest"
    """of matrix products"""
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self):
        check_lists(self, "variants", "carousel")
        if self.shown_weight not in self.weights:
            given = ", ".join(f"{w:g}" for w in self.weights)
            raise ValueError(
                f"shown_weight is {self.shown_weight}; allowed: one of weights, {given}"
            )
        for forget in self.carousel:
            if not 0 < forget <= 1:
                raise ValueError(f"carousel holds {forget}; allowed: above 0, up to 1")
        for variant in self.variants:
            self.sweep(variant)  # refuses what the sweep cannot do

    def sweep(self, variant: str) -> SweepConfig:
        """Make the sweep's config of a variant."""
        cell, *words = variant.split() or [""]
        settings = dict(word.partition("=")[::2] for word in words)
        if len(settings) < len(words):
            raise ValueError(f"variant {variant!r} sets something twice; allowed: once")
        bias = _number(variant, settings, "bias")
        chrono = _number(variant, settings, "chrono")
        return SweepConfig(
            cells=(cell,),
            weights=self.weights,
            gate=tuple(f"{name}={value}" for name, value in settings.items()),
            gate_means=True,
            num_seeds=self.num_seeds,
            seed=self.seed,
            hidden_size=self.hidden_size,
            num_steps=self.num_steps,
            drop_first=min(20, self.num_steps // 4),
            batch_size=self.batch_size,
            precision=self.precision,
            dtype=self.dtype,
            forget_bias=bias,
            chrono_steps=chrono,
        )

    def carousel_sweep(self, forget: float) -> SweepConfig:
        """Make the config of the LSTM without recurrent product and with this forget gate."""
        sweep = self.sweep(f"lstm forget={forget}")
        return replace(sweep, weights=(0.0,), num_seeds=1, gate_means=False)


def _number(variant: str, settings: dict[str, str], name: str) -> float | None:
    """Take a setting out, as a number; None where it is not given."""
    text = settings.pop(name, None)
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ValueError(f"variant {variant!r} has {name}={text}; allowed: a number") from None
