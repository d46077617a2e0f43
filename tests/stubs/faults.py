"""What a call to a stub may meet instead of an answer.

Every stub asks its `hook` before it does anything: `hook(call) -> Fault | None`. The hook may also simply do
something of its own, such as letting another actor run: that is how tests interleave operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

Effect = Literal["none", "done", "later"]
"""Of a call that fails: it had no effect; it took effect all the same; it takes effect when `land` is called."""


class Call(NamedTuple):
    """One call of an operation, such as "put_item", with its parameters."""

    service: str
    operation: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """The caller gets `error`; of a write the effect is as said."""

    error: BaseException
    effect: Effect = "none"


Hook = Callable[[Call], Fault | None]


class Killed(BaseException):
    """The process was killed (kill -9): nothing may catch this but the test."""


def no_fault(_: Call) -> Fault | None:
    """A hook that leaves every call alone."""
    return None


def client_error(operation: str, code: str, message: str = "", status: int = 400) -> ClientError:
    """The error that botocore raises for an answer of that code."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "RequestId": "0", "HostId": "", "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0,
            },
        },
        operation,
    )  # fmt: skip


def throttled(operation: str = "PutItem") -> ClientError:
    return client_error(operation, "ProvisionedThroughputExceededException", "The level of configured …")


def server_error(operation: str = "PutItem") -> ClientError:
    return client_error(operation, "InternalServerError", "Internal server error", 500)


def read_timeout() -> ReadTimeoutError:
    return ReadTimeoutError(endpoint_url="https://dynamodb.example")


def connect_timeout() -> ConnectTimeoutError:
    return ConnectTimeoutError(endpoint_url="https://dynamodb.example")
