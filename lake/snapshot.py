"""A snapshot: a lake table as of one watermark, in a DuckDB file that any DuckDB client opens.

    "<table>"                 a view for readers: attributes and companions; no metadata, no tombstones
    _lake."<table>"           the same rows with `_lake_version`, `_lake_at`, `_lake_source_at`, `_lake_nulls`
    _lake.tables              what was read, when, as of which watermark, and whether anything may be missing
    _lake.columns             attribute, column, types with row counts
    _lake.schema_history      when an attribute was first seen with a kind
    _lake.shards              how far each shard of the lake table's stream is applied: a refresh goes on there
    _lake.tombstones          the versions of deleted items: they block older versions (`lake.refresh`)

Rows come from a scan, and then from the lake table's stream since before the scan. Both are sources of
changes under the one rule (`lake.contract.versions`), and this module is its translation for DuckDB.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from lake.atomic import Replacement, replacing
from lake.contract.catalogue import Observation
from lake.contract.positions import StreamPositions
from lake.contract.rows import DELETED, VERSION
from lake.contract.versions import ABSENT
from lake.decode import decode_error, raw_lines, typed_select
from lake.discover import Found, discover, majority, prepare
from lake.errors import ContractError, DecodeError, SnapshotError
from lake.lines import pick_lines, spool
from lake.rule import held_rows
from lake.times import utc
from lake.types import duckdb_type, identifier, literal, type_to_json

MEMORY_LIMIT: Final = "1GiB"
"""What DuckDB may use before it spills to disk: leaves room on a laptop or a small container of 2 GB."""

_RESERVED: Final = ("tables", "columns", "schema_history", "shards", "tombstones")
"""The snapshot's own tables in `_lake`, where each table's rows are too."""

WRAPPERS: Final = ("NewImage", "OldImage")

_BATCH: Final = 10_000
"""Line numbers in Python at a time."""

_LAYOUT: Final = (
    "CREATE SCHEMA IF NOT EXISTS _lake",
    """CREATE TABLE IF NOT EXISTS _lake.tables (
        table_name VARCHAR, lake_table VARCHAR, source_table VARCHAR, row_count BIGINT, tombstones BIGINT,
        started_at TIMESTAMP, ended_at TIMESTAMP, watermark VARCHAR, complete BOOLEAN, gaps VARCHAR[],
        made_by VARCHAR, key VARCHAR[])""",
    """CREATE TABLE IF NOT EXISTS _lake.columns (
        table_name VARCHAR, attribute VARCHAR, column_name VARCHAR, dynamodb_types JSON,
        duckdb_type VARCHAR, companion VARCHAR, type JSON, ordinal INTEGER, is_key BOOLEAN,
        main_type VARCHAR)""",
    """CREATE TABLE IF NOT EXISTS _lake.schema_history (
        table_name VARCHAR, attribute VARCHAR, kind VARCHAR, first_seen TIMESTAMP, version VARCHAR)""",
    """CREATE TABLE IF NOT EXISTS _lake.shards (
        table_name VARCHAR, stream VARCHAR, shard VARCHAR, sequence_number VARCHAR, finished BOOLEAN,
        as_of TIMESTAMP)""",
    """CREATE TABLE IF NOT EXISTS _lake.tombstones (table_name VARCHAR, key VARCHAR, version VARCHAR)""",
)
"""Times are UTC."""


@dataclass(frozen=True, slots=True)
class SnapshotAbout:
    """What a snapshot tells of its origin.

    Attributes:
        lake_table: the lake table that was read.
        source_table: the source table that it follows.
        watermark: the position of the lake table's stream up to which changes are applied, as text.
        complete: whether nothing is known to be missing.
        gaps: the open gaps, one sentence each.
        made_by: how it was made, for people.
        started_at: epoch milliseconds.
        positions: where the lake table's stream goes on; None where nobody may go on from this snapshot.
    """

    lake_table: str
    source_table: str
    watermark: str
    complete: bool
    gaps: tuple[str, ...]
    made_by: str
    started_at: int
    positions: StreamPositions | None = None


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What a build did.

    Attributes:
        path: the snapshot.
        table: the table's name in it.
        rows: rows it shows.
        tombstones: deleted items left out.
        rows_read: lines that the scan gave.
        changes_read: lines that the stream gave.
        columns: attributes, companions not counted.
        seconds: how long it took.
    """

    path: Path
    table: str
    rows: int
    tombstones: int
    rows_read: int
    changes_read: int
    columns: int
    seconds: float


def build_snapshot(
    out: Path,
    table: str,
    key: Sequence[str],
    rows: Iterable[Sequence[bytes]],
    changes: Callable[[], Iterable[Sequence[bytes]]],
    about: Callable[[], SnapshotAbout],
    history: Sequence[Observation] = (),
    *,
    key_types: Mapping[str, Literal["S", "N", "B"]] | None = None,
    memory_limit: str = MEMORY_LIMIT,
) -> SnapshotReport:
    """Builds one table of a snapshot and puts it in place in one step; other tables in the file stay.

    Args:
        out: the snapshot file. Readers see the old one or the new one, never half of one.
        table: the table's name in the snapshot.
        key: the key attributes, partition key first.
        rows: pages of lake rows as lines of DynamoDB JSON, tombstones included.
        changes: called once `rows` is exhausted; pages of stream changes, each line `{"NewImage": row}` (the
            row was written) or `{"OldImage": row}` (it was removed), in stream order for each key.
        about: what to tell of the snapshot's origin; called once `changes` is exhausted, when the watermark is known.
        history: the schema catalogue's observations of the table.
        key_types: the key attributes' types, for a table without rows.
        memory_limit: what DuckDB may use before it spills, in DuckDB's notation.

    Raises:
        SnapshotError: `out` cannot be replaced, or the build failed; said before a row is read if possible.
        DecodeError: a line is not DynamoDB JSON.
    """
    began = time.monotonic()
    identifier(table)
    if table.casefold() in _RESERVED:
        raise SnapshotError(f"a table of a snapshot cannot be called {table!r}: give it another name there")
    with replacing(out) as place:
        build = _Build(place, table, tuple(key), memory_limit)
        try:
            report = build.run(rows, changes, about, history, key_types)
        finally:
            build.close()
    return SnapshotReport(out, table, *report, time.monotonic() - began)


class _Build:
    """One build in its temporary place."""

    def __init__(self, place: Replacement, table: str, key: tuple[str, ...], memory_limit: str) -> None:
        self._table, self._key, self._work = table, key, place.work
        self._spools: dict[str, tuple[Path, Sequence[str]]] = {
            f"the rows of {table}": (place.work / "rows", ()),
            f"the changes of {table}": (place.work / "changes", WRAPPERS),
        }
        try:
            self._con = duckdb.connect(
                str(place.file),
                config={"memory_limit": memory_limit, "temp_directory": str(place.work / "spill")},
            )
        except duckdb.Error as error:
            raise SnapshotError(f"the snapshot cannot be written: {error}") from error

    def close(self) -> None:
        self._con.close()

    def run(
        self,
        rows: Iterable[Sequence[bytes]],
        changes: Callable[[], Iterable[Sequence[bytes]]],
        about: Callable[[], SnapshotAbout],
        history: Sequence[Observation],
        key_types: Mapping[str, str] | None,
    ) -> tuple[int, int, int, int, int]:
        """Gives rows shown, tombstones, rows read, changes read, columns."""
        self._lay_out()
        (rows_source, (rows_file, _)), (changes_source, (changes_file, _)) = self._spools.items()
        rows_read = spool(rows, rows_file, rows_source)
        changes_read = spool(changes(), changes_file, changes_source)
        try:
            self._load(rows_file, changes_file, rows_read, changes_read)
            tombstones = self._apply_the_rule()
            shown = self._shown(rows_file, changes_file, rows_read, changes_read)
            first_seen: dict[str, int] = {}
            for seen in history:
                first_seen[seen.attribute] = min(seen.first_seen, first_seen.get(seen.attribute, 2**63))
            found = discover(self._con, shown, self._key, first_seen, key_types)
            count = self._write(found, shown, about(), history, tombstones)
        except (DecodeError, duckdb.InvalidInputException, duckdb.ConversionException) as error:
            raise decode_error(error, self._spools) from error
        except ContractError as error:
            raise SnapshotError(str(error)) from error
        except (duckdb.Error, OSError) as error:
            raise SnapshotError(f"the snapshot of {self._table} cannot be built: {error}") from error
        return count, tombstones, rows_read, changes_read, len(found)

    def _lay_out(self) -> None:
        for statement in _LAYOUT:
            self._con.execute(statement)
        clash = self._con.execute(
            "SELECT table_name FROM _lake.tables WHERE lower(table_name) = lower($1) AND table_name <> $1",
            [self._table],
        ).fetchall()
        if clash:
            raise SnapshotError(
                f"the snapshot has a table {clash[0][0]!r}, and DuckDB ignores case: give {self._table!r} "
                "another name there, or another file"
            )

    def _load(self, rows_file: Path, changes_file: Path, rows_read: int, changes_read: int) -> None:
        """Fills work.seen: what the rule needs of each line, in the lines' order, so that `rowid` is the order.

        The lines themselves stay in their files: DuckDB reads a table 2,048 rows at a time, and of items of
        400 KB these are 800 MB, while of a file it reads 32 MB at a time.
        """
        con = self._con
        con.execute(f"ATTACH {literal(str(self._work / 'seen'))} AS work")
        con.execute("CREATE TABLE work.seen (key VARCHAR, version VARCHAR, deleted BOOLEAN, removed BOOLEAN)")
        prepare(con)
        lines = f"SELECT json AS line, false AS removed FROM {raw_lines(rows_file)}"
        images = f"""SELECT coalesce(json_extract(json, '/NewImage'), json_extract(json, '/OldImage')) AS line,
            json_extract(json, '/NewImage') IS NULL AS removed FROM {raw_lines(changes_file)}"""
        for source in (lines, images):
            con.execute(
                f"""INSERT INTO work.seen SELECT {key_texts(self._key)}, removed FROM (
                    SELECT json_extract_string(line, {row_pointers(self._key)}) AS x, removed FROM ({source}))"""
            )
        loaded, bad = _one(con, "SELECT count(*), min(rowid) FILTER (key IS NULL) FROM work.seen")
        if loaded != rows_read + changes_read:
            raise DecodeError(f"of {rows_read + changes_read} lines {loaded} were read")
        if bad is not None:
            line = f"row {bad + 1}" if bad < rows_read else f"change {bad - rows_read + 1}"
            raise DecodeError(f"{line} has not the key {', '.join(self._key)}")

    def _apply_the_rule(self) -> int:
        """Fills work.held with the newest row of each key; gives the number of tombstones, which are not shown."""
        con = self._con
        con.execute(f"CREATE TABLE work.held AS {held_rows('work.seen', 'rowid')}")
        return int(_one(con, "SELECT count(*) FROM work.held WHERE deleted")[0])

    def _shown(self, rows_file: Path, changes_file: Path, rows_read: int, changes_read: int) -> str:
        """The rows to show, as a relation with one column `line`, in SQL."""
        shown = int(_one(self._con, "SELECT count(*) FROM work.held WHERE NOT deleted")[0])
        if shown < rows_read or changes_read:
            kept_rows, kept_changes = self._work / "kept rows", self._work / "kept changes"
            pick_lines(rows_file, self._turns(0, rows_read), kept_rows)
            pick_lines(changes_file, self._turns(rows_read, rows_read + changes_read), kept_changes)
            rows_file, changes_file = kept_rows, kept_changes
        return f"""(SELECT json AS line FROM {raw_lines(rows_file)}
            UNION ALL SELECT json_extract(json, '/NewImage') FROM {raw_lines(changes_file)})"""

    def _turns(self, start: int, end: int) -> Iterator[int]:
        """The lines from `start` to before `end` that are to be shown, counted from `start`."""
        result = self._con.execute(
            """SELECT turn - $1 FROM work.held WHERE NOT deleted AND turn >= $1 AND turn < $2 ORDER BY turn""",
            [start, end],
        )
        while batch := result.fetchmany(_BATCH):
            for (number,) in batch:
                yield number

    def _write(
        self,
        found: Sequence[Found],
        shown: str,
        about: SnapshotAbout,
        history: Sequence[Observation],
        tombstones: int,
    ) -> int:
        con, name = self._con, identifier(self._table)
        con.execute(f"DROP VIEW IF EXISTS main.{name}")
        con.execute(f"DROP TABLE IF EXISTS _lake.{name}")
        for metadata in _RESERVED:
            con.execute(f"DELETE FROM _lake.{metadata} WHERE table_name = ?", [self._table])
        con.execute("CHECKPOINT")
        # Order costs memory, and a table has none.
        con.execute("SET preserve_insertion_order = false")
        con.execute(f"CREATE TABLE _lake.{name} AS {typed_select(found, shown)}")
        names = [n for one in found for n in (one.column.name, one.column.companion) if n is not None]
        con.execute(
            f"CREATE VIEW main.{name} AS SELECT {', '.join(map(identifier, names))} FROM _lake.{name}"
        )
        rows = int(_one(con, f"SELECT count(*) FROM _lake.{name}")[0])
        con.execute(
            f"INSERT INTO _lake.tables VALUES ({', '.join('?' * 12)})",
            [
                self._table, about.lake_table, about.source_table, rows, tombstones,
                utc(about.started_at), datetime.now(UTC).replace(tzinfo=None), about.watermark,
                about.complete, list(about.gaps), about.made_by, list(self._key),
            ],
        )  # fmt: skip
        con.executemany(
            f"INSERT INTO _lake.columns VALUES ({', '.join('?' * 10)})",
            [column_row(self._table, self._key, number, one) for number, one in enumerate(found, 1)],
        )
        write_history(con, self._table, history)
        con.execute(
            """INSERT INTO _lake.tombstones SELECT $1, held.key, seen.version
            FROM work.held JOIN work.seen ON seen.rowid = held.turn WHERE held.deleted""",
            [self._table],
        )
        write_positions(con, self._table, about.positions)
        con.execute("DETACH work")
        con.execute("CHECKPOINT")
        return rows


def column_row(
    table: str, key: Sequence[str], ordinal: int, one: Found, main: str | None = None
) -> list[object]:
    """What `_lake.columns` tells of a column; `main` is its main type where that is not the majority's."""
    column = one.column
    return [
        table,
        column.attribute,
        column.name,
        json.dumps(dict(one.rows)),
        duckdb_type(column.type),
        column.companion,
        json.dumps(type_to_json(column.type)),
        ordinal,
        column.attribute in key,
        main or majority(one.rows),
    ]


def write_history(con: duckdb.DuckDBPyConnection, table: str, history: Sequence[Observation]) -> None:
    """Puts down, in place of what stood there, when a table's attributes were first seen with a kind."""
    con.execute("DELETE FROM _lake.schema_history WHERE table_name = ?", [table])
    if history:
        con.executemany(
            "INSERT INTO _lake.schema_history VALUES (?, ?, ?, ?, ?)",
            [[table, h.attribute, h.kind, utc(h.first_seen), h.version] for h in history],
        )


def write_positions(con: duckdb.DuckDBPyConnection, table: str, positions: StreamPositions | None) -> None:
    """Puts down, in place of what stood there, how far the lake table's stream is applied to a table."""
    con.execute("DELETE FROM _lake.shards WHERE table_name = ?", [table])
    if positions is None:
        return
    shards: list[tuple[str | None, str | None, bool]] = [(s, n, False) for s, n in positions.after.items()]
    shards += [(shard, None, True) for shard in positions.finished]
    con.executemany(
        "INSERT INTO _lake.shards VALUES (?, ?, ?, ?, ?, ?)",
        [
            [table, positions.stream, *shard, utc(positions.as_of)]
            for shard in shards or [(None, None, False)]
        ],
    )


def row_pointers(key: Sequence[str]) -> str:
    """Where a row's key, version and tombstone mark are: three pointers a key attribute, then two."""
    names = [name.replace("~", "~0").replace("/", "~1") for name in key]
    wanted = [f"/{name}/{tag}" for name in names for tag in "SNB"] + [f"/{VERSION}/S", f"/{DELETED}/S"]
    return f"[{', '.join(literal(pointer) for pointer in wanted)}]"


def key_texts(key: Sequence[str]) -> str:
    """A row's key as one text that equal keys share, its version, and whether it is a tombstone."""
    parts = []
    for i in range(1, 3 * len(key), 3):
        text = f"coalesce('S' || x[{i}], 'N' || _lake_number(x[{i + 1}]), 'B' || x[{i + 2}])"
        parts.append(f"length({text}) || ':' || {text}")
    marks = 3 * len(key)
    return (
        f"{' || '.join(parts)} AS key, coalesce(x[{marks + 1}], {literal(ABSENT)}) AS version, "
        f"x[{marks + 2}] IS NOT NULL AS deleted"
    )


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = con.execute(sql).fetchall()
    return tuple(row)
