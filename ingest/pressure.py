"""Which failures of a call to AWS pass of themselves, so that trying again later is right."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import (  # A004: botocore's own
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004
    HTTPClientError,
    ParamValidationError,
)

UNREACHABLE: Final = (HTTPClientError, ConnectionError)
"""The service was not reached, or did not answer in time: botocore's two families of it, of which neither
holds the other (a connect timeout is no HTTPClientError, a read timeout no ConnectionError)."""

_CODES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "LimitExceededException",
        "InternalServerError",
        "ServiceUnavailable",
        "TransactionConflictException",
        "ReplicatedWriteConflictException",
        "RequestTimeout",
        "RequestTimeoutException",
    }
)


def is_back_pressure(error: ClientError) -> bool:
    """Whether the service answered, in effect: not now."""
    return (
        error.response["Error"]["Code"] in _CODES
        or error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    )


def is_no_access(error: Exception) -> bool:
    """Whether a call failed before it was sent, for a reason that concerns every call alike: credentials, endpoint.

    Of botocore's own errors all but one are about that (no credentials, half of them, a token that cannot be read or
    renewed, no Region, an unknown endpoint, …): only `ParamValidationError` is about what was to be sent.
    """
    if isinstance(error, BotoCoreError):
        return not isinstance(error, (ParamValidationError, *UNREACHABLE))
    # botocore raises a bare RuntimeError where renewed credentials are expired already (`RefreshableCredentials`).
    return type(error) is RuntimeError and "credentials" in str(error)
