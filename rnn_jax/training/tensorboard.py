"""TensorBoard files beside a training's log, by tensorboardX (an extra: text)."""

import math
from collections.abc import Callable
from pathlib import Path


def tensorboard_writer(folder: Path) -> tuple[Callable[[dict], None], Callable[[], None]]:
    """Return (write, close): ``write(row)`` writes every number of a row as <event>/<name> by step.

    Raises:
      ValueError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            'tensorboard needs tensorboardX; allowed: with the extra, pip install "rnn-jax[text]"'
        ) from None
    writers: list = []

    def write(row: dict) -> None:
        if not writers:  # what an earlier start wrote from here on is hidden
            writers.append(SummaryWriter(str(folder), purge_step=row["step"]))
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step" and math.isfinite(value):
                writers[0].add_scalar(f"{row['event']}/{name}", value, row["step"])
        writers[0].flush()

    def close() -> None:
        for writer in writers:
            writer.close()

    return write, close
