"""What an experiment gives, so that one command line serves all of them."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr


class Experiment(NamedTuple):
    """What differs from one experiment to the next.

    A config may say ``dtype`` (float64 turns x64 on), ``precision`` (of matrix products) and
    ``seed``; all three go into the environment record.
    """

    name: str
    config_class: type[Any]
    num_blocks: Callable[[Any], int]  # config -> steps of the progress bar
    run: Callable[[Any, Callable[[], None]], xr.Dataset]  # (config, called after each block)
    show: Callable[[xr.Dataset], Any]  # -> what rich prints
    files: Callable[[xr.Dataset], dict[str, str]]  # -> file name: text
    save_figures: Callable[[xr.Dataset, Path], None]
    check: Callable[[Any], Any] = lambda config: None  # ValueError: what only the data can refuse
    built_on: tuple[str, ...] = ()  # other experiments whose code its numbers come from


def load(name: str) -> Experiment:
    """Return the experiment of the folder ``experiments/<name>``."""
    return importlib.import_module(f"experiments.{name}.experiment").EXPERIMENT
