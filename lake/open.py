"""A snapshot, opened for reading: `dynalake.open_lake("lake.duckdb")`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from lake.contract.rows import SOURCE_AT
from lake.errors import SnapshotError
from lake.types import Column, identifier, literal, type_from_json


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far a table of a snapshot can be trusted to be the source's.

    Attributes:
        table: the table's name in the snapshot.
        watermark: the position of the lake table's stream up to which changes are in it.
        complete: whether nothing was known to be missing when it was made.
        gaps: what may be missing, one sentence each.
        newest_source_at: epoch milliseconds of the newest change in it; None if no row knows.
        made_at: when the snapshot of the table was finished, UTC.
        rows: its rows.
    """

    table: str
    watermark: str
    complete: bool
    gaps: tuple[str, ...]
    newest_source_at: int | None
    made_at: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class Description:
    """A column of a table, and what its attribute held.

    Attributes:
        column: how the attribute lives in the table.
        rows: DynamoDB type tag -> number of rows that held it.
        duckdb_type: the column's type in DuckDB.
        is_key: whether the attribute is part of the table's key.
    """

    column: Column
    rows: Mapping[str, int]
    duckdb_type: str
    is_key: bool


class Lake:
    """A snapshot, read only. Close it, or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        """Use `open_lake`."""
        self._path = path
        # Attached, not connected: DuckDB shares one instance for all connections of a process to a path, so a
        # snapshot that was replaced meanwhile would show its old rows to whoever connects again.
        self._con = duckdb.connect()
        try:
            self._con.execute(f"ATTACH {literal(str(path))} AS lake (READ_ONLY)")
            self._con.execute("USE lake")
            # What this class asks must not get in the way of a result that its user has not yet read.
            self._own = self._con.cursor()
            self._own.execute("USE lake")
            self._own.sql("FROM _lake.tables JOIN _lake.columns USING (table_name)")
        except duckdb.CatalogException as error:
            self._con.close()
            raise SnapshotError(f"{path} is a DuckDB file, but not a snapshot made by dynalake") from error
        except duckdb.Error as error:
            self._con.close()
            raise SnapshotError(f"{path} cannot be opened as a snapshot: {error}") from error

    @property
    def path(self) -> Path:
        """The snapshot file."""
        return self._path

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection that `sql` uses, for libraries which want one."""
        return self._con

    def sql(
        self, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Runs a query; the result has `.df()`, `.to_arrow_table()`, `.fetchall()` and more.

        Args:
            text: SQL of DuckDB. A relation is computed when it is read.
            params: values for `?` (a sequence) or `$name` (a mapping).

        Raises:
            duckdb.Error: the query is wrong.
        """
        return self._con.sql(text, params=params)

    def tables(self) -> tuple[str, ...]:
        """The tables' names."""
        found = self._own.execute("SELECT table_name FROM _lake.tables ORDER BY ALL").fetchall()
        return tuple(name for (name,) in found)

    def schema(self, table: str) -> tuple[Description, ...]:
        """The table's columns in order, with what their attributes held.

        Raises:
            SnapshotError: there is no such table.
        """
        self._known(table)
        found = self._own.execute(
            """SELECT attribute, column_name, type::VARCHAR, companion, dynamodb_types::VARCHAR, duckdb_type, is_key
            FROM _lake.columns WHERE table_name = ? ORDER BY ordinal""",
            [table],
        ).fetchall()
        return tuple(
            Description(
                Column(attribute, name, type_from_json(json.loads(kind)), companion),
                json.loads(rows),
                sql_type,
                is_key,
            )
            for attribute, name, kind, companion, rows, sql_type, is_key in found
        )

    def columns(self, table: str) -> tuple[Column, ...]:
        """How the table's attributes live in columns.

        Raises:
            SnapshotError: there is no such table.
        """
        return tuple(one.column for one in self.schema(table))

    def table(self, name: str) -> Any:
        """A table as a `pyarrow.Table`: attributes and companions, the whole of it in memory.

        Raises:
            SnapshotError: there is no such table.
        """
        self._known(name)
        return self._con.sql(f"SELECT * FROM main.{identifier(name)}").to_arrow_table()

    def freshness(self, table: str) -> Freshness:
        """Up to when the table is right, and whether anything may be missing.

        Raises:
            SnapshotError: there is no such table.
        """
        self._known(table)
        (row,) = self._own.execute(
            f"""SELECT watermark, complete, gaps, ended_at, row_count,
                (SELECT max({SOURCE_AT}) FROM _lake.{identifier(table)})
            FROM _lake.tables WHERE table_name = ?""",
            [table],
        ).fetchall()
        watermark, complete, gaps, ended_at, rows, newest = row
        return Freshness(table, watermark, complete, tuple(gaps), newest, ended_at, rows)

    def close(self) -> None:
        """Lets go of the file."""
        self._own.close()
        self._con.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            found = self._own.execute(
                "SELECT table_name, row_count, ended_at, complete, gaps FROM _lake.tables ORDER BY ALL"
            ).fetchall()
        except duckdb.ConnectionException:
            return f"Lake({str(self._path)!r}, closed)"
        lines = [f"Lake({str(self._path)!r})"]
        for name, rows, ended_at, complete, gaps in found:
            warning = "" if complete else f", INCOMPLETE: {'; '.join(gaps) or 'something may be missing'}"
            lines.append(
                f"  {name}: {rows:,} {'row' if rows == 1 else 'rows'} as of {ended_at:%Y-%m-%d %H:%M:%S} UTC{warning}"
            )
        return "\n".join(lines)

    def _known(self, table: str) -> None:
        tables = self.tables()
        if table not in tables:
            raise SnapshotError(f"{self._path} has no table {table!r}; it has {', '.join(tables) or 'none'}")


def open_lake(path: str | Path) -> Lake:
    """Opens a snapshot for reading.

    Raises:
        SnapshotError: there is no such file, or it is not a snapshot.
    """
    file = Path(path)
    if not file.exists():
        raise SnapshotError(f"there is no snapshot {file}: make one with `dynalake snapshot`")
    if not file.is_file():
        raise SnapshotError(f"{file} is not a file, so it is no snapshot")
    return Lake(file)
