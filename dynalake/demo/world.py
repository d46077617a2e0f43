"""An embedded AWS with two accounts: moto, in this process, reached through STS AssumeRole as in production."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from dynalake.errors import UserError

SOURCE_ACCOUNT: Final = "111111111111"
LAKE_ACCOUNT: Final = "999999999999"
REGION: Final = "us-east-1"

_ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_DEFAULT_REGION": REGION,
    # moto answers 404 to streams calls at an endpoint that carries the account's id.
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Within this process moto sees only what botocore sends.
    "DYNALAKE_WRITER": "plain",
}
_NOT_OURS: Final = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_CA_BUNDLE",
)


@contextmanager
def embedded_aws() -> Iterator[None]:
    """Within this context, boto3 speaks to the embedded AWS and to nothing else; afterwards all is as before.

    Raises:
        UserError: moto is not installed.
    """
    try:
        from moto import mock_aws
    except ImportError:
        raise UserError(
            "the demo needs an embedded AWS", remedy="run `pip install 'dynalake[demo]'`"
        ) from None
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    with patch.dict(os.environ, {**environment, **_ENVIRONMENT}, clear=True), mock_aws():
        yield
