"""What is in the way of a deployment, found before anything is made.

Names that clash, quotas, reserved attribute names, a table that is replicated already. Each finding says what to
do. What these credentials may not look at is a finding that does not stop: CloudFormation may find it later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from dynalake.deploy.buckets import bucket_is_missing
from dynalake.deploy.code import OTHER_BUCKET
from dynalake.deploy.names import function_name, function_role, stack_name, writer_role
from dynalake.deploy.plans import Deployment
from dynalake.deploy.stacks import Stacks
from dynalake.errors import DeployError
from ingest.facts import is_younger_than_stream
from ingest.source import SourceTable
from lake.contract.health import ENTRY, PIPELINE
from lake.contract.rows import RESERVED_PREFIX
from lake.errors import DENIED, LakeTableError
from lake.tables import TableKey, check_lake_key, quota_warning

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_iam import IAMClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_s3 import S3Client

SAMPLE_ITEMS: Final = 100
"""Items of the source looked through for reserved names: about one read unit for each 8 KB of them."""

READERS: Final = 2
"""Readers that a shard of a stream should have at most (DynamoDB developer guide, "DynamoDB Streams")."""

UNRESERVED: Final = 100
"""Concurrency that Lambda keeps unreserved (AWS Lambda developer guide, "Configuring reserved concurrency")."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, or something to know, before anything is deployed.

    Attributes:
        stops: whether it must be corrected first.
        text: what was found.
        remedy: what to do; empty if there is nothing to do.
    """

    stops: bool
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """Both on one line."""
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


def refuse(findings: Iterable[Finding]) -> None:
    """Refuse to go on where a finding must be corrected first.

    Raises:
        DeployError: with all of these findings, and what to do about each.
    """
    stops = [finding for finding in findings if finding.stops]
    if stops:
        raise DeployError(
            "; and ".join(finding.text for finding in stops),
            remedy="; and ".join(finding.remedy for finding in stops if finding.remedy),
        )


def preflight(found: Iterator[Finding]) -> list[Finding]:
    """The findings, those that stop first."""
    return sorted(found, key=lambda finding: not finding.stops)


def look_at_lake(
    deployment: Deployment,
    dynamodb: DynamoDBClient,
    iam: IAMClient,
    stacks: Stacks,
    key: TableKey,
    source_arn: str,
) -> Iterator[Finding]:
    """What is in the way on the lake side.

    Args:
        deployment: the pipeline's plans.
        dynamodb: the lake account's client.
        iam: likewise.
        stacks: the lake account's stacks.
        key: the key which the lake table must have.
        source_arn: the end of the source table's ARN, from the region on.
    """
    lake_table = deployment.config.lake_table
    yield from _stack_of_another(deployment.pipeline, "lake", stacks)
    yield from _role_of_another(writer_role(deployment.pipeline), deployment.pipeline, "lake", iam, stacks)
    try:
        check_lake_key(dynamodb, lake_table, key)
    except LakeTableError as error:
        yield Finding(True, error.message, error.remedy)
    try:
        warning = quota_warning(dynamodb)
        if warning:
            yield Finding(False, warning)
    except ClientError as error:
        yield _not_checked(error, "whether the account's quota of tables is nearly used up")
    try:
        pipelines = list(replicated(dynamodb, deployment.config.checkpoint_table))
    except ClientError as error:
        yield _not_checked(error, "whether another pipeline has this table")
        return
    for other, table in pipelines:
        if other == lake_table and not table.endswith(source_arn):
            yield Finding(
                True,
                f"the lake table {other} holds the rows of {table}, not of this pipeline",
                "name the source account with source.alias, or choose another lake.table",
            )
        elif other != lake_table and table.endswith(source_arn):
            yield Finding(
                False,
                f"{table} is replicated already, to {other}: a second copy doubles the cost, and both read its stream",
            )


def look_at_source(
    deployment: Deployment,
    dynamodb: DynamoDBClient,
    iam: IAMClient,
    functions: LambdaClient,
    stacks: Stacks,
    table: SourceTable,
) -> Iterator[Finding]:
    """What is in the way on the source side; arguments as for `look_at_lake`."""
    yield from _stack_of_another(deployment.pipeline, "source", stacks)
    yield from _role_of_another(
        function_role(deployment.pipeline), deployment.pipeline, "source", iam, stacks
    )
    try:
        yield from reserved_names(dynamodb, table.name)
    except ClientError as error:
        yield _not_checked(error, f"whether attributes of {table.name!r} have reserved names")
    yield from _other_readers(deployment.pipeline, functions, table.stream_arn)
    if stacks.find(stack_name(deployment.pipeline, "source")) is None:
        yield from _concurrency(
            functions, int(deployment.config.deploy.source.get("ReservedConcurrency", 20))
        )


def look_at_buckets(deployment: Deployment, s3: S3Client) -> Iterator[Finding]:
    """Whether the buckets for quarantine and code, which anybody can guess, belong to the source account.

    Args:
        deployment: the pipeline's plans.
        s3: the source account's client, which expects the owner.

    A pipeline whose quarantine is no bucket has no function, so it needs no bucket for code either.
    """
    if not deployment.config.quarantine.startswith("s3://"):
        return
    names = {deployment.code_bucket: OTHER_BUCKET}
    names[deployment.quarantine()[0]] = (
        "choose another bucket for the quarantine: pipelines."
        f"{deployment.pipeline}.quarantine in the configuration, or --quarantine of `dynalake init`"
    )
    for name, remedy in names.items():
        try:
            bucket_is_missing(s3, name, remedy)
        except DeployError as error:
            yield Finding(True, error.message, error.remedy)
        except ClientError as error:
            yield _not_checked(error, f"whose the bucket {name} is")


def look_for_another_table(pipeline: str, stacks: Stacks, table: SourceTable) -> Iterator[Finding]:
    """Whether the source table is another one than the function was deployed for; only its own stack is asked.

    With credentials of the lake account the facts stored there say so, and more; see `ingest.facts`.
    """
    stack = stacks.find(stack_name(pipeline, "source"))
    if stack is None:
        return
    deployed = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", ())}
    try:
        names = json.loads(deployed.get("KeyAttributes", "null"))
    except ValueError:
        names = None
    if names is not None and names != list(table.key_names):
        yield Finding(
            True,
            f"the source table {table.name!r} has the key {', '.join(table.key_names)}, and the function was deployed "
            f"for {', '.join(names)}: the table was recreated with another key",
            "give the new table a pipeline and a lake table (lake.table) of its own",
        )
    elif "StreamArn" in deployed and is_younger_than_stream(table, deployed["StreamArn"]):
        yield Finding(
            True,
            f"the source table {table.name!r} was recreated since the function was deployed, or restored from a "
            "backup",
            "deploy with the lake account's credentials too, which says what to do; or, if the new table continues the "
            "earlier one's data, with --accept-recreated-table",
        )


def replicated(dynamodb: DynamoDBClient, checkpoint_table: str) -> Iterator[tuple[str, str]]:
    """The pipelines of a lake: lake table, and the ARN of the source table; none where there is no such table."""
    try:
        pages = dynamodb.get_paginator("scan").paginate(
            TableName=checkpoint_table,
            FilterExpression="#entry = :stream",
            ExpressionAttributeNames={"#entry": ENTRY},
            ExpressionAttributeValues={":stream": {"S": "stream"}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item[PIPELINE]["S"], item["arn"]["S"].partition("/stream/")[0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise


def reserved_names(dynamodb: DynamoDBClient, table: str) -> Iterator[Finding]:
    """Attributes among the first items of a table that bear dynalake's own prefix."""
    items = dynamodb.scan(TableName=table, Limit=SAMPLE_ITEMS)["Items"]
    names = sorted({name for item in items for name in item if name.startswith(RESERVED_PREFIX)})
    if names:
        yield Finding(
            True,
            f"items of {table!r} have the attribute {names[0]!r}; names that begin with {RESERVED_PREFIX!r} are "
            "reserved for dynalake, so these items would go to quarantine",
            "rename the attribute in the source, or name another source table if this one is a lake table",
        )


def _other_readers(pipeline: str, functions: LambdaClient, stream_arn: str) -> Iterator[Finding]:
    try:
        pages = functions.get_paginator("list_event_source_mappings").paginate(EventSourceArn=stream_arn)
        readers = [
            mapping["FunctionArn"].split(":function:")[-1].partition(":")[0]
            for page in pages
            for mapping in page["EventSourceMappings"]
        ]
    except ClientError as error:
        yield _not_checked(error, "who else reads the stream")
        return
    others = [reader for reader in readers if reader != function_name(pipeline)]
    for other in others:
        if other.startswith("dynalake-"):
            yield Finding(False, f"the function {other} replicates this table already")
    if len(others) >= READERS:
        yield Finding(
            False,
            f"the stream has {len(others)} readers already ({', '.join(others)}), and with more than {READERS} its "
            "reads are throttled",
            "let one function read the stream and pass the records on to the others",
        )


def _concurrency(functions: LambdaClient, wanted: int) -> Iterator[Finding]:
    if wanted < 0:
        return
    try:
        limit = functions.get_account_settings()["AccountLimit"]
    except ClientError as error:
        yield _not_checked(error, "whether the function's concurrency can be reserved")
        return
    spare = limit.get("UnreservedConcurrentExecutions", wanted + UNRESERVED) - UNRESERVED
    if spare < wanted:
        yield Finding(
            True,
            f"{wanted} concurrent executions cannot be reserved, as the account has only {max(spare, 0)} left",
            f"set deploy.source.ReservedConcurrency to {spare if spare > 0 else -1}, or ask for a higher quota "
            "(Service Quotas, AWS Lambda, 'Concurrent executions')",
        )


def _stack_of_another(pipeline: str, side: str, stacks: Stacks) -> Iterator[Finding]:
    name = stack_name(pipeline, side)
    stack = stacks.find(name) or {}
    for parameter in stack.get("Parameters", ()):
        if parameter["ParameterKey"] == "PipelineName" and parameter["ParameterValue"] != pipeline:
            yield Finding(
                True,
                f"the stack {name} belongs to the pipeline {parameter['ParameterValue']!r}",
                "rename this pipeline in the configuration",
            )


def _role_of_another(
    role: str, pipeline: str, side: str, iam: IAMClient, stacks: Stacks
) -> Iterator[Finding]:
    if stacks.find(stack_name(pipeline, side)) is not None:
        return
    try:
        iam.get_role(RoleName=role)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            yield _not_checked(error, f"whether the role {role} is another pipeline's")
        return
    yield Finding(
        True,
        f"the role {role} exists already, and no stack of this region and pipeline created it; another pipeline has "
        "the same name (IAM roles are shared by all regions)",
        "rename one of the two pipelines",
    )


def _not_checked(error: ClientError, what: str) -> Finding:
    """That these credentials may not see something; any other error is raised again."""
    if error.response["Error"]["Code"] not in DENIED:
        raise error
    return Finding(
        False, f"it is not checked {what}, as these credentials may not call {error.operation_name}"
    )
