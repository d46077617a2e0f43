"""Mending single rows by reading them from the source again.

The order makes it safe beside a live stream: first the row's version in the lake, then the source,
consistently, then a write on condition that the row's version is still the one seen. The mended row is newer
than what it replaces and older than any change still to come. If the version moved in between, the stream is
at work on the row, and the write is left to it.

A redrive mends the same way, and knows one thing more: the version of the record that never arrived. The mended
row is newer than that one too, so the record can do no harm if it arrives after all, even where neither side
has the row any more: then a tombstone takes its version.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from botocore.exceptions import ClientError

from ingest.apply import Applier, Outcome
from ingest.capacity import CapacityLimit
from ingest.errors import IngestError, MalformedRecordError, PolicyRefusedError, SourceError
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import refuse_reserved
from ingest.wire import from_boto3, to_boto3
from lake.contract.rows import VERSION, Change, is_tombstone, source_item, version_of
from lake.contract.versions import ABSENT, KnownLabels, Version, is_future, is_newer, label_of, read_over
from lake.errors import ContractError, aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

BATCH: int = 100
"""Rows between two reports of progress."""

SAME: Final = Change({}, None, ABSENT)
"""In place of a change: the row is right as it is."""

_OTHER_KEY_SCHEMA = "does not match the schema"
"""What DynamoDB says where no key would fit the table; any other complaint is about this key's value."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What became of the rows that a repair was asked to mend.

    Attributes:
        asked: rows to mend.
        written: rows written anew.
        deleted: rows that became tombstones, because the source has them no more.
        overtaken: rows that the stream changed meanwhile, and so were left to it.
        absent: rows that neither side has.
        refused: rows that cannot be written; a row with a forged version is among them, unless it is reset.
        same: rows that were right already, and left alone; counted only where that was asked for.
        policy_mismatches: rows with a value that a path of the policy cannot follow: they are refused, or written
            without the value.
    """

    asked: int = 0
    written: int = 0
    deleted: int = 0
    overtaken: int = 0
    absent: int = 0
    refused: int = 0
    same: int = 0
    policy_mismatches: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that a repair could not write.

    Attributes:
        key: its key in the lake, after policy, in wire form.
        reason: why, in one sentence without an item's values.
    """

    key: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row to mend.

    Attributes:
        key: the source's key, in wire form.
        known: the newest version of this row that is known to precede the mending; None for none but that seen.
    """

    key: Mapping[str, Any]
    known: Version | None = None


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of one row.

    Attributes:
        wanted: the row.
        outcome: "written", "deleted" (it became a tombstone), "absent" (neither side has it), "overtaken" (it
            was changed between the look and the write, which was left undone), "refused" (it can never be
            written), "failed" (it was not written now), "same" (it was right already, and is left alone).
        seen: the row's version before the source was read; None if there was no look, or nothing to do.
        reason: one sentence for "refused" and "failed", without an item's values.
        mismatch: whether the row has a value that a path of the policy cannot follow.
    """

    wanted: Wanted
    outcome: Literal["written", "deleted", "absent", "overtaken", "refused", "failed", "same"]
    seen: Version | None = None
    reason: str = ""
    mismatch: bool = False


class Repair:
    """Mends rows of one pipeline."""

    def __init__(
        self,
        source: DynamoDBClient,
        source_table: str,
        lake: DynamoDBClient,
        applier: Applier,
        policy: Policy,
        quarantine: Quarantine,
        observer: SchemaObserver,
        now_ms: Callable[[], int],
        limit: CapacityLimit | None = None,
        *,
        threads: int = 1,
        leave_same: bool = False,
        labels: KnownLabels | None = None,
        reset: Callable[[Mapping[str, Any]], Version | None] | None = None,
        on_mismatches: Callable[[int], None] = lambda _rows: None,
        note_label: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Join the parts.

        Args:
            source: the source account's client.
            source_table: the source table's name.
            lake: the lake account's client.
            applier: writes to the lake table.
            policy: what becomes of an attribute.
            quarantine: where rows go that can never be written.
            observer: the catalogue's writer.
            now_ms: the time of day, epoch milliseconds.
            limit: caps the read units a second, of both tables together.
            threads: rows looked at side by side.
            leave_same: leave a row alone that shows what the source has, and no older version than is known.
            labels: the stream labels that the pipeline has read; a row whose version is forged is refused. Versions
                are not checked if None.
            reset: for rows whose version is forged, gives the newest version that is known of a source key, None
                for none; such a row is written with the version that follows. They are refused if None.
            on_mismatches: called with how many rows of a batch have a value that the policy cannot be applied to.
            note_label: keeps the stream label of a version that a caller knows on record; called once for each label.
        """
        self._on_mismatches = on_mismatches
        self._looked = _Looked()
        self._source = cast("DynamoDBClient", _Metered(source, limit)) if limit else source
        self._source_table = source_table
        self._lake = cast("DynamoDBClient", _Metered(lake, limit)) if limit else lake
        self._applier = applier
        self._policy = policy
        self._quarantine = quarantine
        self._observer = observer
        self._now_ms = now_ms
        self._leave_same = leave_same
        self._labels = labels
        self._reset = reset
        self._note_label = note_label
        self._met: set[str] = set()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="repair") if threads > 1 else None

    def mend(
        self,
        keys: Iterable[Mapping[str, Any]],
        on_progress: Callable[[RepairReport], None] = lambda _: None,
        on_refused: Callable[[Refusal], None] = lambda _: None,
    ) -> RepairReport:
        """Make the lake's rows what the source's are.

        Args:
            keys: the source's keys, in wire form.
            on_progress: called now and then.
            on_refused: called with each row that is refused; the others are repaired.

        Raises:
            SourceError: the source cannot be read.
            LakeUnavailableError: the lake refuses every write.
        """
        counts = dict.fromkeys((field.name for field in fields(RepairReport)), 0)
        for batch in in_batches(keys):
            for mended in self.settle([Wanted(key) for key in batch]):
                counts["asked"] += 1
                counts["policy_mismatches"] += mended.mismatch
                counts["overtaken" if mended.outcome == "failed" else mended.outcome] += 1
                if mended.outcome == "refused":
                    on_refused(Refusal(self._shown(mended.wanted.key), mended.reason))
            on_progress(RepairReport(**counts))
        return RepairReport(**counts)

    def _shown(self, key: Mapping[str, Any]) -> Mapping[str, Any]:
        """A source key as the lake may see it; empty where the policy cannot be applied to it."""
        try:
            return self._policy.apply(key)
        except (IngestError, ContractError):
            return {}

    def settle(self, batch: Sequence[Wanted]) -> list[Mended]:
        """Make these rows what the source's are, each once, and tell what became of each.

        Args:
            batch: rows of distinct keys; about `BATCH` of them.

        Returns:
            One answer for each row, in no particular order.

        Raises:
            SourceError: a table cannot be read.
            LakeUnavailableError: the lake refuses every write.
        """
        answers: list[Mended] = []
        changes: list[Change] = []
        writing: list[Mended] = []
        for looked, change in (self._pool.map if self._pool else map)(self._look, batch):
            if change is not None:
                changes.append(change)
                writing.append(looked)
            else:
                answers.append(looked)
        results = self._applier.apply(changes)
        for looked, result in zip(writing, results, strict=True):
            seen, reason = result.change.read_over, result.reason
            match result.outcome:
                case Outcome.APPLIED:
                    deleted = result.change.image is None
                    answers.append(replace(looked, outcome="deleted" if deleted else "written", seen=seen))
                case Outcome.STALE:
                    answers.append(replace(looked, outcome="overtaken", seen=seen))
                case Outcome.REFUSED:
                    answers.append(replace(looked, outcome="refused", seen=seen, reason=reason))
                case Outcome.FAILED:
                    answers.append(replace(looked, outcome="failed", seen=seen, reason=reason))
        self._observer.note(result.change for result in results if result.outcome is Outcome.APPLIED)
        if mismatches := sum(mended.mismatch for mended in answers):
            self._on_mismatches(mismatches)
        return answers

    def _look(self, wanted: Wanted) -> tuple[Mended, Change | None]:
        """What became of a row, or, with a change that is to be written, what is known of it before."""
        dropped = self._looked.dropped = []
        try:
            if wanted.known is not None:
                self._meet(label_of(wanted.known))
            change = self._read(wanted.key, *([] if wanted.known is None else [wanted.known]))
        except (MalformedRecordError, ContractError) as error:
            refused = isinstance(error, PolicyRefusedError)
            return Mended(wanted, "refused", reason=str(error), mismatch=refused), None
        if change is None:
            return Mended(wanted, "absent"), None
        looked = Mended(wanted, "same", mismatch=bool(dropped))
        return (looked, None) if change is SAME else (looked, change)

    def _meet(self, label: str | None) -> None:
        """Put the stream label of a known version on record before a row gets a version of it.

        Raises:
            MalformedRecordError: no stream can have this label.
        """
        if label is None or label in self._met:
            return
        if is_future(label, self._now_ms()):
            raise MalformedRecordError("the record's stream label is in the future, so the record is forged")
        self._note_label(label)
        self._met.add(label)

    def _read(self, key: Mapping[str, Any], *known: Version) -> Change | None:
        """The change that mends a row; None where neither side has it. The order of the reads is the point."""
        try:
            lake_key = self._policy.apply(key)
        except PolicyRefusedError:
            if self._get(self._source, self._source_table, key) is None:
                return None  # no row of this key can be in the lake, and the source has none either
            raise
        row = self._get(self._lake, self._applier.table, lake_key)
        forged = self._forged(row)
        seen = version_of(row)
        if forged is not None:
            # It tells nothing of what the row has seen: only what else is known of the row counts.
            seen = ABSENT
            known += tuple(filter(None, [self._reset(key) if self._reset else None]))
        item = self._get(self._source, self._source_table, key)
        newer_is_known = forged is not None or any(is_newer(version, seen) for version in known)
        change: Change | None
        if item is None:
            gone = row is None or is_tombstone(row)
            if gone and not newer_is_known:
                return None
            change = Change(lake_key, None, read_over(seen, *known), deleted_by="unknown", read_over=seen)
        else:
            refuse_reserved(item)
            image = self._policy.apply(item, self._looked.dropped.append)
            shown = None if row is None or is_tombstone(row) else source_item(row)
            if self._leave_same and shown == image and not newer_is_known:
                return SAME
            change = Change(lake_key, image, read_over(seen, *known), read_over=seen)
        return replace(change, replaces=forged) if forged else change

    def _forged(self, row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """A row's version attribute where it is forged and may be reset; None where it is sound.

        Raises:
            MalformedRecordError: it is forged, and may not be reset.
        """
        if row is None or VERSION not in row or self._labels is None:
            return None
        stored: Mapping[str, Any] = row[VERSION]
        why = self._labels.forgery(stored)
        if why is None:
            return None
        if self._reset is None:
            raise MalformedRecordError(
                f"the lake row's version is forged: {why}", remedy="repair with --reset-version"
            )
        return stored

    @staticmethod
    def _get(dynamodb: DynamoDBClient, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            item = dynamodb.get_item(TableName=table, Key=to_boto3(key), ConsistentRead=True).get("Item")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            said = error.response["Error"].get("Message", "").lower()
            if code == "ValidationException" and _OTHER_KEY_SCHEMA not in said:
                raise MalformedRecordError("DynamoDB refuses the key as invalid") from error
            raise SourceError(
                f"the table {table!r} cannot be read ({code})", remedy=aws_error(error).remedy
            ) from error
        return from_boto3(item) if item is not None else None


class _Looked(threading.local):
    """What the policy dropped of the row that this thread looks at."""

    def __init__(self) -> None:
        self.dropped: list[str] = []


class _Metered:
    """A client's GetItem, held to a rate by what the answers report."""

    def __init__(self, dynamodb: DynamoDBClient, limit: CapacityLimit) -> None:
        self._dynamodb = dynamodb
        self._limit = limit

    def get_item(self, **request: Any) -> Any:
        self._limit.wait()
        answer = self._dynamodb.get_item(**request, ReturnConsumedCapacity="TOTAL")
        self._limit.spend(answer.get("ConsumedCapacity", {}).get("CapacityUnits", 1.0))
        return answer


def in_batches(keys: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[Mapping[str, Any]]]:
    """The keys, `BATCH` at a time."""
    batch: list[Mapping[str, Any]] = []
    for key in keys:
        batch.append(key)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
