"""The worker: what Lambda's event source mapping does, on a laptop, an EC2 host or in a test.

Why no change is passed over, case by case:

- A shard is read from its checkpoint, or from its beginning where it has none; the checkpoint moves on only
  after the records before it were applied or put away. A worker that is killed at any point repeats at most
  what came after the checkpoint, and the rule makes the repetition harmless.
- A child is read only after its parent's end, so an item's changes arrive in order (`ingest.walk`).
- What was trimmed before it was read cannot be had again. That is never silent: it becomes a gap, which
  stays until a repair has compared both tables. A gap is noted when a checkpoint points before what the
  shard still holds; when a shard that was not read to its end does not exist any more, which takes more than a
  list that lacks it; and when nobody read the stream (the readings in `health`, at first the set-up's note)
  for longer than the stream keeps a record: whole shards may have come and gone in that time.
- The source table is asked every minute which stream it has. Where that is off or another one, a gap is noted at
  once; what the old stream still holds is read, and then the new one.
- A shard that never gave a record has no position, and reading it from its beginning would pass over what was
  trimmed there in silence. So it is written down, before the heartbeat, with the moment up to which nothing of it
  was unread: at first that of the last list of shards without it, later that of its last answer.
- A shard is written down as finished only when it was closed and has been read to its end; one that does not exist
  any more keeps its position, in case it is listed again. A finished shard whose child was not listed yet is marked,
  so that a worker that comes later waits for the child, too.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.checkpoints import Checkpoints, ShardCheckpoint, StreamCheckpoint
from ingest.delivery import Delivery
from ingest.errors import GoneError, SourceError
from ingest.health import HealthStore, moment, note_table_stream
from ingest.records import created_ms, last_number_of
from ingest.shards import RETENTION_S, StreamReader
from ingest.walk import THREADS, Pacing, Walk
from lake.contract.evidence import Reading, TableStream
from lake.contract.health import MENDED_BY, GapKind
from lake.contract.versions import label_of_stream

log = logging.getLogger(__name__)

CHECKPOINT_S: Final = 5.0
"""Between two checkpoints of a shard: what a killed worker may have to repeat."""

LAGS_KEPT: Final = 10_000
"""Enough for a p99 of the last minutes, and no more memory than that."""

HEARTBEAT_S: Final = 30.0
"""Between two notes that the stream is attended."""


NOTE_S: Final = 300.0
"""Between two notes that a shard which never had a record was asked: so much too early may a gap be noted."""

LISTED_S: Final = 120.0
"""A list of shards that is older says nothing of now."""

TABLE_LOOK_S: Final = 60.0
"""Between two looks at which stream the source table has."""

NEW_STREAM_LOOK_S: Final = 5.0
"""Likewise, while its stream is off."""


@dataclass(slots=True)
class WorkerReport:
    """What a worker did.

    Attributes:
        outcomes: changes by outcome, as in `BatchReport`.
        records: records delivered.
        gaps: the gaps it found, in words.
        lags_ms: of the latest applied changes, milliseconds from creation in the source to the lake. DynamoDB gives
            a change's creation in whole seconds, so up to a second of that may not be lag.
        newest_source_at: epoch milliseconds of the newest change delivered.
        caught_up: whether the table's stream had been read to its end when it stopped.
        next_stream: the ARN of the stream to go on with; None where the stream that was read is the table's.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    records: int = 0
    gaps: list[str] = field(default_factory=list)
    lags_ms: deque[int] = field(default_factory=lambda: deque(maxlen=LAGS_KEPT))
    newest_source_at: int | None = None
    caught_up: bool = False
    next_stream: str | None = None


def replicate(
    worker: Callable[[str, WorkerReport], Worker],
    stream: str,
    stop: threading.Event,
    until_caught_up: threading.Event | None = None,
) -> WorkerReport:
    """Read a table's stream, and whatever stream takes its place, until told to stop; see `Worker.run`.

    Args:
        worker: makes the worker of a stream's ARN, which adds to the report.
        stream: the ARN to begin with.
        stop: set to stop.
        until_caught_up: set to stop at the stream's end.
    """
    report = WorkerReport()
    following: str | None = stream
    while following is not None:
        reader = worker(following, report)
        report.next_stream = None
        reader.run(stop, until_caught_up)
        following = report.next_stream
    return report


class Worker:
    """Reads one stream and delivers its records, until told to stop or its table has another stream."""

    def __init__(
        self,
        reader: StreamReader,
        delivery: Delivery,
        checkpoints: Checkpoints,
        health: HealthStore,
        table: Callable[[], TableStream],
        *,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
        pacing: Pacing | None = None,
        threads: int = THREADS,
        on_progress: Callable[[WorkerReport], None] = lambda _: None,
        report: WorkerReport | None = None,
    ) -> None:
        """Join the parts.

        Args:
            reader: the stream.
            delivery: where its records go.
            checkpoints: how far it was read.
            health: where gaps and readings are stored.
            table: asks the source table which stream it has; may raise SourceError.
            now_ms: the time of day, epoch milliseconds.
            monotonic: a monotonic clock, seconds.
            pacing: how often to ask.
            threads: shards read side by side.
            on_progress: called after every answer that had records, by one thread at a time.
            report: what earlier workers did, to be added to.
        """
        self._reader = reader
        self._delivery = delivery
        self._checkpoints = checkpoints
        self._health = health
        self._table = table
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._walk = Walk(reader, self, monotonic, pacing, threads)
        self._on_progress = on_progress
        self._report = report or WorkerReport()
        self._lock = threading.Lock()
        self._passed: dict[str, str] = {}
        self._saved_at: dict[str, float] = {}
        self._read_until: dict[str, int] = {}
        """Up to when a shard's changes were delivered, epoch milliseconds, for the words of a gap."""
        self._unread: dict[str, int] = {}
        """Of the shards without a position: up to when nothing of theirs was unread, epoch milliseconds."""
        self._noted: dict[str, int] = {}
        """What of that is written down."""
        self._begun: set[str] = set()
        self._continued: set[str] = set()
        """Finished shards that wait for no child any more, and are marked so still."""
        self._listed_at = 0
        self._said: bool | None = None
        self._said_at = 0.0
        self._attended_at = 0
        self._looked_at = -TABLE_LOOK_S
        self._moved_to: str | None = None
        self._told: set[str | None] = set()
        """The streams of the table whose gap was told of; None stands for one that is off."""
        self._finish = threading.Event()
        self._until_caught_up: threading.Event | None = None

    def run(self, stop: threading.Event, until_caught_up: threading.Event | None = None) -> WorkerReport:
        """Work until `stop` is set or, once `until_caught_up` is set, until every shard is read to its end.

        Where the table has another stream by then, what this one still holds is read, and the report names the next.

        Raises:
            LakeUnavailableError: the lake refuses every write.
            StreamError: the stream cannot be read.
            QuarantineError: a record that must be put away could not be.
        """
        self._attend()
        self._resume()
        at_end = False
        self._until_caught_up = until_caught_up
        self._finish_where_wanted()
        try:
            at_end = self._walk.run(stop, self._finish)
        except GoneError:
            self._look_at_table(now=True)
            if self._moved_to is None:
                raise
            at_end = True  # of a stream that was switched off more than a day ago nothing can be read
        finally:
            for shard_id in list(self._passed):
                self._save(shard_id, finished=False)
        self._leave(at_end=at_end, may_move=not stop.is_set())
        return self._report

    def _leave(self, *, at_end: bool, may_move: bool) -> None:
        """Say how far the stream was read, and note the stream to go on with, if the table has another."""
        if at_end and may_move:
            self._look_at_table(now=True)
            self._report.next_stream = self._moved_to
        self._report.caught_up = at_end and self._is_current()
        self._tell_health()
        if self._report.next_stream is not None:
            self._checkpoints.note_stream(StreamCheckpoint(self._report.next_stream, self._now_ms()))

    def _finish_where_wanted(self) -> None:
        if self._until_caught_up is not None and self._until_caught_up.is_set():
            self._finish.set()

    def _is_current(self) -> bool:
        """Whether the stream that is read is the table's, as far as is known, and takes records."""
        return self._moved_to is None and self._walk.enabled

    def _resume(self) -> None:
        """Go on from the checkpoints; a shard without a position is taken up when its parents are read."""
        saved = self._checkpoints.shards(self._reader.label)
        self._read_until.update({shard: checkpoint.at for shard, checkpoint in saved.items()})
        gone = {shard: each.sequence_number for shard, each in saved.items() if each.gone}
        positions = {
            shard: checkpoint.sequence_number
            for shard, checkpoint in saved.items()
            if not checkpoint.finished and checkpoint.sequence_number is not None and shard not in gone
        }
        finished = {shard for shard, checkpoint in saved.items() if checkpoint.finished}
        self._begun |= {
            shard for shard, checkpoint in saved.items() if checkpoint.sequence_number is not None
        }
        waiting = sorted(saved.keys() - positions.keys() - finished - gone.keys())
        self._unread.update({shard: saved[shard].at for shard in waiting})
        self._noted.update(self._unread)
        childless = {shard for shard in finished if saved[shard].childless}
        self._walk.resume(positions, finished, waiting=waiting, gone=gone, childless=childless)

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """Watch the shards that have no position yet: a new one came after the last look."""
        for shard_id in sorted(set(shard_ids) - self._begun - self._walk.finished):
            self._unread.setdefault(shard_id, self._listed_at)
        self._listed_at = self._when(asked)

    def on_empty(self, shard_id: str, asked: float) -> None:
        """Remember that up to then nothing of the shard was unread."""
        if shard_id in self._unread:
            self._note_unread(shard_id)
            self._unread[shard_id] = self._when(asked)

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Deliver, and move the shard's checkpoint now and then."""
        self._note_unread(shard_id)
        reports = self._delivery.deliver(shard_id, records)
        self._begun.add(shard_id)
        self._unread.pop(shard_id, None)
        number = last_number_of(records)
        if number is not None:
            self._passed[shard_id] = number
        newest = created_ms(records[-1])
        with self._lock:
            self._report.records += len(records)
            for report in reports:
                self._report.outcomes.update(report.outcomes)
                self._report.lags_ms.extend(report.lags_ms)
            if newest is not None:
                self._read_until[shard_id] = newest
                self._report.newest_source_at = max(newest, self._report.newest_source_at or 0)
            self._on_progress(self._report)
        if self._monotonic() - self._saved_at.setdefault(shard_id, self._monotonic()) >= CHECKPOINT_S:
            self._save(shard_id, finished=False)

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:
        """Note the gap."""
        since = self._read_until.get(shard_id, self._attended_at)
        self._gap(
            f"trimmed/{shard_id}/{after or 'beginning'}",
            "trimmed",
            self._lost_between(since, f"in the shard {shard_id} after {after or 'its beginning'}: {why}"),
        )
        if shard_id not in self._walk.finished:
            self._unread[shard_id] = self._now_ms()  # it is read from its beginning now

    def on_finished(self, shard_id: str) -> None:
        """Write down that the shard needs no more reading."""
        self._save(shard_id, finished=True)
        self._passed.pop(shard_id, None)
        self._unread.pop(shard_id, None)

    def on_gone(self, shard_id: str, after: str | None) -> None:
        """Write down how far the shard was read, in case it is listed again."""
        checkpoint = ShardCheckpoint(after, finished=False, at=self._now_ms(), gone=True)
        self._checkpoints.save_shard(self._reader.label, shard_id, checkpoint)
        self._passed.pop(shard_id, None)
        self._unread.pop(shard_id, None)

    def on_continued(self, shard_id: str) -> None:
        """Remember to write that down, after the child."""
        self._continued.add(shard_id)

    def on_state(self, *, caught_up: bool) -> None:
        """Look at the table now and then, and store a reading when it changes, and as a heartbeat."""
        self._finish_where_wanted()
        self._look_at_table()
        self._report.caught_up = caught_up and self._is_current()
        if self._report.caught_up != self._said or self._monotonic() - self._said_at >= HEARTBEAT_S:
            self._tell_health()

    def _look_at_table(self, *, now: bool = False) -> None:
        """Ask the source table which stream it has; note the gap, and stop at this one's end, if it has another."""
        pause_s = TABLE_LOOK_S if self._walk.enabled else NEW_STREAM_LOOK_S
        if self._moved_to is not None or (not now and self._monotonic() - self._looked_at < pause_s):
            return
        self._looked_at = self._monotonic()
        try:
            table = self._table()
        except SourceError as error:
            log.warning("%s; it is tried again", error)
            return
        if table.arn == self._reader.arn and not self._walk.enabled:
            table = TableStream(table.at, None)  # the table's description is older than that of the stream
        self._note_table(table, is_read=False)
        if table.arn not in (None, self._reader.arn):
            self._moved_to = table.arn
            self._finish.set()

    def _attend(self) -> None:
        """Note which stream is read, and a gap where it was left alone for too long or is another one."""
        now = self._now_ms()
        noted = self._checkpoints.stream()
        if noted is None or label_of_stream(noted.arn) < self._reader.label:
            if noted is None:
                self._checkpoints.note_stream(StreamCheckpoint(self._reader.arn, now))
            self._note_table(TableStream(now, self._reader.arn), is_read=True)
            self._attended_at = self._listed_at = now
            return
        self._attended_at = self._listed_at = self._attended(noted)
        if self._note_absence():
            self._listed_at = self._attended_at

    def _note_absence(self) -> bool:
        """Note a gap where the stream may have lost records since it was last attended; a laptop may have slept."""
        attended, now = self._attended_at, self._now_ms()
        absent = now - attended > RETENTION_S * 1000
        if absent:
            self._gap(
                f"unattended/{attended}",
                "trimmed",
                self._lost_between(
                    attended,
                    f"nobody read the stream for {(now - attended) // 3_600_000} hours, and it keeps a record "
                    "for 24",
                ),
            )
        self._attended_at = now
        return absent

    def _note_unread(self, shard_id: str) -> None:
        """Note a gap where a shard without a position may have lost records since it was last asked."""
        since = self._unread.get(shard_id)
        if since is not None and self._now_ms() - since > RETENTION_S * 1000:
            self._gap(
                f"unread/{shard_id}/{since}",
                "trimmed",
                self._lost_between(since, f"in the shard {shard_id}, which was not read for so long"),
            )

    def _note_shards(self) -> None:
        """Write down the shards without a position, so that whoever comes next knows since when they wait."""
        for shard_id, at in list(self._unread.items()):
            noted = self._noted.get(shard_id)
            if shard_id not in self._passed and (noted is None or at - noted >= NOTE_S * 1000):
                self._checkpoints.save_shard(self._reader.label, shard_id, ShardCheckpoint(None, False, at))
                self._noted[shard_id] = at
        for shard_id in sorted(self._continued):
            for child in self._walk.children(shard_id):
                if child in self._passed:
                    self._save(child, finished=False)
            self._save(shard_id, finished=True)
            self._continued.discard(shard_id)

    def _when(self, monotonic: float) -> int:
        """A moment of the monotonic clock, epoch milliseconds."""
        return self._now_ms() - round((self._monotonic() - monotonic) * 1000)

    def _attended(self, noted: StreamCheckpoint) -> int:
        return max(noted.noted_at, self._health.attended_until())

    def _lost_between(self, since_ms: int, why: str) -> str:
        """The sentence for what was trimmed: it came after what was read, and is older than what a stream keeps."""
        now = self._now_ms()
        trimmed_up_to = now - RETENTION_S * 1000
        until = trimmed_up_to if trimmed_up_to > since_ms else now
        return f"changes between {moment(since_ms)} and {moment(until)} may be lost ({why})"

    def _save(self, shard_id: str, *, finished: bool) -> None:
        checkpoint = ShardCheckpoint(
            self._passed.get(shard_id),
            finished,
            self._now_ms(),
            childless=finished and not self._walk.has_child(shard_id),
        )
        self._checkpoints.save_shard(self._reader.label, shard_id, checkpoint)
        self._saved_at[shard_id] = self._monotonic()

    def _tell_health(self) -> None:
        """Store a reading, which means too that every shard was attended.

        So the shards are written down before, and nothing is said while the list of shards cannot be had.
        """
        self._note_absence()
        self._note_shards()
        if self._now_ms() - self._listed_at > LISTED_S * 1000:
            return
        self._said = self._report.caught_up
        self._said_at = self._monotonic()
        self._health.read(
            Reading("worker", self._now_ms(), self._reader.arn, self._said, self._report.newest_source_at)
        )

    def _note_table(self, table: TableStream, *, is_read: bool) -> None:
        """Note which stream the table has, and tell of the gap once."""
        lost = note_table_stream(self._health, self._checkpoints, table, is_read=is_read)
        if lost is not None and table.arn not in self._told:
            self._told.add(table.arn)
            self._tell_gap(lost, "stream changed")

    def _gap(self, identity: str, kind: GapKind, detail: str) -> None:
        self._health.open_gap(identity, kind, detail)
        self._tell_gap(detail, kind)

    def _tell_gap(self, detail: str, kind: GapKind) -> None:
        log.error("%s: run `dynalake %s`", detail, MENDED_BY[kind])
        with self._lock:
            self._report.gaps.append(detail)
