"""What was found -> the table that people read, on a terminal and in Markdown."""

from importlib import import_module
from typing import NamedTuple

from rich import box
from rich.table import Table as Layout
from rich.text import Text

from experiments.speed import jobs, points
from experiments.speed.config import JOBS

NOTE = (
    "Milliseconds a call, median of the rounds; × is the time divided by that of {first}; in "
    "brackets seconds of the first call, which compiles; ~ marks a time more than 20 % above the "
    "library's own time alone: it does not count."
)
FLOOR_NOTE = "floor: the job's matrix products alone; in parentheses the time of {first} over it."


class Table(NamedTuple):
    title: str
    header: list[str]
    lines: list[list[str]]
    note: str


def of(found: dict) -> Table:
    """Lay out what a table's JSON holds."""
    if found["table"] in JOBS:
        header, lines = texts(found)
        return Table(jobs.load(found["table"]).TITLE, header, lines, _note(found))
    measurement = import_module(f"experiments.speed.{found['table']}")
    return Table(measurement.TITLE, *measurement.texts(found), measurement.NOTE)


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    """Return (header, lines) of a job; a library without a single time has no column."""
    names, first = _timed(found), next(iter(found["libraries"]))
    header = ["cell " + "×".join(jobs.load(found["table"]).COLUMNS[1:])]
    header += [found["libraries"][name]["title"] for name in names]
    lines = []
    for row in found["rows"]:
        cells = row["cells"]
        line = [points.name_of(row["row"])]
        for name in names:
            over_floor = cells[first].get("floor_ratio") if name == jobs.FLOOR else None
            line.append(cell_text(cells[name], name == first, over_floor))
        lines.append(line)
    return header, lines


def cell_text(cell: dict, is_first: bool, over_floor: float | None) -> str:
    if "median" not in cell:
        return "–" if "missing" in cell else "failed"
    parts = [("" if cell["counts"] else "~") + milliseconds(cell["median"])]
    if over_floor:
        parts.append(f"({over_floor:.2f})")
    elif "ratio" in cell and not is_first:
        parts.append(f"×{cell['ratio']:.2f}" if cell["ratio"] < 10 else f"×{cell['ratio']:.0f}")
    if not over_floor:
        parts.append(f"[{cell['compile']:.2g}]")
    return " ".join(parts)


def milliseconds(seconds: float) -> str:
    """Three digits, no exponent."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _timed(found: dict) -> list[str]:
    return [n for n in found["libraries"] if any("median" in r["cells"][n] for r in found["rows"])]


def _note(found: dict) -> str:
    """Say how to read a job's table, and why times are not there."""
    first = next(iter(found["libraries"].values()))["title"]
    notes = [NOTE.format(first=first)]
    if jobs.FLOOR in _timed(found) and len(_timed(found)) > 1:
        notes.append(FLOOR_NOTE.format(first=first))
    missing: dict[str, None] = {}
    failures: dict[str, list[str]] = {}  # what happened to a library -> at which rows
    for row in found["rows"]:
        for name, cell in row["cells"].items():
            if "missing" in cell:
                missing[cell["missing"]] = None
            elif "error" in cell:
                what = f"{found['libraries'][name]['title']}: {cell['error']}"
                failures.setdefault(what, []).append(points.name_of(row["row"]))
    notes += ["–: " + "; ".join(missing) + "."] if missing else []
    for what, rows in failures.items():
        notes.append(what + (f" ({', '.join(rows)})." if len(rows) < len(found["rows"]) else "."))
    return " ".join(notes)


def to_rich(title: str, header: list[str], lines: list[list[str]], note: str) -> Layout:
    """Lay out for a terminal; a narrow one breaks a cell's parts over lines."""
    layout = Layout(
        title=Text(title),
        caption=Text(note),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        row_styles=["", "dim"],
    )
    for i, name in enumerate(header):
        layout.add_column(Text(name), justify="right" if i else "left", no_wrap=not i)
    for line in lines:
        layout.add_row(*map(Text, line))
    return layout


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
        parts.append(
            f"float32 results on small rows differ by at most {found['largest_deviation']:.1g}"
        )
    if found["config"]["quick"]:
        parts.append("quick: whether it works, not how fast it is")
    return "Measured on " + "; ".join(parts) + "."
