"""Making the lake side's tables through the API: for accounts and engines without CloudFormation.

Every step is idempotent: what is there and right is left alone, what is there and wrong is an error, so the
whole can be run again after any failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import ClientError, WaiterError

from lake.contract.catalogue import OBSERVATION, TABLE
from lake.contract.health import ENTRY, PIPELINE
from lake.contract.rows import EXPIRES
from lake.errors import LakeTableError, aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DEFAULT_TABLE_QUOTA: Final = 2500
"""Tables an account may have in a region unless it asked for more (DynamoDB developer guide, "Quotas")."""

QUOTA_HEADROOM: Final = 50
"""Fewer tables than this before the quota are worth a word before anything is made."""


KeyType = Literal["S", "N", "B"]


@dataclass(frozen=True, slots=True)
class TableKey:
    """A table's key.

    Attributes:
        attributes: (name, DynamoDB type) of the partition key and, where there is one, of the sort key.
    """

    attributes: tuple[tuple[str, KeyType], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the key attributes, the partition key first."""
        return tuple(name for name, _ in self.attributes)

    def request(self) -> dict[str, Any]:
        """The parts of a CreateTable request that name the key."""
        roles = ("HASH", "RANGE")
        return {
            "KeySchema": [
                {"AttributeName": name, "KeyType": role}
                for (name, _), role in zip(self.attributes, roles, strict=False)
            ],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": type_} for name, type_ in self.attributes
            ],
        }


CATALOGUE_KEY: Final = TableKey(((TABLE, "S"), (OBSERVATION, "S")))
CHECKPOINT_KEY: Final = TableKey(((PIPELINE, "S"), (ENTRY, "S")))


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the set-up saw to.

    Attributes:
        what: the thing, such as "table dynalake.catalogue".
        done: "made" where it was made, "there" where it was there already.
    """

    what: str
    done: str


def quota_warning(dynamodb: DynamoDBClient, quota: int = DEFAULT_TABLE_QUOTA) -> str | None:
    """A sentence where the account is near its quota of tables in this region, else None."""
    pages = dynamodb.get_paginator("list_tables").paginate()
    count = sum(len(page["TableNames"]) for page in pages)
    if count + QUOTA_HEADROOM < quota:
        return None
    return (
        f"the lake account has {count} tables in {dynamodb.meta.region_name}; its quota is {quota} unless it was "
        "raised (Service Quotas, Amazon DynamoDB, 'Maximum number of tables')"
    )


def ensure_shared_tables(dynamodb: DynamoDBClient, catalogue: str, checkpoints: str) -> list[Step]:
    """Make the schema catalogue and the checkpoint table where they are missing.

    Raises:
        LakeTableError: one cannot be made, or is there with another key.
    """
    return [
        _ensure_table(dynamodb, catalogue, CATALOGUE_KEY, {}),
        _ensure_table(dynamodb, checkpoints, CHECKPOINT_KEY, {}),
    ]


def ensure_lake_table(dynamodb: DynamoDBClient, name: str, key: TableKey) -> list[Step]:
    """Make a lake table where it is missing: key, stream, time-to-live of tombstones, point-in-time recovery.

    The stream is the lake's own: snapshots are rolled forward from it.

    Raises:
        LakeTableError: it cannot be made, or is there with another key or with its stream off.
    """
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    steps = [_ensure_table(dynamodb, name, key, {"StreamSpecification": stream})]
    lake_stream(dynamodb, name)
    steps.append(_ensure_time_to_live(dynamodb, name))
    steps.append(_ensure_recovery(dynamodb, name))
    return steps


def check_lake_key(dynamodb: DynamoDBClient, name: str, key: TableKey) -> bool:
    """Whether a lake table is there; one that is has this key.

    Raises:
        LakeTableError: it has another key, or cannot be described.
    """
    try:
        description = dynamodb.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return False
        raise _explained(error, f"the table {name!r} cannot be described") from error
    _check_key(name, description, key)
    return True


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A lake table as its readers need to know it, from DescribeTable; the source is not asked.

    Attributes:
        key: its key.
        approximate_rows: ItemCount, which DynamoDB updates every six hours or so; tombstones included.
        approximate_bytes: TableSizeBytes, likewise.
        stream_arn: the ARN of its stream; empty if the stream is off.
    """

    key: TableKey
    approximate_rows: int
    approximate_bytes: int
    stream_arn: str


def describe_lake_table(dynamodb: DynamoDBClient, name: str) -> LakeTable:
    """Look at a lake table.

    Raises:
        LakeTableError: the table is missing or cannot be described.
    """
    try:
        description = dynamodb.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise LakeTableError(
                f"the lake table {name!r} does not exist", remedy="run `dynalake setup` first"
            ) from error
        raise _explained(error, f"the table {name!r} cannot be described") from error
    on = description.get("StreamSpecification", {}).get("StreamEnabled")
    return LakeTable(
        TableKey(_key_of(description)),
        description.get("ItemCount", 0),
        description.get("TableSizeBytes", 0),
        description.get("LatestStreamArn", "") if on else "",
    )


def lake_stream(dynamodb: DynamoDBClient, name: str) -> str:
    """The ARN of a lake table's stream.

    Raises:
        LakeTableError: the table is missing, or its stream is off.
    """
    arn = describe_lake_table(dynamodb, name).stream_arn
    if not arn:
        raise LakeTableError(
            f"the lake table {name!r} has no stream, which snapshots need",
            remedy=f"switch it on with `aws dynamodb "
            f"update-table --table-name {name} "
            "--stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES`",
        )
    return arn


def _ensure_table(dynamodb: DynamoDBClient, name: str, key: TableKey, more: Mapping[str, Any]) -> Step:
    try:
        description = dynamodb.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise _explained(error, f"the table {name!r} cannot be described") from error
    else:
        _check_key(name, description, key)
        return Step(f"table {name}", "there")
    try:
        dynamodb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **key.request(), **more)
        dynamodb.get_waiter("table_exists").wait(
            TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )
    except ClientError as error:
        raise _explained(error, f"the table {name!r} cannot be made") from error
    except WaiterError as error:
        raise LakeTableError(
            f"the table {name!r} did not become active", remedy="run `dynalake setup` again"
        ) from error
    return Step(f"table {name}", "made")


def _key_of(description: Mapping[str, Any]) -> tuple[tuple[str, KeyType], ...]:
    types = {each["AttributeName"]: each["AttributeType"] for each in description["AttributeDefinitions"]}
    parts: Sequence[Mapping[str, Any]] = sorted(
        description["KeySchema"], key=lambda part: str(part["KeyType"])
    )
    return tuple((part["AttributeName"], types[part["AttributeName"]]) for part in parts)


def _check_key(name: str, description: Mapping[str, Any], key: TableKey) -> None:
    found = _key_of(description)
    if found != key.attributes:
        raise LakeTableError(
            f"the table {name!r} is there with the key {_words(found)}, but {_words(key.attributes)} is needed; it "
            "belongs to something else",
            remedy="choose another name (lake.table or lake.prefix)",
        )


def _ensure_time_to_live(dynamodb: DynamoDBClient, name: str) -> Step:
    what = f"time-to-live of {name} on {EXPIRES}"
    try:
        found = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        if found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
            if found.get("AttributeName") != EXPIRES:
                raise LakeTableError(
                    f"the lake table {name!r} expires rows by {found.get('AttributeName')!r}, so it would lose rows "
                    "that the source still has",
                    remedy=f"switch its time-to-live to the attribute {EXPIRES!r}",
                )
            return Step(what, "there")
        dynamodb.update_time_to_live(
            TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRES}
        )
    except ClientError as error:
        raise _explained(error, f"the time-to-live of {name!r} cannot be set") from error
    return Step(what, "made")


def _ensure_recovery(dynamodb: DynamoDBClient, name: str) -> Step:
    what = f"point-in-time recovery of {name}"
    try:
        found = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        if found.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED":
            return Step(what, "there")
        dynamodb.update_continuous_backups(
            TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
    except ClientError as error:
        raise _explained(error, f"point-in-time recovery of {name!r} cannot be set") from error
    return Step(what, "made")


def _explained(error: ClientError, what: str) -> LakeTableError:
    details = error.response["Error"]
    said = f": {details['Message']}" if details.get("Message") else ""
    return LakeTableError(f"{what} ({details['Code']}){said}", remedy=aws_error(error, side="lake").remedy)


def _words(key: Sequence[tuple[str, str]]) -> str:
    return " + ".join(f"{name} ({type_})" for name, type_ in key)
