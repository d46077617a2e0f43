"""Sessions of the two accounts: assuming the lake's role, and renewing it for as long as a job runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.session import get_session

SESSION_NAME: Final = "dynalake"
"""What the sessions' names begin with in CloudTrail, where the pipeline's name leaves room for it."""

MAX_SESSION_NAME: Final = 64
"""Characters (STS API reference, AssumeRole, `RoleSessionName`)."""

CONNECT_TIMEOUT_S: Final = 3
READ_TIMEOUT_S: Final = 10
"""A write that has not answered in 10 s is worth trying again; botocore's own 60 s would eat an invocation."""

CLIENT_ATTEMPTS: Final = 3
"""Tries inside one call; beyond them the caller decides, because it knows how much time is left."""


def client_config(
    max_connections: int = 32,
    *,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    read_timeout_s: float = READ_TIMEOUT_S,
    attempts: int = CLIENT_ATTEMPTS,
    **more: Any,
) -> Config:
    """The clients' timeouts and retries: botocore's standard mode, which backs off with full jitter."""
    return Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=max_connections,
        **more,
    )


def session_name(pipeline: str) -> str:
    """The name of a session in an assumed role: it contains the pipeline's whole name, or none if that is empty.

    A pipeline's name has 64 characters at most, all of which a session's name may have.
    """
    if not pipeline:
        return SESSION_NAME
    name = f"{SESSION_NAME}-{pipeline}"
    return name if len(name) <= MAX_SESSION_NAME else pipeline


def assumed_session(
    base: boto3.Session,
    role_arn: str,
    external_id: str | None,
    *,
    pipeline: str = "",
    region: str | None = None,
    sts_endpoint: str | None = None,
) -> boto3.Session:
    """A session in the role, whose credentials renew themselves before they expire.

    Args:
        base: the session that may assume the role.
        role_arn: the role's ARN.
        external_id: the ExternalId which the role's trust policy demands; None where it demands none.
        pipeline: the pipeline's name, which is part of the session's name; so CloudTrail tells pipelines apart.
        region: the region of the new session; the base's if None.
        sts_endpoint: an STS endpoint, where it is not AWS's own.

    Raises:
        botocore.exceptions.ClientError: the role cannot be assumed.
    """
    region = region or base.region_name
    sts = base.client("sts", region_name=region, endpoint_url=sts_endpoint)
    request: dict[str, Any] = {"RoleArn": role_arn, "RoleSessionName": session_name(pipeline)}
    if external_id:
        request["ExternalId"] = external_id

    def assume() -> dict[str, str]:
        credentials = sts.assume_role(**request)["Credentials"]
        expiration: datetime = credentials["Expiration"]
        return {
            "access_key": credentials["AccessKeyId"],
            "secret_key": credentials["SecretAccessKey"],
            "token": credentials["SessionToken"],
            "expiry_time": expiration.isoformat(),
        }

    session = get_session()
    session._credentials = RefreshableCredentials.create_from_metadata(  # type: ignore[attr-defined]
        metadata=assume(), refresh_using=assume, method="sts-assume-role"
    )
    return boto3.Session(botocore_session=session, region_name=region)
