"""Put the tables of several runs together: a row a data set and model, with where it comes from.

python -m experiments.text_classification table RUN ...
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, cast

import tyro
from rich.console import Console

from experiments import running
from experiments.text_classification import table
from experiments.text_classification.config import Config
from rnn_jax import config as configs
from rnn_jax import results


@dataclass(frozen=True)
class Arguments:
    """Put the tables of several finished runs together, and write them as CSV if asked."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN")]]
    """run directories"""
    csv: Path | None = None
    """a file to write as well, with every digit"""

    def __post_init__(self):
        if not self.runs:
            raise ValueError("RUN is missing; allowed: one or more run directories")


def main(argv: list[str]) -> None:
    """Run the command line."""
    prog = "python -m experiments.text_classification table"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    rows: list[results.Row] = []
    for directory in arguments.runs:
        run = running.open_run(directory)
        if run.experiment.name != "text_classification":
            configs.leave(f"{directory} is a run of {run.experiment.name}; allowed: of this one")
        record = results.read_record(directory)
        if not results.is_finished(directory):
            configs.leave(f"{directory} is not finished; its own command goes on", code=1)
        config = cast(Config, run.config)
        origin = {
            "data": config.data,
            "settings": ", ".join(_settings(config)),
            "config": record["config_hash"],
            "commit": str(record.get("commit"))[:7] + "+" * bool(record["uncommitted_changes"]),
        }
        rows += [origin | row for row in table.summary_rows(running.load_intact(run))]
    joined = table.summary_table(rows)
    Console().print(results.to_rich(joined))
    if arguments.csv:
        try:
            results.write_text(arguments.csv, results.to_csv(joined))
        except OSError as error:
            configs.leave(f"{arguments.csv}: {error.strerror}", code=1)


def _settings(config: Config) -> list[str]:
    """List what is not as by default."""
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in ("data", "data_dir") and value != field.default:
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            found.append(f"{field.name} {text}")
    return found
