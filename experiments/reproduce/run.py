"""Run a finished run again, beside it, and say what is identical, close or different.

python -m experiments.reproduce RUN: code 0 says identical or close, 1 that something differs.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
import xarray as xr
from rich.console import Console

from experiments import running
from experiments.computing import Run
from experiments.reproduce.compare import Comparison, compare, table
from rnn_jax import config as configs
from rnn_jax import results

COMPARISON = "comparison.json"
VERDICTS = {
    "identical": "identical: every number of {run} came out with the same bits",
    "close": "close: not the same bits, but every number of {run} came out within the tolerance",
    "different": "different: not every number of {run} came out again; where the state is chaotic "
    "(a gradient that explodes), other code or another processor alone can do that",
}


@dataclass(frozen=True)
class Arguments:
    """Run a finished run again, beside it, and say what is identical, close or different."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """a run directory"""
    out: Path | None = None
    """folder of the new run directory; None: beside the old one"""


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = configs.parse_arguments(Arguments, "python -m experiments.reproduce", argv)
    run = running.open_run(arguments.run)
    with running.one_line_errors(run):
        if not results.is_finished(run.directory):
            configs.leave(f"{run.directory} is not finished; allowed: a finished run", code=1)
        before = running.load_intact(run)
    name = f"{run.directory.resolve().name}-again"
    directory = (arguments.out or run.directory.resolve().parent) / name
    again = Run(run.experiment, run.config, directory)
    with running.one_line_errors(again):
        record = running.prepare(again)
        of_run = results.read_record(run.directory)
        differences = results.compare_records(of_run, record)
        if of_run["code_hash"] != record["code_hash"]:
            unknown = ", with changes not committed" if of_run.get("uncommitted_changes") else ""
            differences.append(f"the run's code is that of commit {of_run.get('commit')}{unknown}")
        differences += running.changed_data(run, before)
        _say_environment(differences)
        # one that was killed after it had computed all is not computed once more
        was_compared = (directory / COMPARISON).exists()
        now = running.compute(again, force=was_compared or not results.is_finished(directory))
        assert now is not None  # alone, it finishes
        if run.experiment.source is None:
            differences += _data_difference(before, now)
        comparisons = compare(before, now)
        verdict = overall(comparisons)
        _write(directory, run.directory, differences, comparisons, verdict)
    Console().print(results.to_rich(table(comparisons)))
    print(VERDICTS[verdict].format(run=run.directory))
    for line in differences:
        print(f"- {line}")
    print(f"results: {directory}")
    if verdict == "different":
        raise SystemExit(1)


def overall(comparisons: list[Comparison]) -> str:
    """Take the worst of all variables."""
    found = {comparison.verdict for comparison in comparisons}
    return next((v for v in ("different", "close") if v in found), "identical")


def _say_environment(differences: list[str]) -> None:
    if not differences:
        print("same code, versions, device and precision", file=sys.stderr)
    for line in differences:
        print(f"not the same: {line}", file=sys.stderr)


def _data_difference(before: xr.Dataset, now: xr.Dataset) -> list[str]:
    texts = [dataset.attrs.get("text") for dataset in (before, now)]
    return [f"text {texts[0]}, now {texts[1]}"] if texts[0] != texts[1] else []


def _write(directory, original, differences, comparisons, verdict) -> None:
    """Keep the comparison beside the new results."""
    found = {
        "original": str(original),
        "verdict": verdict,
        "environment_differences": differences,
        "variables": {c.name: c._asdict() for c in comparisons},
    }
    results.write_text(directory / COMPARISON, json.dumps(found, indent=2) + "\n")
    results.write_text(directory / "comparison.csv", results.to_csv(table(comparisons)))
