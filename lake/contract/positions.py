"""How far a stream has been read, so that whoever reads it next goes on from there.

A snapshot records it for the lake table's stream, in the snapshot itself: rows and position are replaced in one
step, so neither can be ahead of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STREAM_REACH_S: Final = 24 * 3600 - 15 * 60
"""How old a position may be. A stream keeps each record for 24 hours, so nothing that was written after a younger
position was trimmed, in whatever shard it is. Of an older one nobody can tell: a shard may have been split, and
its children trimmed, without a trace. A quarter of an hour is left for the reading itself."""


@dataclass(frozen=True, slots=True)
class StreamPositions:
    """How far each shard of a stream has been read.

    Attributes:
        stream: the stream's ARN.
        after: shard id -> the last sequence number passed; None where the shard was asked from its end on and
            has given nothing since, so that whoever goes on must read what the stream still holds of it.
        finished: the shards that are closed and passed.
        as_of: epoch milliseconds; every change that was written to the table before then has been read.
    """

    stream: str
    after: Mapping[str, str | None]
    finished: frozenset[str]
    as_of: int

    @property
    def watermark(self) -> str:
        """The positions in one line, for people: the stream's label, then each shard that gave records."""
        passed = ", ".join(f"{shard} {number}" for shard, number in sorted(self.after.items()) if number)
        return f"{self.stream.rpartition('/')[2]} ({passed or 'no change seen'})"

    def in_reach(self, stream: str, now_ms: int) -> bool:
        """Whether `stream` still holds everything that comes after these positions."""
        return stream == self.stream and now_ms - self.as_of < STREAM_REACH_S * 1000
