"""HTML for notebooks, in pieces. Every text is escaped; no script, style sheet or outside file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from homespun.cli.output import printable

_CELL = "text-align:left;padding:2px 10px 2px 0"


def text(words: str) -> str:
    """Words as text of an element or value of a quoted attribute."""
    return escape(printable(words), quote=True)


def card(title: str, *parts: str) -> str:
    """A heading and what belongs to it.

    Args:
        title: plain text.
        parts: HTML, as made here; empty ones are left out.
    """
    return f"<div><strong>{text(title)}</strong>{''.join(parts)}</div>"


def line(words: str, *, faint: bool = False) -> str:
    """A line of plain text; nothing where it is empty."""
    style = ' style="opacity:0.7"' if faint else ""
    return f"<div{style}>{text(words)}</div>" if words else ""


def bar(done: int, total: int) -> str:
    """How much of something is done."""
    return (f'<div><progress value="{max(0, done)}" max="{max(1, total)}" '
            'style="width:24em"></progress></div>')


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of plain text; nothing where there is no row."""
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{text(str(cell))}</td>' for cell in row) + "</tr>"
        for row in rows)
    head = "".join(f'<th scope="col" style="{_CELL}">{text(name)}</th>' for name in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else ""
