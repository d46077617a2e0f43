"""What happens in a table from a moment on: its stream, read from that moment to its end.

A snapshot needs it: the stream's end is noted before the scan begins, and rolled forward from there after. The
records are fetched while the scan runs, so a scan may last longer than the stream's 24 hours. A refresh needs it
too: it goes on from the positions which the snapshot recorded.

Why nothing is missed: at `start`, every open shard gets an iterator at its end; what was written before is in
the table when the scan begins. A shard that appears later is a child of one of those, so it is read from its
beginning, after its parent's end. Reading a record twice, or one that the scan saw, is harmless: rows carry
versions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ingest.errors import TrimmedError
from ingest.shards import StreamReader
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
        self._walk = Walk(reader, self, monotonic, pacing)
        if since is None:
            self._walk.begin_at_end()
        else:
            self._as_of = since.as_of
            self._passed |= since.after
            # A finished shard that is no longer listed will never be asked for again.
            self._walk.resume(since.after, set(since.finished & reader.shards().keys()))
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
        with self._lock:
            self._take(records)
            self._passed[shard_id] = records[-1]["dynamodb"]["SequenceNumber"]

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """Nothing to do."""

    def on_empty(self, shard_id: str, asked: float) -> None:
        """Nothing to do."""

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:
        """Refuse to go on: a copy with a hole is no copy."""
        raise TrimmedError(f"the shard {shard_id} was trimmed after {after}: {why}")

    def on_finished(self, shard_id: str) -> None:
        """Forget how far it was: it is finished."""
        with self._lock:
            self._passed.pop(shard_id, None)

    def on_state(self, *, caught_up: bool) -> None:
        """Note up to when everything that was written has been taken."""
        if caught_up:
            age_s = max(0.0, self._monotonic() - self._walk.read_until)
            with self._lock:
                self._as_of = max(self._as_of, self._now_ms() - round(age_s * 1000))

    def _run(self) -> None:
        try:
            self._walk.run(self._stop, self._to_the_end)
        except BaseException as failure:
            self._failure = failure
