"""The table and views that stand on a server, as DESCRIBE FORMATTED and SHOW TBLPROPERTIES tell."""

from __future__ import annotations

from collections.abc import Sequence

from queries.ddl.generated import Generated, SavedState, TableState
from queries.ddl.identifiers import object_name, string_literal
from queries.ddl.table import TableColumn, qualified
from queries.ddl.view import DIGEST
from queries.hive.session import HiveSession


def standing(session: HiveSession, wanted: Generated) -> SavedState:
    """What stands on the server of a generated table and its views.

    Raises:
        EngineError: the server refuses to tell.
    """
    database = wanted.table.database
    found = _names(session, f"SHOW DATABASES LIKE {string_literal(database.lower())}")
    if database.lower() not in found:
        return SavedState(None)
    there = _names(session, f"SHOW TABLES IN {object_name(database, 'database')}")
    views = {}
    for view in wanted.views:
        if view.name.lower() in there:
            digest = _properties(session, qualified(database, view.name, "view")).get(DIGEST)
            if digest is not None:
                views[view.name] = digest
    if wanted.table.name.lower() not in there:
        return SavedState(None, views)
    return SavedState(_table(session, wanted), views)


def _names(session: HiveSession, statement: str) -> set[str]:
    """The names that SHOW answers: of Hive the only column, of Spark one among others."""
    named = ("tab_name", "tableName", "database_name", "namespace", "databaseName")
    rows = session.rows(statement)
    columns = set(rows[0]) if rows else set()
    column = (
        "tableName" if "tableName" in columns else next((name for name in named if name in columns), None)
    )
    return {str(row[column] if column else next(iter(row.values()))).lower() for row in rows}


def _properties(session: HiveSession, target: str) -> dict[str, str]:
    return {
        str(name): str(text)
        for name, text, *_ in (tuple(row.values()) for row in session.rows(f"SHOW TBLPROPERTIES {target}"))
    }


def _table(session: HiveSession, wanted: Generated) -> TableState:
    target = wanted.table.qualified_name
    rows = [
        tuple((value or "").strip() for value in row.values())
        for row in session.rows(f"DESCRIBE FORMATTED {target}")
    ]
    columns, partitions, told = _sections(rows)
    properties = _properties(session, target)
    inside = {column.name.lower() for column in partitions}
    return TableState(
        wanted.table.database,
        wanted.table.name,
        tuple(column for column in columns if column.name.lower() not in inside),
        tuple(partitions),
        properties,
        None if wanted.table.location is None else told.get("Location"),
        properties.get("comment", told.get("Comment")),
        wanted.table.flavour,
    )


def _sections(
    rows: Sequence[tuple[str, ...]],
) -> tuple[list[TableColumn], list[TableColumn], dict[str, str]]:
    """Columns, partition columns, and what is told of the table by name."""
    columns: list[TableColumn] = []
    partitions: list[TableColumn] = []
    told: dict[str, str] = {}
    section: list[TableColumn] | None = columns
    for name, second, third in rows:
        if name.startswith("# col_name") or not name:
            continue
        if name.startswith("#"):
            section = partitions if name.startswith("# Partition") else None
        elif section is None:
            told.setdefault(name.rstrip(":"), second)
        else:
            section.append(TableColumn(name, second, third))
    return columns, partitions, told
