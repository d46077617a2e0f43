"""An extract brought up to date: rows that changed since are deleted from it, and inserted as they are now.

A copy of the extract is changed and put in its place, so whoever reads, and whatever is killed, the file there is
the old extract or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lake.contract.rows import VERSION, WRITTEN_AT
from lake.errors import ExportError
from lake.export.extract import ExtractColumn, rows_query
from lake.export.hyper import SCHEMA, hyper_connection, write_query
from lake.export.target import workplace
from lake.export.trail import NoTrailError, Trail, key_columns
from lake.open import Lake
from lake.stored import ROW, rows_of, rows_table, stored
from lake.types import identifier, literal

LARGEST_SHARE: Final = 2
"""Changes to more than one row in so many are as quickly written in full; and after as many rows were replaced,
the file is written anew, since Hyper keeps the room of deleted rows."""

GONE: Final = "gone"
ROWS: Final = "rows"
"""The two tables of a file of changes: the keys whose rows go, and the rows that come."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between an extract and the table as the snapshot has it.

    Attributes:
        gone: rows of the extract that are not in the table any more as they were.
        come: rows of the table that are not in the extract as they are.
    """

    gone: int
    come: int


def find_changes(lake: Lake, table: str, trail: Trail, file: Path) -> Changes:
    """Finds what differs, for `write_changes`.

    Args:
        lake: the snapshot.
        table: the table's name in it.
        trail: what the extract's trail tells.
        file: the trail.

    Raises:
        NoTrailError: so much has changed that the extract is better written in full.
    """
    con, name = lake.connection, rows_table(table)
    same = " AND ".join(f"now.{stored(column)} = old.k{number}" for number, column in enumerate(trail.key))
    same += f" AND now.{VERSION} IS NOT DISTINCT FROM old.version"
    same += f" AND now.{WRITTEN_AT} IS NOT DISTINCT FROM old.written_at"
    old = f"read_parquet({literal(str(file))})"
    keys = ", ".join(f"old.k{number}" for number in range(len(trail.key)))
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE _extract_gone AS
        SELECT {keys} FROM {old} AS old ANTI JOIN {name} AS now ON {same}"""
    )
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE _extract_come AS
        SELECT now.rowid AS id FROM {name} AS now ANTI JOIN {old} AS old ON {same}"""
    )
    gone, come = con.execute(
        "SELECT (SELECT count(*) FROM _extract_gone), (SELECT count(*) FROM _extract_come)"
    ).fetchall()[0]
    rows = max(lake.freshness(table).rows, 1)
    if max(gone, come) * LARGEST_SHARE > rows:
        raise NoTrailError(f"{max(gone, come):,} rows have changed, of {rows:,}")
    if (gone + trail.replaced) * LARGEST_SHARE > rows:
        raise NoTrailError(
            f"{gone + trail.replaced:,} rows have been replaced since it last was, of {rows:,}"
        )
    return Changes(gone, come)


def write_changes(lake: Lake, table: str, columns: Sequence[ExtractColumn], part: Path) -> None:
    """Writes what `find_changes` found to the .hyper file `part`: the tables `gone` and `rows`.

    Raises:
        ExportError: Hyper refuses the data.
    """
    names = key_names(lake, table, columns)
    keys = ", ".join(f"gone.k{number} AS {identifier(name)}" for number, name in enumerate(names))
    write_query(lake, f"SELECT {keys} FROM _extract_gone AS gone", part, GONE)
    changed = f"{rows_query(columns, rows_of(table))} WHERE {ROW}.rowid IN (SELECT come.id FROM _extract_come AS come)"
    write_query(lake, changed, part, ROWS, beside=True)


def apply_changes(
    lake: Lake, table: str, columns: Sequence[ExtractColumn], changes: Changes, file: Path
) -> None:
    """Brings an extract's file up to date; it is of no use if this fails.

    Raises:
        NoTrailError: the extract does not hold the rows that its trail tells.
        ExportError: Hyper refuses the data.
    """
    with workplace(file) as folder:
        payload = folder / "changes.hyper"
        write_changes(lake, table, columns, payload)
        with hyper_connection(file, changes=payload) as hyper:
            _exchange(hyper, table, columns, key_names(lake, table, columns), changes)
            rows = hyper.execute_scalar_query(f"SELECT count(*) FROM {_name('extract', table)}")
    if rows != lake.freshness(table).rows:
        raise NoTrailError("the extract there does not hold the rows that it should")


def _exchange(
    hyper: Any,
    table: str,
    columns: Sequence[ExtractColumn],
    key: Sequence[str],
    changes: Changes,
) -> None:
    target = _name("extract", table)
    same = " AND ".join(f"gone.{identifier(name)} = {target}.{identifier(name)}" for name in key)
    gone = hyper.execute_command(
        f"DELETE FROM {target} WHERE EXISTS (SELECT 1 FROM {_name('changes', GONE)} AS gone WHERE {same})"
    )
    if gone != changes.gone:
        raise NoTrailError("the extract there does not hold the rows that it should")
    names = ", ".join(identifier(each.name) for each in columns)
    come = hyper.execute_command(
        f"INSERT INTO {target} ({names}) SELECT {names} FROM {_name('changes', ROWS)}"
    )
    if come != changes.come:
        raise ExportError(f"of {changes.come:,} changed rows Hyper took {come:,}")


def key_names(lake: Lake, table: str, columns: Sequence[ExtractColumn]) -> list[str]:
    """The names that the key's columns have in the extract, partition key first."""
    names = {each.attribute: each.name for each in columns if each.is_key}
    attributes = {one.column.name: one.column.attribute for one in lake.schema(table)}
    return [names[attributes[name]] for name in key_columns(lake, table)]


def _name(database: str, table: str) -> str:
    return ".".join(map(identifier, (database, SCHEMA, table)))
