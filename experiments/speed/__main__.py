"""Command line: measure table after table, print each, keep all in one folder.

A table is written as soon as it is measured: a process that is killed loses the one in hand.
"""

import datetime
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import jax
from rich.console import Console

from experiments import command
from experiments.speed import jobs, run, table
from experiments.speed.config import JOBS, Config
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.devices import num_cores


def main(argv: list[str] | None = None) -> None:
    config, options = configs.parse_command_line(Config, "python -m experiments.speed", argv)
    _check(config, options)
    untimed: dict[str, str] = {}  # table -> why no library has a time
    try:
        directory = _make_directory(options.out)
        sections = ["# Speed\n"]
        for name in config.tables:
            found = _measure(name, config)
            facts = table.measured_on(found)
            sections.append(f"{table.to_markdown(*table.of(found))}\n{facts}\n")
            results.write_text(directory / f"{name}.json", json.dumps(found, indent=2) + "\n")
            results.write_text(directory / "speed.md", "\n".join(sections))
            command.set_hint(f"the tables so far are in {directory}")
            table.to_terminal(Console(), table.of(found, on_terminal=True), facts)
            untimed |= _why_untimed(name, found)
    except run.MismatchError as error:
        configs.leave(str(error), code=1)
    except OSError as error:
        configs.leave(f"{error.filename or options.out}: {error.strerror}", code=1)
    print(f"results: {directory}")
    if untimed:
        why = next(iter(untimed.values()))
        configs.leave(f"{', '.join(untimed)}: no library was timed; {why}", code=1)


def _check(config: Config, options: configs.RunOptions) -> None:
    """Refuse what means nothing here, before anything is measured."""
    for name in ("force", "rank", "world"):
        value, default = getattr(options, name), getattr(configs.RunOptions(), name)
        if value != default:
            configs.leave(f"{name} is {value}; allowed: {default}, a run here is new and alone")
    try:
        for name in set(config.tables) & set(JOBS):
            config.libraries_of(name)
    except ValueError as error:
        configs.leave(str(error))


def _measure(name: str, config: Config) -> dict:
    console = Console(stderr=True)
    status = console.status(name)
    announce = (lambda text: None) if console.is_terminal else _once_each()

    def report(text: str) -> None:
        status.update(text)
        announce(text.partition(", row ")[0] if name in JOBS else name)

    with command.before_leaving(status.stop), status:
        if name in JOBS:
            found = run.run(name, config, report)
        else:
            measurement = import_module(f"experiments.speed.{name}")
            found = measurement.measure(config.effective(), report)
    return {"table": name, "config": asdict(config), "environment": _environment(), **found}


def _once_each() -> Callable[[str], None]:
    """Make the progress of a log: a line a table and library, to standard error."""
    said = set()

    def announce(text: str) -> None:
        if text not in said:
            print(text, file=sys.stderr, flush=True)
        said.add(text)

    return announce


def _why_untimed(name: str, found: dict) -> dict[str, str]:
    """Return {} where a library has a time, or where the floor alone was asked for."""
    if name not in JOBS or list(found["libraries"]) == [jobs.FLOOR]:
        return {}
    if jobs.first_timed(found["rows"]):
        return {}
    missing, failures = table.reasons(found)
    return {name: next(iter([*failures, *missing]), "it has no rows")}


def _environment() -> dict:
    jax.config.update("jax_platforms", "cpu")  # this process computes nothing
    record = results.environment_record(cores=num_cores())
    for name in ("device", "backend", "num_devices", "x64", "matmul_precision"):
        del record[name]  # of this process; those that matter are beside each library
    return record


def _make_directory(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for i in itertools.count(1):
        directory = out / (f"speed-{stamp}" if i == 1 else f"speed-{stamp}-{i}")
        try:
            directory.mkdir()
            return directory
        except FileExistsError:  # of a run that started in the same second
            continue
    raise AssertionError


if __name__ == "__main__":
    with command.stoppable():
        main()
