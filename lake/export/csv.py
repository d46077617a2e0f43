"""CSV for people: a header, nested values as JSON text, binary as base64, NULL as nothing, "" as "".

Spreadsheets run a cell that begins with = + - @ tab, carriage return or line feed as a formula, some also with the
full-width forms of the first four (OWASP, "CSV Injection"), and what stands in a source's text may come from
anybody. Such text gets a single quote before it, headers too; so does text in which such a character follows single
quotes, so that the way back is certain (`original`). Numbers get none, and stay numbers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lake.export.layout import Layout, order
from lake.export.select import flat_select
from lake.open import Lake
from lake.types import Blob, Json, Text, Type, literal

_FORMULA_STARTS: Final = "=+@\t\r\n＝＋－＠-"
_GUARDED: Final = re.compile(f"'*[{_FORMULA_STARTS}]")


def original(shown: str) -> str:
    """The text that a cell of a text column held before it was made safe."""
    return shown[1:] if shown.startswith("'") and _GUARDED.match(shown) else shown


def write(lake: Lake, table: str, part: Path, layout: Layout) -> None:
    """Writes the table to the file `part`."""
    columns = lake.columns(table)
    ordered = order(columns, layout.sort_by)
    query = flat_select(columns, table, cell, header, ordered, flatten=layout.flatten)
    lake.sql(f"COPY ({query}) TO {literal(str(part))} (FORMAT csv, HEADER, COMPRESSION none)")


def cell(kind: Type, value: str) -> str:
    """The SQL of a cell, from a value's type and its SQL; text and base64 are made safe for spreadsheets."""
    match kind:
        case Text():
            starts = f"regexp_matches({value}, {literal(f'^{_GUARDED.pattern}')})"
            return f"CASE WHEN {starts} THEN '''' || {value} ELSE {value} END"
        case Blob():
            # base64 may begin with a plus.
            return f"CASE WHEN to_base64({value})[1] = '+' THEN '''' ELSE '' END || to_base64({value})"
        case Json():
            return f"{value}::VARCHAR"
        case _:
            return value


def header(name: str) -> str:
    """A column's header, made safe for spreadsheets."""
    return "'" + name if _GUARDED.match(name) else name
