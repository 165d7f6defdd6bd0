"""One kind of table: every digit in the CSV, text that LaTeX and HTML can hold, groups."""

import csv
import io
import math
import re

import numpy as np
import pytest

for module in ("xarray", "rich"):
    pytest.importorskip(module)

from rich.console import Console

from rnn_jax.results import Column, Table, to_csv, to_html, to_latex, to_rich

ROWS = [
    {"cell": "a_b", "w": 0.1 + 0.2, "slope": -2.5e-3, "note": "50 % & more"},
    {"cell": "a_b", "w": 1 / 3, "slope": math.nan, "note": "<b>"},
    {"cell": "lstm", "w": np.float32(0.1), "slope": math.inf, "note": "[x] {y} $z ^#~\\"},
]
TABLE = Table(
    name="t_1",
    title="ln‖dL/dcarry_t‖ ± 1 ≤ 2 ≈ 3 − 4 %",
    rows=ROWS,
    columns=[
        Column("cell", "cell", is_word=True, colours={"lstm": "red"}),
        Column("slope", "slope", ".1e"),
        Column("w", "w", lambda row: f"> {row['w']:.2f}"),
        Column("note", "note", is_word=True),
    ],
    note="R&D",
    group=lambda row: row["cell"],
)


def printed(table, width=80):
    text = io.StringIO()
    Console(width=width, file=text).print(to_rich(table))
    return text.getvalue()


def test_the_csv_has_every_key_and_digit():
    rows = list(csv.DictReader(to_csv(TABLE).splitlines()))
    assert list(rows[0]) == ["cell", "w", "slope", "note"]
    for read, row in zip(rows, ROWS, strict=True):
        np.testing.assert_equal(float(read["w"]), float(row["w"]))
        np.testing.assert_equal(float(read["slope"]), row["slope"])
        assert (read["cell"], read["note"]) == (row["cell"], row["note"])
    assert to_csv(TABLE._replace(rows=[])) == "cell,slope,w,note\n"


def test_latex_is_ascii_escaped_and_numbers_are_mathematics():
    text = to_latex(TABLE)
    assert text.isascii()
    assert r"\caption{ln$\Vert$dL/dcarry\_t$\Vert$ $\pm$ $1$ $\leq$ $2$ $\approx$ $3$" in text
    assert r"$-$ $4$ \%}" in text and r"\label{tab:t_1}" in text
    assert r"\begin{tabular}{lrrl}" in text and r"\footnotesize R\&D" in text
    assert r"a\_b & $-2.5 \times 10^{-3}$ & $>$ $0.30$ & $50$ \% \& more \\" in text
    assert r"{[x] \{y\} \$z \textasciicircum{}\#\textasciitilde{}\textbackslash{}} \\" in text
    assert text.count(r"\midrule") == 2 and text.count("{table}") == 2
    unescaped = re.sub(r"\\[%&_#$]|\$[^$]*\$", "", text.split(r"\toprule")[1])
    assert not re.search(r"[%_#$^]", unescaped.split(r"\bottomrule")[0])
    assert "[U+2603]" in to_latex(TABLE._replace(title="☃"))


def test_html_is_escaped_and_has_scopes_and_a_body_a_group():
    text = to_html(TABLE)
    assert "<caption>ln‖dL/dcarry_t‖" in text and text.count('scope="col"') == 4
    assert text.count("<tbody>") == 2 and "&lt;b&gt;" in text and "<b>" not in text
    assert '<td class="word red">lstm</td>' in text and '<td class="number">–</td>' in text


def test_nan_is_a_dash_and_the_terminal_reads_no_markup():
    text = printed(TABLE)
    assert "–" in text and "[x]" in text and "R&D" in text
    assert text.count("├") == 1  # a rule between the two groups


def test_groups_may_have_titles_and_rows_may_be_left_to_the_csv():
    table = TABLE._replace(
        group_title=lambda row: f"of {row['cell']}", is_shown=lambda row: row["note"] != "<b>"
    )
    assert [(title, len(rows)) for title, rows in table.groups()] == [("of a_b", 1), ("of lstm", 1)]
    assert ", of lstm" in printed(table).replace("\n", " ")
    assert '<th scope="rowgroup" colspan="4" class="word">of lstm</th>' in to_html(table)
    assert r"\multicolumn{4}{l}{of lstm} \\" in to_latex(table)
    assert len(to_csv(table).splitlines()) == 4 and "&lt;b&gt;" not in to_html(table)


def test_of_a_long_table_a_terminal_gets_some_rows_and_a_line_that_says_so():
    long = Table("long", "Long", [{"n": i} for i in range(1000)], [Column("n", "n")])
    text = printed(long)
    assert "100of1000rows;long.csvhasall." in "".join(text.split())
    numbers = [int(n) for n in re.findall(r"│ +(\d+) │", text)]
    assert len(numbers) == 100 and (numbers[0], numbers[-1]) == (0, 999)
    assert len(to_csv(long).splitlines()) == 1001
