"""CSV for people: a header, nested values as JSON text, binary as base64, NULL as nothing, "" as "".

Spreadsheets run a cell that begins with = + - @ tab or carriage return as a formula (OWASP, "CSV Injection"),
and what stands in a source's text may come from anybody. Such text gets a single quote before it, headers
too; numbers do not, and stay numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lake.export.select import flat_select
from lake.open import Lake
from lake.types import Blob, Json, Text, Type, literal

_FORMULA_STARTS: Final = "=+-@\t\r"


def write(lake: Lake, table: str, part: Path) -> None:
    """Writes the table to the file `part`."""
    query = flat_select(lake.columns(table), table, _cell, _header)
    lake.sql(f"COPY ({query}) TO {literal(str(part))} (FORMAT csv, HEADER, COMPRESSION none)")


def _cell(kind: Type, value: str) -> str:
    match kind:
        case Text():
            starts = literal(f"[{_FORMULA_STARTS.replace('-', '')}-]")
            return (
                f"CASE WHEN regexp_matches(left({value}, 1), {starts}) THEN '''' || {value} ELSE {value} END"
            )
        case Blob():
            # base64 may begin with a plus.
            return f"CASE WHEN to_base64({value})[1] = '+' THEN '''' ELSE '' END || to_base64({value})"
        case Json():
            return f"{value}::VARCHAR"
        case _:
            return value


def _header(name: str) -> str:
    return "'" + name if name[0] in _FORMULA_STARTS else name
