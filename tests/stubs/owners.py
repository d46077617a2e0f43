"""moto with the bucket owner condition of S3, which moto itself does not have.

S3 answers 403 AccessDenied where `x-amz-expected-bucket-owner` is another account than the bucket's (Amazon S3 user
guide, "Verifying bucket ownership with bucket owner condition"). Every request is noted, so that a test can see what
a call asked for. Like a bucket with an open policy, moto lets every account in. It does not know the conditions of a
bucket's policy, and would take one that refuses plain HTTP for one that refuses everything: so policies are kept, and
not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.handlers import BUILTIN_HANDLERS
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, s3_backends

REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a bucket; `owner` is the expected one, None where the request names none."""

    operation: str
    bucket: str
    owner: str | None


@contextmanager
def owners_enforced() -> Iterator[list[Request]]:
    """Within this context, for sessions that begin in it; gives the requests as they come."""
    requests: list[Request] = []

    def check(event_name: str, request: Any, **more: Any) -> Any:
        if not event_name.startswith("before-send.s3."):
            return botocore_stubber(event_name, request, **more)
        url = urlsplit(request.url)
        host, path = url.netloc, url.path.lstrip("/")
        bucket = host.split(".s3.")[0] if ".s3." in host else path.partition("/")[0]
        expected = request.headers.get("x-amz-expected-bucket-owner")
        owner = expected.decode() if isinstance(expected, bytes) else expected
        requests.append(Request(event_name.rpartition(".")[2], bucket, owner))
        owned_by = s3_backends.bucket_accounts.get(bucket, (None, owner))[1]
        if owner is None or owner == owned_by:
            return botocore_stubber(event_name, request, **more)
        headers: Any = {"content-type": "application/xml"}
        body = b"" if request.method == "HEAD" else REFUSED
        return AWSResponse(request.url, 403, headers, MockRawResponse(body))

    # All handlers of an event are called, and the first answer counts: moto must not carry out what S3 refuses.
    at = BUILTIN_HANDLERS.index(("before-send", botocore_stubber))
    BUILTIN_HANDLERS[at] = ("before-send", check)
    try:
        with patch.object(FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL):
            yield requests
    finally:
        BUILTIN_HANDLERS[at] = ("before-send", botocore_stubber)


def client_of(account: str, region: str = "us-east-1") -> Any:
    """An S3 client of an account of moto's, which expects no owner."""
    session = boto3.Session()
    credentials = session.client("sts", region).assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/admin", RoleSessionName="test"
    )["Credentials"]
    return session.client(
        "s3",
        region,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
