"""A snapshot as a side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from expectations.canonical import canonical_text
from expectations.parity import Reader, Side
from lake.contract.rows import WRITTEN_AT, Item, is_tombstone, version_of
from lake.encode import encode_batches, snapshot_items
from lake.lines import item_to_line
from lake.open import open_lake
from lake.types import Blob, Type, duckdb_type, identifier

PAGE_ROWS: Final = 2_000

CLOCK_SKEW_MS: Final = 5_000
"""How far the clocks of who writes the lake and who made the snapshot may be apart."""


def snapshot_side(path: Path, table: str, lake: Reader, key: Sequence[str]) -> Side:
    """A snapshot in the lake's place.

    A row that differs is the snapshot's fault only where the lake's row still has the version that the snapshot
    shows, or was there before the snapshot began and the snapshot lacks it: else the row has moved on since, and
    the lake's own row is looked at instead.

    Args:
        path: the snapshot.
        table: the table's name in it.
        lake: reads the live lake table.
        key: the names of the key attributes.

    Raises:
        SnapshotError: there is no such snapshot or table.
    """

    def read(keys: Sequence[Item]) -> list[Item | None]:
        shown = _rows(path, table, keys, key)
        began = _began_at(path, table)
        answers: list[Item | None] = []
        for wanted, live in zip(keys, lake(keys), strict=True):
            row = shown.get(canonical_text(wanted))
            if row is None:
                should_be_there = (
                    live is not None
                    and not is_tombstone(live)
                    and int(live[WRITTEN_AT]["N"]) < began - CLOCK_SKEW_MS
                )
                answers.append(None if should_be_there else live)
            else:
                answers.append(row if version_of(row) == version_of(live) else live)
        return answers

    return Side(_pages(path, table), read)


def _began_at(path: Path, table: str) -> int:
    """When the snapshot's making began, epoch milliseconds."""
    with open_lake(path) as lake:
        (row,) = lake.connection.execute(
            "SELECT epoch_ms(started_at) FROM _lake.tables WHERE table_name = ?", [table]
        ).fetchall()
        return int(row[0])


def _pages(path: Path, table: str) -> Iterator[list[bytes]]:
    page: list[bytes] = []
    for item in snapshot_items(path, table, metadata=True):
        page.append(item_to_line(item))
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    if page:
        yield page


def _rows(path: Path, table: str, keys: Sequence[Item], names: Sequence[str]) -> dict[str, Item]:
    """Rows of the snapshot by their keys' canonical text."""
    with open_lake(path) as lake:
        columns = lake.columns(table)
        of_key = [next(column for column in columns if column.attribute == name) for name in names]
        tests = " AND ".join(f"{identifier(column.name)} = {_place(column.type)}" for column in of_key)
        found: dict[str, Item] = {}
        sql = f"FROM _lake.{identifier(table)} WHERE {' OR '.join(f'({tests})' for _ in keys)}"
        parameters = [next(iter(wanted[name].values())) for wanted in keys for name in names]
        reader = lake.connection.sql(sql, params=parameters).to_arrow_reader(PAGE_ROWS)
        for item in encode_batches(columns, reader, metadata=True):
            found[canonical_text({name: item[name] for name in names})] = item
    return found


def _place(kind: Type) -> str:
    return "from_base64(?)" if isinstance(kind, Blob) else f"CAST(? AS {duckdb_type(kind)})"
