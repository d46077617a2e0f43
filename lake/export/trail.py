"""The trail of an extract: from which versions of which rows it was made, so that the next one need not begin anew.

Every write to a row raises its version, so a row is unchanged if, and only if, its version is. A trail keeps the key
of each row of the extract with its version, as Parquet, in a hidden file beside the extract (`.orders.hyper.trail`),
and the digest of the extract that it belongs to. What does not fit together is no trail: the extract is then written
in full, and the reason is said. Because the trail tells all rows and not a moment, it does not matter how old it is,
whether deleted rows' tombstones are still there, or whether the snapshot was refreshed or built anew meanwhile.

`_lake_at` (when the lake row was written) is compared too: weeks after a row was deleted, when its tombstone has
expired, a repair may write the same key with a version that it had before (`lake.rule`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from lake.contract.rows import VERSION, WRITTEN_AT
from lake.export.extract import ExtractColumn
from lake.open import Lake
from lake.stored import ROW, rows_of, value_of
from lake.types import METADATA_KEY, literal

FORMAT: Final = 2
"""Goes up with the trail's form, and whenever an unchanged row's values would be written differently than before.
Trails of format 1 may have been made from snapshots that were wrong (`lake.stored`), so their extracts may be, too."""

_BLOCK: Final = 1 << 20


class NoTrailError(Exception):
    """There is nothing to go on from; the text says why, and completes "written in full: …"."""


@dataclass(frozen=True, slots=True)
class Trail:
    """What a trail tells of the extract that it belongs to.

    Attributes:
        digest: of the extract's file, see `digest`.
        lake_table: the lake table that its rows came from.
        key: the key columns' names in the snapshot, partition key first.
        columns: name, Hyper type and what it is made of, of each column in order.
        rows: its rows.
        replaced: rows that were deleted from the file since it was last written in full; Hyper does not give their
            room back.
        written_bytes: the size of the file when it was last written in full.
    """

    digest: str
    lake_table: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, str, str], ...]
    rows: int
    replaced: int = 0
    written_bytes: int = 0

    @classmethod
    def of(cls, lake: Lake, table: str, columns: Sequence[ExtractColumn]) -> Self:
        """The trail of an extract that holds the table as the snapshot has it; its digest is still to come."""
        (name,) = lake.sql(
            "SELECT lake_table FROM _lake.tables WHERE table_name = ?", params=[table]
        ).fetchall()[0]
        return cls(
            "",
            name,
            key_columns(lake, table),
            tuple((each.name, each.type, each.made_of) for each in columns),
            lake.freshness(table).rows,
        )

    def require_same(self, now: Trail) -> None:
        """Checks that rows can be exchanged between the extract and what would be written now.

        Raises:
            NoTrailError: they cannot.
        """
        if self.lake_table != now.lake_table:
            raise NoTrailError(
                f"the extract there was made from {self.lake_table}, not from {now.lake_table}"
            )
        if self.key != now.key:
            raise NoTrailError("the table has another key now")
        if self.columns != now.columns:
            raise NoTrailError(f"the columns have changed ({_difference(self.columns, now.columns)})")


def trail_of(out: Path) -> Path:
    """Where the trail of an extract is."""
    return out.with_name(f".{out.name}.trail")


def key_columns(lake: Lake, table: str) -> tuple[str, ...]:
    """The names of the table's key columns, partition key first."""
    (key,) = lake.sql("SELECT key FROM _lake.tables WHERE table_name = ?", params=[table]).fetchall()[0]
    names = {one.column.attribute: one.column.name for one in lake.schema(table)}
    return tuple(names[attribute] for attribute in key)


def digest(file: Path, copy: Path | None = None) -> str:
    """A file's BLAKE2b digest, as hex; what is read is written to `copy` on the way."""
    found = hashlib.blake2b(digest_size=32)
    with file.open("rb") as source:
        if copy is None:
            while block := source.read(_BLOCK):
                found.update(block)
        else:
            with copy.open("wb") as target:
                while block := source.read(_BLOCK):
                    found.update(block)
                    target.write(block)
    return found.hexdigest()


def write_trail(lake: Lake, table: str, part: Path, trail: Trail) -> None:
    """Writes the trail of the table as the snapshot has it to the file `part`."""
    keys = ", ".join(f"{value_of(name)} AS k{number}" for number, name in enumerate(trail.key))
    told = json.dumps({"format": FORMAT, **asdict(trail)})
    lake.connection.execute(
        f"""COPY (
            SELECT {keys}, {ROW}.{VERSION} AS version, {ROW}.{WRITTEN_AT} AS written_at FROM {rows_of(table)})
        TO {literal(str(part))} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{dynalake: {literal(told)}}})"""
    )


def read_trail(out: Path) -> Trail:
    """The trail beside an extract.

    Raises:
        NoTrailError: there is none, or none that can be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = trail_of(out)
    if not file.exists():
        raise NoTrailError(f"nothing tells what the extract there was made from ({file.name} is missing)")
    try:
        told = json.loads((pq.read_schema(file).metadata or {})[METADATA_KEY])
        if told.pop("format") != FORMAT:
            raise NoTrailError(f"{file.name} was written by another version of dynalake")
        told["key"] = tuple(told["key"])
        told["columns"] = tuple((name, kind, made_of) for name, kind, made_of in told["columns"])
        return Trail(**told)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise NoTrailError(f"{file.name} cannot be read") from error


def _difference(before: Sequence[tuple[str, str, str]], now: Sequence[tuple[str, str, str]]) -> str:
    old, new = ({name: (kind, made_of) for name, kind, made_of in each} for each in (before, now))
    told = [f"new: {name}" for name in new if name not in old]
    told += [f"gone: {name}" for name in old if name not in new]
    for name in new:
        if name in old and old[name] != new[name]:
            kinds = old[name][0], new[name][0]
            told.append(
                f"{name}: {kinds[0]} is {kinds[1]}" if kinds[0] != kinds[1] else f"{name} holds other types"
            )
    return ", ".join(told[:4]) + (", …" if len(told) > 4 else "") if told else "another order"
