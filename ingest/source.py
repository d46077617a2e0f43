"""The source table as a pipeline needs to know it: its key, its stream, its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import SourceError
from ingest.mapping import latest_stream
from lake.contract.evidence import TableStream
from lake.contract.rows import RESERVED_PREFIX
from lake.contract.versions import table_of_stream
from lake.errors import aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

VIEW_TYPES: Final = ("NEW_IMAGE", "NEW_AND_OLD_IMAGES")
"""The stream view types that carry the whole item after a change."""


@dataclass(frozen=True, slots=True)
class KeyAttribute:
    """One attribute of a table's key.

    Attributes:
        name: the attribute's name.
        type: its DynamoDB type.
        role: partition key (HASH) or sort key (RANGE).
    """

    name: str
    type: Literal["S", "N", "B"]
    role: Literal["HASH", "RANGE"]


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A source table.

    Attributes:
        name: the table's name.
        key: its key attributes, the partition key first.
        stream_arn: the ARN of its enabled stream.
        approximate_rows: DescribeTable's ItemCount, which DynamoDB renews every six hours or so.
        approximate_bytes: DescribeTable's TableSizeBytes, likewise.
        id: the table's id, which a table that is recreated under the same name does not share; empty if not known.
        created_at: when the table was created, epoch milliseconds; 0 if not known.
        is_replica: whether other Regions have replicas of it (global tables).
    """

    name: str
    key: tuple[KeyAttribute, ...]
    stream_arn: str
    approximate_rows: int
    approximate_bytes: int
    id: str = ""
    created_at: int = 0
    is_replica: bool = False

    @property
    def arn(self) -> str:
        """The table's ARN."""
        return table_of_stream(self.stream_arn)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the key attributes, the partition key first."""
        return tuple(attribute.name for attribute in self.key)


def table_stream(dynamodb: DynamoDBClient, table: str, now_ms: Callable[[], int]) -> TableStream:
    """Which stream a table writes its changes to now.

    Raises:
        SourceError: the table is missing, or could not be described.
    """
    at = now_ms()
    try:
        description = dynamodb.describe_table(TableName=table)["Table"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise SourceError(f"the source table {table!r} cannot be described ({code})") from error
    except BotoCoreError as error:
        raise SourceError(
            f"the source table {table!r} cannot be described ({type(error).__name__})"
        ) from error
    return TableStream(at, latest_stream(description))


def describe_source(dynamodb: DynamoDBClient, table: str) -> SourceTable:
    """Look at the source table and refuse one that cannot be replicated.

    Raises:
        SourceError: the table is missing or not to be seen, its stream is off or carries no new images, or
            its key uses a name that is reserved for dynalake.
    """
    try:
        description = dynamodb.describe_table(TableName=table)["Table"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ResourceNotFoundException":
            raise SourceError(
                f"the source table {table!r} does not exist in {dynamodb.meta.region_name}",
                remedy="check source.table, source.account and source.region",
            ) from error
        raise SourceError(
            f"the source table {table!r} cannot be described ({code})",
            remedy=aws_error(error, side="source").remedy,
        ) from error
    stream: Mapping[str, Any] = description.get("StreamSpecification") or {}
    arn = description.get("LatestStreamArn")
    if not stream.get("StreamEnabled") or not arn:
        raise SourceError(
            f"the stream of {table!r} is off",
            remedy=f"switch it on with `aws dynamodb update-table --table-name {table} "
            "--stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES`",
        )
    view_type = stream.get("StreamViewType")
    if view_type not in VIEW_TYPES:
        raise SourceError(
            f"the stream of {table!r} carries {view_type}, not the new images",
            remedy=f"switch the stream off, and on again with the view type {' or '.join(VIEW_TYPES)}",
        )
    types = {
        attribute["AttributeName"]: attribute["AttributeType"]
        for attribute in description["AttributeDefinitions"]
    }
    key = tuple(
        KeyAttribute(part["AttributeName"], types[part["AttributeName"]], part["KeyType"])
        for part in sorted(description["KeySchema"], key=lambda part: part["KeyType"])
    )
    for attribute in types:
        if attribute.startswith(RESERVED_PREFIX):
            raise SourceError(
                f"{table!r} has a key or index attribute {attribute!r}: names that begin with {RESERVED_PREFIX!r} "
                "are reserved for dynalake"
            )
    return SourceTable(
        name=table,
        key=key,
        stream_arn=arn,
        approximate_rows=description.get("ItemCount", 0),
        approximate_bytes=description.get("TableSizeBytes", 0),
        id=description.get("TableId", ""),
        created_at=_milliseconds(description.get("CreationDateTime")),
        is_replica=bool(description.get("Replicas")),
    )


def replicated_ttl(dynamodb: DynamoDBClient, table: SourceTable) -> str | None:
    """`ingest.records.Origin.replicated_ttl` of a table."""
    return ttl_attribute(dynamodb, table.name) if table.is_replica else ""


def ttl_attribute(dynamodb: DynamoDBClient, table: str) -> str | None:
    """The attribute by which DynamoDB expires a table's items; empty if none, None if these credentials may not ask."""
    try:
        found = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    except ClientError:
        return None
    return "" if found.get("TimeToLiveStatus") == "DISABLED" else found.get("AttributeName")


def _milliseconds(moment: datetime | None) -> int:
    return round(moment.timestamp() * 1000) if moment else 0
