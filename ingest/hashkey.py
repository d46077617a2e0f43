"""Where the secret of the keyed hash comes from; it never stands in a file.

env:NAME                   the environment variable NAME
secretsmanager:ARN         a secret in AWS Secrets Manager, in the source account: its text, or its bytes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import PolicyError
from lake.errors import aws_error

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

DEFAULT_REFERENCE: Final = "env:DYNALAKE_HASH_KEY"


def hash_key_from(
    reference: str, environment: Mapping[str, str], secrets: Callable[[], SecretsManagerClient]
) -> bytes | None:
    """The key that a reference names; None where the environment variable is not set.

    Args:
        reference: one of the forms above.
        environment: the process's environment.
        secrets: makes a Secrets Manager client of the source account, when one is needed.

    Raises:
        PolicyError: the reference has none of the forms, or the secret cannot be read.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        text = environment.get(name)
        return text.encode() if text else None
    if kind == "secretsmanager" and name:
        try:
            secret = secrets().get_secret_value(SecretId=name)
        except ClientError as error:
            raise _unreadable(name, error.response["Error"]["Code"], error) from None
        except BotoCoreError as error:
            raise _unreadable(name, type(error).__name__, error) from None
        return secret["SecretString"].encode() if "SecretString" in secret else secret["SecretBinary"]
    raise PolicyError(
        f"hash_key is {reference!r}, which names no key", remedy="write env:NAME or secretsmanager:ARN"
    )


def _unreadable(name: str, why: str, error: Exception) -> PolicyError:
    return PolicyError(
        f"the hash key's secret {name} cannot be read ({why})", remedy=aws_error(error, side="source").remedy
    )
