"""Taking a pipeline away: its stacks, and only where it is asked for, its data.

What is kept by default: the lake table, the catalogue's and the checkpoints' entries, and the quarantine. The
tables that all pipelines share, and the bucket with the functions' code, are never taken away here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from dynalake.aws import Account
from dynalake.config import PipelineConfig
from dynalake.deploy.names import checks_stack_name, quarantine_bucket, stack_name
from dynalake.deploy.stacks import OnEvent, Stacks, stacks_of
from dynalake.errors import DeployError
from ingest.health import HealthStore
from ingest.quarantine import bucket_of
from lake.contract.catalogue import OBSERVATION, TABLE
from lake.contract.health import ENTRY, PIPELINE
from lake.errors import aws_error
from lake.tables import Step

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

_OBJECTS_AT_ONCE: Final = 1000
"""DeleteObjects takes no more (Amazon S3 API reference)."""


def remove_source(
    name: str,
    config: PipelineConfig,
    source: Account,
    lake: Account | None,
    *,
    deletes_data: bool,
    now_ms: Callable[[], int],
    on_event: OnEvent = lambda _: None,
) -> list[Step]:
    """Take the source side away; the source table and its stream stay as they are.

    From now on changes pass the lake by: that is noted as a gap in the lake, where its account is at hand, so
    that nothing later takes the lake for complete.

    Raises:
        DeployError: the stack could not be deleted.
    """
    stacks, stack = stacks_of("source", config, source), stack_name(name, "source")
    bucket = bucket_of(config.quarantine)[0] if config.quarantine.startswith("s3://") else ""
    ours = stacks.has(stack, "Quarantine") or bucket == quarantine_bucket(
        name, config.source.account, config.source.region
    )  # by its name, where an earlier stack made it
    steps = _remove_checks(name, stacks, on_event)
    if stacks.delete(stack, on_event):
        steps.append(Step(f"stack {stack}", "taken away"))
        if lake is not None and not deletes_data and _note_gap(name, config, lake, now_ms):
            steps.append(Step("the gap that begins now, in the lake's health", "noted"))
    else:
        steps.append(Step(f"stack {stack}", "was not there"))
    if bucket:
        if deletes_data and ours:
            steps.append(
                Step(
                    f"bucket {bucket}", "deleted" if _delete_bucket(source.s3(), bucket) else "was not there"
                )
            )
        else:
            steps.append(Step(f"bucket {bucket}", "kept"))
    return steps


def remove_lake(
    name: str,
    config: PipelineConfig,
    lake: Account,
    *,
    deletes_data: bool,
    on_event: OnEvent = lambda _: None,
) -> list[Step]:
    """Take the lake side away.

    Raises:
        DeployError: the stack, or the table, could not be deleted.
    """
    stacks, stack = stacks_of("lake", config, lake), stack_name(name, "lake")
    steps = _remove_checks(name, stacks, on_event)
    removed = stacks.delete(stack, on_event)
    steps.append(Step(f"stack {stack}", "taken away" if removed else "was not there"))
    dynamodb = lake.dynamodb()
    if not deletes_data:
        return [*steps, Step(f"table {config.lake_table}, its catalogue and checkpoints", "kept")]
    steps.append(
        Step(
            f"table {config.lake_table}",
            "deleted" if _delete_table(dynamodb, config.lake_table) else "was not there",
        )
    )
    for table, partition, sort in (
        (config.catalogue_table, TABLE, OBSERVATION),
        (config.checkpoint_table, PIPELINE, ENTRY),
    ):
        count = _delete_entries(dynamodb, table, (partition, sort), config.lake_table)
        steps.append(Step(f"{count:,} entries of {table}", "deleted"))
    return steps


def _remove_checks(name: str, stacks: Stacks, on_event: OnEvent) -> list[Step]:
    """Take the schedule of the checks away, which is on the side of what runs them."""
    stack = checks_stack_name(name)
    return [Step(f"stack {stack}", "taken away")] if stacks.delete(stack, on_event) else []


def _note_gap(name: str, config: PipelineConfig, lake: Account, now_ms: Callable[[], int]) -> bool:
    try:
        HealthStore(lake.dynamodb(), config.checkpoint_table, config.lake_table, now_ms).open_gap(
            "removed",
            "trimmed",
            f"the function of {name} was taken away: changes since then may not be in the lake",
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return False
    return True


def _delete_table(dynamodb: DynamoDBClient, table: str) -> bool:
    try:
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=table)
        dynamodb.get_waiter("table_not_exists").wait(TableName=table, WaiterConfig={"Delay": 2})
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ResourceNotFoundException":
            return False
        raise DeployError(
            f"the table {table} could not be deleted ({code})", remedy=aws_error(error).remedy
        ) from error
    return True


def _delete_entries(dynamodb: DynamoDBClient, table: str, key: tuple[str, str], of: str) -> int:
    """Delete the items of one partition."""
    partition, sort = key
    count = 0
    try:
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="#partition = :of",
            ExpressionAttributeNames={"#partition": partition},
            ExpressionAttributeValues={":of": {"S": of}},
        )
        for page in pages:
            for item in page["Items"]:
                dynamodb.delete_item(TableName=table, Key={partition: item[partition], sort: item[sort]})
                count += 1
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    return count


def _delete_bucket(s3: S3Client, bucket: str) -> bool:
    """Delete a bucket with all versions of all it holds."""
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            for begin in range(0, len(found), _OBJECTS_AT_ONCE):
                s3.delete_objects(
                    Bucket=bucket,
                    Delete={
                        "Objects": [
                            {"Key": each["Key"], "VersionId": each["VersionId"]}
                            for each in found[begin : begin + _OBJECTS_AT_ONCE]
                        ],
                        "Quiet": True,
                    },
                )
        s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "NoSuchBucket":
            return False
        raise DeployError(
            f"the bucket {bucket} could not be deleted ({code})", remedy=aws_error(error).remedy
        ) from error
    return True
