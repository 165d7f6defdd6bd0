"""Config -> the language model of each cell; hidden sizes make all of them equally large."""

import functools

import jax
import jax.numpy as jnp

from experiments.language_modelling.config import Config
from rnn_jax.cells import param_count
from rnn_jax.models import LanguageModel

MULTIPLE = 4  # of a hidden size: vector registers are that wide, or a multiple of it


def build_model(config: Config, cell: str, vocabulary_size: int) -> LanguageModel:
    """Build the Linen module of a cell."""
    hidden_size = config.hidden_size or fitting_size(config, cell, vocabulary_size)
    return _model(config, cell, vocabulary_size, hidden_size)


@functools.lru_cache(maxsize=64)
def fitting_size(config: Config, cell: str, vocabulary_size: int) -> int:
    """Find the hidden size, a multiple of 4, whose parameters come nearest to num_parameters."""

    def excess(hidden_size: int) -> int:
        model = _model(config, cell, vocabulary_size, hidden_size)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
        return param_count(shapes) - config.num_parameters

    low, high = MULTIPLE, 2 * MULTIPLE
    if excess(low) > 0:
        raise ValueError(
            f"num_parameters is {config.num_parameters}; allowed: at least "
            f"{config.num_parameters + excess(low)}, an {cell} of {low} units"
        )
    while excess(high) < 0:
        low, high = high, 2 * high
    while high - low > MULTIPLE:
        middle = (low + high) // 2 // MULTIPLE * MULTIPLE
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return min(low, high, key=lambda size: abs(excess(size)))


def _model(config: Config, cell: str, vocabulary_size: int, hidden_size: int) -> LanguageModel:
    return LanguageModel(
        vocabulary_size=vocabulary_size,
        cell=cell,
        hidden_size=hidden_size,
        embedding_size=config.embedding_size,
        num_layers=config.num_layers,
        is_tied=config.tied,
        dropout=config.dropout,
        recurrent_init=config.recurrent_init,
        recurrent_gain=config.recurrent_gain,
        forget_bias=config.forget_bias,
        dtype=config.dtype,
    )
