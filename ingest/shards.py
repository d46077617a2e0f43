"""Reading a DynamoDB stream: its shards, their family tree, and their records.

Why parents first: DynamoDB splits a shard now and then, and an item's changes go on in a child. Only when a
parent has been read to its end do the child's records follow those of the parent, for every item (DynamoDB
developer guide, "Reading and processing a stream"). Shards that are no relations hold different items, so
they are read side by side.

DescribeStream is eventually consistent: for up to a minute a listing may miss a shard, or the child of a shard that
was just closed, and its pages need not be of one moment. So a listing proves that a shard exists, never that one does
not; that is proven by GetShardIterator (`StreamReader.exists`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import ExpiredIteratorError, GoneError, StreamBusyError, StreamError, TrimmedError
from ingest.pressure import UNREACHABLE, is_back_pressure
from lake.contract.versions import label_of_stream

if TYPE_CHECKING:
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient

MAX_RECORDS: Final = 1000
"""GetRecords' own limit, which with 1 MB is what Lambda takes at once, too."""

RETENTION_S: Final = 24 * 3600
"""How long a stream keeps a record."""

_OFF: Final = frozenset({"DISABLING", "DISABLED"})
"""Values of StreamStatus under which a stream takes no more records (API reference, StreamDescription)."""

StartingPoint = Literal["TRIM_HORIZON", "LATEST"]


class Shard(NamedTuple):
    """A shard as DescribeStream lists it.

    Attributes:
        id: the shard's id.
        parent: the id of the shard whose items it goes on with; None for a shard without one. A parent that
            was read and trimmed is no longer listed.
        closed: whether it takes no more records.
    """

    id: str
    parent: str | None
    closed: bool

    def joined(self, known: Shard) -> Shard:
        """What two lists show of one shard: each may lack something."""
        if self == known:
            return known
        return Shard(self.id, self.parent or known.parent, closed=self.closed or known.closed)


@dataclass(frozen=True, slots=True)
class Listing:
    """What DescribeStream answered.

    Attributes:
        shards: the shards that it listed, by id; there may be more.
        enabled: whether the stream still takes records. If it does, every closed shard has a child, listed or not.
    """

    shards: Mapping[str, Shard]
    enabled: bool


class StreamReader:
    """One stream, through the DynamoDB Streams API."""

    def __init__(self, streams: DynamoDBStreamsClient, arn: str) -> None:
        """Read the stream `arn` with the client of its account."""
        self._streams = streams
        self.arn = arn
        self.label = label_of_stream(arn)

    def shards(self) -> dict[str, Shard]:
        """The shards that the stream lists now, by id. Errors as for `listing`."""
        return dict(self.listing().shards)

    def listing(self) -> Listing:
        """All pages of DescribeStream.

        Raises:
            StreamBusyError: ask again.
            GoneError: there is no such stream.
            StreamError: the stream may not be read.
        """
        listed: dict[str, Shard] = {}
        enabled = False
        request: dict[str, Any] = {"StreamArn": self.arn}
        while True:
            try:
                description = self._streams.describe_stream(**request)["StreamDescription"]
            except (ClientError, BotoCoreError) as error:
                raise self._explained(error) from error
            enabled = enabled or description.get("StreamStatus", "ENABLED") not in _OFF
            for shard in description["Shards"]:
                seen = _shard(shard)
                known = listed.get(seen.id)
                listed[seen.id] = seen if known is None else seen.joined(known)
            last = description.get("LastEvaluatedShardId")
            if not last:
                return Listing(listed, enabled)
            if last == request.get("ExclusiveStartShardId"):
                raise StreamBusyError(f"the list of shards of the stream {self.arn} does not end")
            request["ExclusiveStartShardId"] = last

    def exists(self, shard_id: str, after: str | None) -> bool:
        """Whether a shard that is not listed exists all the same, and may have records after a sequence number.

        Raises:
            StreamBusyError: ask again.
            StreamError: the stream may not be read.
        """
        try:
            self.iterator(shard_id, after)
        except GoneError:
            return False
        except TrimmedError:
            return True
        return True

    def iterator(self, shard_id: str, after: str | None, otherwise: StartingPoint = "TRIM_HORIZON") -> str:
        """An iterator that begins after a sequence number, or at a starting point where there is none.

        Raises:
            GoneError: there is no such shard.
            TrimmedError: what comes after that sequence number has been trimmed.
            StreamBusyError: ask again.
            StreamError: the stream may not be read.
        """
        start: dict[str, Any] = {"ShardIteratorType": otherwise}
        if after is not None:
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        return self._iterator(shard_id, start)

    def iterator_at(self, shard_id: str, sequence_number: str) -> str:
        """An iterator that begins with the record of this sequence number. Errors as for `iterator`."""
        return self._iterator(
            shard_id, {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": sequence_number}
        )

    def _iterator(self, shard_id: str, start: Mapping[str, Any]) -> str:
        try:
            return self._streams.get_shard_iterator(StreamArn=self.arn, ShardId=shard_id, **start)[
                "ShardIterator"
            ]
        except (ClientError, BotoCoreError) as error:
            raise self._explained(error) from error

    def records(self, iterator: str) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """The next records, and the iterator to go on with: None where the shard is closed and at its end.

        Raises:
            ExpiredIteratorError: ask for a new iterator.
            StreamBusyError: ask again.
            GoneError: there is no such shard any more.
            TrimmedError: the records were trimmed before they were read.
            StreamError: the stream may not be read.
        """
        try:
            answer = self._streams.get_records(ShardIterator=iterator, Limit=MAX_RECORDS)
        except (ClientError, BotoCoreError) as error:
            raise self._explained(error) from error
        return answer["Records"], answer.get("NextShardIterator")

    def _explained(self, error: Exception) -> StreamError:
        if isinstance(error, UNREACHABLE):
            return StreamBusyError(f"the stream {self.arn} could not be reached ({type(error).__name__})")
        if not isinstance(error, ClientError):
            return StreamError(
                f"the stream {self.arn} cannot be read ({type(error).__name__})",
                remedy="check the credentials and the Region of the stream's account",
            )
        code = error.response["Error"]["Code"]
        match code:
            case "TrimmedDataAccessException":
                return TrimmedError(
                    "records were trimmed before they were read: they are older than 24 hours"
                )
            case "ResourceNotFoundException":
                return GoneError(f"the stream {self.arn} or one of its shards does not exist")
            case "ExpiredIteratorException":
                return ExpiredIteratorError("the shard iterator expired")
        if is_back_pressure(error):
            return StreamBusyError(f"the stream {self.arn} could not be read ({code})")
        return StreamError(f"the stream {self.arn} cannot be read ({code})")


def _shard(described: Mapping[str, Any]) -> Shard:
    return Shard(
        id=described["ShardId"],
        parent=described.get("ParentShardId") or None,
        closed="EndingSequenceNumber" in described.get("SequenceNumberRange", {}),
    )


def readable(shards: Mapping[str, Shard], finished: frozenset[str] | set[str]) -> list[Shard]:
    """The shards to be read now: not finished, and no parent that is listed and unfinished."""
    return [
        shard
        for shard in shards.values()
        if shard.id not in finished and (shard.parent not in shards or shard.parent in finished)
    ]
