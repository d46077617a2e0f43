"""What a snapshot must not contain, because a snapshot may come from somebody else.

A DuckDB file can hold code: a view or a macro runs when a statement names it, and a macro can even replace a function
of DuckDB that a statement of ours calls. Such code could read local files, credentials among them, through
`read_text` and the like. So nothing in a snapshot runs before this module has looked at what the file contains:

- macros are refused everywhere;
- dynalake's own tables must be tables, and its views must be the ones that it would create;
- other views are refused where users run SQL (`lake.open`), unless the user trusts the file.

Whoever opens a file with DuckDB itself is on his own: `duckdb -safe -readonly lake.duckdb` allows no file access.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import duckdb

from lake.errors import SnapshotError
from lake.stored import METADATA_COLUMNS, METADATA_TABLES, ROWS_SCHEMA, named_rows
from lake.types import Column, identifier, literal, type_from_json


def refuse_code(con: duckdb.DuckDBPyConnection, path: object) -> None:
    """Refuses a snapshot with macros, or with views in place of dynalake's tables.

    Args:
        con: a connection that has the snapshot, and nothing else of anybody's.
        path: what to call it.

    Raises:
        SnapshotError: it contains what dynalake did not write.
    """
    # Until this has run a macro could stand for any function, so only operators and qualified names are used.
    macros = con.execute(
        """SELECT found.schema_name, found.function_name FROM system.main.duckdb_functions() AS found
        WHERE NOT found.internal AND found.database_name <> 'temp'"""
    ).fetchall()
    _refuse(path, "macros", macros)
    views = con.execute(
        """SELECT found.schema_name, found.view_name FROM system.main.duckdb_views() AS found
        WHERE NOT found.internal AND (
            found.schema_name = $1 OR found.schema_name = '_lake' AND lower(found.view_name) IN (SELECT unnest($2)))""",
        [ROWS_SCHEMA, list(METADATA_TABLES)],
    ).fetchall()
    _refuse(path, "views in place of tables", views)


def refuse_views(
    con: duckdb.DuckDBPyConnection, database: str, path: object, table: str | None = None
) -> None:
    """Refuses a snapshot with views that dynalake did not create; `refuse_code` must have accepted it.

    Args:
        con: a connection.
        database: the name under which the snapshot is attached.
        path: what to call it.
        table: the one table that is read; other views than its own are then left alone, as nothing runs them.

    Raises:
        SnapshotError: it contains such a view.
    """
    found = con.execute(
        """SELECT found.schema_name, found.view_name, found.sql FROM system.main.duckdb_views() AS found
        WHERE found.database_name = $1 AND NOT found.internal""",
        [database],
    ).fetchall()
    own = dict(_own_views(con, database))
    foreign = []
    for schema, name, text in found:
        select = own.get((schema, name))
        if select is None and table is not None and name.casefold() != table.casefold():
            continue
        # The view's text ends with its whole query: nothing else that is valid SQL can end with ` AS SELECT …`.
        if select is None or not text.endswith(f" AS {select};"):
            foreign.append((schema, name))
    _refuse(path, "views", foreign)


def _own_views(con: duckdb.DuckDBPyConnection, database: str) -> Iterable[tuple[tuple[str, str], str]]:
    """Schema and name of each view that dynalake creates, with its query as this version of DuckDB writes it."""
    columns: dict[str, list[Column]] = {}
    for name, *column in con.execute(
        f"""SELECT told.table_name, told.attribute, told.column_name, told.type::VARCHAR, told.companion
        FROM {identifier(database)}._lake.columns AS told ORDER BY told.ordinal"""
    ).fetchall():
        attribute, column_name, kind, companion = column
        columns.setdefault(name, []).append(
            Column(attribute, column_name, type_from_json(json.loads(kind)), companion)
        )
    for name, held in columns.items():
        for schema, metadata in (("main", ()), ("_lake", METADATA_COLUMNS)):
            yield (schema, name), _canonical(con, named_rows(name, held, metadata))


def _canonical(con: duckdb.DuckDBPyConnection, query: str) -> str:
    ((text,),) = con.execute(f"SELECT json_deserialize_sql(json_serialize_sql({literal(query)}))").fetchall()
    return str(text)


def _refuse(path: object, what: str, found: Sequence[tuple[str, str]]) -> None:
    if not found:
        return
    names = ", ".join(f"{schema}.{name}" for schema, name in sorted(set(found))[:5])
    raise SnapshotError(
        f"{path} contains {what} that dynalake did not create ({names}), and they could read local files",
        remedy="remove them, make a new snapshot with `dynalake snapshot`, or, if you trust whoever made the file, "
        "open it with `dynalake.open_lake(path, trusted=True)`",
    )
