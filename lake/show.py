"""What a notebook or a terminal shows of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, each column as wide as it must be."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as an HTML table; whatever a name holds is text."""
    top = "".join(f'<th style="text-align:left">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def html_note(text: str) -> str:
    """A line of text."""
    return f"<p>{escape(text)}</p>"
