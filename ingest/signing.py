"""Signing requests to DynamoDB: AWS Signature Version 4, for one operation, with what repeats computed once.

The signature is botocore's to the letter (IAM user guide, "Create a signed AWS API request"): the tests compare
the two. What is the same for all requests of a second (the date, the scope, the key, the headers) is put
together once; a request costs two SHA-256 and one HMAC.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

SERVICE: Final = "dynamodb"
CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class _Moment:
    """What the requests of one second, under the same credentials, have in common.

    Attributes:
        second: epoch seconds.
        credentials: under which they are signed.
        canonical: SHA-256 of the canonical request up to the body's hash.
        to_sign: the string to sign up to the canonical request's hash.
        key: the signing key of the day.
        head: the request's head up to the signature.
    """

    second: int
    credentials: ReadOnlyCredentials
    canonical: Any
    to_sign: bytes
    key: bytes
    head: bytes


class Signer:
    """Makes the heads of signed requests; threads may share it."""

    def __init__(self, region: str, host: str, operation: str, user_agent: str) -> None:
        """Sign requests of one operation to one host.

        Args:
            region: the region whose DynamoDB it is.
            host: the Host header: the name, with the port unless it is the scheme's own.
            operation: such as "PutItem".
            user_agent: the User-Agent header, which is not signed.
        """
        self._region = region
        self._host = host
        self._target = f"DynamoDB_20120810.{operation}"
        self._user_agent = user_agent
        self._moment: _Moment | None = None

    def head(self, body: bytes, credentials: ReadOnlyCredentials, at: float) -> bytes:
        """The head of the request with this body, with the empty line at its end.

        Args:
            body: the request's body.
            credentials: frozen, so that its parts belong together.
            at: the time of day by the service's clock, epoch seconds.
        """
        moment = self._moment
        if moment is None or moment.second != int(at) or moment.credentials != credentials:
            # Two threads may compute the same one: either will do.
            moment = self._moment = self._moment_of(int(at), credentials)
        canonical = moment.canonical.copy()
        canonical.update(hashlib.sha256(body).hexdigest().encode())
        to_sign = moment.to_sign + canonical.hexdigest().encode()
        signature = hmac.digest(moment.key, to_sign, "sha256").hex().encode()
        return b"%b%b\r\nContent-Length: %d\r\n\r\n" % (moment.head, signature, len(body))

    def _moment_of(self, second: int, credentials: ReadOnlyCredentials) -> _Moment:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{date[:8]}/{self._region}/{SERVICE}/aws4_request"
        signed = {"content-type": CONTENT_TYPE, "host": self._host, "x-amz-date": date}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        signed["x-amz-target"] = self._target
        names = ";".join(signed)
        headers = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in signed.items())
        sent = {
            **signed,
            "user-agent": self._user_agent,
            "authorization": f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, "
            "Signature=",
        }
        key = f"AWS4{credentials.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return _Moment(
            second=second,
            credentials=credentials,
            canonical=hashlib.sha256(f"POST\n/\n\n{headers}\n{names}\n".encode()),
            to_sign=f"{_ALGORITHM}\n{date}\n{scope}\n".encode(),
            key=key,
            head="\r\n".join(
                ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
            ).encode(),
        )
