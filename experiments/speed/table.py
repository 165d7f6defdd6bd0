"""What was found -> the table that people read, on a terminal and in Markdown."""

from importlib import import_module
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table as Layout
from rich.text import Text

from experiments.speed import jobs, points
from experiments.speed.config import JOBS

TIMES = "Milliseconds a call, median of the rounds"
RATIOS = "× is the time divided by that of {first}"
COMPILING = "in brackets seconds of the first call, which compiles"
DISTURBED = (
    "~ marks a time more than 20 % above the library's own time alone: it does not count, and sets "
    "no ratio"
)
FLOOR_NOTE = "floor: the job's matrix products alone; in parentheses the time of {first} over it"
BELOW_ONE = "; below 1: the products chained alone cost more than inside {first}'s program"


class Table(NamedTuple):
    title: str
    header: list[str]
    lines: list[list[str]]
    note: str


def of(found: dict, on_terminal: bool = False) -> Table:
    """Lay out what a table's JSON holds; a terminal has no room for the compile times of jobs."""
    if found["table"] in JOBS:
        header, lines = texts(found, on_terminal)
        return Table(jobs.load(found["table"]).TITLE, header, lines, _note(found, on_terminal))
    measurement = import_module(f"experiments.speed.{found['table']}")
    return Table(measurement.TITLE, *measurement.texts(found), measurement.NOTE.format(**found))


def texts(found: dict, on_terminal: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return (header, lines) of a job; a library without a single time has no column."""
    names, first = jobs.timed(found["rows"]), jobs.first_timed(found["rows"])
    header = ["cell " + "×".join(jobs.load(found["table"]).COLUMNS[1:])]
    header += [found["libraries"][name]["title"] for name in names]
    lines = []
    for row in found["rows"]:
        cells = row["cells"]
        line = [points.name_of(row["row"])]
        for name in names:
            if name == jobs.FLOOR:
                line.append(floor_text(cells[name], cells.get(first, {}).get("floor_ratio")))
            else:
                line.append(cell_text(cells[name], name == first, on_terminal))
        lines.append(line)
    return header, lines


def cell_text(cell: dict, is_first: bool, on_terminal: bool = False) -> str:
    text = _time_text(cell)
    if "ratio" in cell and not is_first:
        text += f" ×{cell['ratio']:.2f}" if cell["ratio"] < 10 else f" ×{cell['ratio']:.0f}"
    if "compile" in cell and not on_terminal:
        text += f" [{cell['compile']:.2g}]"
    return text


def floor_text(cell: dict, over_floor: float | None) -> str:
    return _time_text(cell) + (f" ({over_floor:.2f})" if over_floor else "")


def _time_text(cell: dict) -> str:
    if "median" not in cell:
        return "–" if "missing" in cell else "failed"
    return ("" if cell["counts"] else "~") + milliseconds(cell["median"])


def milliseconds(seconds: float) -> str:
    """Three digits, no exponent."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _note(found: dict, on_terminal: bool) -> str:
    """Say how to read a job's table, and why times are not there."""
    rows, timed = found["rows"], jobs.timed(found["rows"])
    name = jobs.first_timed(rows)
    first = found["libraries"][name]["title"] if name else ""
    notes = []
    if timed:
        peers = [peer for peer in timed if peer not in (name, jobs.FLOOR)]
        has_ratios = any("ratio" in row["cells"][peer] for row in rows for peer in peers)
        parts = {TIMES: True, RATIOS: has_ratios, COMPILING: not on_terminal, DISTURBED: True}
        notes.append("; ".join(part for part, holds in parts.items() if holds) + ".")
    over_floor = [row["cells"][name].get("floor_ratio", 0) for row in rows] if name else []
    if any(over_floor):
        least = min(ratio for ratio in over_floor if ratio)
        notes.append(FLOOR_NOTE + (BELOW_ONE if round(least, 2) < 1 else "") + ".")
    notes = [note.format(first=first) for note in notes]
    missing, failures = reasons(found)
    notes += ["–: " + "; ".join(missing) + "."] if missing else []
    for what, rows in failures.items():
        notes.append(what + (f" ({', '.join(rows)})." if len(rows) < len(found["rows"]) else "."))
    return " ".join(notes)


def reasons(found: dict) -> tuple[list[str], dict[str, list[str]]]:
    """Return (what is not offered, what happened to a library -> at which rows)."""
    missing: dict[str, None] = {}
    failures: dict[str, list[str]] = {}
    for row in found["rows"]:
        for name, cell in row["cells"].items():
            if "missing" in cell:
                missing[cell["missing"]] = None
            elif "error" in cell:
                what = f"{found['libraries'][name]['title']}: {cell['error']}"
                failures.setdefault(what, []).append(points.name_of(row["row"]))
    return list(missing), failures


def to_terminal(console: Console, made: Table, facts: str) -> None:
    """Print a table, its note and its facts; columns that do not fit go on below the first ones."""
    names, *columns = zip(made.header, *made.lines, strict=True)
    least_of_names, room = _longest_word(names), console.width
    console.print(Text(made.title, "bold"))
    while columns:
        fitting = len(columns)
        while fitting > 1 and room < least_of_names + sum(
            1 + _longest_word(column) for column in columns[:fitting]
        ):
            fitting -= 1
        console.print(_layout([names, *columns[:fitting]], room), Text(""), sep="\n")
        columns = columns[fitting:]
    console.print(Text(made.note), Text(facts + "\n"), sep="\n")


def _layout(columns: list[tuple[str, ...]], room: int) -> Layout:
    """Shrink the widest columns, down to their longest words, until all fit beside each other."""
    widths = [max(map(len, column)) for column in columns]
    is_wide = sum(widths) + 2 * len(widths) <= room
    least = list(map(_longest_word, columns))
    while sum(widths) + len(widths) - 1 > room and widths != least:
        wider = [i for i in range(len(widths)) if widths[i] > least[i]]
        widths[max(wider, key=lambda i: widths[i])] -= 1
    layout = Layout(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1 if is_wide else 0, 0, 0),
        row_styles=["", "dim"],
    )
    for i, (column, width) in enumerate(zip(columns, widths, strict=True)):
        justify = "right" if i else "left"
        layout.add_column(Text(column[0]), justify=justify, width=width, overflow="fold")
    for line in zip(*(column[1:] for column in columns), strict=True):
        layout.add_row(*map(Text, line))
    return layout


def _longest_word(column: tuple[str, ...]) -> int:
    return max(len(word) for text in column for word in text.split() or [""])


def to_markdown(title: str, header: list[str], lines: list[list[str]], note: str) -> str:
    """Write a table; without a title no heading."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    rows = [[text.replace("|", r"\|") for text in line] for line in (header, rule, *lines)]
    parts = [f"## {title}"] if title else []
    parts += ["\n".join(f"| {' | '.join(row)} |" for row in rows), note]
    return "\n\n".join(parts) + "\n"


def measured_on(found: dict) -> str:
    """Name machine, versions and date in one line."""
    environment, libraries = found["environment"], found.get("libraries", {}).values()
    devices = {library["device"] for library in libraries if "device" in library}
    devices |= {found["device"]} if "device" in found else set()
    packages = environment["packages"]
    versions = {
        "Python": environment["python"],
        "jax": packages["jax"],
        "jaxlib": packages["jaxlib"],
    }
    for library in libraries:
        versions |= library.get("versions", {})
    parts = [
        f"{environment['processor']}, {environment['cores']} cores",
        *(["device " + " and ".join(sorted(devices))] if devices else []),
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        environment["time_utc"][:10],
    ]
    if found["table"] in JOBS:
        parts.append(f"precision {found['config']['precision']}")
        if (largest := found["largest_deviation"]) is not None:  # two or more were compared
            parts.append(f"float32 results on small rows differ by at most {largest:.1g}")
    if found["config"]["quick"]:
        parts.append("quick: whether it works, not how fast it is")
    return "Measured on " + "; ".join(parts) + "."
