"""Leaving rows out of a snapshot whose time-to-live has passed (`lake.contract.expiry`).

They are deleted from the snapshot's table after its changes were applied, at every build and refresh. Their versions
need not be kept: whatever the stream gives again it gives to its end, so that a row which comes back in between is
the newest again, and is judged again. The attribute is judged as the row has it, so a row whose time was put off
comes back with the change that did so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb

from lake.contract.expiry import Expiry, LeftOut
from lake.stored import rows_of, stored, value_of
from lake.times import utc
from lake.types import NULLS, Column, Decimal38, Int64, NumberText
from lake.widen import Held

LAYOUT: Final = """CREATE TABLE IF NOT EXISTS _lake.left_out (
    table_name VARCHAR, attribute VARCHAR, as_of TIMESTAMP, row_count BIGINT)"""
"""One row for a table from which expired rows are left out; its count is that of the last build or refresh."""


def expired(columns: Sequence[Column], expiry: Expiry) -> str:
    """The condition of a table's expired rows, over its stored rows; false where no row has the attribute."""
    numbers = []
    for column in columns:
        if column.attribute != expiry.attribute:
            continue
        if isinstance(column.type, Int64 | Decimal38 | NumberText):
            numbers.append(value_of(column.name))
        if column.companion is not None:
            numbers.append(f"json_extract_string({value_of(column.companion)}, '/N')")
    first, last = expiry.bounds_s
    tests = [
        f"try_cast({text} AS DOUBLE) > {first} AND try_cast({text} AS DOUBLE) < {last}" for text in numbers
    ]
    return " OR ".join(f"({test})" for test in tests) or "false"


def count_types(con: duckdb.DuckDBPyConnection, rows: str, held: Sequence[Held]) -> dict[str, dict[str, int]]:
    """How many rows of a relation of stored rows hold which type: attribute -> DynamoDB type tag -> rows."""
    columns = [one for one in held if one.main]
    wanted = [f"count({stored(one.column.name)})" for one in columns]
    paired = [one for one in columns if one.column.companion is not None]
    wanted += [
        f"""histogram(regexp_extract({stored(one.column.companion or "")}::VARCHAR, '^."([A-Z]+)"', 1))"""
        for one in paired
    ]
    wanted.append(f"list_aggregate(flatten(list({NULLS})), 'histogram')")
    ((*found, nulls),) = con.execute(f"SELECT {', '.join(wanted)} FROM {rows}").fetchall()
    counts: dict[str, dict[str, int]] = {}
    for one, count in zip(columns, found, strict=False):
        counts.setdefault(one.column.attribute, {})[one.main or ""] = count
    for one, others in zip(paired, found[len(columns) :], strict=True):
        counts[one.column.attribute].update(others or {})
    for attribute, count in (nulls or {}).items():
        counts.setdefault(attribute, {})["NULL"] = count
    return counts


def less(counts: Mapping[str, int], fewer: Mapping[str, int]) -> dict[str, int]:
    """Counts by type tag, less others; a tag that no row holds any more is left out."""
    return {tag: rows - fewer.get(tag, 0) for tag, rows in counts.items() if rows > fewer.get(tag, 0)}


def delete_expired(
    con: duckdb.DuckDBPyConnection, table: str, held: Sequence[Held], expiry: Expiry
) -> tuple[int, dict[str, dict[str, int]]]:
    """Deletes a table's expired rows; gives how many they were, and their types as `count_types` does."""
    condition = expired([one.column for one in held], expiry)
    counts = count_types(con, f"{rows_of(table)} WHERE {condition}", held)
    ((rows,),) = con.execute(f"DELETE FROM {rows_of(table)} WHERE {condition}").fetchall()
    return int(rows), counts


def note_left_out(
    con: duckdb.DuckDBPyConnection, table: str, expiry: Expiry | None, rows: int
) -> LeftOut | None:
    """Puts down, in place of what stood there, what was left out of a table; nothing if `expiry` is None."""
    con.execute(LAYOUT)
    con.execute("DELETE FROM _lake.left_out WHERE table_name = ?", [table])
    if expiry is None:
        return None
    con.execute(
        "INSERT INTO _lake.left_out VALUES (?, ?, ?, ?)",
        [table, expiry.attribute, utc(expiry.as_of_ms), rows],
    )
    return expiry.left_out(rows)


def left_out_of(con: duckdb.DuckDBPyConnection, table: str) -> LeftOut | None:
    """What was left out of a table of a snapshot; None where expired rows are not left out."""
    try:
        found = con.execute(
            "SELECT attribute, epoch_ms(as_of), row_count FROM _lake.left_out WHERE table_name = ?", [table]
        ).fetchall()
    except duckdb.CatalogException:
        return None
    return LeftOut(*found[0]) if found else None
