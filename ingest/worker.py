"""The worker: what Lambda's event source mapping does, on a laptop, an EC2 host or in a test.

Why no change is passed over, case by case:

- A shard is read from its checkpoint, or from its beginning where it has none; the checkpoint moves on only
  after the records before it were applied or put away. A worker that is killed at any point repeats at most
  what came after the checkpoint, and the rule makes the repetition harmless.
- A child is read only after its parent's end, so an item's changes arrive in order (`ingest.walk`).
- What was trimmed before it was read cannot be had again. That is never silent: it becomes a gap, which
  stays until a repair has compared both tables. A gap is noted when a checkpoint points before what the
  shard still holds; when a shard that was not read to its end is no longer listed; when the stream is another
  than the one noted; and when nobody read the stream (the heartbeat of `health`, at first the set-up's note)
  for longer than the stream keeps a record: whole shards may have come and gone in that time.
- A shard that never gave a record has no position, and reading it from its beginning would pass over what was
  trimmed there in silence. So it is written down, before the heartbeat, with the moment up to which nothing of it
  was unread: at first that of the last list of shards without it, later that of its last answer.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from ingest.checkpoints import Checkpoints, ShardCheckpoint, StreamCheckpoint
from ingest.delivery import Delivery
from ingest.health import HealthStore
from ingest.shards import RETENTION_S, StreamReader
from ingest.walk import THREADS, Pacing, Walk
from lake.contract.health import MENDED_BY, GapKind, Health, State

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
        caught_up: whether every shard had been read to its end when it stopped.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    records: int = 0
    gaps: list[str] = field(default_factory=list)
    lags_ms: deque[int] = field(default_factory=lambda: deque(maxlen=LAGS_KEPT))
    newest_source_at: int | None = None
    caught_up: bool = False


class Worker:
    """Reads one stream and delivers its records, until told to stop."""

    def __init__(
        self,
        reader: StreamReader,
        delivery: Delivery,
        checkpoints: Checkpoints,
        health: HealthStore,
        *,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
        pacing: Pacing | None = None,
        threads: int = THREADS,
        on_progress: Callable[[WorkerReport], None] = lambda _: None,
    ) -> None:
        """Join the parts.

        Args:
            reader: the stream.
            delivery: where its records go.
            checkpoints: how far it was read.
            health: where gaps and the state are noted.
            now_ms: the time of day, epoch milliseconds.
            monotonic: a monotonic clock, seconds.
            pacing: how often to ask.
            threads: shards read side by side.
            on_progress: called after every answer that had records, by one thread at a time.
        """
        self._reader = reader
        self._delivery = delivery
        self._checkpoints = checkpoints
        self._health = health
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._walk = Walk(reader, self, monotonic, pacing, threads)
        self._on_progress = on_progress
        self._report = WorkerReport()
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
        self._listed_at = 0
        self._said: State | None = None
        self._said_at = 0.0
        self._attended_at = 0

    def run(self, stop: threading.Event, until_caught_up: threading.Event | None = None) -> WorkerReport:
        """Work until `stop` is set or, once `until_caught_up` is set, until every shard is read to its end.

        Raises:
            LakeUnavailableError: the lake refuses every write.
            StreamError: the stream cannot be read.
            QuarantineError: a record that must be put away could not be.
        """
        self._attend()
        self._resume()
        try:
            self._report.caught_up = self._walk.run(stop, until_caught_up)
        finally:
            for shard_id in self._passed:
                self._save(shard_id, finished=False)
        self._tell_health()
        return self._report

    def _resume(self) -> None:
        """Go on from the checkpoints; a shard without a position is taken up when its parents are read."""
        saved = self._checkpoints.shards(self._reader.label)
        self._read_until.update({shard: checkpoint.at for shard, checkpoint in saved.items()})
        positions = {
            shard: checkpoint.sequence_number
            for shard, checkpoint in saved.items()
            if not checkpoint.finished and checkpoint.sequence_number is not None
        }
        finished = {shard for shard, checkpoint in saved.items() if checkpoint.finished}
        self._begun |= positions.keys()
        self._unread.update({shard: saved[shard].at for shard in saved.keys() - positions.keys() - finished})
        self._noted.update(self._unread)
        self._walk.resume(positions, finished)

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """Watch the shards that have no position yet: a new one came after the last look."""
        for shard_id in set(self._unread) - set(shard_ids):
            self.on_trimmed(shard_id, None, "the shard is no longer listed")
            self.on_finished(shard_id)
        for shard_id in set(shard_ids) - self._begun - self._walk.finished:
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
        self._passed[shard_id] = records[-1]["dynamodb"]["SequenceNumber"]
        created = records[-1]["dynamodb"].get("ApproximateCreationDateTime")
        with self._lock:
            self._report.records += len(records)
            for report in reports:
                self._report.outcomes.update(report.outcomes)
                self._report.lags_ms.extend(report.lags_ms)
            if created is not None:
                newest = round(created.timestamp() * 1000)
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
        self._unread[shard_id] = self._now_ms()  # it is read from its beginning now

    def on_finished(self, shard_id: str) -> None:
        """Write down that the shard needs no more reading."""
        self._save(shard_id, finished=True)
        self._passed.pop(shard_id, None)
        self._unread.pop(shard_id, None)

    def on_state(self, *, caught_up: bool) -> None:
        """Write the state down when it changes, and as a heartbeat."""
        self._report.caught_up = caught_up
        state: State = "caught up" if caught_up else "catching up"
        if state != self._said or self._monotonic() - self._said_at >= HEARTBEAT_S:
            self._tell_health()

    def _attend(self) -> None:
        """Note which stream is read, and a gap where it was left alone for too long or is another one."""
        label, now = self._reader.label, self._now_ms()
        noted = self._checkpoints.stream()
        if noted is None or noted.arn != self._reader.arn:
            if noted is not None:
                self._gap(
                    f"stream-changed/{label}",
                    "stream changed",
                    f"changes between {_moment(self._attended(noted))} and {label.replace('T', ' ')[:19]} UTC may "
                    "be lost (the stream was switched off and on)",
                )
            self._checkpoints.note_stream(StreamCheckpoint(self._reader.arn, now))
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

    def _when(self, monotonic: float) -> int:
        """A moment of the monotonic clock, epoch milliseconds."""
        return self._now_ms() - round((self._monotonic() - monotonic) * 1000)

    def _attended(self, noted: StreamCheckpoint) -> int:
        return max(noted.noted_at, _read_up_to(self._health.health()))

    def _lost_between(self, since_ms: int, why: str) -> str:
        """The sentence for what was trimmed: it came after what was read, and is older than what a stream keeps."""
        now = self._now_ms()
        trimmed_up_to = now - RETENTION_S * 1000
        until = trimmed_up_to if trimmed_up_to > since_ms else now
        return f"changes between {_moment(since_ms)} and {_moment(until)} may be lost ({why})"

    def _save(self, shard_id: str, *, finished: bool) -> None:
        checkpoint = ShardCheckpoint(self._passed.get(shard_id), finished, self._now_ms())
        self._checkpoints.save_shard(self._reader.label, shard_id, checkpoint)
        self._saved_at[shard_id] = self._monotonic()

    def _tell_health(self) -> None:
        """Say the state, which means too that every shard was attended.

        So the shards are written down before, and nothing is said while the list of shards cannot be had.
        """
        self._note_absence()
        self._note_shards()
        if self._now_ms() - self._listed_at > LISTED_S * 1000:
            return
        self._said = "caught up" if self._report.caught_up else "catching up"
        self._said_at = self._monotonic()
        self._health.say(self._said, self._report.newest_source_at)

    def _gap(self, identity: str, kind: GapKind, detail: str) -> None:
        log.error("%s: run `dynalake %s`", detail, MENDED_BY[kind])
        self._health.open_gap(identity, kind, detail)
        with self._lock:
            self._report.gaps.append(detail)


def _moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _read_up_to(health: Health) -> int:
    """Up to when the stream was attended, as far as it is known, epoch milliseconds.

    A worker that was behind had not come further than the newest change that it had delivered, however lately
    it said so.
    """
    at = health.at or 0
    if health.state == "catching up" and health.newest_source_at is not None:
        return min(at, health.newest_source_at)
    return at
