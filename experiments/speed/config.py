"""Time rnn_jax against other libraries and against its own floor, table by table."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from experiments.speed import jobs
from experiments.speed.libraries import LIBRARIES
from rnn_jax.config import check_lists

JOBS = ("sweep", "training", "forward", "one_token")  # every library does the same, in turns
# of rnn_jax alone
MEASUREMENTS = ("memory", "growth", "compilation", "parallel", "scan_unroll", "lyapunov")
CELLS = ("elman", "lstm", "gru", "sru")


@dataclass(frozen=True)
class Config:
    """What is timed, and how often."""

    tables: tuple[str, ...] = JOBS + MEASUREMENTS
    """jobs that libraries do in turns (sweep training forward one_token) and measurements of
    rnn_jax alone (memory growth compilation parallel scan_unroll lyapunov)"""
    cells: tuple[str, ...] = CELLS
    """cells of the jobs"""
    libraries: tuple[str, ...] = tuple(LIBRARIES)
    """who does the jobs, where a job has them; ratios are to the first"""
    rows: tuple[int, ...] = ()
    """sizes for the cells, row after row, where one table is asked for; empty: the table's own"""
    precision: Literal["highest", "tf32", "bfloat16"] = "highest"
    """of the jobs: float32 with exact products, float32 with TF32 products, bfloat16 arrays"""
    rounds: int = 7
    """turns of every library at every row, all processes alive"""
    rounds_alone: int = 3
    """turns of every library before, with no other process alive"""
    turn_seconds: float = 0.1
    """one turn repeats a short call for so long, and counts the median"""
    timeout: float = 300.0
    """seconds without an answer after which a library has failed at a row"""
    seed: int = 0
    """of the inputs"""
    quick: bool = False
    """small rows and 2 rounds: whether it works, not how fast it is"""

    def __post_init__(self):
        known = {"tables": JOBS + MEASUREMENTS, "cells": CELLS, "libraries": tuple(LIBRARIES)}
        for name, allowed in known.items():
            values = getattr(self, name)
            for value in values:
                if value not in allowed:
                    raise ValueError(f"{name} holds {value!r}; allowed: {', '.join(allowed)}")
        check_lists(self, *known)
        for name, least in (("rounds", 1), ("rounds_alone", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: at least {least}")
        for name in ("turn_seconds", "timeout"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; allowed: a finite number from 0")
        if self.rows:
            self._check_rows()

    def _check_rows(self) -> None:
        if len(self.tables) > 1 or self.tables[0] not in JOBS:
            raise ValueError(
                f"rows are given for tables {self.tables}; allowed: with one of {', '.join(JOBS)}"
            )
        sizes = jobs.load(self.tables[0]).COLUMNS[1:]
        if len(self.rows) % len(sizes) or min(self.rows) < 1:
            raise ValueError(
                f"rows is {self.rows}; allowed: {' '.join(sizes)} row after row, their count a "
                f"multiple of {len(sizes)}, each at least 1"
            )

    def effective(self) -> "Config":
        """Apply ``quick``; the rows of a job are cut down by ``rows_of``."""
        return replace(self, rounds=min(self.rounds, 2), rounds_alone=1) if self.quick else self

    def rows_of(self, table: str) -> list[tuple]:
        """List the rows of a job, each once."""
        job = jobs.load(table)
        count = len(job.COLUMNS) - 1
        sizes = [self.rows[i : i + count] for i in range(0, len(self.rows), count)]
        rows = [(cell, *row) for cell in self.cells for row in sizes] if sizes else job.ROWS
        rows = [tuple(row) for row in rows if row[0] in self.cells]
        return list(dict.fromkeys(map(job.small, rows) if self.quick else rows))

    def libraries_of(self, table: str) -> list[str]:
        """List who does a job."""
        runners = jobs.load(table).RUNNERS
        names = [name for name in self.libraries if name in runners]
        if not names:
            raise ValueError(
                f"libraries is {self.libraries}; allowed for {table}: some of {', '.join(runners)}"
            )
        return names
