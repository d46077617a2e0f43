"""Parity: which rows are missing from the lake, are there too many, or differ, by the content of whole items.

Why no row in flight is reported: the two sides are read at different moments, so a row that was changed in
between looks different though nothing is wrong. Therefore each row that differs is looked at again, on both
sides, consistently, after the stream has had its time (`expectations.recheck`); it counts only if it still
differs after the last look, and if the lake's row did not move between two looks (a row that moves is being
worked on).

Memory is bounded whatever the tables' size: of each row a digest and the key are stored by DuckDB, which spills
them to disk beyond `MEMORY_LIMIT`; they are compared in passes over the digest's range, each of which fits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from expectations.bulk import BATCH_ROWS, Batch, Item, Pages, digest_batches
from expectations.canonical import canonical_text
from expectations.errors import ParityError
from expectations.recheck import Difference, Looks, Reader, Tally, look_again
from lake.show import html_note, html_table

__all__ = ["Difference", "Looks", "ParityResult", "Reader", "Side", "compare", "compare_keys"]

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
    """

    source_rows: int
    lake_rows: int
    tombstones: int
    missing: int
    extra: int
    different: int
    in_flight: int
    differences: tuple[Difference, ...] = field(repr=False)

    @property
    def wrong(self) -> int:
        """Rows that do not agree."""
        return self.missing + self.extra + self.different

    @property
    def ratio(self) -> float:
        """Rows that do not agree, as a share of the rows of the larger side (0.0 to 1.0, more where both are wrong)."""
        rows = max(self.source_rows, self.lake_rows)
        return self.wrong / rows if rows else 0.0

    @property
    def exact(self) -> bool:
        """Whether both sides are the same."""
        return not self.wrong

    def _repr_html_(self) -> str:
        counts = ("source_rows", "lake_rows", "tombstones", "missing", "extra", "different", "in_flight")
        shown = html_table(
            [name.replace("_", " ") for name in counts], [[f"{getattr(self, name):,}" for name in counts]]
        )
        if self.exact:
            return shown + html_note("source and lake are the same")
        shown += html_note(f"{self.ratio:.4%} of the rows do not agree")
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
    policy: Callable[[Item], Item] | None,
    *,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float] = lambda: 0.0,
    workspace: Path | None = None,
    looks: Looks | None = None,
    on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
    on_difference: Callable[[Difference], None] = lambda _: None,
) -> ParityResult:
    """Compare the source with the lake.

    Args:
        source: the source side.
        lake: the lake side; tombstones and metadata are left out.
        key: the names of the key attributes.
        policy: what the lake may see of an item or of a key; None where every item passes unchanged.
        sleep: waits that many seconds.
        monotonic: a monotonic clock, seconds.
        workspace: a folder for what does not fit in memory; the system's own choice if None.
        looks: how often and how long a row that differs is looked at again.
        on_progress: called with "source", "lake" or "again" and the rows read so far.
        on_difference: called with every row that counts, by key.

    Raises:
        ParityError: two source items become one row by policy, an item lacks its key, or a line is no item.
    """
    with _database(workspace) as database:
        source_rows = lake_rows = tombstones = 0
        for batch in digest_batches(source.pages, "the source", key, policy, wrapper=source.wrapper):
            _store(database, "source", batch)
            source_rows += len(batch.keys)
            on_progress("source", source_rows)
        for batch in digest_batches(lake.pages, "the lake", key, metadata=True, wrapper=lake.wrapper):
            _store(database, "lake", batch)
            lake_rows += len(batch.keys)
            tombstones += batch.tombstones
            on_progress("lake", lake_rows)
        candidates = _find_candidates(database, max(source_rows, lake_rows))
        counts, kept = _count(
            look_again(
                database,
                source.read,
                lake.read,
                policy,
                sleep=sleep,
                monotonic=monotonic,
                looks=looks or Looks(),
                on_progress=lambda rows: on_progress("again", rows),
            ),
            on_difference,
        )
    return ParityResult(
        source_rows=source_rows,
        lake_rows=lake_rows,
        tombstones=tombstones,
        **counts,
        in_flight=candidates - sum(counts.values()),
        differences=kept,
    )


def compare_keys(
    keys: Iterable[tuple[Item, Item]],
    source: Reader,
    lake: Reader,
    policy: Callable[[Item], Item] | None,
    *,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float] = lambda: 0.0,
    workspace: Path | None = None,
    looks: Looks | None = None,
    on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
    on_difference: Callable[[Difference], None] = lambda _: None,
) -> ParityResult:
    """Compare only rows that are named: a sample, or what changed since a moment.

    Args:
        keys: the rows, as (the lake's key, the source's key); one that is named twice is compared once.
        source: reads the source.
        lake: reads the lake.
        policy: as for `compare`, as is all that follows.
        sleep: waits that many seconds.
        monotonic: a monotonic clock, seconds.
        workspace: a folder for what does not fit in memory.
        looks: how often and how long a row that differs is looked at again.
        on_progress: called with "again" and the rows looked at so far.
        on_difference: called with every row that counts, by key.

    Returns:
        A result whose `source_rows` and `lake_rows` are the rows that each side had at the first look.
    """
    with _database(workspace) as database:
        for some in _in_batches(keys):
            texts = [(canonical_text(key), canonical_text(source_key)) for key, source_key in some]
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
        counts, kept = _count(
            look_again(
                database,
                source,
                lake,
                policy,
                sleep=sleep,
                monotonic=monotonic,
                looks=looks or Looks(),
                tally=tally,
                on_progress=lambda rows: on_progress("again", rows),
            ),
            on_difference,
        )
    return ParityResult(
        source_rows=tally.source_rows,
        lake_rows=tally.lake_rows,
        tombstones=tally.tombstones,
        **counts,
        in_flight=tally.differing - sum(counts.values()),
        differences=kept,
    )


def _count(
    found: Iterable[Difference], on_difference: Callable[[Difference], None]
) -> tuple[dict[str, int], tuple[Difference, ...]]:
    counts = {"missing": 0, "extra": 0, "different": 0}
    kept: list[Difference] = []
    for difference in found:
        counts[difference.reason] += 1
        if len(kept) < KEPT:
            kept.append(difference)
        on_difference(difference)
    return counts, tuple(kept)


def _in_batches(keys: Iterable[tuple[Item, Item]]) -> Iterator[list[tuple[Item, Item]]]:
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
        database.execute("CREATE TABLE lake (name UHUGEINT, digest UHUGEINT, key VARCHAR)")
        database.execute("CREATE TABLE candidates (key VARCHAR, source_key VARCHAR)")
        yield database


def _store(database: duckdb.DuckDBPyConnection, table: str, batch: Batch) -> None:
    columns = {"key": batch.keys, "text": batch.texts}
    if table == "source":
        columns["source_key"] = pa.array(batch.source_keys or [None] * len(batch.keys), pa.string())
    database.register("batch", pa.table(columns))
    database.execute(
        f"INSERT INTO {table} SELECT md5_number(key), md5_number(text), "
        f"{', '.join(name for name in columns if name != 'text')} FROM batch"
    )
    database.unregister("batch")


def _find_candidates(database: duckdb.DuckDBPyConnection, rows: int) -> int:
    """Store the keys of the rows that are not the same on both sides, and count them."""
    passes = rows // PASS_ROWS + 1
    for number in range(passes):
        part = f"WHERE name % {passes} = {number}" if passes > 1 else ""
        doubled = database.execute(
            f"SELECT count(*) - count(DISTINCT name) FROM (SELECT name FROM source {part})"
        ).fetchone()
        if doubled and doubled[0]:
            raise ParityError(
                f"{doubled[0]} source items share a key after policy: they became one row in the lake"
            )
        # Only digests and row numbers take part in the join: the keys of the few that differ are fetched after.
        database.execute(f"""
            CREATE OR REPLACE TEMP TABLE part AS
            SELECT source.rowid AS source_row, lake.rowid AS lake_row
            FROM (SELECT name, digest, rowid FROM source {part}) AS source
            FULL JOIN (SELECT name, digest, rowid FROM lake {part}) AS lake ON source.name = lake.name
            WHERE source.name IS NULL OR lake.name IS NULL OR source.digest <> lake.digest
        """)
        database.execute("""
            INSERT INTO candidates
            SELECT key, source_key FROM source WHERE rowid IN (SELECT source_row FROM part)
            UNION ALL
            SELECT key, NULL FROM lake WHERE rowid IN (SELECT lake_row FROM part WHERE source_row IS NULL)
        """)
    (found,) = database.execute("SELECT count(*) FROM candidates").fetchall()
    return int(found[0])
