"""boto3 clients for an endpoint of ours, and their direct writers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

from ingest.lakewriter import DirectWriter, direct_writer

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

SECRET: Final = "a secret key of the usual 40 characters."
REGION: Final = "eu-west-1"


def client_of(url: str, *, secret: str = SECRET, verify: Any = None, **config: Any) -> DynamoDBClient:
    """A client that tries once."""
    session = boto3.Session("AKID", secret, "a-token", region_name=REGION)
    settings = {"connect_timeout": 5, "read_timeout": 5, "retries": {"total_max_attempts": 1}, **config}
    return session.client("dynamodb", endpoint_url=url, verify=verify, config=Config(**settings))


def direct(client: DynamoDBClient, clock: Callable[[], float] | None = None) -> DirectWriter:
    writer = direct_writer(client)
    if clock:
        writer._clock = clock
    return writer
