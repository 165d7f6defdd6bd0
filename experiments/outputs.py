"""What people see of a dataset: tables and findings on the terminal, the files of a directory."""

import dataclasses
import json
import re
import textwrap
from pathlib import Path

import xarray as xr
from rich.console import Console
from rich.text import Text

from experiments.experiment import Experiment
from rnn_jax import results

TEXTS = "samples.txt"
MOST_LINES = 12  # of each text at the terminal
OPENING = """from pathlib import Path
from rnn_jax import results

dataset = results.load(Path("results.zarr"))   # checks every checksum

import xarray as xr                            # your own files only; a lost block reads as nan
dataset = xr.open_zarr("results.zarr")
"""


def show(experiment: Experiment, dataset: xr.Dataset) -> None:
    """Print the tables that fit a terminal, then what came out in words."""
    dataset, console = dataset.load(), Console()
    for table in experiment.tables(dataset):
        if table.is_printed:
            console.print(results.to_rich(table))
    for finding in experiment.findings(dataset):
        lines = textwrap.wrap(f"- {finding}", console.width, subsequent_indent="  ")
        console.print(Text("\n".join(lines)))
    for title, text in _texts(experiment, dataset).items():
        first = "\n".join(text.splitlines()[:MOST_LINES])
        console.print(Text(f"\n{title} (begins):\n", style="bold"), Text(first), sep="\n")


def write(experiment: Experiment, dataset: xr.Dataset, directory: Path) -> None:
    """Write tables, figures and the report into the run directory, whose two records are there."""
    from rnn_jax.plotting import style  # matplotlib: not for a finished run that is shown

    dataset = dataset.load()
    for table in experiment.tables(dataset):
        results.write_text(directory / f"{table.name}.csv", results.to_csv(table))
        results.write_text(directory / f"{table.name}.tex", results.to_latex(table))
    pictures = experiment.pictures(dataset)
    drawings = {name: picture.draw for name, picture in pictures.items()}
    style.save_figures(drawings, dataset, directory / "figures")
    texts = _texts(experiment, dataset)
    if texts:
        parts = (f"== {title} ==\n\n{text}\n" for title, text in texts.items())
        results.write_text(directory / TEXTS, "\n".join(parts))
    results.write_text(directory / "report.html", report(experiment, dataset, directory))


def missing_files(experiment: Experiment, dataset: xr.Dataset, directory: Path) -> list[str]:
    """List what ``write`` makes and is not there, or is empty."""
    tables = [table.name for table in experiment.tables(dataset)]
    names = [f"{name}.{kind}" for name in tables for kind in ("csv", "tex")]
    names += [f"figures/{name}.png" for name in experiment.pictures(dataset)]
    names += [TEXTS] if _texts(experiment, dataset) else []
    files = [directory / name for name in [*names, "report.html"]]
    return [str(f.relative_to(directory)) for f in files if not f.exists() or not f.stat().st_size]


def report(experiment: Experiment, dataset: xr.Dataset, directory: Path) -> str:
    """Make the page of a run directory, whose records and figures are there."""
    environment = json.loads((directory / "environment.json").read_text())
    config = (directory / "config.json").read_text()
    return results.report_html(
        name=experiment.name,
        title=experiment.title,
        question=experiment.question,
        set_up=experiment.set_up(dataset),
        config=config,
        defaults=dataclasses.asdict(experiment.config_class()),
        findings=experiment.findings(dataset),
        curves=experiment.curves(dataset) if experiment.curves else None,
        figures={
            name: (picture.caption, (directory / "figures" / f"{name}.png").read_bytes())
            for name, picture in experiment.pictures(dataset).items()
        },
        texts=_texts(experiment, dataset),
        tables=experiment.tables(dataset),
        environment=environment | {"work": _work(results.read_log(directory))},
        commands=_commands(experiment, environment, directory),
        opening=OPENING,
        dataset=dataset,
    )


def _texts(experiment: Experiment, dataset: xr.Dataset) -> dict[str, str]:
    return experiment.texts(dataset) if experiment.texts else {}


def _work(log: list[dict]) -> str:
    """Say how long it took, in how many starts."""
    starts = [row for row in log if row["event"] == "start"]
    blocks = {row["block"] for row in log if row["event"] == "block"}
    seconds = sum(row["seconds"] for row in log if row["event"] in ("block", "whole"))
    words = [f"{seconds:.1f} s", f"{len(starts)} start{'' if len(starts) == 1 else 's'}"]
    if blocks:
        words.insert(1, f"{len(blocks)} blocks")
    world = max((row["world"] for row in starts), default=1)
    return ", ".join(words) + (f", shared by {world} processes" if world > 1 else "")


def _commands(experiment: Experiment, environment: dict, directory: Path) -> str:
    commit, is_changed = str(environment.get("commit")), environment.get("uncommitted_changes")
    is_known = re.fullmatch("[0-9a-f]+", commit)  # of a stranger's run it may be anything
    checkout = [f"git checkout {commit}"] if is_known else []
    if is_known and is_changed:
        checkout.append("# the code had changes that are not in this commit")
    return "\n".join(
        [
            *checkout,
            " ".join(["scripts/setup.sh", *experiment.extras]),
            f"FOLDER=PATH/TO/{directory.name}  # that of this page",
            f'.venv/bin/python -m experiments.{experiment.name} --config "$FOLDER/config.json"',
            "",
            "# the same, and every number compared with those of this run",
            '.venv/bin/python -m experiments.reproduce "$FOLDER"',
            "",
        ]
    )
