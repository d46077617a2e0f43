"""Which evidence allows which statement about a pipeline; docs/invariants.md has the same as a table.

"Caught up" is a claim about the source, and whoever makes it must have looked there, lately. So a pipeline's health is
never stored as a verdict. What is stored are observations, each with its time, and `judge` says what they allow:

    Reading      how far the stream has been read, from the worker that reads it or from the function's mapping
    TableStream  which stream the source table writes its changes to, from DescribeTable
    Waiting      whether a check found changes that wait for the lake

Both are stored in the lake (`ingest.health`), where a reader with credentials of the lake account alone finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from lake.contract.health import Gap, Health

WORKER_SILENT_S: Final = 300
"""A worker stores a reading every 30 s, and asks every minute which stream the table has; observations that are older
than this say nothing of now."""

FUNCTION_SILENT_S: Final = 900
"""The function's heartbeat is scheduled every 5 minutes: this allows for two that are missed."""

BEHIND_S: Final = 60.0
"""A function whose iterator age is above this is catching up."""

CLOCK_SKEW_S: Final = 120
"""An observation that lies further ahead in the future says that a clock is wrong, and its age is not known."""

ReadBy = Literal["worker", "function"]


@dataclass(frozen=True, slots=True)
class ReadingFault:
    """Something under which the reader of a stream does not read, or may skip records.

    Attributes:
        message: what is wrong, as a clause about the event source mapping.
        remedy: what to do.
        stops: whether nothing is read while it lasts; otherwise records may be skipped.
    """

    message: str
    remedy: str
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a stream has been read.

    Attributes:
        by: who reads it.
        at: epoch milliseconds of the observation.
        stream: the ARN of the stream that is read; empty if not known.
        at_end: whether it was read to its end. Of a function: whether nothing says otherwise.
        newest_source_at: epoch milliseconds of the newest change applied; None if not known.
        behind_s: how far the function is behind the stream, seconds; None if no record was delivered lately.
        faults: what is wrong with the function's mapping.
    """

    by: ReadBy
    at: int
    stream: str
    at_end: bool
    newest_source_at: int | None = None
    behind_s: float | None = None
    faults: tuple[ReadingFault, ...] = ()

    @property
    def attended_until(self) -> int | None:
        """Up to when the stream's records were certainly read, epoch milliseconds; None where this does not tell.

        A worker that was behind had not come further than the newest change that it had delivered, however lately
        it said so.
        """
        if self.by == "function":
            if self.faults:
                return None
            return self.at - round((self.behind_s or 0.0) * 1000)
        if self.at_end or self.newest_source_at is None:
            return self.at
        return min(self.at, self.newest_source_at)


@dataclass(frozen=True, slots=True)
class TableStream:
    """Which stream a table writes its changes to.

    Attributes:
        at: epoch milliseconds of the observation.
        arn: the stream's ARN; None where the table's stream is off, so that changes leave no record.
    """

    at: int
    arn: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a check of freshness found in the source's stream.

    Attributes:
        at: epoch milliseconds of the check.
        since: epoch milliseconds of the oldest change that waited for the lake; None if none did.
    """

    at: int
    since: int | None

    def refuted_by(self, reading: Reading) -> bool:
        """Whether a later reading shows that the changes wait no longer.

        A worker says so by reading to the end. A function's mapping does not know what waits, only how old the
        records were that it was given.
        """
        if reading.at <= self.at:
            return False
        if reading.by == "worker":
            return reading.at_end
        return reading.behind_s is not None and reading.behind_s <= BEHIND_S


@dataclass(frozen=True, slots=True)
class Observed:
    """The observations of one pipeline, each the newest of its kind, or None.

    Attributes:
        reading: how far the stream has been read.
        table: which stream the source table has.
        waiting: what the last check of freshness found.
    """

    reading: Reading | None = None
    table: TableStream | None = None
    waiting: Waiting | None = None


def judge(
    observed: Observed,
    gaps: Sequence[Gap],
    now_ms: int,
    pipeline: str = "NAME",
) -> Health:
    """What a pipeline's observations allow to say about it.

    The first that applies:

    1. The source table's stream is off, or is not the one that is read: "gap".
    2. There is no reading: "not started".
    3. A reading, or the look at the table, is missing, too old, or from the future: "not known".
    4. The mapping is stopped: "paused". It may skip records: "not known".
    5. A gap is open: "gap".
    6. The stream has not been read to its end, or a check found changes that wait: "catching up".
    7. Otherwise: "caught up".

    Args:
        observed: the newest observations.
        gaps: the open gaps.
        now_ms: the time of day, epoch milliseconds.
        pipeline: the pipeline's name, for the remedies.
    """
    reading, table = observed.reading, observed.table
    verdict = _Verdict(reading, table, observed.waiting, tuple(gaps), now_ms, pipeline)
    state, reason, remedy = verdict.state()
    return Health(
        state=state,
        at=reading.at if reading else None,
        newest_source_at=reading.newest_source_at if reading else None,
        gaps=tuple(gaps),
        reason=reason,
        remedy=remedy,
        checked_at=min((each.at for each in (reading, table) if each is not None), default=None),
        by=reading.by if reading else None,
    )


_State = tuple[Literal["not started", "not known", "paused", "gap", "catching up", "caught up"], str, str]


@dataclass(frozen=True, slots=True)
class _Verdict:
    reading: Reading | None
    table: TableStream | None
    waiting: Waiting | None
    gaps: tuple[Gap, ...]
    now_ms: int
    pipeline: str

    def state(self) -> _State:
        return (
            self._of_another_stream()
            or self._of_age()
            or self._of_mapping()
            or self._of_gaps()
            or self._of_progress()
        )

    def _of_another_stream(self) -> _State | None:
        reading, table = self.reading, self.table
        if table is None:
            return None
        repair = f"dynalake repair {self.pipeline}"
        if table.arn is None:
            return (
                "gap",
                f"the source table's stream was off at {_moment(table.at)}: changes made meanwhile leave no record",
                f"switch the stream on (dynalake doctor {self.pipeline} says how), then {repair}",
            )
        if reading is None or reading.stream in ("", table.arn):
            return None
        again = {
            "worker": f"dynalake run {self.pipeline}",
            "function": f"dynalake deploy {self.pipeline} --side source",
        }
        return (
            "gap",
            f"the source table's stream is {_label(table.arn)}, and the {reading.by} reads {_label(reading.stream)}",
            f"{again[reading.by]}, then {repair}",
        )

    def _of_age(self) -> _State | None:
        reading, table = self.reading, self.table
        if reading is None:
            return (
                "not started",
                "nothing has said yet how far the source's stream is read",
                f"dynalake run {self.pipeline}, or dynalake deploy {self.pipeline}",
            )
        silent_s = WORKER_SILENT_S if reading.by == "worker" else FUNCTION_SILENT_S
        since = f"not known since {_moment(reading.at)}"
        look = f"dynalake doctor {self.pipeline}, with credentials of the source account"
        if self._age_s(reading.at) > silent_s:
            if reading.by == "worker":
                return (
                    "not known",
                    f"{since}: the worker has not reported since then, so it may be dead",
                    f"dynalake run {self.pipeline}",
                )
            return "not known", f"{since}: no heartbeat of the function has arrived since then", look
        if table is None:
            return "not known", f"{since}: nobody has looked which stream the source table has", look
        if self._age_s(table.at) > silent_s:
            return (
                "not known",
                f"not known since {_moment(table.at)}: nobody has looked since then which stream the source table has",
                look,
            )
        if not reading.stream and not reading.faults:
            return (
                "not known",
                f"{since}: the {reading.by} does not say which stream it reads, as an older version does not",
                f"update dynalake where the {reading.by} runs",
            )
        if min(self._age_s(reading.at), self._age_s(table.at)) < -CLOCK_SKEW_S:
            return (
                "not known",
                "the last report is from the future, so its age is not known",
                "set the clock of this host, or of the host of the worker",
            )
        return None

    def _of_mapping(self) -> _State | None:
        faults = self.reading.faults if self.reading else ()
        if not faults:
            return None
        first = min(faults, key=lambda fault: not fault.stops)
        reason = "; ".join(f"the function's event source mapping {fault.message}" for fault in faults)
        return ("paused" if first.stops else "not known"), reason, first.remedy

    def _of_gaps(self) -> _State | None:
        if not self.gaps:
            return None
        reason = "; ".join(gap.detail for gap in self.gaps)
        return "gap", reason, f"dynalake {self.gaps[0].remedy} {self.pipeline}"

    def _of_progress(self) -> _State:
        behind_s = (self.reading.behind_s if self.reading else None) or 0.0
        if behind_s > BEHIND_S:
            return "catching up", f"the function is {behind_s:,.0f} s behind the stream", ""
        if self.reading is None or not self.reading.at_end:
            return "catching up", "the stream has not been read to its end yet", ""
        waiting = self.waiting
        if waiting is not None and waiting.since is not None and not waiting.refuted_by(self.reading):
            return (
                "catching up",
                f"changes wait since {_moment(waiting.since)}, as a check found at {_moment(waiting.at)}",
                f"see the log of the {self.reading.by}, then dynalake check {self.pipeline} --suite freshness",
            )
        return "caught up", "", ""

    def _age_s(self, at: int) -> float:
        return (self.now_ms - at) / 1000


def _moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _label(arn: str) -> str:
    return arn.rpartition("/")[2]
