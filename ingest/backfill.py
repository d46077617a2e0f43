"""Bringing to the lake what was in the source before its stream was read.

Why it is safe while the stream is live: a scan's page was read before the lake's row was looked at, so it may
fill a row only where there is none, tombstones included. Whatever the stream has written, or will write, is
newer than the version "0~000001" that a filled row gets. A backfill may therefore run as late, as often and
as slowly as one likes, and may last longer than the stream's 24 hours.

Why a kill loses nothing: a segment's checkpoint moves past a page only when every row of it is in the lake,
or in quarantine. A page that is written again finds its rows present. Where the policy hides a key attribute, no
place within a segment is kept, since that is a key of the source: then a killed run repeats the segment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingest.apply import Applier, Outcome
from ingest.checkpoints import Checkpoints
from ingest.errors import BackfillError, MalformedRecordError, PolicyRefusedError
from ingest.handler import GapKeeper
from ingest.health import HealthStore
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import refuse_reserved
from ingest.scan import Page
from lake.contract.expiry import Expiry, LeftOut
from lake.contract.rows import Change
from lake.contract.versions import ABSENT, read_over

FILLS_ABSENT: Final = read_over(ABSENT)
"""The version of a row that a backfill wrote."""

SCAN: Final = "scan"

_PLAN: Final = "backfill"


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill has done so far, resumed parts included.

    Attributes:
        read: rows read from the source.
        filled: rows written.
        present: rows that were in the lake already, as rows or tombstones.
        quarantined: rows that can never be written.
        policy_mismatches: rows with a value that a path of the policy cannot follow: they are quarantined, or
            filled without the value.
        read_units: read capacity units spent in this run.
        segments_done: segments at their end.
        segments: segments in all.
        resumed: whether an earlier run was gone on with.
        left_out: the rows that were left out because they had expired; None where they are not left out.
    """

    read: int
    filled: int
    present: int
    quarantined: int
    policy_mismatches: int
    read_units: float
    segments_done: int
    segments: int
    resumed: bool
    left_out: LeftOut | None = None


class Rows(Protocol):
    """Where a backfill reads: a scan of the table, or an export that is read like one (`ingest.exported`)."""

    @property
    def segments(self) -> int:
        """How many parts there are."""
        ...

    def pages(self, starts: Mapping[int, Mapping[str, Any] | None] | None = None) -> Iterator[Page]:
        """The pages of these parts, each from where it was left."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """A backfill that was begun: `segments` must stay the same, or the segments' keys mean nothing."""

    began_at: int
    segments: int

    @property
    def entry(self) -> str:
        """What its segments' entries begin with.

        Each plan has its own, since a checkpoint that an earlier, killed run had under way may land late: it
        must not count as a segment of this one.
        """
        return f"{_PLAN}/{self.began_at}/{self.segments}"


class Backfill:
    """One pipeline's backfill."""

    def __init__(
        self,
        scan: Callable[[int | None], Rows],
        key: Iterable[str],
        applier: Applier,
        policy: Policy,
        quarantine: Quarantine,
        observer: SchemaObserver,
        checkpoints: Checkpoints,
        health: HealthStore,
        now_ms: Callable[[], int],
        *,
        source: str = SCAN,
        as_of_ms: int | None = None,
        on_mismatches: Callable[[int], None] = lambda _rows: None,
        expiry: Expiry | None = None,
    ) -> None:
        """Join the parts.

        Args:
            scan: makes the scan of the source table for a number of segments; None for its own choice.
            key: the names of the source table's key attributes.
            applier: writes to the lake table.
            policy: what becomes of an attribute.
            quarantine: where rows go that can never be written.
            observer: the catalogue's writer.
            checkpoints: where the progress is kept.
            health: whose gap "not backfilled" the end of the backfill closes.
            now_ms: the time of day, epoch milliseconds.
            source: names what is read; a run is gone on with only from the same source.
            as_of_ms: the moment that the rows are of, epoch milliseconds; that of the reading if None. A gap
                found later is not covered.
            on_mismatches: called with how many rows of a page have a value that the policy cannot be applied to.
            expiry: which rows are left out because they have expired; none if None.
        """
        self._on_mismatches = on_mismatches
        self._source = source
        self._as_of_ms = as_of_ms
        self._scan = scan
        self._key = tuple(key)
        self._applier = applier
        self._policy = policy
        self._quarantine = quarantine
        self._observer = observer
        self._checkpoints = checkpoints
        self._health = health
        self._gaps: GapKeeper = health
        self._now_ms = now_ms
        self._expiry = expiry

    def run(
        self,
        *,
        restart: bool = False,
        on_progress: Callable[[BackfillReport], None] = lambda _: None,
    ) -> BackfillReport:
        """Fill every row that is absent; go on with an earlier run that was cut off.

        Args:
            restart: begin anew, whatever an earlier run did.
            on_progress: called after every page.

        Raises:
            SourceError: the source table cannot be scanned.
            LakeUnavailableError: the lake refuses every write.
            QuarantineError: a row that must be put away could not be.
            BackfillError: a row was not written although there was no limit of time.
        """
        plan = None if restart else self._unfinished_plan()
        resumed = plan is not None
        if plan is None:
            plan = self._begin()
        scan = self._scan(plan.segments)
        starts = self._starts(plan)
        totals = dict.fromkeys(
            ("read", "filled", "present", "quarantined", "policy_mismatches", "left_out"), 0
        )
        units = 0.0
        done = plan.segments - len(starts)

        def report() -> BackfillReport:
            counts = {name: rows for name, rows in totals.items() if name != "left_out"}
            return BackfillReport(
                **counts,
                read_units=units,
                segments_done=done,
                segments=plan.segments,
                resumed=resumed,
                left_out=None if self._expiry is None else self._expiry.left_out(totals["left_out"]),
            )

        for page in scan.pages(starts) if starts else ():
            self._fill(page, totals)
            self._save(plan, page)
            units += page.read_units
            done += page.last_key is None
            on_progress(report())
        self._end(plan)
        return report()

    def _fill(self, page: Page, totals: dict[str, int]) -> None:
        before = totals["policy_mismatches"]
        changes: list[Change] = []
        items: list[Mapping[str, Any]] = []
        for item in page.items:
            if self._expiry is not None and self._expiry.has_passed(item):
                totals["left_out"] += 1
                continue
            dropped: list[str] = []
            try:
                refuse_reserved(item)
                image = self._policy.apply(item, dropped.append)
            except MalformedRecordError as error:
                totals["policy_mismatches"] += isinstance(error, PolicyRefusedError)
                self._put_away(item, str(error), totals)
                continue
            totals["policy_mismatches"] += bool(dropped)
            key = {name: image[name] for name in self._key}
            changes.append(Change(key, image, FILLS_ABSENT, read_over=ABSENT))
            items.append(item)
        if mismatches := totals["policy_mismatches"] - before:
            self._on_mismatches(mismatches)
        written: list[Change] = []
        for result, source in zip(self._applier.apply(changes), items, strict=True):
            match result.outcome:
                case Outcome.APPLIED:
                    totals["filled"] += 1
                    written.append(result.change)
                case Outcome.STALE:
                    totals["present"] += 1
                case Outcome.REFUSED:
                    self._put_away(source, result.reason, totals)
                case Outcome.FAILED:
                    raise BackfillError(
                        f"a row could not be written: {result.reason}", remedy="run the backfill again"
                    )
        self._observer.note(written)
        totals["read"] += len(page.items)

    def _put_away(self, item: Mapping[str, Any], reason: str, totals: dict[str, int]) -> None:
        key = json.dumps([item[name] for name in self._key], sort_keys=True)
        name = f"backfill/{hashlib.sha256(key.encode()).hexdigest()}"
        self._quarantine.keep_item(name, item, reason, self._now_ms())
        self._gaps.given_up(f"rows are in quarantine, the first because {reason}")
        totals["quarantined"] += 1

    def _unfinished_plan(self) -> _Plan | None:
        item = self._checkpoints.get(_PLAN)
        if item is None or "ended_at" in item or item.get("source", {"S": SCAN})["S"] != self._source:
            return None
        return _Plan(int(item["began_at"]["N"]), int(item["segments"]["N"]))

    def _begin(self) -> _Plan:
        for entry, _ in list(self._checkpoints.entries(f"{_PLAN}/")):
            self._checkpoints.delete(entry)
        plan = _Plan(self._now_ms(), self._scan(None).segments)
        self._checkpoints.put(_PLAN, self._plan_content(plan))
        return plan

    def _starts(self, plan: _Plan) -> dict[int, Mapping[str, Any] | None]:
        starts: dict[int, Mapping[str, Any] | None] = dict.fromkeys(range(plan.segments))
        for entry, item in self._checkpoints.entries(f"{plan.entry}/"):
            segment = int(entry.rpartition("/")[2])
            if "last_key" in item:
                starts[segment] = json.loads(item["last_key"]["S"])
            else:
                del starts[segment]
        return starts

    def _save(self, plan: _Plan, page: Page) -> None:
        last = page.last_key
        if last is not None and any(name in self._key and self._policy.changes(name) for name in last):
            return  # it may hold what the lake must not see: a run that is cut off repeats the segment
        content = {"last_key": {"S": json.dumps(last)}} if last else {}
        self._checkpoints.put(f"{plan.entry}/{page.segment}", content)

    def _end(self, plan: _Plan) -> None:
        self._checkpoints.put(_PLAN, {**self._plan_content(plan), "ended_at": {"N": str(self._now_ms())}})
        covered = plan.began_at if self._as_of_ms is None else min(plan.began_at, self._as_of_ms)
        self._health.close_gaps("backfill", covered)

    def _plan_content(self, plan: _Plan) -> dict[str, Any]:
        return {
            "began_at": {"N": str(plan.began_at)},
            "segments": {"N": str(plan.segments)},
            "source": {"S": self._source},
        }
