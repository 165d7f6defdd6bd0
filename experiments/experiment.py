"""What an experiment gives, so that one command line serves all of them."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from rnn_jax import results


class Picture(NamedTuple):
    """A figure to come."""

    caption: str  # what is seen and how to read it
    draw: Callable[[xr.Dataset], Any]  # -> matplotlib's Figure


class Whole(NamedTuple):
    """A short run: it is kept when all of it is computed."""

    num_steps: Callable[[Any], int]  # config -> steps of the progress bar
    run: Callable[[Any, Callable[[], None]], xr.Dataset]  # (config, called after each step)


class Workplace(NamedTuple):
    """Where blocks are computed: what a long one may use."""

    directory: Path  # of the run; what is kept there under another name is the block's own
    report: Callable[[float, str], None]  # (blocks that are done in part, words) -> progress bar
    log: Callable[..., None]  # a row of the run's log, by keywords
    say: Callable[[str], None]  # a line for whoever watches


class Sweep(NamedTuple):
    """A run that is cut into blocks: each is kept as soon as it is computed."""

    plan: Callable[[Any], results.Blocks]  # config -> the dataset and how it is cut
    blocks: Callable[[Any, Iterable[int], Workplace], Iterator[tuple[int, dict]]]
    # (config, wanted blocks, workplace) -> (index, name: values) one by one
    unit: str = "blocks"  # what they are called
    partly: str = ""  # said to whoever stops it: what is kept of those that have begun


class Experiment(NamedTuple):
    """What differs from one experiment to the next.

    A config may say ``dtype`` (float64 turns x64 on), ``precision`` (of matrix products) and
    ``seed``; all three go into the environment record.
    """

    name: str
    config_class: type[Any]
    compute: Whole | Sweep
    title: str
    question: str  # what is asked, in one to three sentences for a stranger
    set_up: Callable[[xr.Dataset], list[str]]  # what was run, in words
    tables: Callable[[xr.Dataset], list[results.Table]]
    findings: Callable[[xr.Dataset], list[str]]  # what came out, in words
    pictures: Callable[[xr.Dataset], dict[str, Picture]]  # by file name; imports matplotlib
    check: Callable[[Any], Any] = lambda config: None  # ValueError: what only the data can refuse
    source: Callable[[Any], str] | None = None  # config -> the data's name, as in attrs["text"]
    timing: Whole | None = None  # times, measured once when all else is computed, and kept apart
    curves: Callable[[xr.Dataset], results.Curves] | None = None  # to choose from, in the report
    texts: Callable[[xr.Dataset], dict[str, str]] | None = None  # title: text to read, as it is
    built_on: tuple[str, ...] = ()  # other folders here whose code its numbers come from
    packages: tuple[str, ...] = ()  # others that its numbers depend on, for the record
    extras: tuple[str, ...] = ()  # of pyproject.toml, that a run with all it can do needs
    shares_batches: bool = False  # its trainings can be cut over several devices
    depends_on_cores: bool = False  # the last bits of its numbers depend on the number of CPU cores


def load(name: str) -> Experiment:
    """Return the experiment of the folder ``experiments/<name>``."""
    return importlib.import_module(f"experiments.{name}.experiment").EXPERIMENT
