"""A text whose every part has its bits -> the text in colours, at a terminal and as a page.

Seven steps of viridis, the limits doubling: more bits are lighter, to every kind of colour vision
and in grey. Each step sets the letters and what is behind them, so it reads the same on a dark and
on a light ground.
"""

import html
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.text import Text

LIMITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # bits, the highest of each step but the last
COLOURS = (  # (behind, letters)
    ("#440154", "#ffffff"),
    ("#443983", "#ffffff"),
    ("#31688e", "#ffffff"),
    ("#21918c", "#000000"),
    ("#35b779", "#000000"),
    ("#90d743", "#000000"),
    ("#fde725", "#000000"),
)
# What has no glyph, or would move the cursor of a terminal, as it is escaped.
ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {0x0D: "\\r"}
SAFE = {code: escape for code, escape in ESCAPES.items() if chr(code) not in "\n\t"}
MARKS = SAFE | {ord("\n"): "\u21b5", ord("\t"): "\u2192"}  # ↵ →
LINES = SAFE | {code: MARKS[code] + chr(code) for code in map(ord, "\n\t")}


class Part(NamedTuple):
    """A part of a text: whole characters, one token of it or several."""

    text: str
    bits: float | None  # of its tokens together; None: no token stands for it
    label: str  # says more, on the page


class Page(NamedTuple):
    """What stands around the text: the title, rows of (name, value), a table with its head."""

    title: str
    facts: Sequence[tuple[str, str]]
    caption: str
    table: Sequence[Sequence[str]]


def step_of(bits: float) -> int:
    """The place of the colour: 0 up to half a bit, 1 up to one bit, ..., 6 above 16."""
    return bisect_left(LIMITS, bits) if bits == bits else len(LIMITS)


def step_names() -> list[str]:
    names = [f"{limit:g}" for limit in LIMITS]
    return [f"up to {names[0]}", *names[1:], "more"]


def coloured(parts: Iterable[Part]) -> Text:
    """The text for a terminal; line ends and tabs are seen, other control characters harmless."""
    text = Text()
    for step, run in groupby(parts, lambda part: _step(part)):
        letters = "".join(part.text for part in run).translate(LINES)
        text.append(letters, None if step is None else _style(step))
    return text


def legend() -> Text:
    """What the colours mean, for a terminal."""
    text = Text("bits a token: ")
    for step, name in enumerate(step_names()):
        text.append(f" {name} ", _style(step))
    return text


def page(parts: Iterable[Part], around: Page) -> str:
    """A page that needs nothing else; the text of its element "text" is that of the parts.

    (NUL, which no page can hold, is U+FFFD there.)
    """
    rules = [
        f".k{step}{{background:{behind};color:{letters}}}"
        for step, (behind, letters) in enumerate(COLOURS)
    ]
    keys = [f'<i class="k{step}">{name}</i>' for step, name in enumerate(step_names())]
    facts = [f"<tr><th>{_escape(name)}<td>{_escape(value)}" for name, value in around.facts]
    head, *rows = [[_escape(cell) for cell in row] for row in around.table]
    table = ["<tr>" + "".join(f"<th>{cell}" for cell in head)]
    table += ["<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows]
    body = "".join(map(_element, parts))
    return _PAGE.format(
        title=_escape(around.title),
        rules="\n".join(rules),
        facts="\n".join(facts),
        legend=" ".join(keys),
        text=body,
        caption=_escape(around.caption),
        table="\n".join(table),
    )


def shown(text: bytes | str) -> str:
    r"""A text in one line: "\n" as ↵, "\t" as →, a space as ␣, what is no UTF-8 as \xNN."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return text.translate(MARKS | {ord(" "): "\u2423"})


def _step(part: Part) -> int | None:
    return None if part.bits is None else step_of(part.bits)


def _style(step: int) -> str:
    behind, letters = COLOURS[step]
    return f"{letters} on {behind}"


def _element(part: Part) -> str:
    letters = "".join(map(_character, part.text))
    if part.bits is None:
        return letters
    label = _escape(part.label)
    return f'<i class="k{step_of(part.bits)}" data-say="{label}">{letters}</i>'


def _character(character: str) -> str:
    """A character; if it has no glyph, with a mark: the style sheet's, so no part of the text."""
    code = ord(character)
    if code not in MARKS:
        return html.escape(character)
    if character in "\n\t":
        return f'<b data-mark="{MARKS[code]}"></b>{character}'
    # a page's own line ends are all "\n": a carriage return has to be a reference
    written = {"\r": "&#13;", "\0": "\ufffd"}.get(character, character)
    return f'<b class="none" data-mark="{MARKS[code]}">{written}</b>'


def _escape(text: str) -> str:
    return html.escape(text.translate(ESCAPES))


_PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body{{max-width:60rem;margin:1.5rem auto 5rem;padding:0 1rem;font:16px/1.5 sans-serif;
color:#222;background:#fff}}
h1{{font-size:1.3rem;overflow-wrap:anywhere}}
th{{text-align:left;font-weight:600}} th,td{{padding:.1rem 1.2rem .1rem 0;vertical-align:top}}
td{{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}}
i{{font-style:normal}} .legend i{{padding:.15rem .6rem}}
#text,code,.rows td{{font-family:ui-monospace,monospace;font-size:.9rem}}
#text{{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.45;tab-size:8;
border:1px solid #bbb;padding:.8rem}}
#text b.none{{font-size:0}}
#text b::before{{content:attr(data-mark);font:.9rem ui-monospace,monospace;opacity:.6}}
#text i:hover{{outline:2px solid #d00}}
#text i:hover::after{{content:attr(data-say);position:fixed;left:0;right:0;bottom:0;z-index:1;
padding:.6rem 1rem;font-size:1.1rem;white-space:pre-wrap;color:#fff;background:#222}}
{rules}
</style>
<h1>{title}</h1>
<table>
{facts}
</table>
<p class="legend">bits a token: {legend}</p>
<div id="text">{text}</div>
<h2>{caption}</h2>
<table class="rows">
{table}
</table>
</html>
"""
