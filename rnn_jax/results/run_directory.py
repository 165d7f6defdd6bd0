"""A run directory: config.json, environment.json, the dataset, figures, and a DONE mark last."""

import json
import os
import shutil
from pathlib import Path

import xarray as xr

from rnn_jax import config as configs

DATASET, DONE = "results.zarr", "DONE"


def run_directory(out: Path, experiment: str, config) -> Path:
    """Name a config's run directory: out/<experiment>-<hash of the config>."""
    return out / f"{experiment}-{configs.content_hash(config)}"


def finished_with(directory: Path) -> str | None:
    """Return the code hash of the finished run in ``directory``; None where none is finished."""
    if not (directory / DONE).exists():
        return None
    return json.loads((directory / "environment.json").read_text())["code_hash"]


def prepare(directory: Path, config, environment: dict) -> None:
    """Make the run directory; an earlier finished run is kept beside it under its own time."""
    if (directory / DONE).exists():
        stamp = json.loads((directory / "environment.json").read_text())["time_utc"]
        directory.rename(_free_name(directory.parent, f"{directory.name}-{stamp}".replace(":", "")))
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "config.json", configs.to_json(config))
    write_text(directory / "environment.json", json.dumps(environment, indent=2) + "\n")


def save_dataset(directory: Path, dataset: xr.Dataset) -> None:
    """Write the dataset beside its place and rename it into place whole."""
    target, beside = directory / DATASET, directory / f".{DATASET}.{os.getpid()}"
    dataset.to_zarr(beside, mode="w", consolidated=True, zarr_format=2)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def load_dataset(directory: Path) -> xr.Dataset:
    """Open a run's dataset; ``xarray.open_zarr(directory / "results.zarr")`` does as well."""
    return xr.open_zarr(directory / DATASET)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


def mark_done(directory: Path) -> None:
    """Say that everything in the directory is complete."""
    write_text(directory / DONE, "")


def _free_name(folder: Path, name: str) -> Path:
    candidates = (folder / (f"{name}-{i}" if i else name) for i in range(1000))
    return next(path for path in candidates if not path.exists())
