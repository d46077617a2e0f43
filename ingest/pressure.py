"""Which failures of a call to AWS pass of themselves, so that trying again later is right."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 - botocore's own

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
