"""What a pipeline's stacks, roles, function and buckets are called; the templates say the same."""

from __future__ import annotations

import re
from typing import Final

import boto3

from dynalake.errors import DeployError

MAX_PIPELINE_NAME: Final = 44
"""A role's name and a function's have 64 characters at most (IAM and Lambda quotas), of which ours take 18."""

MAX_BUCKET_NAME: Final = 63

LAMBDA_FAILURES: Final = "aws/lambda/"
"""Where Lambda puts batches that it gives up, in the bucket of its failure destination (AWS Lambda developer
guide, "Retain discarded records for a DynamoDB event source in Lambda")."""


def check_pipeline_name(pipeline: str) -> None:
    """Refuse a name that is too long for what is named after it.

    Raises:
        DeployError: it is.
    """
    if len(pipeline) > MAX_PIPELINE_NAME:
        raise DeployError(
            f"the pipeline's name {pipeline!r} has {len(pipeline)} characters; roles and function are named after "
            f"it, so it may have {MAX_PIPELINE_NAME}",
            remedy="rename it in the configuration",
        )


def stack_name(pipeline: str, side: str) -> str:
    """The stack of one side; a stack's name has no underscores."""
    return f"dynalake-{pipeline.replace('_', '-')}-{side}"


def shared_stack_name(prefix: str, default_prefix: str) -> str:
    """The stack of the tables that all pipelines of a lake share."""
    if prefix == default_prefix:
        return "dynalake-shared"
    return f"dynalake-shared--{re.sub('[^A-Za-z0-9]+', '-', prefix).strip('-')}"


def function_name(pipeline: str) -> str:
    """The Lambda function."""
    return f"dynalake-{pipeline}"


def function_role(pipeline: str) -> str:
    """The function's role, in the source account."""
    return f"dynalake-{pipeline}-function"


def writer_role(pipeline: str) -> str:
    """The role in the lake account that the function assumes."""
    return f"dynalake-{pipeline}-writer"


def role_arn(account: str, role: str, region: str, path: str = "/") -> str:
    """A role's ARN, in the partition of a region; its path begins and ends with a slash."""
    return f"arn:{partition_of(region)}:iam::{account}:role{path}{role}"


def partition_of(region: str) -> str:
    """The partition of a region: aws, aws-cn, aws-us-gov."""
    return boto3.Session().get_partition_for_region(region)


def checks_stack_name(pipeline: str) -> str:
    """The stack that schedules a pipeline's checks, in the account of whatever runs them."""
    return stack_name(pipeline, "checks")


def heartbeat_schedule(pipeline: str) -> str:
    """The schedule by which the function reports on its stream; its role has the same name."""
    return f"dynalake-{pipeline}-heartbeat"


def checks_schedule(pipeline: str) -> str:
    """The schedule of a pipeline's checks; its role has the same name."""
    return f"dynalake-{pipeline}-checks"


def alarm_prefix(pipeline: str) -> str:
    """What the names of a pipeline's alarms begin with."""
    return f"dynalake-{pipeline}-"


def quarantine_bucket(pipeline: str, account: str, region: str) -> str:
    """The bucket that `dynalake init` proposes; bucket names are lower case and unique in the world."""
    short = re.sub("[^a-z0-9-]+", "-", pipeline.lower()).strip("-")
    rest = f"-{account}-{region}"
    return f"dynalake-{short}"[: MAX_BUCKET_NAME - len(rest)].rstrip("-") + rest


def code_bucket(account: str, region: str) -> str:
    """The bucket for the function's code, one for all pipelines of an account and region."""
    return f"dynalake-code-{account}-{region}"
