"""DynamoDB Streams in memory, behind the methods of boto3's client that dynalake calls.

    stream = StubStream("orders")
    account.create_table("orders", {"pk": "S"}, stream)       # its writes are recorded
    streams = StubStreams(stream); StreamReader(streams.client, stream.arn)
    child, other = stream.split(stream.open_shards()[0].id)    # the parent is closed
    stream.trim(shard_id, 3)                                   # its three oldest records are gone
    stream.forget(shard_id)                                    # DescribeStream lists it no more
    stream.switch_off(); StubStream("orders", label=…)         # switched on again: another label
    streams.expire_iterators(); streams.empty_answers = 2      # the next two GetRecords give nothing
    streams.rewind = 2                                         # the next GetRecords begins 2 records earlier
    streams.unlisted = {shard_id}                              # DescribeStream misses them for now; they exist
    streams.closed_unseen = {shard_id}                         # likewise, that they were closed

By the API reference and the developer guide: sequence numbers rise within a stream and have 21 to 40 digits; an
item's changes are in one shard until it closes, then in one of its children; an iterator lives 15 minutes; asked
for a sequence number that was trimmed, GetShardIterator and GetRecords say TrimmedDataAccessException; an open
shard may answer nothing while records remain; a closed shard's last answer has no NextShardIterator.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ingest.records import number_of
from tests.stubs.dynamodb import validate
from tests.stubs.faults import Call, Hook, client_error, no_fault

if TYPE_CHECKING:
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient

LABEL: Final = "2026-11-24T00:00:00.000"
FIRST_SEQUENCE_NUMBER: Final = 10**21 - 40
"""So near to a power of ten that the numbers soon grow by a digit: as text alone they would not compare."""
MAX_EMPTIES: Final = 2
"""Of one shard in a row, while it has records."""

ITERATOR_LIFE_S: Final = 15 * 60


@dataclass(slots=True)
class StubShard:
    """A shard: `records` are all it ever had, those before `trimmed` are gone.

    It takes the items whose key's hash lies in [low, high).
    """

    id: str
    parent: str | None
    low: int
    high: int
    records: list[dict[str, Any]] = field(default_factory=list)
    trimmed: int = 0
    closed: bool = False
    listed: bool = True
    born_ms: int = 0
    closed_ms: int = 0
    described: dict[tuple[bool, bool], dict[str, Any]] = field(default_factory=dict)

    def index_after(self, number: str) -> int:
        """The index after the last of its records that has a sequence number up to this one."""
        least = int(number)
        for index in range(len(self.records), 0, -1):
            found = number_of(self.records[index - 1])
            if found and int(found) <= least:
                return index
        return 0


class StubStream:
    """One stream of one table, from switching it on to switching it off."""

    def __init__(
        self,
        table: str,
        *,
        label: str = LABEL,
        shards: int = 1,
        now_ms: Callable[[], int] = lambda: 0,
        view: str = "NEW_AND_OLD_IMAGES",
        first: int = FIRST_SEQUENCE_NUMBER,
    ) -> None:
        self.label = label
        self.arn = f"arn:aws:dynamodb:eu-west-1:111111111111:table/{table}/stream/{label}"
        self.shards: dict[str, StubShard] = {}
        self.ids: list[str] = []
        """The shards' ids, which rise with time."""
        self.last: dict[str, tuple[StubShard, int]] = {}
        """Of each key, as its `repr`: the shard and the index of its last record."""
        self.view = view
        self.enabled = True
        self._now_ms = now_ms
        self._next = first
        width = 2**32 // shards
        for index in range(shards):
            high = 2**32 if index == shards - 1 else (index + 1) * width
            self._add(None, index * width, high)

    # The table's side

    def record(
        self,
        event: str,
        key: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        old: Mapping[str, Any] | None,
        *,
        ttl: bool,
    ) -> None:
        """Append a record to the shard that takes this key."""
        self._next += 3
        body: dict[str, Any] = {
            "ApproximateCreationDateTime": datetime.fromtimestamp(self._now_ms() // 1000, UTC),
            "Keys": dict(key),
            "SequenceNumber": str(self._next),
            "SizeBytes": 1,
            "StreamViewType": self.view,
        }
        if new is not None and self.view.startswith("NEW"):
            body["NewImage"] = dict(new)
        if old is not None and self.view.endswith("OLD_IMAGES"):
            body["OldImage"] = dict(old)
        record: dict[str, Any] = {"eventID": f"event-{self._next}", "eventName": event, "dynamodb": body}
        if ttl:
            record["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
        shard = self.shard_of(key)
        shard.records.append(record)
        self.last[repr(key)] = shard, len(shard.records) - 1

    def shard_of(self, key: Mapping[str, Any]) -> StubShard:
        place = zlib.crc32(repr(key).encode())
        return next(shard for shard in self.open_shards() if shard.low <= place < shard.high)

    def open_shards(self) -> list[StubShard]:
        return [shard for shard in self.shards.values() if not shard.closed]

    # What happens to shards

    def split(self, shard_id: str) -> tuple[StubShard, StubShard]:
        """Close a shard; two children go on with its items."""
        shard = self.shards[shard_id]
        middle = (shard.low + shard.high) // 2
        self._close(shard)
        return self._add(shard_id, shard.low, middle), self._add(shard_id, middle, shard.high)

    def roll(self, shard_id: str) -> StubShard:
        """Close a shard; one child goes on with its items, as happens every few hours."""
        shard = self.shards[shard_id]
        self._close(shard)
        return self._add(shard_id, shard.low, shard.high)

    def trim(self, shard_id: str, records: int) -> None:
        """Take the oldest records away, `records` in all."""
        shard = self.shards[shard_id]
        shard.trimmed = max(shard.trimmed, min(records, len(shard.records)))

    def forget(self, shard_id: str) -> None:
        """Let a shard that is no more vanish from the list."""
        self.trim(shard_id, len(self.shards[shard_id].records))
        self.shards[shard_id].listed = False

    def switch_off(self) -> None:
        """The stream takes no more records; what it has can be read for 24 hours."""
        self.enabled = False
        for shard in self.open_shards():
            self._close(shard)

    def _close(self, shard: StubShard) -> None:
        shard.closed, shard.closed_ms = True, self._now_ms()

    def _add(self, parent: str | None, low: int, high: int) -> StubShard:
        shard = StubShard(
            f"shardId-{len(self.shards):020d}-{zlib.crc32(self.label.encode()):08x}",
            parent,
            low,
            high,
            born_ms=self._now_ms(),
        )
        self.shards[shard.id] = shard
        self.ids.append(shard.id)
        return shard


class _Position(NamedTuple):
    stream: StubStream
    shard: StubShard
    place: int
    made_at: float


MOST_CALLS: Final = 200_000
"""More than any run needs of one account: a reader that never finds its end fails, and does not read on for ever."""


class StubStreams:
    """An account's streams."""

    def __init__(
        self,
        *streams: StubStream,
        page_size: int = 100,
        clock: Callable[[], float] = lambda: 0.0,
        check: bool = True,
    ) -> None:
        """`page_size` is that of DescribeStream and GetRecords; `clock` in seconds lets iterators expire."""
        self.streams = {stream.arn: stream for stream in streams}
        self.calls: Counter[str] = Counter()
        self.hook: Hook = no_fault
        self.page_size = page_size
        self.most_calls = MOST_CALLS
        self.empty_answers = 0
        self.rewind = 0
        self.unlisted: set[str] = set()
        self.closed_unseen: set[str] = set()
        self._clock = clock
        self._validate = check
        self._empties: Counter[str] = Counter()
        self._iterators: dict[str, _Position] = {}
        self._expired: set[str] = set()

    @property
    def client(self) -> DynamoDBStreamsClient:
        return cast("DynamoDBStreamsClient", self)

    def add(self, stream: StubStream) -> None:
        self.streams[stream.arn] = stream

    def expire_iterators(self) -> None:
        """Every iterator given out so far is too old from now on."""
        self._expired |= self._iterators.keys()

    # The operations

    def describe_stream(self, **request: Any) -> dict[str, Any]:
        self._begin("describe_stream", request)
        stream = self._stream("DescribeStream", request["StreamArn"])
        after = request.get("ExclusiveStartShardId", "")
        most = min(self.page_size, request.get("Limit", 100))
        begin = bisect_right(stream.ids, after)
        rest: list[str] = []
        for shard_id in stream.ids[begin:]:
            if shard_id not in self.unlisted and stream.shards[shard_id].listed:
                rest.append(shard_id)
                if len(rest) > most:
                    break
        page = rest[:most]
        description: dict[str, Any] = {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": "ENABLED" if stream.enabled else "DISABLED",
            "StreamViewType": stream.view,
            "Shards": [
                _described(stream.shards[shard_id], seen_closed=shard_id not in self.closed_unseen)
                for shard_id in page
            ],
        }
        if len(page) < len(rest):
            description["LastEvaluatedShardId"] = page[-1]
        return {"StreamDescription": description}

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        self._begin("get_shard_iterator", request)
        stream = self._stream("GetShardIterator", request["StreamArn"])
        shard = stream.shards.get(request["ShardId"])
        if shard is None or not shard.listed:
            raise client_error(
                "GetShardIterator", "ResourceNotFoundException", "Requested resource not found: Shard"
            )
        match request["ShardIteratorType"]:
            case "TRIM_HORIZON":
                index = shard.trimmed
            case "LATEST":
                index = len(shard.records)
            case kind:
                index = shard.index_after(request["SequenceNumber"])
                if index <= shard.trimmed and shard.trimmed:
                    raise _trimmed("GetShardIterator")
                index -= kind == "AT_SEQUENCE_NUMBER"
        return {"ShardIterator": self._iterator(stream, shard, index)}

    def get_records(self, **request: Any) -> dict[str, Any]:
        self._begin("get_records", request)
        iterator = request["ShardIterator"]
        at = self._iterators[iterator]
        if iterator in self._expired or self._clock() - at.made_at > ITERATOR_LIFE_S:
            raise client_error("GetRecords", "ExpiredIteratorException", "Iterator expired")
        if not at.shard.listed:
            raise client_error(
                "GetRecords", "ResourceNotFoundException", "Requested resource not found: Shard"
            )
        if at.place < at.shard.trimmed:
            raise _trimmed("GetRecords")
        if self.empty_answers and self._empties[at.shard.id] < MAX_EMPTIES:
            self.empty_answers -= 1
            self._empties[at.shard.id] += 1
            return {"Records": [], "NextShardIterator": self._iterator(at.stream, at.shard, at.place)}
        self._empties[at.shard.id] = 0
        begin = max(at.shard.trimmed, at.place - self.rewind)
        self.rewind = 0
        end = min(len(at.shard.records), begin + min(self.page_size, request.get("Limit", 1000)))
        answer: dict[str, Any] = {"Records": at.shard.records[begin:end]}
        if not at.shard.closed or end < len(at.shard.records):
            answer["NextShardIterator"] = self._iterator(at.stream, at.shard, end)
        return answer

    def _begin(self, operation: str, request: dict[str, Any]) -> None:
        self.calls[operation] += 1
        assert self.calls.total() <= self.most_calls, "the streams are read without end"
        if self._validate:
            validate("dynamodbstreams", operation, request)
        fault = self.hook(Call("dynamodbstreams", operation, request))
        if fault is not None:
            raise fault.error

    def _stream(self, operation: str, arn: str) -> StubStream:
        if arn not in self.streams:
            raise client_error(operation, "ResourceNotFoundException", "Requested resource not found: Stream")
        return self.streams[arn]

    def _iterator(self, stream: StubStream, shard: StubShard, index: int) -> str:
        name = f"iterator-{len(self._iterators)}"
        self._iterators[name] = _Position(stream, shard, index, self._clock())
        return name


def _described(shard: StubShard, *, seen_closed: bool = True) -> dict[str, Any]:
    """What DescribeStream says of a shard; it changes with the first record, and when the shard is closed."""
    state = bool(shard.records), shard.closed and seen_closed
    if state not in shard.described:
        shard.described[state] = _description(shard, closed=state[1])
    return shard.described[state]


def _description(shard: StubShard, *, closed: bool) -> dict[str, Any]:
    records = shard.records
    first = (number_of(records[0]) or "0") if records else str(FIRST_SEQUENCE_NUMBER)
    span: dict[str, str] = {"StartingSequenceNumber": first}
    if closed:
        span["EndingSequenceNumber"] = (number_of(records[-1]) or "0") if records else first
    described: dict[str, Any] = {"ShardId": shard.id, "SequenceNumberRange": span}
    if shard.parent is not None:
        described["ParentShardId"] = shard.parent
    return described


def _trimmed(operation: str) -> BaseException:
    return client_error(
        operation,
        "TrimmedDataAccessException",
        "The operation attempted to read past the oldest record in a shard",
    )
