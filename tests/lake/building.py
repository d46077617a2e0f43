"""Snapshots for tests, and items that compare equal where DynamoDB's would."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from lake.contract.numbers import canonical_number
from lake.lines import item_to_line
from lake.snapshot import SnapshotAbout, SnapshotReport, build_snapshot
from lake.stored import METADATA_COLUMNS, rows_table, stored
from lake.types import identifier

LABEL = "2026-01-01T00:00:00.000"
ABOUT = SnapshotAbout("dynalake.a.things", "things", "shard-1:100", True, (), "a test", 1_767_225_600_000)


def version(number: int) -> str:
    return f"{LABEL}/{number:040d}"


def lake_row(item: Mapping[str, Any], number: int = 1) -> dict[str, Any]:
    return {**item, "_lake_version": {"S": version(number)}, "_lake_at": {"N": "1767225600123"}}


def build(
    out: Path,
    rows: Iterable[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Any]] = (),
    table: str = "things",
    key: Sequence[str] = ("pk",),
    **more: Any,
) -> SnapshotReport:
    pages = ([item_to_line(row)] for row in rows)
    return build_snapshot(
        out, table, key, pages, lambda: [[item_to_line(c) for c in changes]], lambda: ABOUT, **more
    )


def as_format_1(out: Path, table: str = "things") -> None:
    """Makes a table of a snapshot what an earlier version of dynalake would have made."""
    with duckdb.connect(str(out)) as con:
        con.execute(f'CREATE TABLE kept AS FROM _lake."{table}"')
        con.execute(f'DROP VIEW main."{table}"; DROP VIEW _lake."{table}"; DROP TABLE _lake_rows."{table}"')
        con.execute(f'CREATE TABLE _lake."{table}" AS FROM kept; DROP TABLE kept')
        con.execute(f'CREATE VIEW main."{table}" AS FROM _lake."{table}"')
        if con.execute("SELECT count(*) FROM _lake.tables").fetchall() == [(1,)]:
            con.execute("DROP SCHEMA _lake_rows; ALTER TABLE _lake.tables DROP COLUMN format")
        else:
            con.execute("UPDATE _lake.tables SET format = NULL WHERE table_name = ?", [table])


def change_rows(con: duckdb.DuckDBPyConnection, table: str, statement: str) -> None:
    """Runs a statement as if `_lake.<table>` was a table with the true names, and not a view."""
    if not re.match("UPDATE|DELETE|INSERT", statement) or f"_lake.{table}" not in statement:
        con.execute(statement)
        return
    con.execute(f'CREATE TABLE _lake.changed AS FROM _lake."{table}"')
    con.execute(re.sub(rf"(?<![\w.])_lake\.{table}\b", "_lake.changed", statement))
    names = con.sql("FROM _lake.changed").columns
    kept = ", ".join(
        identifier(name) if name in METADATA_COLUMNS else f"{identifier(name)} AS {stored(name)}"
        for name in names
    )
    con.execute(f"DELETE FROM {rows_table(table)}")
    con.execute(f"INSERT INTO {rows_table(table)} BY NAME SELECT {kept} FROM _lake.changed")
    con.execute("DROP TABLE _lake.changed")


def normal(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _normal(value) for name, value in item.items()}


def by_key(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(normal(item)["pk"]): normal(item) for item in items}


def _normal(value: Mapping[str, Any]) -> dict[str, Any]:
    ((tag, content),) = value.items()
    match tag:
        case "N":
            content = canonical_number(content)
        case "NS":
            content = sorted(map(canonical_number, content))
        case "SS" | "BS":
            content = sorted(content)
        case "L":
            content = [_normal(element) for element in content]
        case "M":
            content = normal(content)
    return {tag: content}
