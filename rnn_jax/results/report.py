"""One page that says what was asked, what came out, on what machine, and how to run it again.

The file stands alone: style, script, figures and numbers are inside, and its
Content-Security-Policy forbids anything from elsewhere. Layout: report.html, report.css, report.js.
"""

import base64
import html
import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from rnn_jax.results.curves import Curves, thin, to_tree
from rnn_jax.results.tables import Column, Table, to_csv, to_html, to_latex

LABELS = {  # of the environment record; any other key is its own label
    "device": "device",
    "num_devices": "number of devices",
    "backend": "backend of JAX",
    "processor": "processor",
    "machine": "system",
    "python": "Python",
    "packages": "packages",
    "matmul_precision": "precision of matrix products",
    "x64": "64-bit floats (x64)",
    "xla_flags": "XLA flags",
    "seed": "seed",
    "time_utc": "begun (UTC)",
    "work": "time to compute, figures apart",
    "commit": "commit",
    "uncommitted_changes": "uncommitted changes",
    "code_hash": "hash of the code",
    "config_hash": "hash of the config",
    "experiment": "experiment",
}
MOST_ROWS = 30  # a longer table scrolls in its box


def report_html(
    *,
    name: str,
    title: str,
    question: str,
    set_up: list[str],
    config: str,
    defaults: Mapping[str, Any],
    findings: list[str],
    curves: Curves | None,
    figures: Mapping[str, tuple[str, bytes]],
    texts: Mapping[str, str],
    tables: list[Table],
    environment: Mapping[str, Any],
    commands: str,
    opening: str,
    dataset: xr.Dataset,
) -> str:
    """Write the page.

    Args:
      name: of the experiment.
      title: of the page.
      question: what is asked, for a stranger.
      set_up: what was run, in words.
      config: the text of config.json.
      defaults: of every setting.
      findings: what came out, in words.
      curves: the interactive part; None: none.
      figures: name to (caption, PNG).
      texts: title to a text that is shown with its own line breaks; {}: none.
      tables: with their CSV and LaTeX.
      environment: the record of the machine, as it is.
      commands: how to run it again, in a shell.
      opening: how to open the dataset, in Python.
      dataset: its dims and variables are listed.
    """
    settings = _settings_table(json.loads(config), defaults)
    changed = sum(row["changed"] for row in settings.rows)
    fields = {
        "name": html.escape(name),
        "title": html.escape(title),
        "question": html.escape(question),
        "set_up": "\n".join(f"<p>{html.escape(text)}</p>" for text in set_up),
        "num_changed": f" ({changed} changed from the default)" if changed else " (all defaults)",
        "settings": _box(settings),
        "config": _source("config", config),
        "findings": "\n".join(f"<li>{html.escape(text)}</li>" for text in findings),
        "figures": "\n".join(["<h3>Figures</h3>", *map(_figure, figures, figures.values())]),
        "texts": "\n".join(["<h3>Texts</h3>"] * bool(texts) + [*map(_text, texts, texts.values())]),
        "tables": "\n".join(["<h3>Tables</h3>", *map(_with_sources, tables)]),
        "environment": _box(_environment_table(environment)),
        "commands": _source("commands", commands),
        "opening": _source("opening", opening),
        "dataset": "\n".join(_box(table) for table in _dataset_tables(dataset)),
        "style": _beside("report.css"),
        "script": _beside("report.js"),
    }
    parts = _curves_parts(curves) if curves else {"curves": "", "data": ""}
    return string.Template(_beside("report.html")).substitute(fields | parts)


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _curves_parts(curves: Curves) -> dict[str, str]:
    """Make the empty place of the interactive part, and its numbers as inline JSON."""
    thinned, note = thin(curves)
    caption = " ".join(text for text in (curves.caption, note) if text)
    numbers = json.dumps(to_tree(thinned), separators=(",", ":"), allow_nan=False)
    place = (
        '<h3>Look for yourself</h3>\n<figure id="curves"><div class="controls"></div>'
        '<div class="plot"></div><dl class="readout" aria-live="polite"></dl>'
        f"<figcaption>{html.escape(caption)}</figcaption>\n"
        "<noscript><p>This part needs JavaScript; the figures and tables below do not.</p>"
        "</noscript></figure>"
    )
    inside = numbers.replace("<", "\\u003c")
    data = f'<script type="application/json" id="curves-data">{inside}</script>'
    return {"curves": place, "data": data}


def _figure(name: str, figure: tuple[str, bytes]) -> str:
    caption, png = figure
    data, title = base64.b64encode(png).decode(), html.escape(name.replace("_", " "))
    return (
        f'<figure><img alt="Figure, {title}: {html.escape(caption)}" '
        f'src="data:image/png;base64,{data}">\n'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _text(title: str, text: str) -> str:
    return (
        f'<h4>{html.escape(title)}</h4>\n<pre class="text" tabindex="0">{html.escape(text)}</pre>'
    )


def _with_sources(table: Table) -> str:
    """Write a table with its sources to copy; a table of files alone stays folded."""
    shown, everything = len(table.shown()), len(table.rows)
    file = f"{table.name}.csv"
    rest = f"<p><small>Here: {shown} of {everything} rows; {html.escape(file)} has all.</small></p>"
    sources = "".join(
        f"<details><summary>{kind}</summary>{_source(f'{table.name}-{kind.lower()}', text)}"
        "</details>"
        for kind, text in (("CSV", to_csv(table)), ("LaTeX", to_latex(table)))
    )
    body = _box(table) + (rest if shown < everything else "")
    body += f'<div class="sources">{sources}</div>'
    if table.is_printed:
        return body
    summary = f"{html.escape(table.title)} ({html.escape(file)}, {everything} rows)"
    return f"<details><summary>{summary}</summary>{body}</details>"


def _box(table: Table) -> str:
    """A table in a box of its own, where a wide or long one scrolls."""
    count = len(table.shown())
    is_tall = count > MOST_ROWS
    place = f'class="scroll{" tall" if is_tall else ""}" tabindex="0" role="region"'
    hint = f'<p class="hint"><small>{count} rows: scroll within the table.</small></p>'
    box = f'<div {place} aria-label="{html.escape(table.title)}">{to_html(table)}</div>'
    return box + (hint if is_tall else "")


def _source(name: str, text: str) -> str:
    identity = html.escape(f"source-{name}")
    return (
        f'<div class="source"><button type="button" class="copy" data-of="{identity}">copy</button>'
        f'<pre tabindex="0" id="{identity}">{html.escape(text)}</pre></div>'
    )


def _settings_table(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Table:
    rows = []
    for name, value in config.items():
        default = _plain(defaults.get(name))
        is_changed = default != _plain(value)
        rows.append(
            {
                "name": name,
                "value": _plain(value),
                "default": f"changed; default: {default}" if is_changed else "default",
                "changed": is_changed,
            }
        )
    columns = [
        Column("name", "setting", is_word=True),
        Column("value", "value", is_word=True),
        Column(
            "changed", "", lambda row: row["default"], is_word=True,
            colours={True: "red", False: "dim"},
        ),
    ]  # fmt: skip
    return Table("settings", "Settings", rows, columns)


def _environment_table(environment: Mapping[str, Any]) -> Table:
    """Known keys first, in the order of ``LABELS``; then whatever else there is."""
    keys = [k for k in LABELS if k in environment] + [k for k in environment if k not in LABELS]
    rows = [
        {"name": LABELS.get(key, key.replace("_", " ")), "value": _plain(environment[key])}
        for key in keys
    ]
    columns = [Column("name", "what", is_word=True), Column("value", "value", is_word=True)]
    return Table("environment", "The machine and the code", rows, columns)


def _dataset_tables(dataset: xr.Dataset) -> list[Table]:
    word = [Column(key, key, is_word=True) for key in ("name", "dims", "meaning", "units")]
    number = [Column("name", "dimension", is_word=True), Column("size", "size", "d")]
    sizes = [{"name": str(name), "size": size} for name, size in dataset.sizes.items()]
    variables = [
        {
            "name": str(name),
            "dims": ", ".join(map(str, variable.dims)) or "–",
            "meaning": variable.attrs.get("long_name", ""),
            "units": variable.attrs.get("units", ""),
        }
        for name, variable in dataset.variables.items()
    ]
    return [
        Table("dimensions", "Dimensions of the dataset", sizes, number),
        Table("variables", "Variables and coordinates", variables, word),
    ]


def _plain(value: Any) -> str:
    """Write a value of a JSON record for people."""
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case "":
            return "none"
        case dict():
            return ", ".join(f"{key} {_plain(part)}" for key, part in value.items()) or "none"
        case list() | tuple():
            return ", ".join(map(_plain, value)) or "none"
        case _:
            return str(value)
