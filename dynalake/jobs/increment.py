"""Incremental exports of the lake table, as what a snapshot lacks that is older than the stream's reach.

An incremental export tells of each item that changed within its window what became of it by the window's end
(`lake.contract.exports`). One or several, whose windows follow each other without a hole, bring a snapshot from its
as-of time to the end of the last one; from there on the stream is read, from its beginning, which may be before:
what is read twice changes nothing, since the stream is read to its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from dynalake.jobs.changes import lets_go, removal_line
from dynalake.jobs.parity import files_of
from dynalake.screen import when
from lake.contract.exports import Export, Files, open_export, pages_of_lines, read_data
from lake.contract.positions import StreamPositions
from lake.contract.versions import label_of_stream
from lake.errors import SnapshotError

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline

EXPORT: Final = "export:"

CLOCK_SKEW_MS: Final = 60_000
"""How far this machine's clock, by which a snapshot is dated, may be from DynamoDB's."""


@dataclass(frozen=True, slots=True)
class Increment:
    """What incremental exports bring.

    Attributes:
        exports: the exports in order of their windows, each with what reads its files.
        positions: where the lake table's stream goes on after them.
    """

    exports: tuple[tuple[Files, Export], ...]
    positions: StreamPositions

    def pages(self) -> Iterator[list[bytes]]:
        """The changes as `lake.refresh` takes them, checksums and counts verified.

        Raises:
            ContractError: a file is missing, or is not the one that DynamoDB wrote.
        """
        for files, export in self.exports:
            for file in export.files:
                for lines in pages_of_lines(file, read_data(files, export, file)):
                    yield [change for line in lines for change in _changes(line)]


def open_increment(
    pipeline: Pipeline, addresses: Sequence[str], since: StreamPositions, arn: str
) -> Increment:
    """Find the exports and see that nothing is missing between the snapshot, them and the stream.

    Args:
        pipeline: the pipeline.
        addresses: s3:// addresses or folders.
        since: how far the snapshot is.
        arn: the lake table's stream as it is now.

    Raises:
        ContractError: one is not a complete export.
        SnapshotError: one is not an incremental export of the lake table, or there is a hole.
    """
    opened = []
    for address in addresses:
        files, where = files_of(address, pipeline.lake_s3())
        export = open_export(files, where)
        table = export.table_arn.rpartition("/")[2]
        if export.kind != "incremental":
            raise SnapshotError(
                f"{address} is a full export", remedy="use it with `dynalake snapshot --source`"
            )
        if table != pipeline.config.lake_table:
            raise SnapshotError(
                f"{address} is an export of the table {table!r}, and an export of the lake table "
                f"{pipeline.config.lake_table!r} is needed"
            )
        opened.append((files, export))
    opened.sort(key=lambda each: each[1].shows_ms)
    reached = since.as_of - CLOCK_SKEW_MS
    for _, export in opened:
        begins = export.from_ms or 0
        if begins > reached:
            raise SnapshotError(
                f"nothing covers the time from {when(reached)} to {when(begins)}",
                remedy="export that too, and give it as another --source",
            )
        reached = max(reached, export.shows_ms)
    positions = StreamPositions(arn, {}, frozenset(), reached)
    made = datetime.fromisoformat(label_of_stream(arn)).replace(tzinfo=UTC).timestamp() * 1000
    if made > reached or not positions.in_reach(arn, pipeline.now_ms()):
        raise SnapshotError(
            f"the exports end at {when(reached)}, and the lake table's stream does not reach back so far",
            remedy="export what comes after that, too",
        )
    return Increment(tuple(opened), positions)


def _changes(line: bytes) -> Iterator[bytes]:
    """A line as changes; a removal gets a version that nothing withstands."""
    if b'"NewImage"' in line and b'"OldImage"' not in line:
        yield line  # it is a change as it is
        return
    try:
        content = json.loads(line)
        old, new = content.get("OldImage"), content.get("NewImage")
        if new is None:
            yield removal_line(content["Keys"]).rstrip(b"\n")
            return
        fell = lets_go(old, new)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SnapshotError(
            "a line of the export is not one of an incremental DYNAMODB_JSON export"
        ) from None
    if fell:
        yield json.dumps({"OldImage": old}).encode()
    yield json.dumps({"NewImage": new}).encode()
