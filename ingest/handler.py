"""One batch of one shard, from the event to the lake, for Lambda and for the worker alike.

Batch -> one change a key -> conditional writes -> the lowest sequence number that was not applied. Reporting
the lowest is what makes partial failure safe: Lambda goes on from there, and what came after it and was
applied already is stale when it comes again (`ReportBatchItemFailures`, AWS Lambda developer guide).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from ingest.apply import Applier, Outcome, Result
from ingest.capacity import unlimited
from ingest.errors import ForeignRecordError, MalformedRecordError, PolicyRefusedError, QuarantineError
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import Origin, Record, change_of, last_change_per_key, number_of, records_of
from lake.contract.catalogue import Observation
from lake.contract.rows import Change
from lake.contract.versions import is_future, label_of, label_of_stream
from lake.errors import ContractError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a batch.

    Attributes:
        records: records delivered.
        outcomes: changes by outcome, plus "deleted" (tombstones among the applied), "superseded" (earlier
            changes of a key in this batch), "quarantined", "throttled" (times DynamoDB pushed back) and
            "policy_mismatches" (records with a value that a path of the policy cannot follow: quarantined, or
            applied without the value).
        lags_ms: for each applied change, milliseconds from its creation in the source to its write.
        observed: what the schema catalogue learned.
        failed_from: the lowest sequence number that must be tried again; None where there is none.
        failure: why, in one sentence.
    """

    records: int
    outcomes: Mapping[str, int]
    lags_ms: Sequence[int]
    observed: Sequence[Observation]
    failed_from: str | None
    failure: str = ""

    def response(self) -> dict[str, Any]:
        """The answer that Lambda expects from a function with partial batch responses."""
        failures = [] if self.failed_from is None else [{"itemIdentifier": self.failed_from}]
        return {"batchItemFailures": failures}


class GapKeeper(Protocol):
    """Where it is written down that the lake lacks something."""

    def given_up(self, detail: str) -> None:
        """Note that records were put away and not applied."""
        ...


class Replicator:
    """Applies batches of stream records to the lake."""

    def __init__(
        self,
        applier: Applier,
        policy: Policy,
        quarantine: Quarantine,
        observer: SchemaObserver,
        gaps: GapKeeper,
        now_ms: Callable[[], int],
        *,
        origin: Origin,
        note_label: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Join the parts of one pipeline.

        Args:
            applier: writes to the lake table.
            policy: the pipeline's policy.
            quarantine: where records go that can never apply.
            observer: the catalogue's writer.
            gaps: where it is noted that records were put away.
            now_ms: the time of day, epoch milliseconds.
            origin: the table whose records are applied; those of another table go into quarantine.
            note_label: keeps on record that a stream of this label is read; called once for each.
        """
        self._applier = applier
        self._policy = policy
        self._quarantine = quarantine
        self._observer = observer
        self._gaps = gaps
        self._now_ms = now_ms
        self._origin = origin
        self._note_label = note_label
        self._labels: set[str] = set()

    def process(self, event: Any, remaining_s: Callable[[], float] = unlimited) -> BatchReport:
        """Apply one event's records, all of one shard.

        Args:
            event: as Lambda delivers it, `{"Records": […]}`.
            remaining_s: seconds left for the work.

        Raises:
            ForeignEventError: the event did not come from a DynamoDB stream; nothing of it is applied or kept.
            LakeUnavailableError: the lake table refuses every write.
            QuarantineError: a record without a sequence number could not be put away.
            ClientError: the catalogue could not be written; the batch must be tried again.
        """
        records = records_of(event)
        batch = _Batch()
        for record in records:
            dropped: list[str] = []
            try:
                change = change_of(record, self._policy, self._origin, dropped.append)
                self._meet(label_of(change.version))
                batch.add(change, record)
            except MalformedRecordError as error:
                foreign = isinstance(error, ForeignRecordError)
                batch.outcomes["policy_mismatches"] += isinstance(error, PolicyRefusedError)
                self._put_away(batch, record, str(error), remaining_s, foreign=foreign)
            else:
                if dropped:
                    batch.outcomes["policy_mismatches"] += 1
                    log.warning("a value was dropped", extra={"reason": dropped[0], "values": len(dropped)})
        results = self._applier.apply(batch.changes(), remaining_s)
        written: list[Change] = []
        lags: list[int] = []
        now = self._now_ms()
        for result in results:
            self._settle(batch, result, remaining_s)
            if result.outcome in (Outcome.APPLIED, Outcome.STALE):
                written.append(result.change)
            if result.outcome is Outcome.APPLIED and result.change.source_at is not None:
                lags.append(max(0, now - result.change.source_at))
        observed = self._observer.note(written)
        return BatchReport(
            records=len(records),
            outcomes=batch.outcomes,
            lags_ms=lags,
            observed=observed,
            failed_from=batch.failed_from,
            failure=batch.failure,
        )

    def _meet(self, label: str | None) -> None:
        """Put a stream label on record before anything of that stream is applied.

        Raises:
            ForeignRecordError: no stream can have this label.
        """
        if label is None or label in self._labels:
            return
        if is_future(label, self._now_ms()):
            raise ForeignRecordError(
                "the record's stream label is in the future, so the record is forged",
                remedy="see who may invoke the function (lambda:InvokeFunction)",
            )
        try:
            self._note_label(label)
        except (ClientError, BotoCoreError) as error:
            log.warning("the stream label could not be put on record; the next batch tries again: %s", error)
        else:
            self._labels.add(label)

    def _settle(self, batch: _Batch, result: Result, remaining_s: Callable[[], float]) -> None:
        batch.outcomes["throttled"] += result.throttled
        record = batch.record_of(result.change)
        match result.outcome:
            case Outcome.REFUSED:
                self._put_away(batch, record, result.reason, remaining_s)
            case Outcome.FAILED:
                batch.fail(number_of(record), result.reason)
            case Outcome.APPLIED if result.change.image is None:
                batch.outcomes["deleted"] += 1
        if result.outcome is not Outcome.REFUSED:
            batch.outcomes[result.outcome.value] += 1

    def _put_away(
        self,
        batch: _Batch,
        record: Record,
        reason: str,
        remaining_s: Callable[[], float],
        *,
        foreign: bool = False,
    ) -> None:
        """Put a record into quarantine; where that fails it counts as failed, so that it comes again.

        A foreign record opens no gap: the lake lacks nothing by it.
        """
        number = number_of(record)
        if number and remaining_s() <= 0:
            batch.fail(number, "no time left in this invocation")
            return
        try:
            name = f"{_label(record)}/{number or 'unnumbered'}"
            self._quarantine.keep_record(
                f"foreign/{name}" if foreign else name, record, reason, self._now_ms()
            )
            if not foreign:
                self._gaps.given_up(f"records are in quarantine, the first because {reason}")
        except (QuarantineError, ClientError, BotoCoreError) as error:
            if not number:
                raise
            batch.fail(number, str(error))
            return
        batch.outcomes["quarantined"] += 1
        log.error("a record was put into quarantine", extra={"sequence_number": number, "reason": reason})


class _Batch:
    """The bookkeeping of one batch."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.failure = ""
        self._records: dict[int, Record] = {}
        """By the identity of the change: two records may have one version, if one of them was forged."""
        self._changes: list[Change] = []
        self._failed: list[str] = []

    def add(self, change: Change, record: Record) -> None:
        self._changes.append(change)
        self._records[id(change)] = record

    def changes(self) -> list[Change]:
        newest = last_change_per_key(self._changes)
        self.outcomes["superseded"] += len(self._changes) - len(newest)
        return newest

    def record_of(self, change: Change) -> Record:
        return self._records[id(change)]

    def fail(self, number: str, reason: str) -> None:
        self._failed.append(number)
        self.failure = self.failure or reason

    @property
    def failed_from(self) -> str | None:
        return min(self._failed, key=int, default=None)


def _label(record: Any) -> str:
    try:
        return label_of_stream(record["eventSourceARN"])
    except (ContractError, KeyError, TypeError, AttributeError):
        return "unknown-stream"
