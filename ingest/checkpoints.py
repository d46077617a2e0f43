"""How far each shard of a stream, and each segment of a backfill, has been worked off.

In the checkpoint table, in the lake account, so that another host can take over:

    pipeline  S   the lake table (partition key)
    entry     S   "stream"                          which stream is being read, and since when
                  "label/<stream label>"            a stream that was read at any time
                  "shard/<stream label>/<shard id>"  the last sequence number that was delivered, or "finished"
                  "backfill" and "backfill/<began at>/<segments>/<segment>"
                  "exported-changes/<file>"         of an incremental export
                  "health" and "gap/<id>"            see `lake.contract.health`

A checkpoint is written after what it covers was applied, never before. One that is old costs a redelivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from lake.contract.health import ENTRY, PIPELINE
from lake.contract.versions import KnownLabels, label_of_stream

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_STREAM: Final = "stream"
_LABEL: Final = "label"


@dataclass(frozen=True, slots=True)
class StreamCheckpoint:
    """Which stream a pipeline reads.

    Attributes:
        arn: the stream's ARN.
        noted_at: epoch milliseconds; from then on every change of this stream must reach the lake.
    """

    arn: str
    noted_at: int


@dataclass(frozen=True, slots=True)
class ShardCheckpoint:
    """How far a shard has been read.

    Attributes:
        sequence_number: the last record delivered; None where none was.
        finished: the shard was closed and read to its end.
        at: epoch milliseconds of the checkpoint.
        gone: the shard did not exist any more before it was read to its end.
        childless: the shard is finished, and no shard that goes on with its items was listed yet.
    """

    sequence_number: str | None
    finished: bool
    at: int
    gone: bool = False
    childless: bool = False


class Checkpoints:
    """The checkpoints of one pipeline."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, pipeline: str) -> None:
        """Keep the checkpoints of `pipeline`, which is named by its lake table, with the lake account's client."""
        self._dynamodb = dynamodb
        self._table = table
        self._pipeline = pipeline

    def stream(self) -> StreamCheckpoint | None:
        """The stream that is being read; None before `note_stream`."""
        item = self.get(_STREAM)
        return StreamCheckpoint(item["arn"]["S"], int(item["noted_at"]["N"])) if item else None

    def note_stream(self, stream: StreamCheckpoint) -> None:
        """Write down which stream is being read, in place of any other; its label stays on record."""
        self.note_label(label_of_stream(stream.arn), first=self.stream() is None)
        self.put(_STREAM, {"arn": {"S": stream.arn}, "noted_at": {"N": str(stream.noted_at)}})

    def note_label(self, label: str, *, first: bool = False) -> None:
        """Write down that a stream of this label is read; `first` where the pipeline has read none before.

        It needs no permission to read, which the function does not have.
        """
        entry = f"{_LABEL}/{label}"
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={PIPELINE: {"S": self._pipeline}, ENTRY: {"S": entry}, "first": {"BOOL": first}},
                ConditionExpression="attribute_not_exists(#entry)",
                ExpressionAttributeNames={"#entry": ENTRY},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def known_labels(self, now_ms: int, *also: str) -> KnownLabels:
        """The labels of every stream that was read, as far as they are on record, and others that are known."""
        found = {entry.removeprefix(f"{_LABEL}/"): item for entry, item in self.entries(f"{_LABEL}/")}
        labels = {*found, *also, *(entry.split("/")[1] for entry, _ in self.entries("shard/"))}
        stream = self.stream()
        if stream is not None:
            labels.add(label_of_stream(stream.arn))
        complete = any(item["first"]["BOOL"] for item in found.values())
        return KnownLabels(frozenset(labels), complete, now_ms)

    def shards(self, stream_label: str) -> dict[str, ShardCheckpoint]:
        """The checkpoints of a stream's shards, by shard id."""
        prefix = f"shard/{stream_label}/"
        return {
            entry.removeprefix(prefix): ShardCheckpoint(
                sequence_number=item["sequence_number"]["S"] if "sequence_number" in item else None,
                finished=item["finished"]["BOOL"],
                at=int(item["at"]["N"]),
                gone="gone" in item,
                childless="childless" in item,
            )
            for entry, item in self.entries(prefix)
        }

    def save_shard(self, stream_label: str, shard_id: str, checkpoint: ShardCheckpoint) -> None:
        """Write down how far a shard has been read."""
        content: dict[str, Any] = {
            "finished": {"BOOL": checkpoint.finished},
            "at": {"N": str(checkpoint.at)},
        }
        if checkpoint.gone:
            content["gone"] = {"BOOL": True}
        if checkpoint.childless:
            content["childless"] = {"BOOL": True}
        if checkpoint.sequence_number is not None:
            content["sequence_number"] = {"S": checkpoint.sequence_number}
        self.put(f"shard/{stream_label}/{shard_id}", content)

    def get(self, entry: str) -> Mapping[str, Mapping[str, Any]] | None:
        """One entry's item, read consistently; None where there is none."""
        key = {PIPELINE: {"S": self._pipeline}, ENTRY: {"S": entry}}
        return self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")

    def put(self, entry: str, content: Mapping[str, Any]) -> None:
        """Write one entry, in place of what it held."""
        key = {PIPELINE: {"S": self._pipeline}, ENTRY: {"S": entry}}
        self._dynamodb.put_item(TableName=self._table, Item={**key, **content})

    def delete(self, entry: str) -> None:
        """Take one entry away."""
        key = {PIPELINE: {"S": self._pipeline}, ENTRY: {"S": entry}}
        self._dynamodb.delete_item(TableName=self._table, Key=key)

    def newest(self, prefix: str, limit: int) -> list[Mapping[str, Mapping[str, Any]]]:
        """The last entries whose name begins with `prefix`, the last first."""
        answer = self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="#pipeline = :pipeline AND begins_with(#entry, :prefix)",
            ExpressionAttributeNames={"#pipeline": PIPELINE, "#entry": ENTRY},
            ExpressionAttributeValues={":pipeline": {"S": self._pipeline}, ":prefix": {"S": prefix}},
            ScanIndexForward=False,
            Limit=limit,
        )
        return list(answer["Items"])

    def entries(self, prefix: str) -> Iterable[tuple[str, Mapping[str, Mapping[str, Any]]]]:
        """The entries whose name begins with `prefix`, read consistently, in order of name."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="#pipeline = :pipeline AND begins_with(#entry, :prefix)",
            ExpressionAttributeNames={"#pipeline": PIPELINE, "#entry": ENTRY},
            ExpressionAttributeValues={":pipeline": {"S": self._pipeline}, ":prefix": {"S": prefix}},
            ConsistentRead=True,
        )
        for page in pages:
            for item in page["Items"]:
                yield item[ENTRY]["S"], item
