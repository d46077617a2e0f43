"""A snapshot made whole: from a scan of the lake table or from an export of it, rolled forward from its stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dynalake.jobs.changes import ChangeSpool, lake_rows
from ingest.scan import segments_for
from ingest.shards import StreamReader
from ingest.tail import Tail
from ingest.walk import Pacing
from lake.contract.exports import Export, open_export
from lake.contract.positions import StreamPositions
from lake.errors import SnapshotError
from lake.parts import Chunk
from lake.tables import lake_stream

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from lake.snapshot import SnapshotAbout, SnapshotReport

SCAN: Final = "scan"
EXPORT: Final = "export:"


@dataclass(slots=True)
class _Rows:
    """Where a snapshot's rows come from.

    Attributes:
        chunks: gives them, once.
        made_by: how the snapshot is made, for people.
        shows_ms: epoch milliseconds of the moment that the rows show; None where the stream's end is noted first.
    """

    chunks: Callable[[], Iterator[Chunk]]
    made_by: str
    shows_ms: int | None = None


@dataclass(slots=True)
class _Stream:
    """What the lake table's stream brings meanwhile."""

    spool: ChangeSpool | None = None
    tail: Tail | None = None
    positions: StreamPositions | None = field(default=None)

    def changes(self) -> Iterator[list[bytes]]:
        """Reads to the stream's end; gives what came."""
        if self.tail is not None and self.spool is not None:
            self.positions = self.tail.finish()
            yield from self.spool.pages(self.spool.end)


def take_snapshot(
    pipeline: Pipeline,
    out: Path,
    source: str = SCAN,
    *,
    pacing: Pacing | None = None,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> SnapshotReport:
    """Write the lake table into a DuckDB file, as of one moment.

    From a scan: the lake stream's end is noted, the table is scanned, and what changed meanwhile is rolled forward.
    The stream is read to a file all the while, so that a scan may outlast what a stream keeps. From an export: what
    changed since the moment that it shows is rolled forward, if the stream reaches back to it; if not, the snapshot is
    of that moment, and says so.

    Args:
        pipeline: the pipeline, whose name is the table's in the snapshot.
        out: the DuckDB file; other tables in it stay.
        source: "scan", or "export:" and where a full export of the lake table is: an s3:// address or a folder.
        pacing: how often the lake's stream is asked.
        on_progress: called with the rows read so far, from another thread.

    Raises:
        SnapshotError: the file cannot be written, or there is no such source.
        ContractError: the export is not one, is not complete, or is damaged.
        LakeTableError: the lake table is missing or has no stream.
        StreamError: the lake's stream cannot be read.
    """
    from lake.snapshot import build_snapshot

    started_at = pipeline.now_ms()
    arn = lake_stream(pipeline.lake_dynamodb(), pipeline.config.lake_table)
    history = pipeline.schema_history()
    rows = _rows(pipeline, source)

    def counted() -> Iterator[Chunk]:
        read = 0
        for chunk in rows.chunks():
            yield chunk
            read += chunk.rows
            on_progress(read)

    with _stream_of(pipeline, arn, rows, pacing) as stream:

        def about() -> SnapshotAbout:
            rolled = (
                "rolled forward from the lake table's stream"
                if stream.tail is not None
                else "not rolled forward, as the lake table's stream does not reach back to it"
            )
            began = started_at if rows.shows_ms is None else rows.shows_ms
            return pipeline.snapshot_about(stream.positions, f"{rows.made_by}, {rolled}", began)

        return build_snapshot(
            out,
            pipeline.name,
            pipeline.lake_table.key.names,
            counted(),
            stream.changes,
            about,
            history,
            key_types=dict(pipeline.lake_table.key.attributes),
        )


def _rows(pipeline: Pipeline, source: str) -> _Rows:
    if source == SCAN:
        from lake.pages import RawScan

        scan = RawScan(
            pipeline.lake_scanner(),
            pipeline.config.lake_table,
            segments=segments_for(pipeline.lake_table.approximate_bytes),
            limit=pipeline.limit(pipeline.config.max_rcu),
        )
        return _Rows(lambda: (page.rows for page in scan.pages()), "parallel scan")
    if not source.startswith(EXPORT) or source == EXPORT:
        raise SnapshotError(
            f"there is no source {source!r}", remedy="give scan, export:s3://bucket/prefix or export:FOLDER"
        )
    from dynalake.jobs.parity import files_of
    from lake.exports import export_chunks

    files, where = files_of(source.removeprefix(EXPORT), pipeline.lake_s3())
    export = open_export(files, where)
    _check(export, pipeline.config.lake_table)
    return _Rows(lambda: export_chunks(files, export), f"export {export.arn}", export.shows_ms)


def _check(export: Export, lake_table: str) -> None:
    """Refuses what is no full export of the lake table."""
    if export.kind != "full":
        raise SnapshotError("the export is an incremental one: a snapshot needs a full export")
    table = export.table_arn.rpartition("/")[2]
    if table != lake_table:
        raise SnapshotError(
            f"the export is of the table {table!r}, and a snapshot is made from one of the lake table {lake_table!r}"
        )


@contextmanager
def _stream_of(pipeline: Pipeline, arn: str, rows: _Rows, pacing: Pacing | None) -> Iterator[_Stream]:
    """Reads the lake table's stream from the moment that the rows show, if it reaches back so far."""
    since = None
    if rows.shows_ms is not None:
        since = StreamPositions(arn, {}, frozenset(), rows.shows_ms)
        if not since.in_reach(arn, pipeline.now_ms()):
            yield _Stream(positions=since)
            return
    clocks = pipeline.clocks
    with ChangeSpool(lake_rows(pipeline)) as spool:
        reader = StreamReader(pipeline.lake_streams(), arn)
        tail = Tail(reader, spool.take, clocks.monotonic, pacing, now_ms=clocks.now_ms, since=since)
        try:
            yield _Stream(spool, tail)
        finally:
            tail.stop()
