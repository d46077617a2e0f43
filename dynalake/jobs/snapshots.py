"""A snapshot as a copy of the lake table that is compared with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from dynalake.jobs.watching import Watcher, watch_to_end
from expectations.canonical import canonical_text
from expectations.copies import Copy
from ingest.shards import StreamReader
from ingest.walk import Pacing
from ingest.wire import from_boto3
from lake.contract.positions import StreamPositions
from lake.contract.rows import VERSION, WRITTEN_AT, Item
from lake.encode import encode_batches
from lake.errors import SnapshotError
from lake.export.select import with_companions
from lake.lines import item_to_line
from lake.open import Lake, open_lake
from lake.stored import PREFIX, named_rows, rows_table
from lake.types import Blob, Column, Type, duckdb_type, identifier

PAGE_ROWS: Final = 2_000

CLOCK_SKEW_MS: Final = 60_000
"""A row written within so many milliseconds of a snapshot's moment may be on either side of it: the two times are of
two clocks, and a write takes a moment to arrive. The stream tells such rows apart."""


@contextmanager
def snapshot_copy(
    path: Path,
    table: str,
    key: Sequence[str],
    *,
    stream: Callable[[], StreamReader] | None,
    now_ms: Callable[[], int],
    monotonic: Callable[[], float],
    pacing: Pacing,
) -> Iterator[Copy]:
    """A snapshot's table as a copy of the lake table; it is the published version of now, whatever comes meanwhile.

    Args:
        path: the snapshot.
        table: the table's name in it.
        key: the names of the key attributes.
        stream: the lake table's stream; None where it cannot be read.
        now_ms: the time of day, epoch milliseconds.
        monotonic: a monotonic clock, seconds.
        pacing: how often the stream is asked.

    Raises:
        SnapshotError: there is no such snapshot or table.
    """
    with open_lake(path, table) as lake:
        rows = _Rows(lake, table, key)
        yield Copy(
            rows.pages(),
            rows.of_keys,
            _moment(lake, table, stream, now_ms, monotonic, pacing),
            tuple(rows.problems()),
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """The moment of a snapshot, and what tells whether a lake row was written after it.

    The row's own time decides where it is clearly before or after. Near the moment the lake table's stream decides:
    what it holds after the position of its shard was written after the moment, and what it does not hold there was
    written before. Of a shard without a position the snapshot saw no record: what that shard holds was written before
    the snapshot was begun, or after its moment.

    Attributes:
        as_of: epoch milliseconds; what was written to the lake table before then is in the snapshot.
        began_at: epoch milliseconds when its making began, or, of a refreshed snapshot, `as_of`.
        positions: where the stream goes on; None where that is not known, or the stream does not reach back so far.
        stream: the lake table's stream.
        monotonic: a monotonic clock, seconds.
        pacing: how often the stream is asked.
    """

    as_of: int
    began_at: int
    positions: StreamPositions | None
    stream: StreamReader | None
    monotonic: Callable[[], float]
    pacing: Pacing

    def written_after(self, row: Item) -> bool | None:
        """See `expectations.copies.Evidence`."""
        written = _written_at(row)
        if written is None or abs(written - self.as_of) <= CLOCK_SKEW_MS:
            return None
        return written > self.as_of

    def settle(self, rows: Mapping[str, Item]) -> Collection[str]:
        """See `expectations.copies.Evidence`."""
        if self.stream is not None and self.positions is not None:
            sightings = _Sightings(rows)
            watch_to_end(self.stream, sightings, self.monotonic, self.pacing, self.positions)
            if not sightings.trimmed:
                return {key for key, shard in sightings.found.items() if self._is_after(shard, rows[key])}
        return {key for key, row in rows.items() if (_written_at(row) or 0) >= self.as_of}

    def _is_after(self, shard: str, row: Item) -> bool:
        if self.positions is not None and self.positions.after.get(shard) is not None:
            return True
        return self.began_at >= self.as_of or (_written_at(row) or 0) > self.began_at


class _Sightings(Watcher):
    """Finds in which shard the writes of some rows are."""

    def __init__(self, rows: Mapping[str, Item]) -> None:
        super().__init__()
        self._rows = rows
        self._lock = threading.Lock()
        self.found: dict[str, str] = {}

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            body = record["dynamodb"]
            key = canonical_text(from_boto3(body["Keys"]))
            row = self._rows.get(key)
            if row is None:
                continue
            image = from_boto3(body.get("NewImage") or {})
            if all(image.get(name) == row.get(name) for name in (VERSION, WRITTEN_AT)):
                with self._lock:
                    self.found[key] = shard_id


def _moment(
    lake: Lake,
    table: str,
    stream: Callable[[], StreamReader] | None,
    now_ms: Callable[[], int],
    monotonic: Callable[[], float],
    pacing: Pacing,
) -> Moment:
    ((began_at,),) = lake.sql(
        "SELECT epoch_ms(started_at) FROM _lake.tables WHERE table_name = ?", params=[table]
    ).fetchall()
    positions = lake.positions(table)
    as_of = began_at if positions is None else positions.as_of
    reader = stream() if stream is not None else None
    if reader is None or positions is None or not positions.in_reach(reader.arn, now_ms()):
        return Moment(as_of, began_at, None, None, monotonic, pacing)
    return Moment(as_of, began_at, positions, reader, monotonic, pacing)


def _written_at(row: Item) -> int | None:
    try:
        return int(row[WRITTEN_AT]["N"])
    except (KeyError, ValueError):
        return None  # dynalake did not write this row


class _Rows:
    """The rows of a snapshot's table, and what does not add up in it."""

    def __init__(self, lake: Lake, table: str, key: Sequence[str]) -> None:
        self._lake, self._table, self._key = lake, table, tuple(key)
        self._columns = lake.columns(table)
        self._name = f"({named_rows(table, self._columns)})"
        by_attribute = {column.attribute: column for column in self._columns}
        self._key_columns: list[Column] = [by_attribute[name] for name in self._key if name in by_attribute]
        self._wrong_types = dict(self._find_wrong_types())

    def pages(self) -> Iterator[list[bytes]]:
        """Every row with a key, as lines."""
        keys = " AND ".join(f"{identifier(column.name)} IS NOT NULL" for column in self._key_columns)
        page: list[bytes] = []
        for item in self._items(f"WHERE {keys}"):
            page.append(item_to_line(item))
            if len(page) == PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page

    def of_keys(self, keys: Sequence[Item]) -> list[list[Item]]:
        """The rows of each key."""
        test = " AND ".join(
            f"{identifier(column.name)} = {_place(column.type)}" for column in self._key_columns
        )
        values = [next(iter(wanted[name].values())) for wanted in keys for name in self._key]
        found: dict[str, list[Item]] = {}
        for item in self._items(f"WHERE {' OR '.join(f'({test})' for _ in keys)}", values):
            found.setdefault(canonical_text({name: item[name] for name in self._key}), []).append(item)
        return [found.get(canonical_text(wanted), []) for wanted in keys]

    def problems(self) -> Iterator[str]:
        """What does not add up, one sentence each."""
        for name, (is_, should) in self._wrong_types.items():
            yield f"the column {name!r} of the snapshot is {is_}, and it should be {should}"
        keys = " OR ".join(f"{identifier(column.name)} IS NULL" for column in self._key_columns) or "false"
        ((rows, keyless, told, graves, graves_told),) = self._lake.sql(
            f"""SELECT (SELECT count(*) FROM {self._name}), (SELECT count(*) FROM {self._name} WHERE {keys}),
                row_count, (SELECT count(*) FROM _lake.tombstones WHERE table_name = $1), tombstones
            FROM _lake.tables WHERE table_name = $1""",
            params=[self._table],
        ).fetchall()
        if rows != told:
            yield f"the snapshot says that it has {told:,} rows, and it has {rows:,}"
        if keyless:
            yield f"{keyless:,} rows of the snapshot have no key"
        if graves != graves_told:
            yield f"the snapshot says that it keeps {graves_told:,} deletions, and it keeps {graves:,}"
        try:
            shown = self._fingerprint(f"main.{identifier(self._table)}")
        except duckdb.Error:
            shown = None
        if shown != self._fingerprint(self._name):
            yield "the snapshot's view does not show the rows that the snapshot holds"

    def _fingerprint(self, relation: str) -> tuple[Any, ...]:
        """The number of rows that readers see, and a digest of them that does not depend on their order."""
        names = ", ".join(identifier(name) for name, _ in with_companions(self._columns))
        (found,) = self._lake.connection.execute(
            f"SELECT count(*), sum(hash({names})) FROM {relation}"
        ).fetchall()
        return tuple(found)

    def _items(self, where: str, parameters: Sequence[Any] = ()) -> Iterator[Item]:
        """Rows as items; what a column of a wrong type holds counts as far as it fits the right one."""
        casts = ", ".join(
            f"TRY_CAST({identifier(name)} AS {should}) AS {identifier(name)}"
            for name, (_, should) in self._wrong_types.items()
        )
        columns = f"* REPLACE ({casts})" if casts else "*"
        found = self._lake.sql(f"SELECT {columns} FROM {self._name} {where}", params=list(parameters))
        yield from encode_batches(self._columns, found.to_arrow_reader(PAGE_ROWS), metadata=True)

    def _find_wrong_types(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Column -> the type that it has, and the type that it should have."""
        relation = self._lake.sql(f"FROM {rows_table(self._table)}")
        has = dict(zip(relation.columns, map(str, relation.types), strict=True))
        for name, kind in with_companions(self._columns):
            ((should,),) = self._lake.sql(f"SELECT typeof(NULL::{duckdb_type(kind)})").fetchall()
            if PREFIX + name not in has:
                raise SnapshotError(
                    f"{self._lake.path} is damaged: its table {self._table!r} lacks the column {name!r}",
                    remedy=f"make a new one with `dynalake snapshot {self._table}`",
                )
            if has[PREFIX + name] != should:
                yield name, (has[PREFIX + name], should)


def _place(kind: Type) -> str:
    return "from_base64(?)" if isinstance(kind, Blob) else f"TRY_CAST(? AS {duckdb_type(kind)})"
