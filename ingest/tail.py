"""What happens in a table from a moment on: its stream, read from that moment to its end.

A snapshot needs it: the stream's end is noted before the scan begins, and rolled forward from there after. The
records are fetched while the scan runs, so a scan may last longer than the stream's 24 hours. A refresh needs it
too: it goes on from the positions which the snapshot recorded.

Why nothing is missed: at `start`, every open shard gets an iterator at its end; what was written before is in
the table when the scan begins. A shard that appears later is a child of one of those, so it is read from its
beginning, after its parent's end. Reading a record twice, or one that the scan saw, is harmless: rows carry
versions.

What was trimmed before it was read cannot be had again, and then the tail refuses to go on. The stream itself says so
of a shard that has a position. A shard that never gave a record has none: reading it from its beginning would pass
over what was trimmed there in silence. So it is known of each such shard up to when nothing of it was unread, and
longer ago than the stream keeps a record is too long. A child may wait so long for a busy parent, a process may be
held or its host asleep.

`as_of` is never later than a row that was not read: it moves on only at the stream's end, which takes every closed
shard's child to be listed and read (`ingest.walk`), and never where the stream was switched off meanwhile: what is
written then leaves no record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ingest.errors import TrimmedError
from ingest.records import created_ms, last_number_of
from ingest.shards import RETENTION_S, StreamReader
from ingest.walk import Pacing, Walk
from lake.contract.positions import StreamPositions


class Tail:
    """Follows one stream from the moment it is made, or from recorded positions."""

    def __init__(
        self,
        reader: StreamReader,
        take: Callable[[Sequence[Mapping[str, Any]]], None],
        monotonic: Callable[[], float],
        pacing: Pacing | None = None,
        *,
        now_ms: Callable[[], int],
        since: StreamPositions | None = None,
    ) -> None:
        """Begin to read.

        Args:
            reader: the stream.
            take: receives the records of one answer, in their shard's order, as boto3 gives them; never called
                by two threads at once.
            monotonic: a monotonic clock, seconds.
            pacing: how often to ask, and what counts as the end.
            now_ms: the time of day, epoch milliseconds.
            since: go on from here; from the stream's end on if not given, so that what happens in the table from
                now on will be found.

        Raises:
            StreamError: the stream cannot be read.
        """
        self._reader = reader
        self._take = take
        self._monotonic, self._now_ms = monotonic, now_ms
        self._passed: dict[str, str | None] = {}
        self._as_of = now_ms()
        self._unread: dict[str, int] = {}
        """Of the shards that gave no record yet: up to when nothing of theirs was unread, epoch milliseconds."""
        self._empty_at: dict[str, int] = {}
        """When a shard last had nothing to give, epoch milliseconds."""
        self._newest: dict[str, int] = {}
        """When a shard's last record was written, epoch milliseconds: its children's came later."""
        self._walk = Walk(reader, self, monotonic, pacing)
        if since is None:
            self._walk.begin_at_end()
        else:
            self._as_of = since.as_of
            self._passed |= since.after
            self._walk.resume_at(since)
        self._begun = {shard_id for shard_id, number in self._passed.items() if number is not None}
        self._listed_at = self._as_of
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._to_the_end = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._thread.start()

    def finish(self) -> StreamPositions:
        """Read to the stream's end as it is now, and no further.

        Returns:
            How far each shard has been read.

        Raises:
            StreamError: the stream could not be read, or records were trimmed before they were read.
        """
        self._to_the_end.set()
        self._thread.join()
        with self.pause() as positions:
            return positions

    @contextmanager
    def pause(self) -> Iterator[StreamPositions]:
        """Takes nothing while the block lasts; gives how far each shard has been taken.

        Raises:
            StreamError: the stream could not be read, or records were trimmed before they were read.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            yield StreamPositions(self._reader.arn, dict(self._passed), self._walk.finished, self._as_of)

    def stop(self) -> None:
        """Give up reading; for when the scan failed."""
        self._stop.set()
        self._thread.join()

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Hand the records on."""
        self._refuse_late(shard_id, self._unread.get(shard_id))
        self._begun.add(shard_id)
        self._unread.pop(shard_id, None)
        created = created_ms(records[-1])
        if created is not None:
            self._newest[shard_id] = created
        with self._lock:
            self._empty_at.pop(shard_id, None)
            self._take(records)
            self._passed[shard_id] = last_number_of(records) or self._passed.get(shard_id)

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """Watch the shards that gave no record yet: a new one came after the last look."""
        if self._now_ms() - self._listed_at > RETENTION_S * 1000:
            raise TrimmedError(
                "the stream was not asked for new shards in more than 24 hours, and it keeps a record for 24 hours"
            )
        if not self._walk.enabled:
            raise TrimmedError(
                f"the stream {self._reader.arn} was switched off: what was written since left no record"
            )
        for shard_id in set(shard_ids) - self._begun - self._walk.finished:
            self._unread.setdefault(shard_id, self._listed_at)
        self._listed_at = self._when(asked)

    def on_empty(self, shard_id: str, asked: float) -> None:
        """Remember that up to then nothing of the shard was unread."""
        at = self._when(asked)
        if shard_id not in self._begun:
            self._refuse_late(shard_id, self._unread.get(shard_id))
            self._unread[shard_id] = at
        with self._lock:
            self._empty_at[shard_id] = at

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:
        """Refuse to go on: a copy with a hole is no copy."""
        raise TrimmedError(f"the shard {shard_id} was trimmed after {after or 'its beginning'}: {why}")

    def on_finished(self, shard_id: str) -> None:
        """Forget how far it was: it is finished."""
        self._unread.pop(shard_id, None)
        ended = self._newest.pop(shard_id, 0)
        for child in self._walk.children(shard_id):
            if child in self._unread:
                self._unread[child] = max(self._unread[child], ended)
        with self._lock:
            self._passed.pop(shard_id, None)
            self._empty_at.pop(shard_id, None)

    def on_gone(self, shard_id: str, after: str | None) -> None:
        """Never called: the tail does not go on after `on_trimmed`."""

    def on_continued(self, shard_id: str) -> None:
        """Nothing to do."""

    def on_state(self, *, caught_up: bool) -> None:
        """Note up to when everything that was written has been taken."""
        if caught_up:
            with self._lock:
                read_until = min(self._empty_at.values(), default=self._listed_at)
                self._as_of = max(self._as_of, read_until)

    def _refuse_late(self, shard_id: str, since: int | None) -> None:
        """Refuse to go on where the shard may have lost records before it was asked.

        Raises:
            TrimmedError: it may have.
        """
        if since is not None and self._now_ms() - since > RETENTION_S * 1000:
            raise TrimmedError(
                f"the shard {shard_id} was not read for {(self._now_ms() - since) // 3_600_000} hours, and the "
                "stream keeps a record for 24"
            )

    def _when(self, monotonic: float) -> int:
        """A moment of the monotonic clock, epoch milliseconds."""
        return self._now_ms() - max(0, round((self._monotonic() - monotonic) * 1000))

    def _run(self) -> None:
        try:
            self._walk.run(self._stop, self._to_the_end)
        except BaseException as failure:
            self._failure = failure
