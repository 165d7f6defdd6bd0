"""The log of a run, metrics.jsonl: a row for every start, block and end, whoever computes them."""

from pathlib import Path

from rnn_jax import files

LOG = "metrics.jsonl"


def append_row(directory: Path, **row) -> None:
    """Append a row to the log."""
    files.append_row(directory / LOG, row)


def read_log(directory: Path) -> list[dict]:
    """Read the log; a row that was cut short is left out."""
    return files.read_rows(directory / LOG)
