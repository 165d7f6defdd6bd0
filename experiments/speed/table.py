"""Results -> the table, for the terminal and for speed.md."""

from rich.table import Table

from experiments.speed import jobs

NOTE = (
    "Milliseconds a call, median of the rounds; in brackets seconds of the first call, which "
    "compiles; × is the time divided by that of the first library; ~ marks a time more than 20 % "
    "above the library's own time alone: it does not count."
)


def cell_text(cell: dict, is_first: bool) -> str:
    if cell["error"]:
        return cell["error"]
    text = f"{1e3 * cell['median']:.3g} [{cell['compile']:.2g}]"
    if "ratio" in cell and not is_first:
        text += f" ×{cell['ratio']:.2f}"
    return text if cell["counts"] else text + " ~"


def texts(results: dict) -> tuple[list[str], list[list[str]]]:
    """Return (header, lines)."""
    titles = [library["title"] for library in results["libraries"].values()]
    header = ["(" + ", ".join(jobs.load(results["job"]).COLUMNS) + ")", *titles]
    lines = [
        [
            "(" + ", ".join(map(str, row["row"])) + ")",
            *(cell_text(cell, i == 0) for i, cell in enumerate(row["cells"].values())),
        ]
        for row in results["rows"]
    ]
    return header, lines


def to_rich(results: dict) -> Table:
    header, lines = texts(results)
    table = Table(caption=NOTE, caption_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for line in lines:
        table.add_row(*(text.replace("[", r"\[") for text in line))
    return table


def to_markdown(results: dict) -> str:
    header, lines = texts(results)
    rule = ["---", *["---:"] * (len(header) - 1)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))
    environment = results["environment"]
    facts = [
        f"{environment['processor']}, {environment['cores']} cores, "
        f"Python {environment['python']}, {environment['time_utc']}",
        f"largest deviation between libraries on small rows: {results['largest_deviation']:.1g}",
    ]
    for name, library in results["libraries"].items():
        if "versions" in library:
            versions = ", ".join(f"{k} {v}" for k, v in library["versions"].items())
            facts.append(f"{name}: {versions}; device {library['device']}; {library['threads']}")
    facts = "\n".join(f"- {fact}" for fact in facts)
    return f"# Speed: {results['job']}\n\n{table}\n\n{NOTE}\n\n{facts}\n"
