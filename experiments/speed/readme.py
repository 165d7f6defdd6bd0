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

    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """a folder that python -m experiments.speed wrote"""
    more: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[RUN_DIR ...]")]
    ] = ()
    """of other runs"""


def main(argv: list[str] | None = None) -> None:
    prog = "python -m experiments.speed.readme"
    arguments = configs.parse_arguments(Arguments, prog, argv)
    try:
        tables = read_tables((arguments.run_dir, *arguments.more))
        old = {path: path.read_text("utf-8") for path in READMES}
        new = {path: with_tables(text, tables, path.name) for path, text in old.items()}
        for path, text in new.items():
            results.write_text(path, text)
    except (OSError, ValueError) as error:
        configs.leave(str(error), code=1)
    _say_what_went_where(old, tables)


def _say_what_went_where(pages: dict[Path, str], tables: dict[str, str]) -> None:
    marked = set()
    for path, text in pages.items():
        name = path.relative_to(results.ROOT) if path.is_relative_to(results.ROOT) else path
        empty = []
        for mark, old in marks_of(text):
            marked.add(mark)
            if mark in tables:
                print(f"{name}: {mark} written")
            elif not old.strip():
                empty.append(mark)
        if empty:
            print(f"{name}: still empty: {', '.join(empty)}")
    if unmarked := [name for name in tables if name not in marked]:
        print(f"no page has a mark for: {', '.join(unmarked)}")


def read_tables(runs: tuple[Path, ...]) -> dict[str, str]:
    """Return the Markdown of every table that the runs have, with its facts."""
    tables: dict[str, str] = {}
    for run in runs:
        paths = [run / f"{name}.json" for name in JOBS + MEASUREMENTS]
        paths = [path for path in paths if path.exists()]
        if not paths:
            raise ValueError(
                f"{run} holds no table; allowed: a folder of python -m experiments.speed"
            )
        for path in paths:
            text = _read_table(path)
            tables[path.stem] = "\n".join([*filter(None, [tables.get(path.stem)]), text])
    return tables


def _read_table(path: Path) -> str:
    try:
        found = json.loads(path.read_text("utf-8"))
        is_quick = found["config"]["quick"]
        _, header, lines, note = table.of(found)
        text = f"{table.to_markdown('', header, lines, note)}\n{table.measured_on(found)}\n"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} is broken or incomplete ({what}); allowed: as python -m experiments.speed "
            "wrote it"
        ) from None
    if is_quick:
        raise ValueError(f"{path} is of a quick run; allowed: a run without --quick")
    return text


def marks_of(text: str) -> list[tuple[str, str]]:
    """List (name, what stands there) of a page's marks."""
    parts = [part.partition("\n") for part in text.split(START)[1:]]
    return [(mark.removesuffix(" -->"), rest.partition(END)[0]) for mark, _, rest in parts]


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
