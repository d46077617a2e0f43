"""Freshness: how far the lake is behind its source, and a quiet source told from a stalled pipeline.

The age of the newest change in the lake says little: a table may be quiet for days. What counts is whether a
change waits that the lake does not have. So the source's stream is asked for its records, and the lake's rows for
their versions: by the one rule, a record is in the lake if its row's version is that of the record or newer.

    quiet          nothing waits, and nothing was changed for a while
    fresh          nothing waits
    catching up    something waits, not for long
    stalled        something waits longer than the limit
    unknown        the stream could not be read to its end in the time given to it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["quiet", "fresh", "catching up", "stalled", "unknown"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh a lake table is.

    Attributes:
        at: epoch milliseconds of the judgement.
        source_newest_at: epoch milliseconds of the newest change that the source's stream has; None if it has none.
        lake_newest_at: epoch milliseconds (the source's clock) of the newest change in the lake; None if unknown.
        waiting: changes seen in the stream that are not in the lake.
        waiting_since: epoch milliseconds of the oldest of them; None if there is none.
        read_to_end: whether the stream was read to its end.
        limit_s: seconds that a change may wait.
    """

    at: int
    source_newest_at: int | None
    lake_newest_at: int | None
    waiting: int
    waiting_since: int | None
    read_to_end: bool
    limit_s: float

    @property
    def behind_s(self) -> float | None:
        """Seconds that the oldest waiting change has waited, 0 if none waits; None if it is not known.

        Where the stream is too long to be read to its end, a lake whose newest change is young is behind by no more
        than that change's age.
        """
        if self.waiting_since is not None:
            return max(0.0, (self.at - self.waiting_since) / 1000)
        if self.read_to_end:
            return 0.0
        age = self.newest_change_age_s
        return age if age is not None and age <= self.limit_s else None

    @property
    def newest_change_age_s(self) -> float | None:
        """Seconds since the newest change in the lake was made in the source."""
        if self.lake_newest_at is None:
            return None
        return max(0.0, (self.at - self.lake_newest_at) / 1000)

    @property
    def verdict(self) -> Verdict:
        """See the module's words."""
        behind = self.behind_s
        if behind is None:
            return "unknown"
        if self.waiting:
            return "stalled" if behind > self.limit_s else "catching up"
        newest = max(self.source_newest_at or 0, self.lake_newest_at or 0)
        return "quiet" if self.at - newest > self.limit_s * 1000 else "fresh"

    @property
    def sentence(self) -> str:
        """The verdict for people."""
        match self.verdict:
            case "quiet":
                return "the source is quiet: nothing was changed lately, and nothing waits"
            case "fresh":
                return "every change of the source is in the lake"
            case "catching up":
                return f"{self.waiting:,} changes wait, the oldest for {self.behind_s:,.0f} s"
            case "stalled":
                return f"the pipeline is stalled: {self.waiting:,} changes wait, the oldest for {self.behind_s:,.0f} s"
            case "unknown":
                return "the stream has more records than were looked at: whether a change waits is not known"
