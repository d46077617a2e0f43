"""A snapshot: a lake table as of one watermark, in a DuckDB file that any DuckDB client opens.

    "<table>"                 a view for readers: attributes and companions; no metadata, no tombstones
    _lake."<table>"           a view of the same rows with `_lake_version`, `_lake_at`, `_lake_source_at`, `_lake_nulls`
    _lake_rows."<table>"      the rows as they are stored (`lake.stored`)
    _lake.tables              what was read, when, as of which watermark, whether anything may be missing, and the
                              version of the table's layout (`format`)
    _lake.columns             attribute, column, types with row counts
    _lake.schema_history      when an attribute was first seen with a kind
    _lake.shards              how far each shard of the lake table's stream is applied: a refresh goes on there
    _lake.left_out            from which tables expired rows are left out, and as of which moment
    _lake.tombstones          the versions of deleted items: they block older versions (`lake.refresh`)

Rows come from a scan, and then from the lake table's stream since before the scan. Both are sources of
changes under the one rule (`lake.contract.versions`), and this module is its translation for DuckDB.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from lake.atomic import replacing
from lake.contract.catalogue import Observation
from lake.contract.expiry import Expiry, LeftOut
from lake.contract.files import Replacement
from lake.contract.positions import StreamPositions
from lake.contract.rows import DELETED, RESERVED_PREFIX, VERSION
from lake.contract.versions import ABSENT
from lake.decode import decode_error, raw_lines
from lake.discover import Found, majority, prepare
from lake.errors import ContractError, DecodeError, SnapshotError
from lake.expired import LAYOUT as LEFT_OUT
from lake.expired import delete_expired, less, note_left_out
from lake.fill import Filler
from lake.foreign import refuse_code
from lake.lines import pick_lines, spool
from lake.parts import Chunk, Part, as_chunks, first_bad_row, first_row_without, read_ahead, spool_parts
from lake.rule import held_rows
from lake.stored import (
    FORMAT,
    METADATA_TABLES,
    ROW,
    ROWS_SCHEMA,
    create_views,
    drop_rows,
    rows_table,
    value_of,
)
from lake.times import utc
from lake.types import Blob, Int64, Text, Type, duckdb_type, identifier, literal, type_to_json
from lake.widen import Held

MEMORY_LIMIT: Final = "1GiB"
"""What DuckDB may use before it spills to disk: leaves room on a laptop or a small container of 2 GB."""

STORAGE_VERSION: Final = "v1.4.0"
"""The oldest DuckDB that can read a snapshot: analysts' tools bring their own, and few bring the newest. It costs
nothing; 1.1 would cost a tenth of a build, and what 1.3 reads of such a file is wrong."""

WRAPPERS: Final = ("NewImage", "OldImage")

_BATCH: Final = 10_000
"""Line numbers in Python at a time."""

_EARLIER: Final = 1 << 40
"""Taken off the number of a row of the table: what the table holds came before every change."""

_LAYOUT: Final = (
    "CREATE SCHEMA IF NOT EXISTS _lake",
    """CREATE TABLE IF NOT EXISTS _lake.tables (
        table_name VARCHAR, lake_table VARCHAR, source_table VARCHAR, row_count BIGINT, tombstones BIGINT,
        started_at TIMESTAMP, ended_at TIMESTAMP, watermark VARCHAR, complete BOOLEAN, gaps VARCHAR[],
        made_by VARCHAR, key VARCHAR[], format INTEGER)""",
    "ALTER TABLE _lake.tables ADD COLUMN IF NOT EXISTS format INTEGER",
    f"CREATE SCHEMA IF NOT EXISTS {ROWS_SCHEMA}",
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
    LEFT_OUT,
)
"""Times are UTC."""


@dataclass(frozen=True, slots=True)
class SnapshotAbout:
    """What a snapshot tells of its origin.

    Attributes:
        lake_table: the lake table that was read.
        source_table: the source table that it follows.
        watermark: the position of the lake table's stream up to which changes are applied, as text.
        complete: whether it lacks nothing but what was still on its way: no gap was open, and the pipeline's health
            was known (`lake.contract.evidence`).
        gaps: why it may lack something, one sentence each.
        made_by: how it was made, for people.
        started_at: epoch milliseconds.
        positions: where the lake table's stream goes on; None where nobody may go on from this snapshot.
        expiry: which rows are left out because they have expired; None where none are.
    """

    lake_table: str
    source_table: str
    watermark: str
    complete: bool
    gaps: tuple[str, ...]
    made_by: str
    started_at: int
    positions: StreamPositions | None = None
    expiry: Expiry | None = None


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
        made_by: how it was made, for people.
        left_out: the rows that were left out because they had expired; None where they are not.
        complete: as in `SnapshotAbout`.
        gaps: as in `SnapshotAbout`.
    """

    path: Path
    table: str
    rows: int
    tombstones: int
    rows_read: int
    changes_read: int
    columns: int
    seconds: float
    made_by: str = ""
    left_out: LeftOut | None = None
    complete: bool = False
    gaps: tuple[str, ...] = ()


def build_snapshot(
    out: Path,
    table: str,
    key: Sequence[str],
    rows: Iterable[Sequence[bytes] | Chunk],
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
        rows: pages of lake rows, tombstones included, as lines of DynamoDB JSON or as chunks (`lake.parts`); read
            in a thread of its own, so that decoding does not hold up a scan.
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
    if table.casefold() in METADATA_TABLES or table.casefold().startswith(RESERVED_PREFIX.rstrip("_")):
        raise SnapshotError(
            f"a table of a snapshot cannot be called {table!r}", remedy="give it another name there"
        )
    origin: list[SnapshotAbout] = []

    def told() -> SnapshotAbout:
        origin.append(about())
        return origin[0]

    with replacing(out) as place:
        build = _Build(place, table, tuple(key), memory_limit)
        try:
            report = build.run(rows, changes, told, history, key_types)
        finally:
            build.close()
    seconds = time.monotonic() - began
    about_it = origin[0]
    return SnapshotReport(
        out, table, *report, seconds, about_it.made_by, build.left_out, about_it.complete, about_it.gaps
    )


class _Build:
    """One build in its temporary place."""

    def __init__(self, place: Replacement, table: str, key: tuple[str, ...], memory_limit: str) -> None:
        self._table, self._key, self._work = table, key, place.work
        self._name = rows_table(table)
        self._rows_source, self._changes_source = f"the rows of {table}", f"the changes of {table}"
        self._changes = place.work / "changes"
        self._parts: Sequence[Part] = ()
        self.left_out: LeftOut | None = None
        try:
            self._con = duckdb.connect(
                str(place.file),
                config={
                    "memory_limit": memory_limit,
                    "temp_directory": str(place.work / "spill"),
                    "storage_compatibility_version": STORAGE_VERSION,
                    # One is left to whoever brings the rows; more threads than processors cost all of them time.
                    "threads": max(1, (os.cpu_count() or 2) - 1),
                },
            )
        except duckdb.Error as error:
            raise SnapshotError(f"the snapshot cannot be written: {error}") from error
        try:
            refuse_code(self._con, "the snapshot")
        except SnapshotError:
            self._con.close()
            raise

    def close(self) -> None:
        self._con.close()

    def run(
        self,
        rows: Iterable[Sequence[bytes] | Chunk],
        changes: Callable[[], Iterable[Sequence[bytes]]],
        about: Callable[[], SnapshotAbout],
        history: Sequence[Observation],
        key_types: Mapping[str, str] | None,
    ) -> tuple[int, int, int, int, int]:
        """Gives rows shown, tombstones, rows read, changes read, columns."""
        self._lay_out()
        first_seen: dict[str, int] = {}
        for seen in history:
            first_seen[seen.attribute] = min(seen.first_seen, first_seen.get(seen.attribute, 2**63))
        with self._explained():
            self._begin()
            filler = Filler(self._con, self._name, self._key, self._work, first_seen, key_types)
            self._parts = filler.parts
        rows_read = self._fill(filler, rows)
        changes_read = spool(changes(), self._changes, self._changes_source)
        with self._explained():
            tombstones = self._roll_forward(filler, changes_read)
            filler.trim()
        origin = about()
        with self._explained():
            found = self._leave_out(filler.found, filler.main_tags, origin.expiry)
            count = self._write(found, filler.main_tags, origin, history, tombstones)
        return count, tombstones, rows_read, changes_read, len(found)

    def _leave_out(
        self, found: Sequence[Found], main_tags: Mapping[str, str | None], expiry: Expiry | None
    ) -> Sequence[Found]:
        """Deletes the rows that have expired; gives the columns with the counts of those that are left."""
        if expiry is None:
            note_left_out(self._con, self._table, None, 0)
            return found
        held = [Held(one.column, main_tags[one.column.attribute]) for one in found]
        rows, fewer = delete_expired(self._con, self._table, held, expiry)
        self.left_out = note_left_out(self._con, self._table, expiry, rows)
        return [replace(one, rows=less(one.rows, fewer.get(one.column.attribute, {}))) for one in found]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what a failure of DuckDB means, and where bytes are malformed."""
        try:
            yield
        except (DecodeError, duckdb.InvalidInputException, duckdb.ConversionException) as error:
            bad = first_bad_row(self._parts)
            if bad is not None:
                raise DecodeError(
                    f"line {bad[0]} of {self._rows_source} is not an item in DynamoDB JSON: {bad[1]}"
                ) from error
            if not self._changes.exists():
                raise DecodeError(f"{self._rows_source}: {error}") from error
            raise decode_error(error, {self._changes_source: (self._changes, WRAPPERS)}) from error
        except ContractError as error:
            raise SnapshotError(error.message, remedy=error.remedy) from error
        except (duckdb.Error, OSError) as error:
            raise SnapshotError(f"the snapshot of {self._table} cannot be built: {error}") from error

    def _lay_out(self) -> None:
        for statement in _LAYOUT:
            self._con.execute(statement)
        clash = self._con.execute(
            "SELECT table_name FROM _lake.tables WHERE lower(table_name) = lower($1) AND table_name <> $1",
            [self._table],
        ).fetchall()
        if clash:
            raise SnapshotError(
                f"the snapshot has a table {clash[0][0]!r}, and DuckDB ignores case",
                remedy=f"give {self._table!r} another name there, or another file",
            )

    def _begin(self) -> None:
        con = self._con
        prepare(con)
        drop_rows(con, self._table)
        for metadata in METADATA_TABLES:
            con.execute(f"DELETE FROM _lake.{metadata} WHERE table_name = ?", [self._table])
        con.execute("CHECKPOINT")
        # Order costs memory, and a table has none.
        con.execute("SET preserve_insertion_order = false")
        con.execute(f"ATTACH {literal(str(self._work / 'seen'))} AS _lake_work")
        con.execute(
            "CREATE TABLE _lake_work.seen (key VARCHAR, version VARCHAR, deleted BOOLEAN, removed BOOLEAN)"
        )

    def _fill(self, filler: Filler, rows: Iterable[Sequence[bytes] | Chunk]) -> int:
        """Puts all rows into the table; gives how many there were. They go on being read meanwhile."""
        folder = self._work / "rows"
        folder.mkdir()
        chunks = as_chunks(rows, self._rows_source)
        with read_ahead(spool_parts(chunks, folder)) as parts:
            for part in parts:
                with self._explained():
                    filler.add(part)
        with self._explained():
            filler.finish()
            self._check_keys(filler)
        return sum(part.rows for part in filler.parts)

    def _check_keys(self, filler: Filler) -> None:
        names = [value_of(one.column.name) for one in filler.found if one.column.attribute in self._key]
        lacking = " OR ".join(f"{name} IS NULL" for name in names)
        if _one(self._con, f"SELECT count(*) FROM {self._name} AS {ROW} WHERE {lacking}")[0]:
            number = first_row_without(filler.parts, self._key)
            raise DecodeError(f"row {number} has not the key {', '.join(self._key)}")

    def _roll_forward(self, filler: Filler, changes_read: int) -> int:
        """Applies the changes by the one rule, and takes tombstones out; gives how many there are."""
        self._load_changes(changes_read)
        while True:
            affected = self._hold(filler.found, changes_read)
            kept = self._kept_changes() if affected else None
            if kept is None or filler.grow(kept):
                break
        con = self._con
        if affected:
            con.execute(
                f"""DELETE FROM {self._name} AS {ROW} WHERE {ROW}.rowid IN (
                    SELECT before.id FROM _lake_work.before AS before
                    WHERE before.id - {_EARLIER} NOT IN (SELECT held.turn FROM _lake_work.held AS held))"""
            )
            con.execute(
                """INSERT INTO _lake.tombstones SELECT $1, held.key, seen.version
                FROM _lake_work.held AS held JOIN _lake_work.seen AS seen ON seen.rowid = held.turn
                WHERE held.deleted""",
                [self._table],
            )
        if kept is not None:
            filler.insert(kept)
        con.execute(
            f"""INSERT INTO _lake.tombstones
            SELECT $1, {_key_text(filler.found, self._key)}, coalesce({ROW}.{VERSION}, {literal(ABSENT)})
            FROM {self._name} AS {ROW} WHERE {ROW}.{DELETED} IS NOT NULL""",
            [self._table],
        )
        con.execute(f"DELETE FROM {self._name} AS {ROW} WHERE {ROW}.{DELETED} IS NOT NULL")
        con.execute("DETACH _lake_work")
        found = con.execute(
            "SELECT count(*) FROM _lake.tombstones WHERE table_name = ?", [self._table]
        ).fetchall()
        return int(found[0][0])

    def _load_changes(self, changes_read: int) -> None:
        """Fills _lake_work.seen: what the rule needs of each line, in the lines' order, so that `rowid` is the order.

        The lines themselves stay in their file: DuckDB reads a table 2,048 rows at a time, and of items of
        400 KB these are 800 MB, while of a file it reads 32 MB at a time.
        """
        if not changes_read:
            return
        con = self._con
        con.execute("SET preserve_insertion_order = true")
        con.execute(
            f"""INSERT INTO _lake_work.seen SELECT {key_texts(self._key)}, changed.removed
            FROM {changed_keys(self._changes, self._key)} AS changed"""
        )
        con.execute("SET preserve_insertion_order = false")
        loaded, bad = _one(
            con, "SELECT count(*), min(seen.rowid) FILTER (seen.key IS NULL) FROM _lake_work.seen AS seen"
        )
        if loaded != changes_read:
            raise DecodeError(f"of {changes_read} changes {loaded} were read")
        if bad is not None:
            raise DecodeError(f"change {bad + 1} has not the key {', '.join(self._key)}")

    def _hold(self, found: Sequence[Found], changes_read: int) -> bool:
        """Fills `before` with the rows whose keys came again, and `held` with what is held of those keys.

        Gives whether there are any: a scan gives no key twice, and most keys did not change.
        """
        con = self._con
        text = _key_text(found, self._key)
        names = [value_of(one.column.name) for one in found if one.column.attribute in self._key]
        rows, keys = _one(
            con,
            f"""SELECT coalesce(sum(hashes.n), 0), count(*) FROM (
                SELECT count(*) AS n FROM {self._name} AS {ROW} GROUP BY hash({", ".join(names)})) AS hashes""",
        )
        if not changes_read and rows == keys:
            return False
        again = "SELECT seen.key FROM _lake_work.seen AS seen"
        if rows != keys:
            again += f" UNION SELECT {text} FROM {self._name} AS {ROW} GROUP BY ALL HAVING count(*) > 1"
        con.execute(
            f"""CREATE OR REPLACE TABLE _lake_work.before AS
            SELECT held.* FROM (
                SELECT {text} AS key, coalesce({ROW}.{VERSION}, {literal(ABSENT)}) AS version,
                    {ROW}.{DELETED} IS NOT NULL AS deleted, {ROW}.rowid AS id FROM {self._name} AS {ROW}) AS held
            WHERE held.key IN ({again})"""
        )
        sequence = f"""(
            SELECT before.key, before.version, before.deleted, false AS removed, before.id - {_EARLIER} AS turn
            FROM _lake_work.before AS before
            UNION ALL
            SELECT seen.key, seen.version, seen.deleted, seen.removed, seen.rowid FROM _lake_work.seen AS seen)"""
        con.execute(f"CREATE OR REPLACE TABLE _lake_work.held AS {held_rows(sequence)}")
        return True

    def _kept_changes(self) -> str | None:
        """The changes whose rows are to be shown, as a relation with one column `line`, in SQL; None if none is."""
        shown = "FROM _lake_work.held AS held WHERE NOT held.deleted AND held.turn >= 0"
        if not _one(self._con, f"SELECT count(*) {shown}")[0]:
            return None
        kept = self._work / "kept changes"
        result = self._con.execute(f"SELECT held.turn {shown} ORDER BY held.turn")

        def turns() -> Iterator[int]:
            while batch := result.fetchmany(_BATCH):
                yield from (turn for (turn,) in batch)

        pick_lines(self._changes, turns(), kept)
        return f"(SELECT json_extract(kept.json, '/NewImage') AS line FROM {raw_lines(kept)} AS kept)"

    def _write(
        self,
        found: Sequence[Found],
        main_tags: Mapping[str, str | None],
        about: SnapshotAbout,
        history: Sequence[Observation],
        tombstones: int,
    ) -> int:
        con = self._con
        create_views(con, self._table, [one.column for one in found])
        rows = int(_one(con, f"SELECT count(*) FROM {self._name}")[0])
        con.execute(
            f"INSERT INTO _lake.tables VALUES ({', '.join('?' * 13)})",
            [
                self._table, about.lake_table, about.source_table, rows, tombstones,
                utc(about.started_at), datetime.now(UTC).replace(tzinfo=None), about.watermark,
                about.complete, list(about.gaps), about.made_by, list(self._key), FORMAT,
            ],
        )  # fmt: skip
        con.executemany(
            f"INSERT INTO _lake.columns VALUES ({', '.join('?' * 10)})",
            [
                column_row(self._table, self._key, number, one, main_tags[one.column.attribute])
                for number, one in enumerate(found, 1)
            ],
        )
        write_history(con, self._table, history)
        write_positions(con, self._table, about.positions)
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


def changed_keys(changes: Path, key: Sequence[str]) -> str:
    """A file of changes as a relation for `key_texts`: columns `x`, and `removed`, whether the row was removed.

    It needs the alias `changed`.
    """
    written, removed = (f"json_extract_string(line.json, {_row_pointers(key, name)})" for name in WRAPPERS)
    return f"""(SELECT CASE WHEN line.removed THEN {removed} ELSE {written} END AS x, line.removed FROM (
        SELECT lines.json, NOT json_exists(lines.json, '/{WRAPPERS[0]}') AS removed
        FROM {raw_lines(changes)} AS lines) AS line)"""


def _row_pointers(key: Sequence[str], wrapper: str) -> str:
    """Where a row's key, version and tombstone mark are: three pointers a key attribute, then two."""
    names = [name.replace("~", "~0").replace("/", "~1") for name in key]
    wanted = [f"/{name}/{tag}" for name in names for tag in "SNB"] + [f"/{VERSION}/S", f"/{DELETED}/S"]
    return f"[{', '.join(literal(f'/{wrapper}{pointer}') for pointer in wanted)}]"


def key_texts(key: Sequence[str]) -> str:
    """A row's key as one text that equal keys share, its version, and whether it is a tombstone; for `changed_keys`."""
    parts = []
    for i in range(1, 3 * len(key), 3):
        s, n, b = (f"changed.x[{i + offset}]" for offset in range(3))
        text = f"coalesce('S' || {s}, 'N' || _lake_number({n}), 'B' || {b})"
        parts.append(f"length({text}) || ':' || {text}")
    marks = 3 * len(key)
    return (
        f"{' || '.join(parts)} AS key, coalesce(changed.x[{marks + 1}], {literal(ABSENT)}) AS version, "
        f"changed.x[{marks + 2}] IS NOT NULL AS deleted"
    )


def _key_text(found: Sequence[Found], key: Sequence[str]) -> str:
    """The SQL of a stored row's key as the text of `key_texts`, from the key's columns."""
    columns = {one.column.attribute: one.column for one in found}
    parts = []
    for name in key:
        text = f"({_tagged(columns[name].type, value_of(columns[name].name))})"
        parts.append(f"length({text}) || ':' || {text}")
    return " || ".join(parts)


def _tagged(kind: Type, value: str) -> str:
    match kind:
        case Text():
            return f"'S' || {value}"
        case Blob():
            return f"'B' || to_base64({value})"
        case Int64():
            return f"'N' || {value}::VARCHAR"
        case _:
            return f"'N' || _lake_number({value}::VARCHAR)"


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = con.execute(sql).fetchall()
    return tuple(row)
