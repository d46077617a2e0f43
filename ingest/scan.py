"""Reading a whole table: a parallel scan whose segments take turns, held to a rate of read units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from ingest.capacity import CapacityLimit
from ingest.errors import SourceError
from ingest.wire import from_boto3, to_boto3
from lake.contract.segments import THREADS, take_turns
from lake.errors import aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

SEGMENT_BYTES: Final = 256 << 20
"""What a segment should hold: small enough that a lost page is little work, and that there are more segments
than threads, so that they take turns and no partition is asked all the time."""

MAX_SEGMENTS: Final = 1024


def segments_for(table_bytes: int) -> int:
    """How many segments suit a table of this size: at least one for each thread."""
    return max(THREADS, min(MAX_SEGMENTS, table_bytes // SEGMENT_BYTES))


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a scan.

    Attributes:
        segment: the segment, 0 to segments - 1.
        items: items in wire form.
        last_key: where the segment goes on; None at its end.
        read_units: the read capacity units that it cost.
    """

    segment: int
    items: list[dict[str, Any]]
    last_key: Mapping[str, Any] | None
    read_units: float


class Scan:
    """Scans of one table."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        *,
        segments: int,
        threads: int = THREADS,
        limit: CapacityLimit | None = None,
    ) -> None:
        """Scan `table` in `segments` segments, `threads` at once.

        Args:
            dynamodb: the client of the table's account.
            table: the table's name.
            segments: 1 to 1,000,000 (DynamoDB API reference, Scan, TotalSegments); see `segments_for`.
            threads: requests under way at once.
            limit: caps the read units a second.
        """
        self._dynamodb = dynamodb
        self._table = table
        self.segments = segments
        self._threads = threads
        self._limit = limit

    def page(self, segment: int, start: Mapping[str, Any] | None) -> Page:
        """One page of a segment, from its beginning or from where an earlier page ended.

        The reads are eventually consistent (half the price): an item that comes late is in the stream.

        Raises:
            SourceError: the table cannot be scanned.
        """
        if self._limit:
            self._limit.wait()
        request: dict[str, Any] = {
            "TableName": self._table,
            "Segment": segment,
            "TotalSegments": self.segments,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if start:
            request["ExclusiveStartKey"] = to_boto3(start)
        try:
            answer = self._dynamodb.scan(**request)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise SourceError(
                f"the table {self._table!r} cannot be scanned ({code})", remedy=aws_error(error).remedy
            ) from error
        units = answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
        if self._limit:
            self._limit.spend(units)
        last = answer.get("LastEvaluatedKey")
        return Page(
            segment, [from_boto3(item) for item in answer["Items"]], from_boto3(last) if last else None, units
        )

    def pages(self, starts: Mapping[int, Mapping[str, Any] | None] | None = None) -> Iterator[Page]:
        """All pages, in no particular order; the segments take turns, and threads read ahead by one page each.

        Args:
            starts: the segments to read, each with the key after which it goes on (None for its beginning);
                all segments from their beginnings if not given.

        Raises:
            SourceError: the table cannot be scanned.
        """
        return take_turns(self.page, starts or dict.fromkeys(range(self.segments)), self._threads)
