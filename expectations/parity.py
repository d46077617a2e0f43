"""Parity: which rows are missing from the lake, are there too many, or differ, by the content of whole items.

Why no row in flight is reported: the two tables are read at different moments, so a row that was changed in
between looks different though nothing is wrong. Therefore each row that differs is looked at again, on both
sides, consistently, after the stream has had its time; it counts only if it still differs after the last
look, and if the lake's row did not move between two looks (a row that moves is being worked on).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from expectations.canonical import canonical_text, differing_attributes, digest
from expectations.errors import ParityError
from lake.contract.rows import is_tombstone, source_item, version_of

Item = Mapping[str, Mapping[str, Any]]

LOOKS: Final = 5
"""Looks at a row that differs before it counts."""

PAUSE_S: Final = 2.0
"""Between two looks: the stream's time to deliver, which is typically within a second."""

MEMORY_LIMIT: Final = "512MB"
"""What DuckDB may hold of keys and digests; the rest is spilled to disk."""

BATCH: Final = 5_000

Reason = Literal["missing", "extra", "different"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same on both sides.

    Attributes:
        reason: "missing" from the lake, "extra" in the lake, or "different".
        key: the key as the lake has it (after policy), wire form.
        source_key: the key as the source has it; None where only the lake has the row.
        attributes: the attributes that differ; only for "different".
    """

    reason: Reason
    key: Item
    source_key: Item | None
    attributes: tuple[str, ...] = ()


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
        differences: every row that counts.
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
    def ratio(self) -> float:
        """Rows that do not agree, as a share of the rows of both sides together (0.0 to 1.0)."""
        rows = max(self.source_rows, self.lake_rows)
        return (self.missing + self.extra + self.different) / rows if rows else 0.0

    @property
    def exact(self) -> bool:
        """Whether both sides are the same."""
        return not (self.missing or self.extra or self.different)


@dataclass(frozen=True, slots=True)
class Side:
    """How one side is read.

    Attributes:
        items: every item of the table, in wire form, in any order.
        get: one item by its key on this side, read consistently; None where there is none.
    """

    items: Iterable[Item]
    get: Callable[[Item], Item | None]


def compare(
    source: Side,
    lake: Side,
    key: Sequence[str],
    policy: Callable[[Item], Item],
    *,
    sleep: Callable[[float], None],
    workspace: Path | None = None,
    looks: int = LOOKS,
    pause_s: float = PAUSE_S,
    on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
) -> ParityResult:
    """Compare the source table with its lake table.

    Args:
        source: the source table.
        lake: the lake table; tombstones and metadata are left out.
        key: the names of the key attributes.
        policy: what the lake may see of an item or of a key.
        sleep: waits that many seconds.
        workspace: a folder for what does not fit in memory; DuckDB's own choice if None.
        looks: how often a row that differs is looked at again.
        pause_s: seconds between two looks.
        on_progress: called with "source" or "lake" and the rows read so far.

    Raises:
        ParityError: two source items become one row by policy, or an item lacks its key.
    """
    with duckdb.connect(":memory:", config={"memory_limit": MEMORY_LIMIT, "threads": 2}) as database:
        if workspace is not None:
            database.execute(f"SET temp_directory = '{str(workspace).replace(chr(39), chr(39) * 2)}'")
        database.execute("CREATE TABLE source (key VARCHAR, source_key VARCHAR, digest BLOB)")
        database.execute("CREATE TABLE lake (key VARCHAR, digest BLOB)")
        source_rows = _load_source(database, source.items, key, policy, on_progress)
        lake_rows, tombstones = _load_lake(database, lake.items, key, on_progress)
        candidates = database.execute(_CANDIDATES).fetchall()
        doubled = database.execute("SELECT count(*) - count(DISTINCT key) FROM source").fetchone()
    if doubled and doubled[0]:
        raise ParityError(
            f"{doubled[0]} source items share a key after policy: they became one row in the lake"
        )
    differences, settled = _look_again(candidates, source, lake, policy, sleep, looks, pause_s)
    counts = {
        reason: sum(each.reason == reason for each in differences)
        for reason in ("missing", "extra", "different")
    }
    return ParityResult(
        source_rows=source_rows,
        lake_rows=lake_rows,
        tombstones=tombstones,
        **counts,
        in_flight=settled,
        differences=tuple(differences),
    )


_CANDIDATES: Final = """
    SELECT coalesce(source.key, lake.key), source.source_key
    FROM source FULL JOIN lake ON source.key = lake.key
    WHERE source.key IS NULL OR lake.key IS NULL OR source.digest <> lake.digest
    ORDER BY 1
"""


def _load_source(
    database: duckdb.DuckDBPyConnection,
    items: Iterable[Item],
    key: Sequence[str],
    policy: Callable[[Item], Item],
    on_progress: Callable[[str, int], None],
) -> int:
    rows = 0
    batch: list[tuple[str, str, bytes]] = []
    for item in items:
        seen = policy(item)
        batch.append((_key_text(seen, key), _key_text(item, key), digest(seen)))
        rows += 1
        if len(batch) == BATCH:
            _insert(database, "source", ("key", "source_key", "digest"), batch)
            batch.clear()
            on_progress("source", rows)
    _insert(database, "source", ("key", "source_key", "digest"), batch)
    on_progress("source", rows)
    return rows


def _load_lake(
    database: duckdb.DuckDBPyConnection,
    rows: Iterable[Item],
    key: Sequence[str],
    on_progress: Callable[[str, int], None],
) -> tuple[int, int]:
    live = tombstones = 0
    batch: list[tuple[str, bytes]] = []
    for row in rows:
        if is_tombstone(row):
            tombstones += 1
            continue
        batch.append((_key_text(row, key), digest(source_item(row))))
        live += 1
        if len(batch) == BATCH:
            _insert(database, "lake", ("key", "digest"), batch)
            batch.clear()
            on_progress("lake", live)
    _insert(database, "lake", ("key", "digest"), batch)
    on_progress("lake", live)
    return live, tombstones


def _insert(
    database: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], batch: Sequence[Sequence[Any]]
) -> None:
    import pyarrow as pa

    if batch:
        arrow = pa.table(dict(zip(columns, map(list, zip(*batch, strict=True)), strict=True)))
        database.register("batch", arrow)
        database.execute(f"INSERT INTO {table} SELECT * FROM batch")
        database.unregister("batch")


def _look_again(
    candidates: Sequence[tuple[str, str | None]],
    source: Side,
    lake: Side,
    policy: Callable[[Item], Item],
    sleep: Callable[[float], None],
    looks: int,
    pause_s: float,
) -> tuple[list[Difference], int]:
    """The rows that still differ, and how many settled or were still being changed."""
    waiting = list(candidates)
    versions: dict[str, str] = {}
    found: dict[str, Difference] = {}
    for look in range(looks):
        if not waiting:
            break
        if look:
            sleep(pause_s)
        still = []
        for key_text, source_key in waiting:
            difference, version = _look(key_text, source_key, source, lake, policy)
            found.pop(key_text, None)
            if difference is not None:
                still.append((key_text, source_key))
                if versions.get(key_text, version) == version:
                    found[key_text] = difference
                versions[key_text] = version
        waiting = still
    return [found[key] for key in sorted(found)], len(candidates) - len(found)


def _look(
    key_text: str, source_key_text: str | None, source: Side, lake: Side, policy: Callable[[Item], Item]
) -> tuple[Difference | None, str]:
    """What is wrong with a row now, and the lake row's version. The lake is read first: it follows the source."""
    key: Item = json.loads(key_text)
    row = lake.get(key)
    source_key: Item | None = json.loads(source_key_text) if source_key_text else None
    if source_key is None and policy(key) == key:
        source_key = key
    item = source.get(source_key) if source_key is not None else None
    version = version_of(row)
    live = row if row is not None and not is_tombstone(row) else None
    if item is None and live is None:
        return None, version
    if item is None:
        return Difference("extra", key, source_key), version
    if live is None:
        return Difference("missing", key, source_key), version
    attributes = differing_attributes(policy(item), source_item(live))
    return (Difference("different", key, source_key, tuple(attributes)) if attributes else None), version


def _key_text(item: Item, key: Sequence[str]) -> str:
    try:
        return canonical_text({name: item[name] for name in key})
    except KeyError as error:
        raise ParityError(f"an item lacks its key attribute {error.args[0]!r}") from None
