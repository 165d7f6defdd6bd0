"""Tables of runs, one below the other, behind what the runs differ in."""

import functools
import math
import operator
from typing import Any

import numpy as np

from experiments.study.points import as_word
from rnn_jax import results
from rnn_jax.results.tables import cell_text

SETTING = "config_{}"  # a setting whose own name is taken: seed, where there is a dim seed
GROUP = "part"  # heading of what was the title of a group of rows


class _Row(dict):
    """A row of one run's table, behind the settings of the run."""

    texts: dict[tuple[str, str], str]  # key and heading of a column -> as its own table writes it
    is_shown: bool


def stack(parts: list[tuple[int, results.Table]], settings: dict[str, np.ndarray]) -> results.Table:
    """Stack tables of one name; each row is written by the columns of its own table."""
    keys = dict.fromkeys(key for _, table in parts for row in table.rows for key in row)
    names = {
        name: SETTING.format(name) if name in keys else name
        for name in settings
        if not _says(parts, name.removesuffix("s"), settings[name])
    }
    columns = [
        results.Column(key, name, is_word=settings[name].dtype == object)
        for name, key in names.items()
    ]
    groups = {t.group_title(row) for _, t in parts if t.group_title for row in t.shown()}
    if len(groups) > 1:
        columns.append(results.Column(GROUP, GROUP, is_word=True))
    columns += [column for _, table in parts for column in table.columns]
    rows = []
    for number, table in parts:
        of_run = {key: settings[name][number] for name, key in names.items()}
        words = {(key, name): as_word(settings[name][number]) for name, key in names.items()}
        for row in table.rows:
            stacked = _Row(of_run | dict.fromkeys(keys, math.nan) | row)
            stacked.is_shown = table.is_shown(row)
            shown = table.columns if stacked.is_shown else []
            stacked.texts = words | {(c.key, c.heading): cell_text(c, row) for c in shown}
            if len(groups) > 1 and table.group_title:
                stacked.texts[GROUP, GROUP] = table.group_title(row)
            rows.append(stacked)
    only = groups if len(groups) == 1 else ()
    titles, notes = ({getattr(table, name) for _, table in parts} for name in ("title", "note"))
    name = parts[0][1].name
    return results.Table(
        name=name,
        title=", ".join([titles.pop() if len(titles) == 1 else name, *only]),
        rows=rows,
        columns=_by_texts(columns),
        note=notes.pop() if len(notes) == 1 else "",
        is_printed=any(table.is_printed for _, table in parts),
        is_shown=operator.attrgetter("is_shown"),
    )


def _says(parts: list[tuple[int, results.Table]], key: str, values: np.ndarray) -> bool:
    """Tell whether every row of every run says a setting already: variants, variant."""
    return all(row.get(key) == values[i] for i, table in parts for row in table.rows)


def _by_texts(columns: list[results.Column]) -> list[results.Column]:
    """Take each column once, to be written as each row's own table does."""

    def write(key: str, heading: str, row: Any) -> str:
        return row.texts.get((key, heading), "–")

    found: dict[tuple[str, str], results.Column] = {}
    for column in columns:
        place = column.key, column.heading
        colours = {**(found[place].colours if place in found else {}), **column.colours}
        found[place] = column._replace(write=functools.partial(write, *place), colours=colours)
    return list(found.values())
