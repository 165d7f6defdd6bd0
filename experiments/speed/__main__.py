"""Command line: measure table after table, print each, keep all in one folder.

A table is written as soon as it is measured: a process that is killed loses the one in hand.
"""

import datetime
import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import jax
from rich.console import Console
from rich.text import Text

from experiments import command
from experiments.speed import run, table
from experiments.speed.config import JOBS, Config
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.devices import num_cores


def main(argv: list[str] | None = None) -> None:
    config, options = configs.parse_command_line(Config, "python -m experiments.speed", argv)
    try:
        for name in set(config.tables) & set(JOBS):
            config.libraries_of(name)
    except ValueError as error:
        configs.leave(str(error))
    try:
        directory = _make_directory(options.out)
        sections = ["# Speed\n"]
        for name in config.tables:
            found = _measure(name, config)
            made, facts = table.of(found), table.measured_on(found)
            sections.append(f"{table.to_markdown(*made)}\n{facts}\n")
            results.write_text(directory / f"{name}.json", json.dumps(found, indent=2) + "\n")
            results.write_text(directory / "speed.md", "\n".join(sections))
            command.set_hint(f"the tables so far are in {directory}")
            Console().print(table.to_rich(*made), Text(facts + "\n"))
    except run.MismatchError as error:
        configs.leave(str(error), code=1)
    except OSError as error:
        configs.leave(f"{error.filename or options.out}: {error.strerror}", code=1)
    print(f"results: {directory}")


def _measure(name: str, config: Config) -> dict:
    status = Console(stderr=True).status(name)
    with command.before_leaving(status.stop), status:
        if name in JOBS:
            found = run.run(name, config, status.update)
        else:
            measurement = import_module(f"experiments.speed.{name}")
            found = measurement.measure(config.effective(), status.update)
    return {"table": name, "config": asdict(config), "environment": _environment(), **found}


def _environment() -> dict:
    jax.config.update("jax_platforms", "cpu")  # this process computes nothing
    record = results.environment_record(cores=num_cores())
    for name in ("device", "backend", "num_devices", "x64", "matmul_precision"):
        del record[name]  # of this process; those that matter are beside each library
    return record


def _make_directory(out: Path) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = out / f"speed-{stamp}"
    directory.mkdir(parents=True)
    return directory


if __name__ == "__main__":
    with command.stoppable():
        main()
