"""How a pipeline's health and its gaps are stored, so that every reader tells the same truth.

In the checkpoint table, under the lake table's name (`pipeline`), beside the checkpoints:

    entry "health"        what was observed last, and when (`lake.contract.evidence`)
    entry "gap/<id>"      one for each stretch of changes that the lake may lack

A gap is closed by a job that covers it, never by time. Nothing with an open gap, and nothing of which the health is not
known, is published as complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

PIPELINE: Final = "pipeline"
ENTRY: Final = "entry"
HEALTH_ENTRY: Final = "health"
GAP_PREFIX: Final = "gap/"

State = Literal["not started", "not known", "paused", "gap", "catching up", "caught up"]
"""What `lake.contract.evidence.judge` says of a pipeline."""

GapKind = Literal["not backfilled", "trimmed", "stream changed", "given up", "different"]
"""Why changes may be missing: rows older than the stream; a shard trimmed before it was read to its end; the
stream switched off and on; records that the failure destination or the quarantine holds; rows that a comparison of
both tables found to differ although the pipeline was caught up."""

MENDED_BY: Final[Mapping[GapKind, str]] = {
    "not backfilled": "backfill",
    "trimmed": "repair",
    "stream changed": "repair",
    "given up": "redrive",
    "different": "repair",
}
"""The job that covers a gap of this kind at the least cost; a repair, which compares both sides, covers every
kind. A backfill fills absent rows only, so where updates or deletes may be lost it will not do. A redrive
covers what was given up, since each such record is kept and names its row; where it was kept so badly that the
row is not known, the redrive says so and leaves the gap, or opens one that only a repair closes."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of changes that the lake may lack.

    Attributes:
        id: unique within the pipeline, the same if the same gap is found again.
        kind: why.
        detail: one sentence for people.
        found_at: epoch milliseconds, when it was first found.
        last_found_at: epoch milliseconds, when more of it was last found; a job that began before covers less.
        closed_at: epoch milliseconds; None while it is open.
    """

    id: str
    kind: GapKind
    detail: str
    found_at: int
    last_found_at: int
    closed_at: int | None = None

    @property
    def remedy(self) -> str:
        """The verb that mends it."""
        return MENDED_BY[self.kind]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known about a pipeline; made by `lake.contract.evidence.judge`, and by nothing else.

    Attributes:
        state: "caught up" is a judgement: an open shard may return nothing while records remain behind
            (DynamoDB Streams, GetRecords), so it means several empty answers in a row over some seconds.
        at: epoch milliseconds when the reader of the stream, or its mapping, was last seen; None if never.
        newest_source_at: epoch milliseconds, the newest change applied; None if there was none.
        gaps: the open gaps.
        reason: why the state is not "caught up"; empty if it is.
        remedy: what to do about it; empty where nothing need be done.
        checked_at: epoch milliseconds of the oldest observation that the state rests on; None if there is none.
        by: who reads the stream, "worker" or "function"; None if not known.
    """

    state: State
    at: int | None
    newest_source_at: int | None
    gaps: tuple[Gap, ...]
    reason: str = ""
    remedy: str = ""
    checked_at: int | None = None
    by: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the lake lacks nothing but what is still on its way: no gap is open, and the health is known."""
        return not self.gaps and self.state in ("catching up", "caught up")

    @property
    def lacking(self) -> tuple[str, ...]:
        """Why the lake may lack something, one sentence each; empty if it is complete."""
        if self.complete:
            return ()
        details = tuple(gap.detail for gap in self.gaps)
        return details if self.reason == "; ".join(details) else (*details, self.reason)


def gap_to_item(pipeline: str, gap: Gap) -> dict[str, Any]:
    """The item of a gap, as boto3's client takes it."""
    item: dict[str, Any] = {
        PIPELINE: {"S": pipeline},
        ENTRY: {"S": GAP_PREFIX + gap.id},
        "kind": {"S": gap.kind},
        "detail": {"S": gap.detail},
        "found_at": {"N": str(gap.found_at)},
        "last_found_at": {"N": str(gap.last_found_at)},
    }
    if gap.closed_at is not None:
        item["closed_at"] = {"N": str(gap.closed_at)}
    return item


def gap_from_item(item: Mapping[str, Mapping[str, Any]]) -> Gap:
    """The gap that an item holds."""
    return Gap(
        id=item[ENTRY]["S"].removeprefix(GAP_PREFIX),
        kind=item["kind"]["S"],
        detail=item["detail"]["S"],
        found_at=int(item["found_at"]["N"]),
        last_found_at=int(item["last_found_at"]["N"]),
        closed_at=int(item["closed_at"]["N"]) if "closed_at" in item else None,
    )
