"""How a table's rows are stored in a snapshot, so that names of the data and our own never share a scope in SQL.

    _lake_rows."orders"   the rows: each data column is stored under its name with a prefix (`a:`), dynalake's own
                          columns (`_lake_version` and so on) under theirs
    _lake."orders"        a view for readers: true names, and dynalake's own columns
    main."orders"         a view for readers: true names alone

DynamoDB allows any text as an attribute's name, and in DuckDB a column of the data shadows much of what SQL of ours
relies on: the pseudo-column `rowid`, a table's alias, the other side of a join, and even the parameter of a lambda
(tried with 2.0: `list_transform(l, lambda x: x + 1)` reads a column `x` if there is one). With the prefix no data
column can have such a name, whatever the attribute is called, so statements that we write use the stored rows. SQL
that users write (a sort order, a partition) uses the views, which hold no name of ours but the documented ones.
A view has no pseudo-columns, so `rowid` in a query of a view is the attribute of that name.

Snapshots of format 1 stored the rows in `_lake."orders"` under the true names. A refresh of such a table could keep
deleted rows, repeat rows, or lose some. They are not read any more, and `refresh` makes them anew with a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import duckdb

from lake.contract.rows import SOURCE_AT, VERSION, WRITTEN_AT
from lake.errors import OutdatedSnapshotError, SnapshotError
from lake.types import NULLS, Column, identifier

FORMAT: Final = 2
"""The version of a table's layout, kept in `_lake.tables`; it goes up when older tables must be rebuilt."""

ROWS_SCHEMA: Final = "_lake_rows"

METADATA_TABLES: Final = ("tables", "columns", "schema_history", "shards", "tombstones", "left_out")
"""The snapshot's own tables in the schema `_lake`, where each table's view with metadata is too."""

PREFIX: Final = "a:"
"""No identifier of SQL begins so unless it is quoted, so no name of ours and no pseudo-column of an engine does."""

ROW: Final = "stored"
"""The alias of the stored rows in our statements."""

METADATA_COLUMNS: Final = (VERSION, WRITTEN_AT, SOURCE_AT, NULLS)
"""The columns of dynalake's own that each stored row has."""


def stored(name: str) -> str:
    """A data column's stored name, as an SQL identifier."""
    return identifier(PREFIX + name)


def value_of(name: str) -> str:
    """A data column's values, in a statement over the stored rows under the alias `ROW`."""
    return f"{ROW}.{stored(name)}"


def rows_table(table: str) -> str:
    """The table that holds the rows, as SQL."""
    return f"{ROWS_SCHEMA}.{identifier(table)}"


def column_names_of(columns: Sequence[Column]) -> list[str]:
    """The names of all data columns in order, each companion after its main column."""
    return [name for one in columns for name in (one.name, one.companion) if name is not None]


def rows_of(table: str, columns: Sequence[Column] = (), computed: Sequence[tuple[str, str]] = ()) -> str:
    """The stored rows as a relation under the alias `ROW`.

    Args:
        table: the table's name.
        columns: its columns; needed only with `computed`.
        computed: further columns, each a name of ours (`_lake_…`) and an expression that a user wrote. It is
            evaluated where only true names, and the metadata that the documentation names, are known.
    """
    if not computed:
        return f"{rows_table(table)} AS {ROW}"
    view = identifier(table)
    parts = [f"{view}.{identifier(name)} AS {stored(name)}" for name in column_names_of(columns)]
    parts += [f"{view}.{name}" for name in METADATA_COLUMNS]
    parts += [f"({expression}) AS {name}" for name, expression in computed]
    return f"(SELECT {', '.join(parts)} FROM _lake.{view}) AS {ROW}"


def named_rows(table: str, columns: Sequence[Column], metadata: Sequence[str] = METADATA_COLUMNS) -> str:
    """The SELECT of the stored rows under the true names of the columns, with columns of dynalake's own."""
    parts = [f"{value_of(name)} AS {identifier(name)}" for name in column_names_of(columns)]
    parts += [f"{ROW}.{name}" for name in metadata]
    return f"SELECT {', '.join(parts)} FROM {rows_of(table)}"


def create_views(con: duckdb.DuckDBPyConnection, table: str, columns: Sequence[Column]) -> None:
    """Creates, or replaces, the two views in which readers see the true names."""
    name = identifier(table)
    con.execute(f"CREATE OR REPLACE VIEW main.{name} AS {named_rows(table, columns, ())}")
    con.execute(f"CREATE OR REPLACE VIEW _lake.{name} AS {named_rows(table, columns)}")


def drop_views(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Takes the views away, so that the table below them can change."""
    for schema in ("main", "_lake"):
        con.execute(f"DROP VIEW IF EXISTS {schema}.{identifier(table)}")


def drop_rows(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Takes a table's rows and views away, of whichever format."""
    old = con.execute(
        """SELECT found.table_name FROM duckdb_tables() AS found
        WHERE found.database_name = current_database() AND found.schema_name = '_lake' AND found.table_name = ?""",
        [table],
    ).fetchall()
    con.execute(f"DROP VIEW IF EXISTS main.{identifier(table)}")
    con.execute(f"DROP {'TABLE' if old else 'VIEW'} IF EXISTS _lake.{identifier(table)}")
    con.execute(f"DROP TABLE IF EXISTS {rows_table(table)}")


def formats(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The tables of an open snapshot, each with the version of its layout."""
    try:
        found = con.execute("SELECT told.table_name, told.format FROM _lake.tables AS told").fetchall()
    except duckdb.BinderException:  # before format 2 there was no such column
        found = con.execute("SELECT told.table_name, 1 FROM _lake.tables AS told").fetchall()
    return {name: format_ or 1 for name, format_ in found}


def require_current(con: duckdb.DuckDBPyConnection, path: object, table: str | None = None) -> None:
    """Refuses tables that an earlier version of dynalake stored in a way that could make them wrong.

    Args:
        con: the open snapshot.
        path: what to call it.
        table: the one table that matters; all if not given.

    Raises:
        OutdatedSnapshotError: a table must be rebuilt; the text says how.
        SnapshotError: a later version of dynalake made it.
    """
    found = {name: format_ for name, format_ in formats(con).items() if table in (None, name)}
    later = sorted(name for name, format_ in found.items() if format_ > FORMAT)
    if later:
        raise SnapshotError(
            f"{path}: a later version of dynalake made the table {', '.join(map(repr, later))}",
            remedy="update dynalake",
        )
    outdated = sorted(name for name, format_ in found.items() if format_ < FORMAT)
    if outdated:
        commands = " and ".join(f"`dynalake refresh {name} --out {path}`" for name in outdated)
        raise OutdatedSnapshotError(
            f"{path}: an earlier version of dynalake made {', '.join(map(repr, outdated))}, and its refreshes could "
            "leave wrong rows",
            remedy=f"run {commands}, which reads the lake table anew",
        )
