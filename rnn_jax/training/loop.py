"""The loop over epochs: steps, rows of the log, evaluation, gradient flow, checkpoints.

Everything that changes is in the state, and the order of the data is a pure function of seed and
epoch. So a training that was killed goes on from its last checkpoint, its log is cut back to that
step, and both come out bit for bit as if nothing had happened: on a CPU with as many cores; on a
GPU with XLA_FLAGS=--xla_gpu_deterministic_ops=true.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.checks import check_choice
from rnn_jax.data.batching import Batches
from rnn_jax.files import append_row, read_rows
from rnn_jax.training.checkpoints import Checkpoints
from rnn_jax.training.losses import Sums, Task, add
from rnn_jax.training.placement import ONE_DEVICE, Placement
from rnn_jax.training.step import (
    Totals,
    TrainState,
    init_state,
    make_eval_step,
    make_train_step,
    no_totals,
)
from rnn_jax.types import Key, Params


class StoppedError(Exception):
    """A training was asked to stop: it is kept at the step where it was."""


ROWS, CHECKPOINTS = "metrics.jsonl", "checkpoints"
# rows: "steps" (every log_every), "epoch" (or Plan.unit), "flow" (every probe_every), "stopped"


class Plan(NamedTuple):
    """How long, and how often what happens; in steps, but for the epochs."""

    num_epochs: int  # of the batches: the validation split is measured after each
    log_every: int = 50
    probe_every: int = 0  # 0: never
    checkpoint_every: int = 500  # and at the end of every epoch
    patience: int = 20  # steps skipped in a row that end the training
    unit: str = "epoch"  # what the log calls one: a pass over the text, or a part of it
    score: str = "accuracy"  # of the validation split: the highest is best, of "loss" the lowest


ACCURACY = Plan(0)  # its scores


class DataOrder(Protocol):
    """Batches in an order that is a pure function of seed and epoch."""

    @property
    def num_batches(self) -> int:
        """Count the batches of an epoch."""

    def epoch(self, seed: int, epoch: int) -> Any:
        """Return the batches of an epoch by their place; each has ``lengths`` [B]."""


class Training(NamedTuple):
    """A training: what, on what, how, and where it is kept."""

    task: Task
    optimizer: Any  # optax chain of ``make_optimizer``
    learning_rate: float
    batches: DataOrder  # of the training split
    validate: Callable[[Params], Sums]
    plan: Plan
    key: Key  # parameters and dropout
    order_seed: int  # of the data
    folder: Path
    belongs_to: str  # names all of the above: a checkpoint that has another name is refused
    keep_last: int = 2
    probe: Callable[[Params], np.ndarray] | None = None  # what a "flow" row holds
    placement: Placement = ONE_DEVICE

    def first_state(self) -> TrainState:
        """Draw the parameters: the state before the first step."""
        params_key, _ = jax.random.split(self.key)
        return init_state(self.task, self.optimizer, params_key, self.learning_rate)

    def train_step(self) -> Callable[[TrainState, Any, Key], TrainState]:
        """Make its step; the same function every time."""
        return make_train_step(
            self.task, self.optimizer, self.plan.patience, self.placement.shardings()
        )

    def checkpoints(self, warn: Callable[[str], None] = print) -> Checkpoints:
        """Return what is kept of it."""
        return checkpoints_in(self.folder, self.belongs_to, self.keep_last, warn)


def checkpoints_in(
    folder: Path, belongs_to: str, keep_last: int = 2, warn: Callable[[str], None] = print
) -> Checkpoints:
    """Return what is kept of the training in a folder."""
    return Checkpoints(folder / CHECKPOINTS, folder / ROWS, belongs_to, keep_last, warn)


class Progress(NamedTuple):
    """How far a training is, for whoever watches."""

    step: int
    num_steps: int
    epoch: int
    loss: float
    accuracy: float
    num_tokens: int  # read since the report before


def train(
    training: Training,
    report: Callable[[Progress], None] = lambda progress: None,
    on_row: Callable[[dict], None] = lambda row: None,
    warn: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict]:
    """Train to the end, from the last checkpoint if there is one.

    Of processes that share a training each calls it; the files are those of the one that leads.

    Args:
      training: the training.
      report: called every ``log_every`` steps.
      on_row: called with every new row of the log.
      warn: called with a line about what was damaged or skipped.
      should_stop: asked after every step; in a shared training at every "steps" row, where one
        process that is asked is enough.
    Returns:
      The rows of its log: "steps", "epoch" and "flow" rows, and one "stopped" row where too many
      steps in a row had a gradient that is not finite. None of them where this process does not
      lead.
    Raises:
      CheckpointError: the folder holds checkpoints of another training.
      StoppedError: it was asked to stop; this step is kept, the next call goes on from it.
    """
    plan, rows_path, placement = training.plan, training.folder / ROWS, training.placement
    check_choice("the plan's score", plan.score, ("accuracy", "loss"))
    check_choice("the plan's unit", plan.unit, ("epoch", "stretch"))
    dropout_key = placement.everywhere(jax.random.split(training.key)[1])
    train_step = training.train_step()
    checkpoints = training.checkpoints(warn)
    state, has_stopped = _begin(training, checkpoints)
    step = int(state.step)

    def log(**row) -> None:
        if placement.leads:
            append_row(rows_path, row)
            on_row(row)

    def keep(score: float | None) -> None:
        whole = placement.whole(state)
        if placement.leads:
            checkpoints.save(whole, score)

    def fresh_totals() -> Totals:
        return placement.everywhere(no_totals(state.recent.norm_before.dtype))

    steps_per_epoch = training.batches.num_batches
    num_steps = plan.num_epochs * steps_per_epoch
    if step == 0:
        _probe(training, state, log)
    num_tokens = 0
    while step < num_steps and not has_stopped:
        epoch = step // steps_per_epoch
        order = training.batches.epoch(training.order_seed, epoch)
        for place in range(step % steps_per_epoch, steps_per_epoch):
            batch = order[place]
            with placement.used():
                state = train_step(state, placement.cut(batch), dropout_key)
            step += 1
            is_asked = should_stop() and not placement.is_shared
            num_tokens += int(batch.lengths.sum())
            is_end = place + 1 == steps_per_epoch
            if is_end or step % plan.log_every == 0:
                has_stopped = state.is_stopped
                row = _row(state.recent, int(state.skipped))
                log(event="steps", step=step, **{plan.unit: epoch + 1}, **row)
                report(
                    Progress(step, num_steps, epoch + 1, row["loss"], row["accuracy"], num_tokens)
                )
                num_tokens = 0
                state = state._replace(recent=fresh_totals())
                if placement.is_shared:
                    is_asked = placement.anywhere(should_stop())
            if has_stopped:
                stopped_at = int(state.stopped_at)
                log(event="stopped", step=step, stopped_at=stopped_at, skipped=int(state.skipped))
                warn(
                    f"stopped at step {stopped_at} of {num_steps}: the gradient of {plan.patience} "
                    "steps in a row was not finite; a smaller learning rate or a clip may help"
                )
            if plan.probe_every and step % plan.probe_every == 0 and not is_end:
                _probe(training, state, log)
            score = None
            if is_end and not has_stopped:
                if plan.probe_every:
                    _probe(training, state, log)
                score = _end_epoch(training, state, epoch + 1, log)
                state = state._replace(epoch=fresh_totals())
            if is_end or has_stopped or is_asked or step % plan.checkpoint_every == 0:
                keep(score)
            if has_stopped:
                break
            if is_asked:
                raise StoppedError(f"stopped at step {step} of {num_steps}")
    return read_rows(rows_path) if placement.leads else []


def best_epoch(rows: list[dict], plan: Plan = ACCURACY) -> dict | None:
    """Choose the epoch by its validation score, of equals the latest; None: none has a result.

    Its checkpoint is the one that is kept as the best. A loss that is not finite is no result.
    """
    epochs = [row for row in rows if row["event"] == plan.unit]
    scored = [(_score(plan, row), row["step"], row) for row in epochs]
    results = [found for found in scored if found[0] > -math.inf]
    return max(results, key=lambda found: found[:2])[2] if results else None


def _score(plan: Plan, row: dict) -> float:
    """Score the row of an epoch, higher is better; -inf: its loss is not finite."""
    loss = row["validation_loss"]
    if not math.isfinite(loss):
        return -math.inf
    return -loss if plan.score == "loss" else row["validation_accuracy"]


def restore_params(
    checkpoints: Checkpoints, task: Task, optimizer: Any, step: int
) -> Params | None:
    """Read the parameters of a step that is kept; None: not there, or damaged.

    Raises:
      CheckpointError: the folder holds checkpoints of another training.
    """
    like = jax.eval_shape(lambda: init_state(task, optimizer, jax.random.key(0), 1.0))
    state = checkpoints.restore(like, step)
    return None if state is None else jax.tree.map(jnp.asarray, state.params)


def best_params(training: Training) -> Params | None:
    """Read the parameters of the best epoch that is kept; None: none has a result."""
    rows, checkpoints = read_rows(training.folder / ROWS), training.checkpoints()
    best = best_epoch(rows, training.plan)
    if best is None:
        return None
    return restore_params(checkpoints, training.task, training.optimizer, best["step"])


def evaluate(task: Task, params: Params, batches: Batches) -> Sums:
    """Add up the metrics of a split, without dropout; exact whatever the batch size."""
    step = make_eval_step(task)
    order = batches.in_order()
    return add(*[step(params, order[i]) for i in range(len(order))])


def _begin(training: Training, checkpoints: Checkpoints) -> tuple[TrainState, bool]:
    """Put the last state that is kept, or the first, in its place; and tell whether it is over."""
    placement, state, has_stopped = training.placement, training.first_state(), False
    if placement.leads:
        training.folder.mkdir(parents=True, exist_ok=True)
        found = checkpoints.restore_latest(state)
        if found is None:
            checkpoints.clear()
        else:
            state = jax.tree.map(jnp.asarray, found)
        checkpoints.cut_log(int(state.step))
        rows = read_rows(training.folder / ROWS)
        has_stopped = any(row["event"] == "stopped" for row in rows)
    state, is_over = placement.from_leader((state, np.int32(has_stopped)))
    return placement.put(state), bool(is_over)


def _probe(training: Training, state: TrainState, log: Callable) -> None:
    if training.plan.probe_every and training.probe:
        measured = np.asarray(training.probe(_local_params(training, state)))
        log(event="flow", step=int(state.step), log_carry_norm=measured.tolist())


def _local_params(training: Training, state: TrainState) -> Params:
    """Give the parameters as one device of this process has them."""
    if training.placement.mesh is None:
        return state.params
    return training.placement.whole(state.params)


def _end_epoch(training: Training, state: TrainState, epoch: int, log: Callable) -> float:
    """Evaluate, and write the epoch's row; returns the validation score."""
    found = training.validate(_local_params(training, state))
    row = {f"train_{name}": value for name, value in _row(state.epoch, int(state.skipped)).items()}
    row |= {
        "validation_loss": float(found.loss / found.targets),
        "validation_accuracy": float(found.correct / found.targets),
    }
    plan = training.plan
    log(event=plan.unit, step=int(state.step), **{plan.unit: epoch}, **row)
    return _score(plan, row)


def _row(totals: Totals, skipped: int) -> dict[str, float | int]:
    """Write totals as means; nan where every step was skipped."""
    sums, *rest = jax.tree.map(lambda leaf: leaf.item(), jax.device_get(totals))
    steps, norm_before, norm_after, largest_norm, clipped = rest
    targets = sums.targets or float("nan")
    return {
        "loss": sums.loss / targets,  # nats a target
        "accuracy": sums.correct / targets,
        "targets": sums.targets,
        "tokens": sums.tokens,
        "gradient_norm_before_clip": norm_before / (steps or float("nan")),
        "gradient_norm_after_clip": norm_after / (steps or float("nan")),
        "largest_gradient_norm": largest_norm,
        "clipped_steps": clipped,
        "skipped_steps": skipped,  # since the training began
    }
