"""Looking again, on both sides, at the rows that did not agree, before any of them counts.

The lake is read first: it follows the source. All that is known of the rows stands in DuckDB, so memory is
bounded however many they are; a round goes through them some hundred at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa

from expectations.bulk import Item, Policy
from expectations.canonical import differing_attributes
from lake.contract.expiry import Expiry
from lake.contract.rows import VERSION, is_tombstone, source_item, version_of

Reader = Callable[[Sequence[Item]], Sequence[Item | None]]
"""Items by their keys, read consistently, in the keys' order; None where there is none."""

AT_ONCE: Final = 400
"""Rows looked at together: an item has 400 KB at most, so this bounds the memory."""

Forgery = Callable[[Mapping[str, Any] | None], str | None]
"""Why a row's version attribute is forged (`lake.contract.versions.KnownLabels`); None where it is not."""

Reason = Literal["missing", "extra", "different", "duplicate", "refused"]


@dataclass(frozen=True, slots=True)
class Looks:
    """How patiently a row that differs is looked at again.

    Attributes:
        most: looks at a row before it counts.
        pause_s: seconds between two looks: the stream's time to deliver, which is typically within a second.
    """

    most: int = 5
    pause_s: float = 2.0

    @property
    def patience_s(self) -> float:
        """Seconds from the first to the last look. Rounds that last long, over many rows, need be fewer."""
        return (self.most - 1) * self.pause_s


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same on both sides.

    Attributes:
        reason: "missing" from the lake, "extra" in the lake, "different", "duplicate": the key is there twice, or
            "refused": the policy refuses the source's row, so the lake cannot have it.
        key: the key as the lake has it (after policy), wire form; empty where the policy refuses the key.
        source_key: the key as the source has it; None where only the lake has the row and its key is hashed.
        attributes: the attributes that differ, dynalake's own included; only for "different".
        where: "lake" where the lake differs from the source, "copy" where a copy differs from the lake.
        forged: whether the lake row's version is one that dynalake did not write. A row, or a tombstone, in which
            nothing else is wrong is "different" in that attribute.
    """

    reason: Reason
    key: Item
    source_key: Item | None
    attributes: tuple[str, ...] = ()
    where: Literal["lake", "copy"] = "lake"
    forged: bool = False


@dataclass(slots=True)
class Tally:
    """What the first look found.

    Attributes:
        source_rows: items that the source had.
        lake_rows: live rows that the lake had.
        tombstones: rows of the lake that said that the item is deleted.
        differing: rows that did not agree.
    """

    source_rows: int = 0
    lake_rows: int = 0
    tombstones: int = 0
    differing: int = 0


def look_again(
    database: duckdb.DuckDBPyConnection,
    source: Reader,
    lake: Reader,
    policy: Policy | None,
    *,
    sleep: Callable[[float], None],
    monotonic: Callable[[], float],
    looks: Looks,
    tally: Tally | None = None,
    forged: Forgery | None = None,
    expiry: Expiry | None = None,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> Iterator[Difference]:
    """Look at the rows of the table `candidates (key, source_key)` until they agree or count.

    Args:
        database: it has the table; others are made in it.
        source: reads the source.
        lake: reads the lake.
        policy: what the lake may see of an item or of a key, None where it refuses it; None where every item passes
            unchanged.
        sleep: waits that many seconds.
        monotonic: a monotonic clock, seconds.
        looks: how patiently.
        tally: takes what the first look found.
        forged: tells forged versions; they are not looked for if None.
        expiry: which rows are left out because they have expired; none if None.
        on_progress: called with the rows looked at so far, all rounds together.

    Yields:
        The rows that count, by key.
    """
    database.execute(
        "CREATE OR REPLACE TEMP TABLE waiting AS SELECT row_number() OVER (ORDER BY key) AS id, key, "
        "coalesce(source_key, key) AS source_key, source_key IS NULL AS same_key, NULL::VARCHAR AS version, "
        "NULL::VARCHAR AS found FROM candidates"
    )
    began = monotonic()
    looked = 0
    for look in range(1, looks.most + 1):
        round_began = monotonic()
        counts = Tally()
        for rows in _round(database, source, lake, policy or (lambda seen: seen), counts, forged, expiry):
            looked += rows
            on_progress(looked)
        if look == 1 and tally is not None:
            tally.source_rows, tally.lake_rows = counts.source_rows, counts.lake_rows
            tally.tombstones, tally.differing = counts.tombstones, counts.differing
        (left,) = database.execute("SELECT count(*) FROM waiting").fetchone() or (0,)
        late = look > 1 and monotonic() - began >= looks.patience_s > 0
        if not left or look == looks.most or late:
            break
        sleep(max(0.0, looks.pause_s - (monotonic() - round_began)))
    answers = database.execute("SELECT found FROM waiting WHERE found IS NOT NULL ORDER BY id")
    while row := answers.fetchone():
        found = json.loads(row[0])
        yield Difference(
            found["reason"],
            found["key"],
            found["source_key"],
            tuple(found["attributes"]),
            forged=found["forged"],
        )


def _round(
    database: duckdb.DuckDBPyConnection,
    source: Reader,
    lake: Reader,
    policy: Policy,
    tally: Tally,
    forged: Forgery | None,
    expiry: Expiry | None,
) -> Iterator[int]:
    """One look at every waiting row; those that agree leave the table. Gives the rows of each step."""
    database.execute("CREATE OR REPLACE TEMP TABLE still AS FROM waiting LIMIT 0")
    after = 0
    while rows := database.execute(
        "SELECT id, key, source_key, same_key, version FROM waiting WHERE id > ? ORDER BY id LIMIT ?",
        [after, AT_ONCE],
    ).fetchall():
        after = rows[-1][0]
        keys = [json.loads(row[1]) for row in rows]
        live = lake(keys)
        asked: list[Item | None] = []
        for row, key in zip(rows, keys, strict=True):
            # Only the lake has the row, and its key may be hashed: then nobody knows the source's.
            known = not row[3] or policy(key) == key
            asked.append(json.loads(row[2]) if known else None)
        items = iter(source([key for key in asked if key is not None]))
        still: dict[str, list[Any]] = {
            name: [] for name in ("id", "key", "source_key", "same_key", "version", "found")
        }
        for row, key, source_key, lake_row in zip(rows, keys, asked, live, strict=True):
            item = next(items) if source_key is not None else None
            difference = _difference(key, source_key, item, lake_row, policy)
            if expiry is not None and expiry.has_passed(item or lake_row or {}):
                difference = None  # the source decides, since the policy may hide the attribute from the lake
            if forged is not None and lake_row is not None and forged(lake_row.get(VERSION)) is not None:
                difference = replace(
                    difference or Difference("different", key, source_key, (VERSION,)), forged=True
                )
            tally.source_rows += item is not None
            if lake_row is not None:
                tally.tombstones += is_tombstone(lake_row)
                tally.lake_rows += not is_tombstone(lake_row)
            if difference is None:
                continue
            version = version_of(lake_row)
            stands = row[4] is None or row[4] == version
            for name, value in zip(
                still, (*row[:4], version, _text(difference) if stands else None), strict=True
            ):
                still[name].append(value)
        tally.differing += len(still["id"])
        if still["id"]:
            schema = pa.schema(
                [("id", pa.int64()), ("key", pa.string()), ("source_key", pa.string()), ("same_key", pa.bool_()),
                 ("version", pa.string()), ("found", pa.string())]
            )  # fmt: skip
            database.register("seen", pa.table(still, schema=schema))
            database.execute("INSERT INTO still SELECT * FROM seen")
            database.unregister("seen")
        yield len(rows)
    database.execute("CREATE OR REPLACE TEMP TABLE waiting AS FROM still")


def _difference(
    key: Item, source_key: Item | None, item: Item | None, row: Item | None, policy: Policy
) -> Difference | None:
    """What is wrong with a row now; None where nothing is."""
    live = row if row is not None and not is_tombstone(row) else None
    seen = None if item is None else policy(item)
    if item is not None and seen is None:
        return Difference("refused", key, source_key)
    if seen is None and live is None:
        return None
    if seen is None:
        return Difference("extra", key, source_key)
    if live is None:
        return Difference("missing", key, source_key)
    attributes = differing_attributes(seen, source_item(live))
    return Difference("different", key, source_key, tuple(attributes)) if attributes else None


def _text(difference: Difference) -> str:
    return json.dumps(
        {
            "reason": difference.reason,
            "key": difference.key,
            "source_key": difference.source_key,
            "attributes": difference.attributes,
            "forged": difference.forged,
        }
    )
