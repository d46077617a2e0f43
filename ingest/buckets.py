"""S3 clients that work with a bucket of the expected account only.

Bucket names are unique in a whole partition, so anybody can create a bucket whose name can be guessed. S3 compares
`ExpectedBucketOwner` with the bucket's owner and refuses the request if they differ (Amazon S3 user guide, "Verifying
bucket ownership with bucket owner condition"). The client adds it to every request, so that no call can forget it.
All S3 clients are made here; a test enforces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import boto3
    from types_boto3_s3 import S3Client

_OWNER = "ExpectedBucketOwner"

OwnerOf = Callable[[str], str | None]
"""Gives the account that a bucket must belong to; None where any account may own it."""


def s3_client(session: boto3.Session, owner_of: OwnerOf, **how: Any) -> S3Client:
    """An S3 client whose requests name the account that the bucket must belong to.

    Args:
        session: the session of the account that makes the requests.
        owner_of: gives the expected owner of a bucket.
        how: further arguments of `session.client`.

    Raises:
        botocore.exceptions.ClientError: by each call, with the code AccessDenied (403 for HeadBucket), where the
            bucket belongs to another account.
    """
    s3: S3Client = session.client("s3", **how)

    def add_owner(params: dict[str, Any], model: Any, **_: Any) -> None:
        # CreateBucket has no such parameter: it fails where somebody else has the name.
        if model.input_shape is None or _OWNER not in model.input_shape.members or "Bucket" not in params:
            return
        owner = owner_of(params["Bucket"])
        if owner is not None:
            params.setdefault(_OWNER, owner)

    s3.meta.events.register("before-parameter-build.s3", add_owner)
    return s3
