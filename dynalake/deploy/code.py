"""The function's zip: built reproducibly, and brought to the source account under the name of its content."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from dynalake.deploy.buckets import bucket_is_missing, create_bucket, secure
from dynalake.errors import DeployError
from ingest.package import build_lambda_zip
from lake.errors import DENIED, aws_error

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

OTHER_BUCKET = "set deploy.code_bucket to a bucket of the source account, with a name that nobody can guess"
"""What to do where somebody else has the code bucket's name."""


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


def upload(s3: S3Client, bucket: str, code: bytes, region: str, *, is_ours: bool) -> str:
    """Bring the zip to the bucket, unless exactly these bytes are there already.

    Args:
        s3: a client that expects the bucket's owner; see `ingest.buckets`.
        bucket: the bucket, which is created where it is missing.
        code: the zip.
        region: the bucket's Region.
        is_ours: whether dynalake's own settings are applied to the bucket if it exists; a bucket that the user chose
            stays as it is.

    Returns:
        The object's version; empty where the bucket keeps no versions.

    Raises:
        DeployError: the bucket is another account's, or refuses.
    """
    try:
        if bucket_is_missing(s3, bucket, OTHER_BUCKET):
            create_bucket(s3, bucket, region)
        else:
            if is_ours:
                secure(s3, bucket, region)
            version = stored_version(s3, bucket, code)
            if version is not None and (version or not is_ours):
                return version
        answer = s3.put_object(
            Bucket=bucket,
            Key=key_of(code),
            Body=code,
            ChecksumSHA256=base64.b64encode(hashlib.sha256(code).digest()).decode(),
        )
    except ClientError as error:
        raise DeployError(
            f"the function's code cannot be uploaded to s3://{bucket} ({error.response['Error']['Code']})",
            remedy=aws_error(error, side="source").remedy,
        ) from error
    return _version(answer.get("VersionId"))


def stored_version(s3: S3Client, bucket: str, code: bytes) -> str | None:
    """The version of the object with exactly this content.

    The name says nothing: whoever may write to the bucket can store another zip under it. So the object is read.

    Returns:
        The version, empty where the bucket keeps none; None if the zip is not there, is another one, or cannot be
        read.

    Raises:
        botocore.exceptions.ClientError: S3 does not answer.
    """
    try:
        answer = s3.get_object(Bucket=bucket, Key=key_of(code))
    except ClientError as error:
        # Whoever may not read the object cannot vouch for it either: it is uploaded again.
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket", "404", *DENIED):
            return None
        raise
    with answer["Body"] as body:
        # One byte more than expected is enough to tell, however large the object is.
        is_the_same = body.read(len(code) + 1) == code
    return _version(answer.get("VersionId")) if is_the_same else None


def _version(version_id: str | None) -> str:
    """A version's id; empty for an object that was stored without versioning, whose id is "null"."""
    return version_id if version_id and version_id != "null" else ""
