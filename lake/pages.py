"""Scan pages as the bytes that DynamoDB sent: their rows are not parsed here, but sliced out whole.

botocore signs, retries and checks as ever; before it parses a Scan's response, a hook takes the rows out of the
body, so that the parser sees a page without rows. It works on any client, and only while a scan is under way.

Why the slice is right: within the rows every quotation mark of a text is escaped, so `"Items":[` stands in a page
once, as the member's name (an attribute's value is an object, never a list); and `],"Count":` and the like can only
follow the rows, as within a row each member's value ends with a brace. That the slice is JSON, and how many rows it
has, is checked where it is decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lake.contract.segments import THREADS, take_turns
from lake.errors import SnapshotError
from lake.parts import Chunk

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_EVENT: Final = "before-parse.dynamodb.Scan"
_ROWS: Final = "LakeRows"
"""The member of a parsed page that holds its rows."""

_BEGIN: Final = re.compile(rb'"Items"\s*:\s*\[')
_AFTER: Final = re.compile(
    rb'\]\s*,\s*"(?:Count|ScannedCount|LastEvaluatedKey|ConsumedCapacity)"\s*:|\]\s*\}\s*\Z'
)
_TAIL: Final = 32 * 1024
"""What follows the rows is shorter: a key has 3 KB at most, six times that if every character is escaped."""


class Limit(Protocol):
    """Holds the scan to a rate of read units."""

    def wait(self) -> object:
        """Return once more may be read."""
        ...

    def spend(self, units: float) -> None:
        """Book what a response reported, in capacity units."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a scan.

    Attributes:
        segment: the segment, 0 to segments - 1.
        rows: its rows.
        last_key: where the segment goes on, as boto3 has it; None at its end.
        read_units: the read capacity units that it cost.
    """

    segment: int
    rows: Chunk
    last_key: Mapping[str, Any] | None
    read_units: float


def split_page(body: bytes) -> tuple[memoryview, bytes] | None:
    """A Scan's response as the text between the brackets of its rows, and the body without them.

    None where it does not look like one.
    """
    begin = _BEGIN.search(body)
    if begin is None:
        return None
    after = _AFTER.search(body, max(begin.end(), len(body) - _TAIL)) or _AFTER.search(body, begin.end())
    if after is None:
        return None
    return memoryview(body)[begin.end() : after.start()], body[: begin.end()] + body[after.start() :]


class RawScan:
    """A parallel scan of one table whose segments take turns, held to a rate of read units."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        *,
        segments: int,
        threads: int = THREADS,
        limit: Limit | None = None,
    ) -> None:
        """Scan `table` in `segments` segments, `threads` at once.

        Args:
            dynamodb: the client of the table's account; nobody else shall scan with it meanwhile.
            table: the table's name.
            segments: 1 to 1,000,000 (DynamoDB API reference, Scan, TotalSegments); more than threads, so that
                they take turns and no partition is asked all the time.
            threads: requests under way at once.
            limit: caps the read units a second.
        """
        self._dynamodb = dynamodb
        self._table = table
        self._segments = segments
        self._threads = threads
        self._limit = limit

    def pages(self) -> Iterator[Page]:
        """All pages, in no particular order; threads read ahead by one page each.

        The reads are eventually consistent (half the price): an item that comes late is in the stream.

        Raises:
            SnapshotError: the table cannot be scanned.
        """
        events = self._dynamodb.meta.events
        events.register(_EVENT, _take_rows, unique_id=_ROWS)
        try:
            yield from take_turns(self._page, dict.fromkeys(range(self._segments)), self._threads)
        finally:
            events.unregister(_EVENT, unique_id=_ROWS)

    def _page(self, segment: int, start: Mapping[str, Any] | None) -> Page:
        if self._limit:
            self._limit.wait()
        request: dict[str, Any] = {
            "TableName": self._table,
            "Segment": segment,
            "TotalSegments": self._segments,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if start:
            request["ExclusiveStartKey"] = start
        try:
            answer: Mapping[str, Any] = self._dynamodb.scan(**request)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise SnapshotError(f"the table {self._table!r} cannot be scanned ({code})") from error
        except BotoCoreError as error:
            raise SnapshotError(f"the table {self._table!r} cannot be scanned: {error}") from error
        units = answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
        if self._limit:
            self._limit.spend(units)
        rows = Chunk(answer[_ROWS], answer["Count"], "items")
        return Page(segment, rows, answer.get("LastEvaluatedKey"), units)


def _take_rows(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Takes the rows out of a page before botocore parses it."""
    if response_dict["status_code"] >= 300:
        return
    split = split_page(response_dict["body"])
    if split is None:  # an engine that writes a page in another way
        page = json.loads(response_dict["body"])
        rows = json.dumps(page.pop("Items", []), separators=(",", ":"))[1:-1].encode()
        split = memoryview(rows), json.dumps(page).encode()
    customized_response_dict[_ROWS], response_dict["body"] = split
