"""The optimizer: one chain, always in one order.

    norm recorded -> clip -> norm recorded -> rule -> weight decay -> schedule -> learning rate

Weight decay comes after the rule (decoupled: Loshchilov & Hutter 2019, arXiv 1711.05101) and before
the learning rate's minus sign: in the other order it makes weights grow. It takes kernels
only, by their name in the tree: no bias, no embedding, no recurrent vector.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax.checks import check_choice, check_positive
from rnn_jax.clipping import CLIPS, gradient_norm
from rnn_jax.types import Array, Params

Rule = Literal["sgd", "momentum", "rmsprop", "adam", "adamw"]
Clip = Literal["none", "value", "global-norm", "percentile"]
Shape = Literal["constant", "linear", "cosine"]
RULES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(decay=0.9),
    "rmsprop": optax.scale_by_rms,
    "adam": optax.scale_by_adam,
    "adamw": optax.scale_by_adam,
}
DECAYED = {"kernel", "recurrent_kernel"}
BEFORE, AFTER = "norm_before_clip", "norm_after_clip"


class OptimizerSettings(NamedTuple):
    """What the chain is made of; hashable."""

    rule: Rule = "adam"
    clip: Clip = "none"
    clip_at: float = 1.0  # the clip's one number: a value, a norm or a percentile
    weight_decay: float = 0.0  # per step, times the learning rate
    schedule: Shape = "constant"  # of the learning rate, to reach 0 after the last step
    warmup_steps: int = 0  # in which the learning rate rises from 0


@functools.lru_cache(maxsize=256)
def make_optimizer(settings: OptimizerSettings, num_steps: int) -> optax.GradientTransformation:
    """Build the chain; the learning rate is in its state, so that another one compiles nothing.

    Raises:
      ValueError: an unknown name, a number out of range; adam with weight decay, which is adamw.
    """
    check_choice("rule", settings.rule, tuple(RULES))
    check_choice("clip", settings.clip, ("none", *CLIPS))
    check_choice("schedule", settings.schedule, ("constant", "linear", "cosine"))
    if not 0 <= settings.weight_decay < 1:
        raise ValueError(f"weight_decay is {settings.weight_decay}; allowed: from 0, below 1")
    if settings.weight_decay and settings.rule == "adam":
        raise ValueError("weight_decay with rule adam; allowed: adamw, the same with weight decay")
    if not 0 <= settings.warmup_steps < num_steps:
        raise ValueError(
            f"warmup_steps is {settings.warmup_steps}; allowed: from 0, below "
            f"{num_steps}, the steps of a training"
        )
    clip = optax.identity()
    if settings.clip != "none":
        check_positive("clip_at", settings.clip_at)
        clip = CLIPS[settings.clip](settings.clip_at)
    return optax.chain(
        optax.snapshot(BEFORE, gradient_norm),
        clip,
        optax.snapshot(AFTER, gradient_norm),
        RULES[settings.rule](),
        optax.add_decayed_weights(settings.weight_decay, mask=is_decayed),
        optax.scale_by_schedule(_schedule(settings, num_steps)),
        optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=0.0),
    )


def init_optimizer(
    optimizer: optax.GradientTransformation, params: Params, learning_rate: float
) -> optax.OptState:
    """Make the chain's state, with its learning rate."""
    check_positive("learning_rate", learning_rate)
    state = optimizer.init(params)
    old = optax.tree.get(state, "learning_rate")
    return optax.tree.set(state, learning_rate=jnp.asarray(learning_rate, old.dtype))


def recorded_norms(state: optax.OptState) -> tuple[Array, Array]:
    """Return ‖gradient‖₂ before and after the clip, of the last update."""
    return optax.tree.get(state, BEFORE), optax.tree.get(state, AFTER)


def is_decayed(params: Params) -> Any:
    """Tell leaf by leaf, by its name, whether weight decay takes it."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path[-1]) in DECAYED, params)


def _name(key) -> str:
    return str(getattr(key, "key", getattr(key, "name", "")))  # of a dict or of a NamedTuple


def _schedule(settings: OptimizerSettings, num_steps: int) -> optax.Schedule:
    """Make the factor of the learning rate against the step: up to 1, down to 0."""
    rest = num_steps - settings.warmup_steps
    falling = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
    }[settings.schedule]
    if not settings.warmup_steps:
        return falling
    # step 1 is not wasted: from 1 / warmup up
    rising = optax.linear_schedule(1 / settings.warmup_steps, 1.0, settings.warmup_steps - 1)
    return optax.join_schedules([rising, falling], [settings.warmup_steps])
