"""Reading the live schema catalogue: what the attributes of a lake table have been seen to hold, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lake.contract.catalogue import TABLE, Observation, from_item
from lake.errors import LakeTableError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


def schema_history(dynamodb: DynamoDBClient, catalogue_table: str, lake_table: str) -> list[Observation]:
    """Everything that was ever observed of a lake table, oldest first.

    Args:
        dynamodb: the lake account's client.
        catalogue_table: the catalogue's table name.
        lake_table: the lake table's name.

    Raises:
        LakeTableError: the catalogue is missing or may not be read.
    """
    pages = dynamodb.get_paginator("query").paginate(
        TableName=catalogue_table,
        KeyConditionExpression="#table = :table",
        ExpressionAttributeNames={"#table": TABLE},
        ExpressionAttributeValues={":table": {"S": lake_table}},
        ConsistentRead=True,
    )
    try:
        observations = [from_item(item) for page in pages for item in page["Items"]]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise LakeTableError(
            f"the schema catalogue {catalogue_table!r} cannot be read ({code})",
            remedy="run `dynalake setup` first",
        ) from error
    return sorted(observations, key=lambda seen: (seen.first_seen, seen.attribute, seen.kind))
