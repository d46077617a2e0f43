"""What happens in a table from a moment on: its stream, read from that moment to its end.

A snapshot needs it: the stream's end is noted before the scan begins, and rolled forward from there after. The
records are fetched while the scan runs, so a scan may last longer than the stream's 24 hours.

Why nothing is missed: at `start`, every open shard gets an iterator at its end; what was written before is in
the table when the scan begins. A shard that appears later is a child of one of those, so it is read from its
beginning, after its parent's end. Reading a record twice, or one that the scan saw, is harmless: rows carry
versions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingest.errors import TrimmedError
from ingest.shards import StreamReader
from ingest.walk import Pacing, Walk


class Tail:
    """Follows one stream from the moment it is made."""

    def __init__(
        self,
        reader: StreamReader,
        take: Callable[[Sequence[Mapping[str, Any]]], None],
        monotonic: Callable[[], float],
        pacing: Pacing | None = None,
    ) -> None:
        """Note the stream's end: what happens in the table from now on will be found.

        Args:
            reader: the stream.
            take: receives the records of one answer, in their shard's order, as boto3 gives them; called from
                several threads, for one shard never by two at once.
            monotonic: a monotonic clock, seconds.
            pacing: how often to ask, and what counts as the end.

        Raises:
            StreamError: the stream cannot be read.
        """
        self._reader = reader
        self._take = take
        self._passed: dict[str, str] = {}
        self._walk = Walk(reader, self, monotonic, pacing)
        self._walk.begin_at_end()
        self._stop = threading.Event()
        self._scan_is_done = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Read to the stream's end, now that the scan is done.

        Returns:
            The watermark, for people: the stream's label and the last sequence number read of each shard.

        Raises:
            StreamError: the stream could not be read, or records were trimmed before they were read.
        """
        self._scan_is_done.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        passed = ", ".join(f"{shard} {number}" for shard, number in sorted(self._passed.items()))
        return f"{self._reader.label} ({passed or 'no change during the scan'})"

    def stop(self) -> None:
        """Give up reading; for when the scan failed."""
        self._stop.set()
        self._thread.join()

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Hand the records on."""
        self._take(records)
        self._passed[shard_id] = records[-1]["dynamodb"]["SequenceNumber"]

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:
        """Refuse to go on: a copy with a hole is no copy."""
        raise TrimmedError(f"the shard {shard_id} was trimmed after {after}: {why}")

    def on_finished(self, shard_id: str) -> None:
        """Nothing to do."""

    def on_state(self, *, caught_up: bool) -> None:
        """Nothing to do."""

    def _run(self) -> None:
        try:
            self._walk.run(self._stop, self._scan_is_done)
        except BaseException as failure:
            self._failure = failure
