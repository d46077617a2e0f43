"""What a bucket of dynalake's must be: its account's own, private, encrypted, versioned and reached by TLS alone.

`secure` makes a bucket so; `doctor` reports what is missing, with a command for each.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from dynalake.deploy.names import partition_of
from dynalake.errors import DeployError
from lake.errors import DENIED

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_FIRST_REGION: Final = "us-east-1"
"""The one region that CreateBucket does not take as a location (Amazon S3 API reference)."""

_PRIVATE: Final = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_MISSING: Final = frozenset(
    {
        "NoSuchBucketPolicy",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "OwnershipControlsNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
"""What S3 answers where a bucket has no such setting (Amazon S3 API reference, "Error responses")."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a bucket that is not as it should be.

    Attributes:
        what: what is wrong, after the bucket's name.
        operation: the command of `aws s3api` that corrects it.
        arguments: its arguments besides the bucket, as botocore takes them.
        is_serious: whether it exposes data.
    """

    what: str
    operation: str
    arguments: Mapping[str, Any]
    is_serious: bool = True

    def command(self, beginning: str, bucket: str) -> str:
        """The AWS CLI command that corrects it; `beginning` is `aws s3api <operation>` with profile and Region."""
        words = [f"--bucket {shlex.quote(bucket)}"]
        for name, value in self.arguments.items():
            option = "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")
            words.append(f"--{option} {shlex.quote(value if isinstance(value, str) else json.dumps(value))}")
        return " ".join([beginning, *words])


def bucket_is_missing(s3: S3Client, name: str, remedy: str = "") -> bool:
    """Whether a bucket is missing.

    Args:
        s3: a client that expects an owner; see `ingest.buckets`.
        name: the bucket.
        remedy: how to use another bucket.

    Raises:
        DeployError: it belongs to another account, or these credentials may not see it.
    """
    try:
        s3.head_bucket(Bucket=name)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchBucket", "NotFound"):
            return True
        if code in DENIED:
            raise DeployError(
                f"the bucket {name!r} belongs to another account than expected, or these credentials may not see it",
                remedy=remedy or "choose another name: bucket names are unique across all accounts",
            ) from None
        raise
    return False


def create_bucket(s3: S3Client, bucket: str, region: str) -> None:
    """Create a bucket, and set what dynalake's buckets have.

    Raises:
        botocore.exceptions.ClientError: somebody else took the name meanwhile, or S3 refuses a setting.
    """
    where: dict[str, Any] = {}
    if region != _FIRST_REGION:
        where["CreateBucketConfiguration"] = {"LocationConstraint": region}
    s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerEnforced", **where)
    secure(s3, bucket, region)


def secure(s3: S3Client, bucket: str, region: str) -> None:
    """Correct the settings that are not as they should be; what is stricter is left alone."""
    for setting in wrong_settings(s3, bucket, region):
        getattr(s3, setting.operation.replace("-", "_"))(Bucket=bucket, **setting.arguments)


def wrong_settings(
    s3: S3Client,
    bucket: str,
    region: str,
    *,
    kms_key: str = "",
    on_denied: Callable[[str], None] | None = None,
) -> Iterator[Setting]:
    """The settings of a bucket that are not as they should be.

    Args:
        s3: a client that expects an owner.
        bucket: the bucket.
        region: its Region.
        kms_key: the ARN of the customer key with which it should be encrypted; any encryption will do where empty.
        on_denied: called with the name of each operation that these credentials may not call. Without it, a denied
            call is an error.

    Raises:
        botocore.exceptions.ClientError: S3 does not answer, or denies a call and there is no `on_denied`.
    """
    looks: dict[str, Callable[[Mapping[str, Any]], Setting | None]] = {
        "get_public_access_block": _public_access,
        "get_bucket_ownership_controls": _ownership,
        "get_bucket_policy": lambda answer: _transport(answer, bucket, region),
        "get_bucket_encryption": lambda answer: _encryption(answer, kms_key),
        "get_bucket_versioning": _versioning,
    }
    for operation, judge in looks.items():
        try:
            answer = getattr(s3, operation)(Bucket=bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in DENIED and on_denied is not None:
                on_denied(error.operation_name)
                continue
            if code not in _MISSING:
                raise
            answer = {}
        if (wrong := judge(answer)) is not None:
            yield wrong


def _public_access(answer: Mapping[str, Any]) -> Setting | None:
    block = answer.get("PublicAccessBlockConfiguration", {})
    if all(block.get(name) for name in _PRIVATE):
        return None
    return Setting(
        "may be made public", "put-public-access-block", {"PublicAccessBlockConfiguration": _PRIVATE}
    )


def _ownership(answer: Mapping[str, Any]) -> Setting | None:
    rules = answer.get("OwnershipControls", {}).get("Rules", ())
    if any(rule.get("ObjectOwnership") == "BucketOwnerEnforced" for rule in rules):
        return None
    return Setting(
        "has access control lists, by which an object in it can belong to another account",
        "put-bucket-ownership-controls",
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        is_serious=False,
    )


def _transport(answer: Mapping[str, Any], bucket: str, region: str) -> Setting | None:
    document = json.loads(answer.get("Policy", '{"Version": "2012-10-17"}'))
    if refuses_plain_http(document, bucket):
        return None
    document["Statement"] = [*_statements(document), tls_only(bucket, region)]
    return Setting("can be reached without TLS", "put-bucket-policy", {"Policy": json.dumps(document)})


def _encryption(answer: Mapping[str, Any], kms_key: str) -> Setting | None:
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    if kms_key:
        keys = {str(each.get("KMSMasterKeyID", "")).rpartition("/")[2] for each in defaults}
        if kms_key.rpartition("/")[2] in keys:
            return None
        what = "is not encrypted with the key that KmsKeyArn names"
        rule: dict[str, Any] = {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key},
            "BucketKeyEnabled": True,
        }
    else:
        if any(each.get("SSEAlgorithm") for each in defaults):
            return None
        what = "has no encryption by default"
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return Setting(what, "put-bucket-encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}})


def _versioning(answer: Mapping[str, Any]) -> Setting | None:
    if answer.get("Status") == "Enabled":
        return None
    return Setting(
        "keeps no versions",
        "put-bucket-versioning",
        {"VersioningConfiguration": {"Status": "Enabled"}},
        is_serious=False,
    )


def deletes_objects(s3: S3Client, bucket: str) -> bool:
    """Whether a lifecycle rule deletes a bucket's objects some day.

    Raises:
        botocore.exceptions.ClientError: S3 does not answer, or refuses.
    """
    try:
        rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return False
        raise
    return any(
        rule["Status"] == "Enabled" and {"Days", "Date"} & rule.get("Expiration", {}).keys() for rule in rules
    )


def tls_only(bucket: str, region: str) -> dict[str, Any]:
    """The statement of a bucket's policy that refuses requests without TLS."""
    arn = f"arn:{partition_of(region)}:s3:::{bucket}"
    return {
        "Sid": "EncryptedConnectionsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def refuses_plain_http(policy: Mapping[str, Any], bucket: str) -> bool:
    """Whether a bucket's policy refuses every request without TLS."""
    return any(
        statement.get("Effect") == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and bool({"s3:*", "*"} & set(_listed(statement.get("Action", ()))))
        and _covers(_listed(statement.get("Resource", ())), bucket)
        and _only_without_tls(statement.get("Condition", {}))
        for statement in _statements(policy)
    )


def _covers(resources: list[str], bucket: str) -> bool:
    names = {resource.rpartition(":")[2] for resource in resources}
    return "*" in names or {bucket, f"{bucket}/*"} <= names or f"{bucket}*" in names


def _only_without_tls(condition: Mapping[str, Mapping[str, Any]]) -> bool:
    plain = {
        operator.lower(): {key.lower(): _listed(value) for key, value in keys.items()}
        for operator, keys in condition.items()
    }
    return plain in (
        {"bool": {"aws:securetransport": ["false"]}},
        {"bool": {"aws:securetransport": [False]}},
    )


def _statements(policy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _listed(policy.get("Statement", ()))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
