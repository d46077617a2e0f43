"""A snapshot, opened for reading: `dynalake.open_lake("lake.duckdb")`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb

from lake.contract.expiry import LeftOut
from lake.contract.positions import StreamPositions
from lake.contract.rows import SOURCE_AT
from lake.errors import SnapshotError, explain
from lake.expired import left_out_of
from lake.foreign import refuse_code, refuse_views
from lake.show import html_note, html_table, text_table
from lake.stored import ROW, require_current, rows_of
from lake.times import utc
from lake.types import Column, identifier, literal, type_from_json

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far a table of a snapshot can be trusted to be the source's.

    Attributes:
        table: the table's name in the snapshot.
        watermark: the position of the lake table's stream up to which changes are in it.
        as_of: what was written to the lake before then is in it, UTC; None where nobody can tell.
        complete: whether it lacks nothing but what was still on its way when it was made: no gap was open, and the
            pipeline's health was known (`lake.contract.evidence`).
        gaps: why it may lack something, one sentence each.
        newest_source_at: epoch milliseconds of the newest change in it; None if no row knows.
        made_at: when the snapshot of the table was finished, UTC.
        rows: its rows.
    """

    table: str
    watermark: str
    as_of: datetime | None
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


class Schema(tuple[Description, ...]):
    """A table's columns in order; shows itself as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        return text_table(_SCHEMA_HEAD, self._rows())

    def _repr_html_(self) -> str:
        return html_table(_SCHEMA_HEAD, self._rows())

    def _rows(self) -> list[list[str]]:
        return [
            [
                one.column.name,
                one.duckdb_type,
                ", ".join(f"{tag} {rows:,}" for tag, rows in one.rows.items()),
                one.column.companion or "",
                "key" if one.is_key else "",
            ]
            for one in self
        ]


_SCHEMA_HEAD: Final = ("column", "type", "rows by DynamoDB type", "companion", "key")


class Lake:
    """A snapshot, read only. Close it, or use it in a `with` block.

    It shows the version that was published when it was opened, for as long as it is open; `stale` says whether
    there is a newer one, and `reload` takes it.
    """

    def __init__(
        self, path: Path, only: str | None = None, *, trusted: bool = False, files: bool = False
    ) -> None:
        """Use `open_lake`."""
        self._path, self._only, self._trusted, self._files = path, only, trusted, files
        self._sealed = False
        # Attached, not connected: DuckDB shares one instance for all connections of a process to a path, so a
        # snapshot that was replaced meanwhile would show its old rows to whoever connects again.
        self._con = duckdb.connect()
        # What this class asks must not get in the way of a result that its user has not yet read.
        self._own = self._con.cursor()
        try:
            self._attach()
        except SnapshotError:
            self._con.close()
            raise

    def _attach(self) -> None:
        try:
            self._stamp = _stamp(self._path)
            # With the type, as DuckDB would fetch an extension for a file of another database.
            self._con.execute(f"ATTACH {literal(str(self._path))} AS lake (READ_ONLY, TYPE duckdb)")
            if not self._trusted:
                self._guard()
            for con in (self._con, self._own):
                con.execute("USE lake")
            self._own.sql("FROM _lake.tables JOIN _lake.columns USING (table_name)")
            require_current(self._own, self._path, self._only)
            if not self._trusted and (self._only is None or self._files):
                refuse_views(self._own, "lake", self._path, self._only)
        except duckdb.CatalogException as error:
            raise SnapshotError(
                f"{self._path} is a DuckDB file, but not a snapshot made by dynalake"
            ) from error
        except (duckdb.Error, OSError) as error:
            raise SnapshotError(f"{self._path} cannot be opened as a snapshot: {error}") from error

    def _guard(self) -> None:
        """Sees to it that nothing that the file brings can run, or read anything else than the file."""
        refuse_code(self._con, self._path)
        if not self._files and not self._sealed:
            self._con.execute("SET enable_external_access = false")
            self._con.execute("SET lock_configuration = true")
            self._sealed = True

    @property
    def stale(self) -> bool:
        """Whether another version was published since this one was opened."""
        try:
            return _stamp(self._path) != self._stamp
        except OSError:
            return False

    def reload(self) -> Self:
        """Takes the version that is published now. What was asked before and not yet read can no longer be.

        Raises:
            SnapshotError: it cannot be opened, or a result of this version is still being read.
        """
        if self.stale:
            try:
                for con in (self._con, self._own):
                    con.execute("USE memory")
                self._own.execute("DETACH lake")
            except duckdb.Error as error:
                for con in (self._con, self._own):
                    con.execute("USE lake")
                raise SnapshotError(
                    f"{self._path} cannot be reloaded while a result of this version is being read: {error}"
                ) from error
            self._attach()
        return self

    @property
    def path(self) -> Path:
        """The snapshot file."""
        return self._path

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection that `sql` uses, for libraries which want one."""
        return self._con

    def cursor(self) -> Cursor:
        """A cursor as PEP 249 has it, where the snapshot's tables need no prefix either.

        With `commit` and `rollback` this is what JupySQL asks of a connection, so `%sql lake` takes the lake itself;
        it is asked anew for each query, so the version that `reload` took is the one that is shown.
        """
        cursor = self._con.cursor()
        cursor.execute("USE lake")
        return Cursor(cursor)

    def commit(self) -> None:
        """Nothing to do: a snapshot is only read."""

    def rollback(self) -> None:
        """Nothing to do: a snapshot is only read."""

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
        try:
            return self._con.sql(text, params=params)
        except duckdb.Error as error:
            explain(error)
            raise

    def tables(self) -> tuple[str, ...]:
        """The tables' names."""
        found = self._own.execute("SELECT table_name FROM _lake.tables ORDER BY ALL").fetchall()
        return tuple(name for (name,) in found)

    def schema(self, table: str) -> Schema:
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
        return Schema(
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

    def df(self, name: str) -> DataFrame:
        """A table as a pandas DataFrame, the whole of it in memory.

        Columns keep the types that they have in the snapshot (pandas' ArrowDtype): pandas' own would turn integers
        with NULLs into floats, and decimals into objects.

        Raises:
            SnapshotError: there is no such table.
        """
        import pandas as pd

        frame: pd.DataFrame = self.table(name).to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def pl(self, name: str) -> Any:
        """A table as a `polars.DataFrame`, the whole of it in memory.

        Raises:
            SnapshotError: there is no such table, or Polars is not installed.
        """
        self._known(name)
        try:
            import polars as pl
        except ImportError as error:
            raise SnapshotError("Polars is not installed", remedy="run `pip install polars`") from error
        return pl.from_arrow(self.table(name))

    def freshness(self, table: str) -> Freshness:
        """Up to when the table is right, and whether anything may be missing.

        Raises:
            SnapshotError: there is no such table.
        """
        self._known(table)
        (row,) = self._own.execute(
            f"""SELECT watermark, complete, gaps, ended_at, row_count,
                (SELECT max({ROW}.{SOURCE_AT}) FROM {rows_of(table)})
            FROM _lake.tables WHERE table_name = ?""",
            [table],
        ).fetchall()
        watermark, complete, gaps, ended_at, rows, newest = row
        positions = self.positions(table)
        as_of = utc(positions.as_of) if positions else None
        return Freshness(table, watermark, as_of, complete, tuple(gaps), newest, ended_at, rows)

    def positions(self, table: str) -> StreamPositions | None:
        """Where the lake table's stream goes on from the table; None where nobody can tell.

        Raises:
            SnapshotError: there is no such table.
        """
        self._known(table)
        try:
            found = self._own.execute(
                """SELECT stream, shard, sequence_number, finished, epoch_ms(as_of) FROM _lake.shards
                WHERE table_name = ?""",
                [table],
            ).fetchall()
        except duckdb.CatalogException:
            return None
        if not found:
            return None
        after = {shard: number for _, shard, number, finished, _ in found if shard and not finished}
        done = frozenset(shard for _, shard, _, finished, _ in found if finished)
        return StreamPositions(found[0][0], after, done, found[0][4])

    def left_out(self, table: str) -> LeftOut | None:
        """What the last build or refresh left out of the table because it had expired; None where nothing is.

        Raises:
            SnapshotError: there is no such table.
        """
        self._known(table)
        return left_out_of(self._own, table)

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
        rows = self._rows()
        if rows is None:
            return f"Lake({str(self._path)!r}, closed)"
        newer = "\n  a newer version was published: .reload()" if self.stale else ""
        lines = "".join(
            f"\n  {name}: {count} as of {as_of}{warning and ', ' + warning}"
            for name, count, as_of, warning in rows
        )
        return f"Lake({str(self._path)!r}){lines}{newer}"

    def _repr_html_(self) -> str:
        rows = self._rows()
        if rows is None:
            return html_note(f"Lake {self._path}, closed")
        newer = ". A newer version was published: .reload()" if self.stale else ""
        return html_note(f"Lake {self._path}{newer}") + html_table(("table", "rows", "as of", ""), rows)

    def _rows(self) -> list[tuple[str, str, str, str]] | None:
        """Table, rows, as of when, and a warning where it may lack something; None once it is closed."""
        try:
            found = self._own.execute(
                "SELECT table_name, row_count, ended_at, complete, gaps FROM _lake.tables ORDER BY ALL"
            ).fetchall()
        except duckdb.ConnectionException:
            return None
        shown = []
        for name, rows, ended_at, complete, gaps in found:
            positions = self.positions(name)
            as_of = utc(positions.as_of) if positions else ended_at
            warning = "" if complete else f"INCOMPLETE: {'; '.join(gaps) or 'something may be missing'}"
            count = f"{rows:,} {'row' if rows == 1 else 'rows'}"
            shown.append((name, count, f"{as_of:%Y-%m-%d %H:%M:%S} UTC", warning))
        return shown

    def _known(self, table: str) -> None:
        tables = self.tables()
        if table not in tables:
            raise SnapshotError(f"{self._path} has no table {table!r}; it has {', '.join(tables) or 'none'}")


class Cursor:
    """DuckDB's cursor, whose mistakes of SQL read in a notebook as the lake's own errors do."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Use `Lake.cursor`."""
        self._cursor = cursor

    def execute(self, query: str, parameters: object = None) -> Self:
        """Runs a query; what it answers is read from this cursor, by `fetchall()`, `df()` and the others of DuckDB.

        Raises:
            duckdb.Error: the query is wrong.
        """
        try:
            self._cursor.execute(query, parameters)
        except duckdb.Error as error:
            explain(error)
            raise
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def open_lake(
    path: str | Path, only: str | None = None, *, trusted: bool = False, files: bool = False
) -> Lake:
    """Opens a snapshot for reading.

    Args:
        path: the file.
        only: the one table that is read, where that is known: others may then be of an outdated format.
        trusted: whether the file is known to come from somebody who may run code here. Otherwise its SQL can read
            nothing but the file, settings are locked, and a file with macros, or with views that dynalake did not
            create, is refused.
        files: whether statements of ours read and write other files, as an export does; users' SQL must not run then.

    Raises:
        OutdatedSnapshotError: an earlier version of dynalake made a table in a way that could make it wrong; the
            text says what to run.
        SnapshotError: there is no such file, it is not a snapshot, or it contains what dynalake did not create.
    """
    file = Path(path)
    if not file.exists():
        raise SnapshotError(f"there is no snapshot {file}", remedy="make one with `dynalake snapshot`")
    if not file.is_file():
        raise SnapshotError(f"{file} is not a file, so it cannot be a snapshot")
    return Lake(file, only, trusted=trusted, files=files)
