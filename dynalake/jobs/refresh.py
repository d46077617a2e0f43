"""Bringing a snapshot up to date: from the lake's stream, from incremental exports before it, else by a new scan.

The stream is taken where it reaches back, exports where the user gives some. What is chosen is said: every `Refresh`
tells its source and why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from dynalake.jobs.changes import ChangeSpool, lake_rows
from dynalake.jobs.increment import open_increment
from ingest.errors import TrimmedError
from ingest.shards import StreamReader
from ingest.tail import Tail
from ingest.walk import Pacing
from lake.contract.expiry import LeftOut
from lake.contract.positions import STREAM_REACH_S, StreamPositions
from lake.errors import OutdatedSnapshotError, SnapshotBusyError, SnapshotError
from lake.tables import lake_stream

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from lake.contract.catalogue import Observation
    from lake.publish import RefreshReport
    from lake.snapshot import SnapshotAbout, SnapshotReport

Source = Literal["auto", "stream", "scan"]
"""Or addresses of incremental exports."""

FOLLOW_EVERY_S: Final = 5.0
IDLE_EVERY_S: Final = 15.0
"""Where nothing changed, a snapshot is published only so often, to say that it is still fresh."""

PUBLISH_SHARE: Final = 4
"""Between two publications at least this many times as long as the last one took: a follower is a guest."""

OUTDATED: Final = "an earlier version of dynalake made the snapshot, and its refreshes could leave wrong rows"

BUSY_WAIT_S: Final = 0.5
BUSY_TRIES: Final = 240


@dataclass(frozen=True, slots=True)
class Refresh:
    """One publication of a table of a snapshot.

    Attributes:
        source: where the changes came from: the lake table's stream, exports of it and the stream, or a new scan.
        why: why a scan was made; empty otherwise.
        rows: rows that the table shows now.
        changes: changes read; for a scan the rows.
        as_of: epoch milliseconds; what was written to the lake before then is in it.
        complete: whether nothing is known to be missing.
        gaps: what may be missing, one sentence each.
        added: columns that are new.
        widened: columns whose type grew.
        left_out: the rows that were taken out because they had expired; None where they are not left out.
        copied: whether the whole file was copied, as there was no spare.
        seconds: what it took to apply and publish, the waiting for changes not included.
    """

    source: Literal["stream", "export", "scan"]
    why: str
    rows: int
    changes: int
    as_of: int
    complete: bool
    gaps: tuple[str, ...]
    added: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    left_out: LeftOut | None = None
    copied: bool = False
    seconds: float = 0.0


def refresh(
    pipeline: Pipeline,
    out: Path,
    source: Source | Sequence[str] = "auto",
    *,
    pacing: Pacing | None = None,
    on_choice: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Refresh:
    """Apply what changed in the lake since a snapshot was made or refreshed, and publish the result in one step.

    Args:
        pipeline: the pipeline, whose name is the table's in the snapshot.
        out: the snapshot.
        source: "stream" refuses where the stream does not reach back, "scan" reads the table anew, "auto" takes
            the stream if it can. Or addresses of incremental exports of the lake table, which lead from the
            snapshot to where the stream reaches back.
        pacing: how often the lake's stream is asked.
        on_choice: told why a scan is made, before it is.
        on_progress: called with the changes, or for a scan the rows, read so far.

    Raises:
        SnapshotError: there is no snapshot, it cannot be written, or the stream does not reach back and must.
        LakeTableError: the lake table is missing or has no stream.
        StreamError: the lake's stream cannot be read.
    """
    positions, why = _start(pipeline, out)
    if not isinstance(source, str):
        return _from_exports(pipeline, out, source, pacing, on_choice, on_progress)
    if source == "scan":
        why = "it was asked for"
    elif positions is not None:
        try:
            return _from_stream(pipeline, out, positions, pacing, on_progress)
        except TrimmedError as error:
            why = str(error)
    if source == "stream":
        raise SnapshotError(
            f"the stream does not reach back to {out}: {why}",
            remedy="use --source scan, which reads the whole lake table, or give incremental exports of it",
        )
    on_choice(f"a new scan of {pipeline.config.lake_table}: {why}")
    report: SnapshotReport = pipeline.snapshot(out, pacing=pacing, on_progress=on_progress)
    return _scanned(pipeline, out, report, why)


def follow(
    pipeline: Pipeline,
    out: Path,
    stop: threading.Event,
    *,
    every_s: float = FOLLOW_EVERY_S,
    pacing: Pacing | None = None,
    on_choice: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
    on_refresh: Callable[[Refresh], None] = lambda _: None,
) -> int:
    """Keep a snapshot up to date until told to stop.

    The lake's stream is read all the while; what came is published every `every_s` seconds, or more rarely where
    publishing takes long. Where the stream does not reach back, or no longer, the table is scanned anew first.

    Args:
        pipeline: the pipeline, whose name is the table's in the snapshot.
        out: the snapshot.
        stop: set to end; what was read and not yet published is read again by the next run.
        every_s: seconds between two publications.
        pacing: how often the lake's stream is asked.
        on_choice: told why a scan is made, before it is.
        on_progress: called with the rows that such a scan has read.
        on_refresh: called after each publication.

    Returns:
        How many changes were applied.

    Raises:
        SnapshotError: there is no snapshot, or it cannot be written.
        LakeTableError: the lake table is missing or has no stream.
        StreamError: the lake's stream cannot be read.
    """
    applied = 0
    trimmed = ""
    while not stop.is_set():
        positions, why = _start(pipeline, out)
        if positions is None or trimmed:
            on_choice(f"a new scan of {pipeline.config.lake_table}: {why or trimmed}")
            report = pipeline.snapshot(out, pacing=pacing, on_progress=on_progress)
            on_refresh(_scanned(pipeline, out, report, why or trimmed))
            trimmed = ""
            continue
        follower = _Follower(pipeline, out, every_s, on_refresh)
        try:
            follower.run(stop, positions, pacing)
        except TrimmedError as error:
            trimmed = str(error)
        finally:
            applied += follower.applied
    return applied


class _Follower:
    """Publishes what one reading of the stream brings."""

    def __init__(
        self, pipeline: Pipeline, out: Path, every_s: float, on_refresh: Callable[[Refresh], None]
    ) -> None:
        self._pipeline, self._out, self._every_s, self._on_refresh = pipeline, out, every_s, on_refresh
        self._clocks = pipeline.clocks
        self.applied = 0

    def run(self, stop: threading.Event, positions: StreamPositions, pacing: Pacing | None) -> None:
        reader = StreamReader(self._pipeline.lake_streams(), positions.stream)
        with ChangeSpool(lake_rows(self._pipeline)) as spool:
            tail = Tail(
                reader,
                spool.take,
                self._clocks.monotonic,
                pacing,
                now_ms=self._clocks.now_ms,
                since=positions,
            )
            try:
                self._publish_now_and_then(stop, tail, spool)
            finally:
                tail.stop()

    def _publish_now_and_then(self, stop: threading.Event, tail: Tail, spool: ChangeSpool) -> None:
        monotonic = self._clocks.monotonic
        published_at, pause_s = monotonic(), self._every_s
        while not stop.wait(self._every_s):
            with tail.pause() as reached:
                end = spool.end
            began = monotonic()
            if began - published_at < (pause_s if end else max(pause_s, IDLE_EVERY_S)):
                continue
            if self._publish(spool, end, reached):
                published_at = monotonic()
                pause_s = max(self._every_s, PUBLISH_SHARE * (published_at - began))

    def _publish(self, spool: ChangeSpool, end: int, reached: StreamPositions) -> bool:
        try:
            done = _apply(self._pipeline, self._out, spool, end, reached)
        except SnapshotBusyError:
            return False
        spool.forget(end)
        self.applied += done.changes
        self._on_refresh(done)
        return True


def _start(pipeline: Pipeline, out: Path) -> tuple[StreamPositions | None, str]:
    """Where the lake's stream goes on from a snapshot; None, and why, where it cannot."""
    from lake.open import open_lake

    arn = lake_stream(pipeline.lake_dynamodb(), pipeline.config.lake_table)
    try:
        with open_lake(out, pipeline.name) as lake:
            if pipeline.name not in lake.tables():
                raise SnapshotError(
                    f"{out} has no table {pipeline.name!r}",
                    remedy=f"make it with `dynalake snapshot {pipeline.name}`",
                )
            positions = lake.positions(pipeline.name)
    except OutdatedSnapshotError:
        return None, OUTDATED
    if positions is None:
        return None, "the snapshot does not tell where the stream goes on"
    if positions.in_reach(arn, pipeline.now_ms()):
        return positions, ""
    if positions.stream != arn:
        return None, "the lake table's stream was switched off and on since, or the table was made anew"
    hours = (pipeline.now_ms() - positions.as_of) / 3_600_000
    return (
        None,
        f"the snapshot is {hours:,.0f} hours old, and the stream reaches back {STREAM_REACH_S // 3600}",
    )


def _from_exports(
    pipeline: Pipeline,
    out: Path,
    addresses: Sequence[str],
    pacing: Pacing | None,
    on_choice: Callable[[str], None],
    on_progress: Callable[[int], None],
) -> Refresh:
    from lake.open import open_lake

    arn = lake_stream(pipeline.lake_dynamodb(), pipeline.config.lake_table)
    with open_lake(out, pipeline.name) as lake:
        since = lake.positions(pipeline.name) if pipeline.name in lake.tables() else None
    if since is None:
        raise SnapshotError(
            f"{out} does not tell how far it is", remedy="make a new one with `dynalake snapshot`"
        )
    increment = open_increment(pipeline, addresses, since, arn)
    changes = sum(export.items for _, export in increment.exports)
    on_choice(
        f"{len(increment.exports)} incremental exports with {changes:,} changes, then the lake table's stream from its "
        "beginning"
    )
    done = _from_stream(pipeline, out, increment.positions, pacing, on_progress, increment.pages())
    return replace(done, source="export")


def _from_stream(
    pipeline: Pipeline,
    out: Path,
    positions: StreamPositions,
    pacing: Pacing | None,
    on_progress: Callable[[int], None],
    before: Iterable[list[bytes]] = (),
) -> Refresh:
    """Reads the stream from `positions` to its end, and applies it after the changes that come before."""
    taken = 0
    with ChangeSpool(lake_rows(pipeline)) as spool:
        for page in before:
            spool.add(page)
            taken += len(page)
            on_progress(taken)

        def take(records: Sequence[Mapping[str, Any]]) -> None:
            nonlocal taken
            spool.take(records)
            taken += len(records)
            on_progress(taken)

        clocks = pipeline.clocks
        reader = StreamReader(pipeline.lake_streams(), positions.stream)
        tail = Tail(reader, take, clocks.monotonic, pacing, now_ms=clocks.now_ms, since=positions)
        try:
            reached = tail.finish()
        finally:
            tail.stop()
        for _ in range(BUSY_TRIES):
            try:
                return _apply(pipeline, out, spool, spool.end, reached)
            except SnapshotBusyError as error:
                busy = error
                clocks.sleep(BUSY_WAIT_S * (0.5 + clocks.random.random()))
        raise busy


def _apply(pipeline: Pipeline, out: Path, spool: ChangeSpool, end: int, reached: StreamPositions) -> Refresh:
    from lake.publish import refresh_snapshot

    told: list[SnapshotAbout] = []

    def about() -> SnapshotAbout:
        # What was written before `as_of` is in it: that is what a comparison goes by.
        how = "refreshed from the lake table's stream"
        told.append(pipeline.snapshot_about(reached, how, started_at=reached.as_of))
        return told[-1]

    def history() -> Sequence[Observation] | None:
        return pipeline.schema_history() if end else None

    began = pipeline.clocks.monotonic()
    report: RefreshReport = refresh_snapshot(out, pipeline.name, spool.pages(end), about, history)
    return Refresh(
        source="stream",
        why="",
        rows=report.applied.rows,
        changes=report.applied.changes,
        as_of=reached.as_of,
        complete=told[-1].complete,
        gaps=told[-1].gaps,
        added=report.applied.added,
        widened=report.applied.widened,
        left_out=report.applied.left_out,
        copied=report.copied,
        seconds=pipeline.clocks.monotonic() - began,
    )


def _scanned(pipeline: Pipeline, out: Path, report: SnapshotReport, why: str) -> Refresh:
    from lake.open import open_lake

    with open_lake(out, pipeline.name) as lake:
        positions, fresh = lake.positions(pipeline.name), lake.freshness(pipeline.name)
    return Refresh(
        source="scan",
        why=why,
        rows=report.rows,
        changes=report.rows_read,
        as_of=positions.as_of if positions else 0,
        complete=fresh.complete,
        gaps=fresh.gaps,
        left_out=report.left_out,
        copied=True,
        seconds=report.seconds,
    )
