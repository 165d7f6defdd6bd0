"""Write the tables of runs into the READMEs: python -m experiments.speed.readme RUN_DIR ...

A README has a table where it has the marks

    <!-- table: NAME -->
    <!-- end -->

What stands between them is replaced; a table that several runs have is written once a run, in
their order. Where no run has a table, and where there are no marks, all stays as it is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.speed import table
from experiments.speed.config import JOBS, MEASUREMENTS
from rnn_jax import config as configs
from rnn_jax import results

READMES = (results.ROOT / "experiments/speed/README.md", results.ROOT / "README.md")
START, END = "<!-- table: ", "<!-- end -->"


@dataclass(frozen=True)
class Arguments:
    """Write the tables of runs into experiments/speed/README.md and README.md, where marks are."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN_DIR")]]
    """folders that python -m experiments.speed wrote"""


def main(argv: list[str] | None = None) -> None:
    prog = "python -m experiments.speed.readme"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    try:
        tables = read_tables(arguments.runs)
        new = {path: with_tables(path.read_text("utf-8"), tables, path.name) for path in READMES}
        for path, text in new.items():
            results.write_text(path, text)
    except (OSError, ValueError) as error:
        configs.leave(str(error), code=1)


def read_tables(runs: tuple[Path, ...]) -> dict[str, str]:
    """Return the Markdown of every table that the runs have, with its facts."""
    if not runs:
        raise ValueError("RUN_DIR is missing; allowed: one folder of a run or more")
    tables: dict[str, str] = {}
    for run in runs:
        paths = [run / f"{name}.json" for name in JOBS + MEASUREMENTS]
        paths = [path for path in paths if path.exists()]
        if not paths:
            raise ValueError(
                f"{run} holds no table; allowed: a folder of python -m experiments.speed"
            )
        for path in paths:
            found = json.loads(path.read_text())
            _, header, lines, note = table.of(found)
            text = f"{table.to_markdown('', header, lines, note)}\n{table.measured_on(found)}\n"
            tables[path.stem] = "\n".join([*filter(None, [tables.get(path.stem)]), text])
    return tables


def with_tables(text: str, tables: dict[str, str], page: str) -> str:
    """Put the tables between their marks."""
    before, *parts = text.split(START)
    for part in parts:
        mark, _, rest = part.partition("\n")
        name = mark.removesuffix(" -->")
        old, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"{page}: {START}{mark} has no end; allowed: {END} before the next")
        if name not in JOBS + MEASUREMENTS:
            allowed = ", ".join(JOBS + MEASUREMENTS)
            raise ValueError(f"{page}: {START}{mark} names no table; allowed: {allowed}")
        new = f"\n{tables[name]}\n" if name in tables else old
        before += f"{START}{mark}\n{new}{end}{after}"
    return before


if __name__ == "__main__":
    main()
