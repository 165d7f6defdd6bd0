"""Training: a loss, an optimizer, one step, the loop, and what is kept of it.

losses.py        what is learned: cross-entropy in nats, as sums with counts
streams.py       how well a text is predicted, from its first token to its last
optimizer.py     one optax chain in one order
step.py          (state, batch) -> state, and what a state is
placement.py     on one device, or every batch cut over several
loop.py          epochs, rows of the log, evaluation, gradient flow
checkpoints.py   the last few states and the best
"""

from rnn_jax.training.checkpoints import CheckpointError, Checkpoints
from rnn_jax.training.loop import (
    ROWS,
    Plan,
    Progress,
    StoppedError,
    Training,
    best_epoch,
    best_params,
    checkpoints_in,
    evaluate,
    restore_params,
    train,
)
from rnn_jax.training.losses import Sums, Task, classification, language_modelling
from rnn_jax.training.optimizer import OptimizerSettings, init_optimizer, make_optimizer
from rnn_jax.training.placement import Placement, cut_over
from rnn_jax.training.step import TrainState, init_state, make_eval_step, make_train_step
from rnn_jax.training.streams import evaluate_stream, token_bits

__all__ = [
    "ROWS",
    "CheckpointError",
    "Checkpoints",
    "OptimizerSettings",
    "StoppedError",
    "Placement",
    "Plan",
    "Progress",
    "Sums",
    "Task",
    "TrainState",
    "Training",
    "best_epoch",
    "best_params",
    "checkpoints_in",
    "classification",
    "cut_over",
    "evaluate",
    "evaluate_stream",
    "init_optimizer",
    "init_state",
    "language_modelling",
    "make_eval_step",
    "make_optimizer",
    "make_train_step",
    "restore_params",
    "token_bits",
    "train",
]
