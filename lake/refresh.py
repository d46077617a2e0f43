"""What changed since, applied to a table of a snapshot: the cost grows with the changes, not with the table.

Changes come from the lake table's stream, or from an incremental export of the lake table; the store obeys the
one rule (`lake.rule`), as in a full build. What the snapshot holds of a key is the row it shows or a tombstone's
version; it comes first in the sequence of the key's changes, and the rule decides what is held in the end.

Why tombstones are kept (`_lake.tombstones`), and how long. A deleted item is not shown, yet its version must block
older ones: changes may be read again that were applied before (from the beginning of a shard of which no position
is known, or from an export that overlaps what was read), and an older image of the item would bring it back. The
lake table itself keeps a tombstone for 14 days and blocks with it; a snapshot need not, and must not, keep it
longer than the lake: the lake's removal of it comes through the same stream, after everything that the tombstone
could block there, and from then on the lake may write the item anew with a lower version (a repair or a backfill
of a row that is absent). So a tombstone leaves the snapshot when its removal is read, and by nothing else. What is
read again is always read to its end, past the removal, so the last word is the lake's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from lake.account import account_of_row, quotes_in
from lake.contract.catalogue import TAGS, Observation
from lake.contract.expiry import Expiry, LeftOut
from lake.contract.rows import VERSION
from lake.contract.versions import ABSENT
from lake.convert import convert
from lake.decode import MARKS, decode_error, raw_lines, typed_lines, typed_select
from lake.discover import Found, majority, prepare
from lake.errors import ContractError, DecodeError, SnapshotError
from lake.expired import count_types, delete_expired, left_out_of, note_left_out
from lake.lines import pick_lines
from lake.rule import held_rows
from lake.snapshot import (
    WRAPPERS,
    SnapshotAbout,
    changed_keys,
    column_row,
    key_texts,
    write_history,
    write_positions,
)
from lake.stored import ROW, create_views, drop_views, require_current, rows_table, stored, value_of
from lake.times import utc
from lake.types import (
    Blob,
    Column,
    Decimal38,
    Int64,
    Json,
    Text,
    Type,
    duckdb_type,
    identifier,
    literal,
    type_from_json,
)
from lake.widen import Held, main_tag, widened

_BATCH: Final = 10_000
"""Line numbers in Python at a time."""

_SHOWN: Final = "FROM _lake_held AS held WHERE NOT held.deleted AND held.turn >= 0"
"""The changes whose rows are to be shown."""

_FITS: Final = "_lake_fits"
"""The column that tells, of a new row, whether the table's columns hold all of it."""

_LARGE_LINE_BYTES: Final = 32 * 1024
"""DuckDB reads a table 2,048 rows at a time; of rows larger than this on average, that is too much to hold."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying changes to a table did.

    Attributes:
        rows: rows that the table shows now.
        tombstones: deleted items that it holds the versions of.
        changes: changes read.
        written: rows written, new ones and new states of old ones.
        added: columns that are new, companions included.
        widened: columns whose type grew.
        left_out: the rows that were taken out because they had expired; None where they are not left out.
    """

    rows: int
    tombstones: int
    changes: int
    written: int
    added: tuple[str, ...]
    widened: tuple[str, ...]
    left_out: LeftOut | None = None


def apply_changes(
    con: duckdb.DuckDBPyConnection,
    table: str,
    changes: Path,
    count: int,
    work: Path,
    about: SnapshotAbout,
    history: Sequence[Observation] | None = None,
    *,
    again: int = 0,
) -> Applied:
    """Applies changes to a table of a snapshot that is open for writing and that nobody reads.

    Args:
        con: the snapshot.
        table: the table's name in it.
        changes: a file of changes, each line `{"NewImage": row}` (the row was written) or `{"OldImage": row}` (it
            was removed), in stream order for each key.
        count: its lines.
        work: a folder for what is needed meanwhile.
        about: what to tell of the table's origin from now on.
        history: the schema catalogue's observations of the table; what the snapshot has stays if not given.
        again: so many of the first lines are not new to readers, and are not counted in what is returned.

    Raises:
        SnapshotError: there is no such table, or it cannot be refreshed.
        DecodeError: a line is not a change.
    """
    try:
        return _Refresh(con, table, changes, count, work).run(about, history, again)
    except (DecodeError, duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise decode_error(error, {f"the changes of {table}": (changes, WRAPPERS)}) from error
    except ContractError as error:
        raise SnapshotError(error.message, remedy=error.remedy) from error
    except (duckdb.Error, OSError) as error:
        raise SnapshotError(
            f"the snapshot of {table} cannot be refreshed: {error}",
            remedy="make a new one with `dynalake snapshot`",
        ) from error


class _Refresh:
    """One refresh of one table."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, table: str, changes: Path, count: int, work: Path
    ) -> None:
        self._con, self._table, self._changes, self._count, self._work = con, table, changes, count, work
        self._name = rows_table(table)
        found = con.execute(
            "SELECT key, row_count, tombstones FROM _lake.tables WHERE table_name = ?", [table]
        ).fetchall()
        if not found:
            raise SnapshotError(
                f"the snapshot has no table {table!r}", remedy="make it with `dynalake snapshot`"
            )
        require_current(con, "the snapshot", table)
        ((key, self._rows, self._tombstones),) = found
        self._key: tuple[str, ...] = tuple(key)
        self._held, self._counts = self._columns()

    def run(self, about: SnapshotAbout, history: Sequence[Observation] | None, again: int) -> Applied:
        con = self._con
        prepare(con)
        added: tuple[str, ...] = ()
        grown: tuple[str, ...] = ()
        written = removed = new = 0
        if self._count:
            self._load()
            self._hold()
            first_seen: dict[str, int] = {}
            for seen in history or ():
                first_seen[seen.attribute] = min(seen.first_seen, first_seen.get(seen.attribute, 2**63))
            con.begin()
            removed = self._take_out()
            con.commit()
            kept, written = self._kept()
            (new,) = self._one(f"SELECT count(*) {_SHOWN} AND held.turn >= {again}")
            rows = ""
            if written:
                lines = (
                    f"(SELECT json_extract(kept.json, '/NewImage') AS line FROM {raw_lines(kept)} AS kept)"
                )
                large = kept.stat().st_size > written * _LARGE_LINE_BYTES
                if not large and self._fit(lines):
                    rows = f"(SELECT * EXCLUDE ({_FITS}, {', '.join(MARKS)}) FROM _lake_new)"
                else:
                    found = widened(con, self._name, self._held, lines, written, self._key, first_seen)
                    added, grown = self._alter(found)
                    rows = self._decode(found, lines, large=large)
            # Each commit waits for the disk.
            con.begin()
            if written:
                self._count_types(rows, 1)
                con.execute(f"INSERT INTO {self._name} BY NAME FROM {rows}")
            self._note_columns()
            con.commit()
            con.execute("DROP TABLE IF EXISTS _lake_new")
        con.begin()
        left_out = self._leave_out(about)
        more = written - removed - (left_out.rows if left_out else 0)
        self._note(about, history, more)
        con.commit()
        return Applied(self._rows + more, self._tombstones, self._count - again, new, added, grown, left_out)

    def _columns(self) -> tuple[list[Held], dict[str, dict[str, int]]]:
        found = self._con.execute(
            """SELECT attribute, column_name, type::VARCHAR, companion, main_type, dynamodb_types::VARCHAR
            FROM _lake.columns WHERE table_name = ? ORDER BY ordinal""",
            [self._table],
        ).fetchall()
        held, counts = [], {}
        for attribute, name, told, companion, main, rows in found:
            kind = type_from_json(json.loads(told))
            if main is None and attribute in self._key:
                main = main_tag(kind, None)
            held.append(Held(Column(attribute, name, kind, companion), main))
            counts[attribute] = json.loads(rows)
        return held, counts

    def _load(self) -> None:
        """Fills _lake_changes: what the rule needs of each line, in the lines' order, so that `rowid` is the order."""
        key_columns = {one.column.attribute: one.column for one in self._held}
        parts = [
            f"{_key_part(key_columns[name].type, number)} AS k{number}"
            for number, name in enumerate(self._key)
        ]
        self._con.execute(
            f"""CREATE OR REPLACE TEMP TABLE _lake_changes AS
            SELECT {key_texts(self._key)}, changed.removed, {", ".join(parts)}
            FROM {changed_keys(self._changes, self._key)} AS changed"""
        )
        loaded, bad = self._one(
            "SELECT count(*), min(changed.rowid) FILTER (changed.key IS NULL) FROM _lake_changes AS changed"
        )
        if loaded != self._count:
            raise DecodeError(f"of {self._count} lines {loaded} were read")
        if bad is not None:
            raise DecodeError(f"change {bad + 1} has not the key {', '.join(self._key)}")

    def _hold(self) -> None:
        """Fills _lake_before with what is held of the keys that changed, and _lake_held with what shall be held."""
        con = self._con
        names = {one.column.attribute: value_of(one.column.name) for one in self._held}
        match = " AND ".join(f"{names[name]} = wanted.k{number}" for number, name in enumerate(self._key))
        parts = ", ".join(f"changed.k{number}" for number in range(len(self._key)))
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE _lake_found AS SELECT wanted.key, {ROW}.rowid AS id
            FROM {self._name} AS {ROW}
            JOIN (SELECT DISTINCT changed.key, {parts} FROM _lake_changes AS changed) AS wanted ON {match}"""
        )
        # The versions of a whole table are long to read: only those of the rows found are.
        con.execute(
            f"""CREATE OR REPLACE TEMP TABLE _lake_before AS
            SELECT found.key, coalesce(versions.version, {literal(ABSENT)}) AS version, false AS deleted, found.id
            FROM _lake_found AS found
            JOIN (SELECT {ROW}.rowid AS id, {ROW}.{VERSION} AS version FROM {self._name} AS {ROW}
                WHERE {ROW}.rowid IN (SELECT found.id FROM _lake_found AS found)) AS versions
            ON versions.id = found.id
            UNION ALL
            SELECT buried.key, buried.version, true, NULL FROM _lake.tombstones AS buried
            WHERE buried.table_name = $1 AND buried.key IN (SELECT changed.key FROM _lake_changes AS changed)""",
            [self._table],
        )
        sequence = """(
            SELECT before.key, before.version, before.deleted, false AS removed, -1 AS turn FROM _lake_before AS before
            UNION ALL
            SELECT changed.key, changed.version, changed.deleted, changed.removed, changed.rowid
            FROM _lake_changes AS changed)"""
        con.execute(f"CREATE OR REPLACE TEMP TABLE _lake_held AS {held_rows(sequence)}")

    def _take_out(self) -> int:
        """Takes out what is not held any more; gives the number of rows that were shown."""
        con = self._con
        con.execute(
            """CREATE OR REPLACE TEMP TABLE _lake_gone AS
            SELECT before.key, before.id FROM _lake_before AS before WHERE NOT EXISTS (
                SELECT 1 FROM _lake_held AS held WHERE held.key = before.key AND held.turn < 0)"""
        )
        (rows,) = self._one("SELECT count(gone.id) FROM _lake_gone AS gone")
        if rows:
            going = f"{self._name} AS {ROW} WHERE {ROW}.rowid IN (SELECT gone.id FROM _lake_gone AS gone)"
            self._count_types(going, -1)
            con.execute(f"DELETE FROM {going}")
        con.execute(
            """DELETE FROM _lake.tombstones AS buried WHERE buried.table_name = ? AND buried.key IN (
                SELECT gone.key FROM _lake_gone AS gone WHERE gone.id IS NULL)""",
            [self._table],
        )
        con.execute(
            """INSERT INTO _lake.tombstones SELECT $1, held.key, changes.version FROM _lake_held AS held
            JOIN _lake_changes AS changes ON changes.rowid = held.turn WHERE held.deleted""",
            [self._table],
        )
        (self._tombstones,) = self._one(
            f"SELECT count(*) FROM _lake.tombstones AS buried WHERE buried.table_name = {literal(self._table)}"
        )
        return int(rows)

    def _kept(self) -> tuple[Path, int]:
        """A file of the changes whose rows are to be shown, and how many they are."""
        kept = self._work / "kept"
        (count,) = self._one(f"SELECT count(*) {_SHOWN}")
        result = self._con.execute(f"SELECT held.turn {_SHOWN} ORDER BY held.turn")

        def turns() -> Iterator[int]:
            while batch := result.fetchmany(_BATCH):
                yield from (turn for (turn,) in batch)

        pick_lines(self._changes, turns(), kept)
        return kept, int(count)

    def _alter(self, found: Sequence[Found]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Gives the table the columns of `found`; says which are new and which have another type."""
        con = self._con
        held = {one.column.attribute: one for one in self._held}
        added: list[tuple[str, Type]] = []
        grown: dict[str, tuple[str, Type]] = {}
        for one in found:
            column, old = one.column, held.get(one.column.attribute)
            if old is None:
                added.append((column.name, column.type))
            elif old.column.type != column.type:
                value = convert(old.column.type, column.type, stored(column.name)) if old.main else "NULL"
                grown[column.name] = f"CAST({value} AS {duckdb_type(column.type)})", column.type
            if column.companion is not None and (old is None or old.column.companion is None):
                added.append((column.companion, Json()))
        drop_views(con, self._table)
        if grown:
            self._grow(grown)
        for name, kind in added:
            con.execute(f"ALTER TABLE {self._name} ADD COLUMN {stored(name)} {duckdb_type(kind)}")
        self._held = [_now_held(one, held.get(one.column.attribute)) for one in found]
        return tuple(name for name, _ in added), tuple(grown)

    def _grow(self, grown: Mapping[str, tuple[str, Type]]) -> None:
        """Gives columns wider types: column -> the SQL of its values, and its type.

        A cast is done in place, column by column. All else writes the table anew, in a stream that spills: ALTER
        with a function of lists fails inside DuckDB 2.0, and UPDATE would hold the table in memory.
        """
        con = self._con
        if all(isinstance(kind, Int64 | Decimal38) for _, kind in grown.values()):
            for name, (value, kind) in grown.items():
                con.execute(
                    f"ALTER TABLE {self._name} ALTER COLUMN {stored(name)} TYPE {duckdb_type(kind)} USING {value}"
                )
            return
        values = ", ".join(f"{value} AS {stored(name)}" for name, (value, _) in grown.items())
        con.execute("SET preserve_insertion_order = false")
        con.execute(
            f"CREATE TABLE {rows_table('_lake_grown')} AS SELECT * REPLACE ({values}) FROM {self._name}"
        )
        con.execute(f"DROP TABLE {self._name}")
        con.execute(f"ALTER TABLE {rows_table('_lake_grown')} RENAME TO {identifier(self._table)}")
        con.execute("RESET preserve_insertion_order")

    def _fit(self, lines: str) -> bool:
        """Decodes the new rows into the columns that there are, as _lake_new; gives whether they hold all of them.

        That is so in most refreshes, and costs a fifth of looking for the types of new rows. Whether anything was
        left behind is told as in a full build (`lake.account`).
        """
        found = [_as_found(one, self._counts.get(one.column.attribute, ())) for one in self._held]
        rows = typed_lines(found, lines)
        fits = f"({account_of_row(found)}) IS NOT DISTINCT FROM {quotes_in('_lake_line::VARCHAR')}"
        self._con.execute(
            f"""CREATE OR REPLACE TEMP TABLE _lake_new AS
            SELECT * EXCLUDE (_lake_line), {fits} AS {_FITS} FROM ({rows})"""
        )
        unsettled = [f"{stored(one.column.name)} IS NULL" for one in self._held if not one.main]
        (fit,) = self._one(f"SELECT bool_and({' AND '.join([_FITS, *unsettled])}) FROM _lake_new")
        return bool(fit)

    def _decode(self, found: Sequence[Found], lines: str, *, large: bool) -> str:
        """The new rows as a relation, in SQL; rows that are large on average are decoded twice and not held."""
        rows = typed_select(found, lines)
        if large:
            return f"({rows})"
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE _lake_new AS {rows}")
        return "_lake_new"

    def _count_types(self, rows: str, sign: int) -> None:
        """Adds rows to, or takes them from, what is told of how many rows hold which type."""
        self._add_counts(count_types(self._con, rows, self._held), sign)

    def _add_counts(self, counts: Mapping[str, Mapping[str, int]], sign: int) -> None:
        for attribute, tags in counts.items():
            for tag, count in tags.items():
                self._count_type(attribute, tag, sign * count)

    def _leave_out(self, about: SnapshotAbout) -> LeftOut | None:
        """Deletes what has expired, where that was asked for now or when the table was made."""
        expiry, earlier = about.expiry, left_out_of(self._con, self._table)
        if expiry is None and earlier is not None:
            expiry = Expiry(earlier.attribute, about.positions.as_of if about.positions else about.started_at)
        if expiry is None:
            return None
        rows, counts = delete_expired(self._con, self._table, self._held, expiry)
        if rows:
            self._add_counts(counts, -1)
            self._note_columns()
        return note_left_out(self._con, self._table, expiry, rows)

    def _count_type(self, attribute: str, tag: str, count: int) -> None:
        if count:
            tags = self._counts.setdefault(attribute, {})
            tags[tag] = tags.get(tag, 0) + count
            if not tags[tag]:
                del tags[tag]

    def _note_columns(self) -> None:
        con = self._con
        con.execute("DELETE FROM _lake.columns WHERE table_name = ?", [self._table])
        con.executemany(
            f"INSERT INTO _lake.columns VALUES ({', '.join('?' * 10)})",
            [
                column_row(
                    self._table,
                    self._key,
                    number,
                    Found(one.column, self._counts.get(one.column.attribute, {}), plain=True),
                    one.main,
                )
                for number, one in enumerate(self._held, 1)
            ],
        )
        create_views(con, self._table, [one.column for one in self._held])

    def _note(self, about: SnapshotAbout, history: Sequence[Observation] | None, more: int) -> None:
        con = self._con
        (rows,) = self._one(f"SELECT count(*) FROM {self._name}")
        if rows != self._rows + more:
            raise SnapshotError(
                f"the snapshot of {self._table} does not add up ({rows} rows, {self._rows + more} expected)",
                remedy="make a new one with `dynalake snapshot`",
            )
        con.execute(
            """UPDATE _lake.tables SET row_count = $2, tombstones = $3, started_at = $4, ended_at = $5,
                watermark = $6, complete = $7, gaps = $8, made_by = $9 WHERE table_name = $1""",
            [
                self._table, rows, self._tombstones, utc(about.started_at),
                datetime.now(UTC).replace(tzinfo=None), about.watermark, about.complete, list(about.gaps),
                about.made_by,
            ],
        )  # fmt: skip
        if history is not None:
            write_history(con, self._table, history)
        write_positions(con, self._table, about.positions)

    def _one(self, sql: str) -> tuple[Any, ...]:
        (row,) = self._con.execute(sql).fetchall()
        return tuple(row)


def _as_found(one: Held, tags: Collection[str]) -> Found:
    """A column as if it was found so: of its main type, and of each other that rows of the table have."""
    main = {one.main: 2} if one.main else {}
    return Found(
        one.column, {**main, **{tag: 1 for tag in TAGS if tag in tags and tag != one.main}}, plain=True
    )


def _now_held(one: Found, before: Held | None) -> Held:
    """The column as it is from now on: the main type is settled when the first value comes that is not NULL."""
    if before is not None and before.main:
        return Held(one.column, before.main)
    tag = majority(one.rows)
    return Held(one.column, tag and main_tag(one.column.type, tag))


def _key_part(kind: Type, number: int) -> str:
    """The SQL of a key attribute's value as its column has it; NULL where the column cannot hold it.

    It takes the value from `x`, which `changed_keys` filled. A number that the column does not hold is in no row
    of the table; a cast would round it, and find another's row.
    """
    s, n, b = (f"changed.x[{3 * number + i}]" for i in (1, 2, 3))
    match kind:
        case Text():
            return s
        case Blob():
            return f"from_base64({b})"
        case Int64():
            return f"CASE WHEN NOT contains(_lake_number({n}), '.') THEN try_cast(_lake_number({n}) AS BIGINT) END"
        case Decimal38(scale):
            fits = f"length(split_part(_lake_number({n}), '.', 2)) <= {scale}"
            return f"CASE WHEN {fits} THEN try_cast(_lake_number({n}) AS {duckdb_type(kind)}) END"
        case _:
            return f"_lake_number({n})"
