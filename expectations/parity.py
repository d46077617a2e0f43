"""Parity: which rows are missing from the lake, are there too many, or differ, by the content of whole items.

Why no row in flight is reported: the two sides are read at different moments, so a row that was changed in
between looks different though nothing is wrong. Therefore each row that differs is looked at again, on both
sides, consistently, after the stream has had its time (`expectations.recheck`); it counts only if it still
differs after the last look, and if the lake's row did not move between two looks (a row that moves is being
worked on).

A copy of the lake, such as a snapshot, is compared with the lake in the same pass (`expectations.copies`).

A row's content is compared by a 128-bit BLAKE2b digest under a key of this comparison alone: who writes items cannot
know which of them would share a digest. No digest is stored beyond the comparison.

Memory is bounded whatever the tables' size: of each row a digest and the key are stored by DuckDB, which spills
them to disk beyond `MEMORY_LIMIT`; they are compared in passes over the digest's range, each of which fits.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from expectations.bulk import (
    BATCH_ROWS,
    DIGEST_KEY_BYTES,
    Batch,
    Digest,
    Item,
    Pages,
    Policy,
    digest_batches,
    digester,
)
from expectations.canonical import canonical_text
from expectations.copies import Copy, Judged, judge_candidates
from expectations.errors import ParityError
from expectations.recheck import Difference, Forgery, Looks, Reader, Tally, look_again
from lake.contract.expiry import Expiry, LeftOut
from lake.show import html_note, html_table

__all__ = ["Copy", "Difference", "Looks", "ParityResult", "Reader", "Side", "compare", "compare_keys"]

MEMORY_LIMIT: Final = "384MB"
"""What DuckDB may hold of keys and digests; the rest is spilled to disk."""

PASS_ROWS: Final = 4_000_000
"""Rows of a side that are compared at once: 40 bytes each."""

KEPT: Final = 1_000
"""Differences that a result holds; all of them go to `on_difference`."""

_SHOWN: Final = 10
"""Differences that a notebook shows."""


@dataclass(frozen=True, slots=True)
class Side:
    """How one side is read.

    Attributes:
        pages: every item of the side, as pages of raw lines of DynamoDB JSON, in any order.
        read: items by their keys, read consistently, in the keys' order; None where there is none.
        wrapper: where a line is not the item but `{"Item": item}`: that name.
    """

    pages: Pages
    read: Reader
    wrapper: str | None = None


@dataclass(frozen=True, slots=True)
class ParityResult:
    """The outcome of a comparison.

    Attributes:
        source_rows: items read from the source.
        lake_rows: live rows read from the lake.
        tombstones: rows of the lake that say that an item is deleted.
        missing: rows that the lake lacks.
        extra: rows that only the lake has.
        different: rows whose content differs.
        in_flight: rows that differed at first and agreed when looked at again, or were still being changed.
        differences: the first `KEPT` rows that count, by key.
        duplicate: keys that the copy holds more than once.
        copy_rows: rows of the copy that was compared too; None where there was none.
        problems: what else does not add up, one sentence each.
        forged: of the rows that count, those whose version dynalake did not write.
        refused: rows of the source that the policy refuses, so the lake cannot have them as they are. They are
            reported, and count neither as missing nor as different.
        left_out: the rows of the source, and of the lake, that were left out because they have expired; None where
            they are not left out. They are not among the rows read.
    """

    source_rows: int
    lake_rows: int
    tombstones: int
    missing: int
    extra: int
    different: int
    in_flight: int
    differences: tuple[Difference, ...] = field(repr=False)
    duplicate: int = 0
    copy_rows: int | None = None
    problems: tuple[str, ...] = ()
    forged: int = 0
    refused: int = 0
    left_out: tuple[LeftOut, LeftOut] | None = None

    @property
    def wrong(self) -> int:
        """Rows that do not agree."""
        return self.missing + self.extra + self.different + self.duplicate

    @property
    def ratio(self) -> float:
        """Rows that do not agree, as a share of the rows of the larger side (0.0 to 1.0, more where both are wrong)."""
        rows = max(self.source_rows, self.lake_rows)
        return self.wrong / rows if rows else 0.0

    @property
    def exact(self) -> bool:
        """Whether both sides are the same, and everything adds up. A row that the policy refuses is not in the lake."""
        return not self.wrong and not self.problems and not self.refused

    def _repr_html_(self) -> str:
        counts = ("source_rows", "lake_rows", "tombstones", "missing", "extra", "different", "in_flight")
        shown = html_table(
            [name.replace("_", " ") for name in counts], [[f"{getattr(self, name):,}" for name in counts]]
        )
        if self.exact:
            return shown + html_note("source and lake are the same")
        shown += html_note(f"{self.ratio:.4%} of the rows do not agree")
        shown += "".join(map(html_note, self.problems))
        if self.forged:
            shown += html_note(f"{self.forged:,} rows have a version that dynalake did not write")
        if self.refused:
            shown += html_note(f"{self.refused:,} rows of the source are refused by the policy")
        rows = [
            [
                each.reason,
                ", ".join(f"{name} {next(iter(value.values()))}" for name, value in each.key.items()),
                ", ".join(each.attributes),
            ]
            for each in self.differences[:_SHOWN]
        ]
        return shown + html_table(("reason", "key", "attributes"), rows)


def compare(
    source: Side,
    lake: Side,
    key: Sequence[str],
    policy: Policy | None,
    *,
    copy: Copy | None = None,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float] = lambda: 0.0,
    workspace: Path | None = None,
    looks: Looks | None = None,
    forged: Forgery | None = None,
    expiry: Expiry | None = None,
    on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
    on_difference: Callable[[Difference], None] = lambda _: None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> ParityResult:
    """Compare the source with the lake, and a copy of the lake with it.

    Args:
        source: the source side.
        lake: the lake side; tombstones and metadata are left out.
        key: the names of the key attributes.
        policy: what the lake may see of an item or of a key, None where it refuses it; None where every item passes
            unchanged.
        copy: a copy of the lake that is compared with it; None for none.
        sleep: waits that many seconds.
        monotonic: a monotonic clock, seconds.
        workspace: a folder for what does not fit in memory; the system's own choice if None.
        looks: how often and how long a row that differs is looked at again.
        forged: tells versions that dynalake did not write; they are not looked for if None.
        expiry: which rows are left out because they have expired; none if None.
        on_progress: called with "source", "lake", "copy", "again" or "copy again" and the rows read so far.
        on_difference: called with every row that counts: first the lake's, by key, then the copy's.
        random_bytes: gives so many bytes that nobody can guess, for the key of the digests.

    Raises:
        ParityError: a side has a key twice, such as two source items that become one row by policy; an item lacks
            its key; or a line is no item.
    """
    digest = digester(random_bytes(DIGEST_KEY_BYTES))
    with _database(workspace) as database:
        source_rows = lake_rows = tombstones = copy_rows = source_left = lake_left = 0
        for batch in digest_batches(
            source.pages, "the source", key, policy, wrapper=source.wrapper, expiry=expiry
        ):
            _store(database, "source", batch, digest)
            source_left += batch.left_out
            source_rows += len(batch.keys) + len(batch.refused)
            on_progress("source", source_rows)
        for batch in digest_batches(
            lake.pages,
            "the lake",
            key,
            metadata=True,
            wrapper=lake.wrapper,
            states=copy is not None,
            forged=forged,
            expiry=expiry,
        ):
            _store(database, "lake", batch, digest)
            lake_left += batch.left_out
            lake_rows += len(batch.keys)
            tombstones += batch.tombstones
            on_progress("lake", lake_rows)
        if copy is not None:
            for batch in digest_batches(
                copy.pages, "the copy", key, metadata=True, states=True, expiry=expiry
            ):
                _store(database, "copy", batch, digest)
                copy_rows += len(batch.keys)
                on_progress("copy", copy_rows)
        rows = max(source_rows, lake_rows, copy_rows)
        candidates = _find_candidates(database, rows)
        differences: Iterator[Difference] = chain(
            look_again(
                database,
                source.read,
                lake.read,
                policy,
                sleep=sleep,
                monotonic=monotonic,
                looks=looks or Looks(),
                forged=forged,
                expiry=expiry,
                on_progress=lambda rows: on_progress("again", rows),
            ),
            _refused_keys(database),
        )
        judged = Judged()
        if copy is not None:
            differences = chain(
                differences,
                _copy_differences(database, rows, lake.read, copy, policy, judged, expiry, on_progress),
            )
        counts, kept, of_lake = _count(differences, on_difference)
    return ParityResult(
        source_rows=source_rows,
        lake_rows=lake_rows,
        tombstones=tombstones,
        **counts,
        in_flight=candidates - of_lake + judged.moved,
        differences=kept,
        copy_rows=copy_rows if copy is not None else None,
        problems=copy.problems if copy is not None else (),
        left_out=None if expiry is None else (expiry.left_out(source_left), expiry.left_out(lake_left)),
    )


def _copy_differences(
    database: duckdb.DuckDBPyConnection,
    rows: int,
    lake: Reader,
    copy: Copy,
    policy: Policy | None,
    judged: Judged,
    expiry: Expiry | None,
    on_progress: Callable[[str, int], None],
) -> Iterator[Difference]:
    """The rows in which the copy is wrong; those in which the lake is wrong already have been told."""
    _find_copy_candidates(database, rows)
    yield from judge_candidates(
        database,
        lake,
        copy,
        lambda key: policy is None or policy(key) == key,
        judged,
        expiry,
        lambda done: on_progress("copy again", done),
    )


def compare_keys(
    keys: Iterable[tuple[Item | None, Item]],
    source: Reader,
    lake: Reader,
    policy: Policy | None,
    *,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float] = lambda: 0.0,
    workspace: Path | None = None,
    looks: Looks | None = None,
    forged: Forgery | None = None,
    expiry: Expiry | None = None,
    on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
    on_difference: Callable[[Difference], None] = lambda _: None,
) -> ParityResult:
    """Compare only rows that are named: a sample, or what changed since a moment.

    Args:
        keys: the rows, as (the lake's key, the source's key); one that is named twice is compared once. The lake's
            key is None where the policy refuses it.
        source: reads the source.
        lake: reads the lake.
        policy: as for `compare`, as is all that follows.
        sleep: waits that many seconds.
        monotonic: a monotonic clock, seconds.
        workspace: a folder for what does not fit in memory.
        looks: how often and how long a row that differs is looked at again.
        forged: tells versions that dynalake did not write; they are not looked for if None.
        expiry: which rows are left out because they have expired; none if None.
        on_progress: called with "again" and the rows looked at so far.
        on_difference: called with every row that counts, by key.

    Returns:
        A result whose `source_rows` and `lake_rows` are the rows that each side had at the first look.
    """
    with _database(workspace) as database:
        for some in _in_batches(keys):
            texts = [
                (canonical_text(key), canonical_text(source_key))
                for key, source_key in some
                if key is not None
            ]
            _store_refused(database, [(None, canonical_text(each)) for key, each in some if key is None])
            named = pa.table(
                {
                    "key": [key for key, _ in texts],
                    "source_key": [None if key == source_key else source_key for key, source_key in texts],
                },
                schema=pa.schema([("key", pa.string()), ("source_key", pa.string())]),
            )
            database.register("named", named)
            database.execute("INSERT INTO candidates SELECT * FROM named")
            database.unregister("named")
        database.execute(
            "CREATE OR REPLACE TABLE candidates AS SELECT key, any_value(source_key) AS source_key "
            "FROM candidates GROUP BY key"
        )
        tally = Tally()
        (refused,) = database.execute("SELECT count(DISTINCT source_key) FROM refused").fetchone() or (0,)
        counts, kept, counted = _count(
            chain(
                look_again(
                    database,
                    source,
                    lake,
                    policy,
                    sleep=sleep,
                    monotonic=monotonic,
                    looks=looks or Looks(),
                    tally=tally,
                    forged=forged,
                    expiry=expiry,
                    on_progress=lambda rows: on_progress("again", rows),
                ),
                _refused_keys(database),
            ),
            on_difference,
        )
    return ParityResult(
        source_rows=tally.source_rows + refused,
        lake_rows=tally.lake_rows,
        tombstones=tally.tombstones,
        **counts,
        in_flight=tally.differing + refused - counted,
        differences=kept,
    )


def _count(
    found: Iterable[Difference], on_difference: Callable[[Difference], None]
) -> tuple[dict[str, Any], tuple[Difference, ...], int]:
    """The differences by reason, the first of them, and how many are the lake's."""
    counts = dict.fromkeys(("missing", "extra", "different", "duplicate", "refused", "forged"), 0)
    kept: list[Difference] = []
    of_lake = 0
    for difference in found:
        counts[difference.reason] += 1
        counts["forged"] += difference.forged
        of_lake += difference.where == "lake"
        if len(kept) < KEPT:
            kept.append(difference)
        on_difference(difference)
    return counts, tuple(kept), of_lake


def _in_batches(
    keys: Iterable[tuple[Item | None, Item]],
) -> Iterator[list[tuple[Item | None, Item]]]:
    iterator = iter(keys)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch


@contextmanager
def _database(workspace: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    with (
        tempfile.TemporaryDirectory(prefix="dynalake-parity-", dir=workspace) as folder,
        duckdb.connect(
            ":memory:",
            config={"memory_limit": MEMORY_LIMIT, "threads": 2, "temp_directory": folder},
        ) as database,
    ):
        database.execute("SET preserve_insertion_order = false")
        database.execute(
            "CREATE TABLE source (name UHUGEINT, digest UHUGEINT, key VARCHAR, source_key VARCHAR)"
        )
        for table in ("lake", "copy"):
            database.execute(
                f"CREATE TABLE {table} (name UHUGEINT, digest UHUGEINT, state UHUGEINT, key VARCHAR)"
            )
        database.execute("CREATE TABLE forged (key VARCHAR)")
        for table in ("candidates", "refused"):
            database.execute(f"CREATE TABLE {table} (key VARCHAR, source_key VARCHAR)")
        yield database


def _store(database: duckdb.DuckDBPyConnection, table: str, batch: Batch, digest: Digest) -> None:
    columns: dict[str, pa.Array] = {"key": batch.keys}
    if table == "source":
        columns["source_key"] = pa.array(batch.source_keys or [None] * len(batch.keys), pa.string())
    digested = {"name": batch.keys, "digest": batch.texts}
    if batch.states is not None:
        digested["state"] = batch.states
    stored = list(columns)
    for name, texts in digested.items():
        columns[f"{name}_high"], columns[f"{name}_low"] = digest(texts)
        stored.append(f"({name}_high::UHUGEINT << 64) | {name}_low AS {name}")
    database.register("batch", pa.table(columns))
    database.execute(f"INSERT INTO {table} BY NAME SELECT {', '.join(stored)} FROM batch")
    database.unregister("batch")
    if batch.forged:
        database.executemany("INSERT INTO forged VALUES (?)", [[key] for key in batch.forged])
    _store_refused(database, batch.refused)


def _store_refused(database: duckdb.DuckDBPyConnection, keys: Sequence[tuple[str | None, str]]) -> None:
    """Store the keys of rows that the policy refuses, as (the lake's, the source's)."""
    if not keys:
        return
    columns = dict(zip(("key", "source_key"), map(list, zip(*keys, strict=True)), strict=True))
    schema = pa.schema([("key", pa.string()), ("source_key", pa.string())])
    database.register("batch", pa.table(columns, schema=schema))
    database.execute("INSERT INTO refused BY NAME SELECT key, source_key FROM batch")
    database.unregister("batch")


def _refused_keys(database: duckdb.DuckDBPyConnection) -> Iterator[Difference]:
    """The rows whose key the policy refuses: the lake cannot be asked for them."""
    cursor = database.cursor()
    cursor.execute("SELECT DISTINCT source_key FROM refused WHERE key IS NULL ORDER BY source_key")
    while row := cursor.fetchone():
        yield Difference("refused", {}, json.loads(row[0]))


def _find_candidates(database: duckdb.DuckDBPyConnection, rows: int) -> int:
    """Store the keys of the rows that are not the same on both sides, and count them."""
    for part in _passes(rows):
        doubled = _doubled(database, "source", part)
        if doubled:
            raise ParityError(
                f"{doubled} source items share a key after policy: they became one row in the lake"
            )
        doubled = _doubled(database, "lake", part)
        if doubled:
            raise ParityError(
                f"{doubled} rows of the lake share a key with another row: the export is damaged"
            )
        _pair(database, "source", "lake", part, "source.digest <> lake.digest")
        database.execute("""
            INSERT INTO candidates
            SELECT key, source_key FROM source WHERE rowid IN (SELECT source_row FROM part)
            UNION ALL
            SELECT key, NULL FROM lake WHERE rowid IN (SELECT lake_row FROM part WHERE source_row IS NULL)
        """)
    # The lake may still have an earlier state of a row that is refused now: that is no row too many.
    database.execute("DELETE FROM candidates WHERE key IN (SELECT key FROM refused WHERE key IS NOT NULL)")
    database.execute("INSERT INTO candidates SELECT key, source_key FROM refused WHERE key IS NOT NULL")
    database.execute("""
        INSERT INTO candidates
        SELECT DISTINCT forged.key, source.source_key FROM forged LEFT JOIN source USING (key)
        WHERE key NOT IN (SELECT key FROM candidates)
    """)
    counted = "SELECT (SELECT count(*) FROM candidates) + (SELECT count(*) FROM refused WHERE key IS NULL)"
    (found,) = database.execute(counted).fetchall()
    return int(found[0])


def _find_copy_candidates(database: duckdb.DuckDBPyConnection, rows: int) -> None:
    """Store the keys of the rows in which the copy is not the lake's, those of `look_again` left out."""
    database.execute("CREATE TEMP TABLE differing (key VARCHAR)")
    for part in _passes(rows):
        _pair(
            database,
            "lake",
            "copy",
            part,
            "lake.digest <> copy.digest OR lake.state IS DISTINCT FROM copy.state",
        )
        database.execute(f"""
            INSERT INTO differing
            SELECT key FROM lake WHERE rowid IN (SELECT lake_row FROM part)
            UNION
            SELECT key FROM copy WHERE rowid IN (SELECT copy_row FROM part)
            UNION
            SELECT any_value(key) FROM copy {part} GROUP BY name HAVING count(*) > 1
        """)
    database.execute("""
        CREATE TABLE copy_candidates AS
        SELECT key, source_key FROM differing LEFT JOIN (SELECT key, source_key FROM source) USING (key)
        WHERE key NOT IN (SELECT key FROM waiting WHERE found IS NOT NULL)
    """)


def _passes(rows: int) -> Iterator[str]:
    """The conditions that divide the tables into parts, each of which fits in memory."""
    passes = rows // PASS_ROWS + 1
    for number in range(passes):
        yield f"WHERE name % {passes} = {number}" if passes > 1 else ""


def _doubled(database: duckdb.DuckDBPyConnection, table: str, part: str) -> int:
    """How many rows of a part of a table have the key of another row."""
    (found,) = database.execute(
        f"SELECT count(*) - count(DISTINCT name) FROM (SELECT name FROM {table} {part})"
    ).fetchall()
    return int(found[0])


def _pair(database: duckdb.DuckDBPyConnection, one: str, other: str, part: str, differ: str) -> None:
    """Fill the table `part` with the row numbers of what only one has, or what differs."""
    # Only digests and row numbers take part in the join: the keys of the few that differ are fetched after.
    columns = "name, digest, rowid" + (", state" if other == "copy" else "")
    database.execute(f"""
        CREATE OR REPLACE TEMP TABLE part AS
        SELECT {one}.rowid AS {one}_row, {other}.rowid AS {other}_row
        FROM (SELECT {columns} FROM {one} {part}) AS {one}
        FULL JOIN (SELECT {columns} FROM {other} {part}) AS {other} ON {one}.name = {other}.name
        WHERE {one}.name IS NULL OR {other}.name IS NULL OR {differ}
    """)
