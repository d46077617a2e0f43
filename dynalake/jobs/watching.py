"""Reading a stream to its end to see what is in it, without a checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ingest.shards import StreamReader
from ingest.walk import Pacing, Walk
from lake.contract.positions import StreamPositions


class Watcher:
    """A listener of `ingest.walk` that only looks at records; a subclass says what it does with them.

    Attributes:
        trimmed: why records were trimmed that should have been read; empty if none were.
    """

    def __init__(self) -> None:
        """Watch one stream."""
        self.trimmed = ""

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Look at records of one shard, in order; called by several threads."""
        raise NotImplementedError

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """Nothing to do."""

    def on_empty(self, shard_id: str, asked: float) -> None:
        """Nothing to do."""

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:  # noqa: ARG002
        """Note it, where there was a position: what precedes the stream's 24 hours is always trimmed."""
        if after is not None:
            self.trimmed = why

    def on_finished(self, shard_id: str) -> None:
        """Nothing to do."""

    def on_gone(self, shard_id: str, after: str | None) -> None:
        """Nothing to do."""

    def on_continued(self, shard_id: str) -> None:
        """Nothing to do."""

    def on_state(self, *, caught_up: bool) -> None:
        """Nothing to do."""


def watch_to_end(
    reader: StreamReader,
    watcher: Watcher,
    monotonic: Callable[[], float],
    pacing: Pacing,
    since: StreamPositions | None = None,
) -> None:
    """Show a stream to a watcher, from positions or else from its beginning, to its end as it is now.

    Raises:
        StreamError: the stream cannot be read.
    """
    walk = Walk(reader, watcher, monotonic, pacing)
    if since is not None:
        walk.resume_at(since)
    to_the_end = threading.Event()
    to_the_end.set()
    walk.run(threading.Event(), to_the_end)
