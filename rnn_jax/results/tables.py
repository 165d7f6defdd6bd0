"""One kind of table: raw rows once, and what people read of them on a terminal, in LaTeX and HTML.

The CSV holds every key of every row with every digit; all else writes the columns of the rows that
are shown. nan is written "–".
"""

import csv
import html
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, Any]  # str, float, int or bool
MOST_PRINTED = 100  # rows on a terminal


class Column(NamedTuple):
    """What people read of a row in one place."""

    key: str
    heading: str
    write: str | Callable[[Row], str] = ""  # format spec of row[key], or row -> text
    is_word: bool = False  # words stand on the left and give way; numbers on the right do not
    colours: Mapping[Any, str] = {}  # value: blue, red or dim


class Table(NamedTuple):
    name: str  # of its files
    title: str
    rows: list[Row]
    columns: list[Column]
    note: str = ""
    group: Callable[[Row], Any] = lambda row: None  # a rule stands where it changes
    group_title: Callable[[Row], str] | None = None  # heads each group
    is_shown: Callable[[Row], bool] = lambda row: True  # else in the CSV alone
    is_printed: bool = True  # on the terminal

    def shown(self) -> list[Row]:
        """Return the rows that people read."""
        return [row for row in self.rows if self.is_shown(row)]

    def groups(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield (title, rows shown) of each group."""
        for _, rows in itertools.groupby(self.shown(), self.group):
            rows = list(rows)
            yield self.group_title(rows[0]) if self.group_title else "", rows


def cell_text(column: Column, row: Row) -> str:
    """Write a row's value as its column says."""
    if not isinstance(column.write, str):
        return column.write(row)
    value = row[column.key]
    return "–" if value != value else format(value, column.write)


def to_csv(table: Table) -> str:
    """Write the rows as CSV: raw keys and values, floats by repr."""
    text = io.StringIO()
    keys = list(table.rows[0]) if table.rows else [column.key for column in table.columns]
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
        writer.writerow(plain)
    return text.getvalue()


def to_rich(table: Table):
    """Lay the table out for a terminal; one table a group where groups have titles.

    Of more than MOST_PRINTED rows some are shown, evenly spaced, and a line says so.
    """
    from rich.console import Group
    from rich.table import Table as Layout
    from rich.text import Text

    shown, note = table.shown(), table.note
    if len(shown) > MOST_PRINTED:
        places = np.linspace(0, len(shown) - 1, MOST_PRINTED).round().astype(int)
        note += f" {MOST_PRINTED} of {len(shown)} rows; {table.name}.csv has all."
        some = [shown[i] for i in places]
        table = table._replace(rows=some, is_shown=lambda row: True)

    def layout(title: str) -> Layout:
        made = Layout(title=Text(title), caption=Text(note.strip()) if note else None)
        for column in table.columns:
            side = "left" if column.is_word else "right"
            made.add_column(Text(column.heading), justify=side, no_wrap=not column.is_word)
        return made

    layouts: list[Layout] = []
    for title, rows in table.groups():
        if title or not layouts:
            layouts.append(layout(f"{table.title}, {title}" if title else table.title))
        for i, row in enumerate(rows):
            cells = [
                Text(cell_text(c, row), style=c.colours.get(row.get(c.key), ""))
                for c in table.columns
            ]
            layouts[-1].add_row(*cells, end_section=i + 1 == len(rows))
    return Group(*layouts)


def to_html(table: Table) -> str:
    """Write a <table> with a caption, a body a group and scopes; colours are classes."""
    width = len(table.columns)
    note = f" <small>{html.escape(table.note)}</small>" if table.note else ""
    parts = [f"<table>\n<caption>{html.escape(table.title)}{note}</caption>\n<thead><tr>"]
    parts += [
        f'<th scope="col" class="{_side(c)}">{html.escape(c.heading)}</th>' for c in table.columns
    ]
    parts.append("</tr></thead>\n")
    for title, rows in table.groups():
        parts.append("<tbody>\n")
        if title:
            head = f'<th scope="rowgroup" colspan="{width}" class="word">{html.escape(title)}</th>'
            parts.append(f"<tr>{head}</tr>\n")
        for row in rows:
            parts += ["<tr>", *[_html_cell(c, row) for c in table.columns], "</tr>\n"]
        parts.append("</tbody>\n")
    return "".join([*parts, "</table>"])


def _html_cell(column: Column, row: Row) -> str:
    classes = f"{_side(column)} {column.colours.get(row.get(column.key), '')}".strip()
    return f'<td class="{classes}">{html.escape(cell_text(column, row))}</td>'


def _side(column: Column) -> str:
    return "word" if column.is_word else "number"


def to_latex(table: Table) -> str:
    """Write a table for a paper: booktabs and amsmath, nothing but ASCII and Latin letters."""
    width = len(table.columns)
    sides = "".join("l" if column.is_word else "r" for column in table.columns)
    lines = [
        "% needs \\usepackage{amsmath, booktabs}",
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{latex_text(table.title)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{sides}}}",
        "\\toprule",
        " & ".join(latex_text(column.heading) for column in table.columns) + r" \\",
    ]
    for title, rows in table.groups():
        lines.append("\\midrule")
        if title:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{{latex_text(title)}}} \\")
        for row in rows:
            cells = [latex_text(cell_text(c, row)) for c in table.columns]
            lines.append(" & ".join(f"{{{c}}}" if c[:1] == "[" else c for c in cells) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    if table.note:
        lines.append(f"\\par\\smallskip{{\\footnotesize {latex_text(table.note)}}}")
    return "\n".join([*lines, "\\end{table}", ""])


NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)(?:e([+-]\d+))?([,;:.%°]?)")
IN_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "%": r"\%", "_": r"\_",
    "&": r"\&", "#": r"\#", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "‖": r"$\Vert$", "±": r"$\pm$", "≤": r"$\leq$",
    "≥": r"$\geq$", "≈": r"$\approx$", "×": r"$\times$", "·": r"$\cdot$", "−": "$-$",
    "∞": r"$\infty$", "→": r"$\to$", "∂": r"$\partial$", "√": r"$\surd$", "°": r"$^\circ$",
    "²": "$^2$", "³": "$^3$", "–": "--", "—": "---", "…": r"\dots{}", "’": "'", '"': "''",
    "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$",
    "ρ": r"$\rho$", "σ": r"$\sigma$", "φ": r"$\varphi$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$",
    "₀": "$_0$", "₁": "$_1$", "₂": "$_2$", "ₜ": "$_t$", "⁻": "$^-$", "¹": "$^1$",
}  # fmt: skip


def latex_text(text: str) -> str:
    r"""Escape text; a number by itself becomes mathematics: -2.5e-03 is $-2.5 \times 10^{-3}$."""
    return " ".join(_latex_word(word) for word in text.split(" "))


def _latex_word(word: str) -> str:
    found = NUMBER.fullmatch(word)
    if not found:
        return "".join(_latex_character(c) for c in word)
    digits, exponent, after = found.groups()
    power = rf" \times 10^{{{int(exponent)}}}" if exponent else ""
    return f"${digits}{power}$" + "".join(_latex_character(c) for c in after)


def _latex_character(character: str) -> str:
    known = IN_LATEX.get(character)
    if known is not None:
        return known
    is_latin = character.isascii() or (character.isalpha() and character <= "ž")
    return character if is_latin else f"[U+{ord(character):04X}]"
