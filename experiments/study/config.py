"""Many runs of one experiment, on one machine or a cluster: python -m experiments.study FILE.

FILE is JSON: the experiment, the settings that all runs share, and the overrides of each. Every run
is a directory of its own; what is finished is skipped, so the same command goes on after any stop.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

import experiments
from rnn_jax import config as configs

FOLDER = Path(experiments.__file__).parent


@dataclass(frozen=True)
class Arguments:
    """How a study is computed; none of it but cores can change a number."""

    file: Annotated[Path, tyro.conf.Positional]
    """JSON: {"experiment": NAME, "config": {settings}, "overrides": {...}}"""
    executor: Literal["inline", "processes", "ray"] = "processes"
    """inline: one run after another in this process; processes: a process a run; ray: a cluster"""
    workers: int | None = None
    """runs at once; None: as many as there are cores for"""
    cores: int = 1
    """CPU cores of a run; the last bits of some experiments depend on it"""
    gpus: float = 0.0
    """GPUs of a run, asked of Ray; a part of one is possible"""
    time_limit: float | None = None
    """seconds of a run, in one start; what it has by then is kept"""
    attempts: int = 3
    """starts of a run whose process is killed; one that ends with an error is not tried again"""
    out: Path = Path("runs")
    """folder of the run directories"""
    address: str | None = None
    """of a Ray cluster, or auto; None: Ray is started on this machine, and ended again"""
    rank: int = 0
    """of the processes that share this study, which one this is: it takes every world-th run"""
    world: int = 1
    """how many processes share this study; a Slurm array's tasks, say"""
    list: bool = False
    """say what the runs are and how far, and compute nothing"""

    def __post_init__(self):
        for name in ("workers", "cores", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; allowed: at least 1")
        if self.executor == "inline" and (self.workers or 1) > 1:
            raise ValueError(f"workers is {self.workers}; allowed: 1 with --executor inline")
        if not 0 <= self.gpus < math.inf:
            raise ValueError(f"gpus is {self.gpus}; allowed: numbers from 0")
        if self.gpus and self.executor != "ray":
            raise ValueError(f"gpus is {self.gpus}; allowed: 0 without --executor ray")
        if self.address and self.executor != "ray":
            raise ValueError(f"address is {self.address}; allowed: with --executor ray")
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise ValueError(f"time_limit is {self.time_limit}; allowed: seconds above 0")
        configs.check_share(self.rank, self.world)


@dataclass(frozen=True)
class Study:
    """What a study file holds."""

    experiment: str
    config: dict = field(default_factory=dict)  # settings of all runs
    overrides: dict = field(default_factory=dict)  # see rnn_jax/overrides.py

    def __post_init__(self):
        if self.experiment not in experiment_names():
            allowed = ", ".join(experiment_names())
            raise ValueError(f"experiment is {self.experiment!r}; allowed: {allowed}")


def experiment_names() -> list[str]:
    """List the experiments that a study can be of."""
    return sorted(path.parent.name for path in FOLDER.glob("*/experiment.py"))


def read_study(path: Path) -> Study:
    """Read a study file; ValueError of one line."""
    try:
        return configs.read_file(Study, path)
    except TypeError:  # a field without a default
        allowed = ", ".join(experiment_names())
        raise ValueError(f"{path}: no experiment is named; allowed: {allowed}") from None
