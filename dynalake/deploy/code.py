"""The function's zip: built reproducibly, and brought to the source account under the name of its content."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from dynalake.deploy.plans import bucket_is_missing
from dynalake.errors import DeployError
from ingest.package import build_lambda_zip
from lake.errors import aws_error

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_FIRST_REGION = "us-east-1"
"""The one region that CreateBucket does not take as a location (Amazon S3 API reference)."""


def built_zip() -> bytes:
    """The function's zip.

    Raises:
        PackageError: it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        return build_lambda_zip(Path(folder, "lambda.zip")).path.read_bytes()


def key_of(code: bytes) -> str:
    """What the zip is called in the bucket: by its content, so that equal code changes nothing."""
    return f"dynalake/{hashlib.sha256(code).hexdigest()}.zip"


def upload(s3: S3Client, bucket: str, code: bytes, region: str) -> bool:
    """Bring the zip to the bucket, which is made where it is missing.

    Returns:
        Whether it was not there yet.

    Raises:
        DeployError: the bucket is another account's, or refuses.
    """
    key = key_of(code)
    try:
        if bucket_is_missing(s3, bucket):
            more: dict[str, Any] = {}
            if region != _FIRST_REGION:
                more["CreateBucketConfiguration"] = {"LocationConstraint": region}
            s3.create_bucket(Bucket=bucket, **more)  # new buckets are private and encrypted (S3 user guide)
        elif _is_there(s3, bucket, key):
            return False
        s3.put_object(Bucket=bucket, Key=key, Body=code)
    except ClientError as error:
        raise DeployError(
            f"the function's code cannot be uploaded to s3://{bucket} ({error.response['Error']['Code']})",
            remedy=aws_error(error, side="source").remedy,
        ) from error
    return True


def _is_there(s3: S3Client, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
            return False
        raise
    return True
