"""Command line: time, print the table, write speed.json and speed.md."""

import datetime
import json
import os
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from experiments.speed import run, table
from experiments.speed.config import Config
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.sweep import num_cores


def main(argv: list[str] | None = None) -> None:
    config, options = configs.parse_command_line(Config, "python -m experiments.speed", argv)
    try:
        with Console(stderr=True).status("start") as status:
            found = run.run(config, report=status.update)
    except KeyboardInterrupt:
        configs.leave("interrupted", code=130)
    except run.MismatchError as error:
        configs.leave(str(error), code=1)
    found = {
        "job": config.job,
        "config": asdict(config),
        "environment": _environment(),
        **found,
    }
    try:
        directory = _save(found, options.out)
    except OSError as error:
        configs.leave(f"{options.out}: {error.strerror}", code=1)
    Console().print(table.to_rich(found))
    print(f"results: {directory}")


def _environment() -> dict:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # this process computes nothing
    record = results.environment_record(cores=num_cores())
    for name in ("device", "backend", "num_devices", "x64", "matmul_precision"):
        del record[name]  # of this process; those that matter are beside each library
    return record


def _save(found: dict, out: Path) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = out / f"speed-{stamp}"
    directory.mkdir(parents=True)
    results.write_text(directory / "speed.json", json.dumps(found, indent=2) + "\n")
    results.write_text(directory / "speed.md", table.to_markdown(found))
    return directory


if __name__ == "__main__":
    main()
