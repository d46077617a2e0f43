"""Mending single rows by reading them from the source again.

The order makes it safe beside a live stream: first the row's version in the lake, then the source,
consistently, then a write on condition that the row's version is still the one seen. The mended row is newer
than what it replaces and older than any change still to come. If the version moved in between, the stream is
at work on the row, and the write is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ingest.apply import Applier, Outcome
from ingest.errors import MalformedRecordError, SourceError
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import refuse_reserved
from ingest.wire import from_boto3, to_boto3
from lake.contract.rows import Change, is_tombstone, version_of
from lake.contract.versions import read_over

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

BATCH: int = 100
"""Rows between two reports of progress."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What became of the rows that a repair was asked to mend.

    Attributes:
        asked: rows to mend.
        written: rows written anew.
        deleted: rows that became tombstones, because the source has them no more.
        overtaken: rows that the stream changed meanwhile, and so were left to it.
        absent: rows that neither side has.
        refused: rows that can never be written.
    """

    asked: int = 0
    written: int = 0
    deleted: int = 0
    overtaken: int = 0
    absent: int = 0
    refused: int = 0


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
    ) -> None:
        """Join the parts; each client is that of its side's account."""
        self._source = source
        self._source_table = source_table
        self._lake = lake
        self._applier = applier
        self._policy = policy
        self._quarantine = quarantine
        self._observer = observer
        self._now_ms = now_ms

    def mend(
        self, keys: Iterable[Mapping[str, Any]], on_progress: Callable[[RepairReport], None] = lambda _: None
    ) -> RepairReport:
        """Make the lake's rows what the source's are.

        Args:
            keys: the source's keys, in wire form.
            on_progress: called now and then.

        Raises:
            SourceError: the source cannot be read.
            LakeUnavailableError: the lake refuses every write.
        """
        counts = dict.fromkeys(("asked", "written", "deleted", "overtaken", "absent", "refused"), 0)
        for batch in _in_batches(keys):
            changes: list[Change] = []
            for key in batch:
                counts["asked"] += 1
                try:
                    change = self._read(key)
                except MalformedRecordError:
                    counts["refused"] += 1
                    continue
                if change is None:
                    counts["absent"] += 1
                else:
                    changes.append(change)
            results = self._applier.apply(changes)
            for result in results:
                match result.outcome:
                    case Outcome.APPLIED:
                        counts["deleted" if result.change.image is None else "written"] += 1
                    case Outcome.STALE | Outcome.FAILED:
                        counts["overtaken"] += 1
                    case Outcome.REFUSED:
                        counts["refused"] += 1
            self._observer.note(result.change for result in results if result.outcome is Outcome.APPLIED)
            on_progress(RepairReport(**counts))
        return RepairReport(**counts)

    def _read(self, key: Mapping[str, Any]) -> Change | None:
        """The change that mends a row; None where neither side has it. The order of the reads is the point."""
        lake_key = self._policy.apply(key)
        row = self._get(self._lake, self._applier.table, lake_key)
        seen = version_of(row)
        item = self._get(self._source, self._source_table, key)
        if item is None:
            if row is None or is_tombstone(row):
                return None
            return Change(lake_key, None, read_over(seen), deleted_by="unknown", read_over=seen)
        refuse_reserved(item)
        return Change(lake_key, self._policy.apply(item), read_over(seen), read_over=seen)

    @staticmethod
    def _get(dynamodb: DynamoDBClient, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            item = dynamodb.get_item(TableName=table, Key=to_boto3(key), ConsistentRead=True).get("Item")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise SourceError(f"the table {table!r} cannot be read ({code})") from error
        return from_boto3(item) if item is not None else None


def _in_batches(keys: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for key in keys:
        batch.append(key)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
