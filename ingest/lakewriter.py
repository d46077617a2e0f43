"""Writing one row to the lake table, conditionally: by boto3's client, or directly, for a tenth of its CPU.

The plain writer is boto3's `put_item`. The direct writer sends the same request itself: the row is DynamoDB
JSON already, so that it needs no model of the API, only to be put into words, signed and sent. Its credentials
are botocore's, which renew themselves; its TLS trusts what botocore trusts; its errors are botocore's. Where it
cannot do what botocore would (a proxy, a client certificate, verification switched off), the plain writer
writes.

**Who tries again.** A direct write tries once, and the caller decides (`ingest.apply` backs off with full jitter
for as long as there is time). Two things only are put right in here, once each: a kept connection that turns
out to be closed, and a clock that is wrong.

**Why a write may be sent twice.** A write that took effect and whose answer was lost has set the row's version
to its own. Sent again it fails its condition and counts as stale, which says just what is true: the row shows
this change or a newer one. That holds for a streamed change (its version is not newer than itself) and for one
that was read: it demands the version that was seen, and no write leaves the version as it was. The first of the
two may even arrive late: until it took effect, it is as if it had been made later, and its condition is
judged then. What is lost is one count: "stale" for "applied".
"""

from __future__ import annotations

import json
import logging
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from botocore.client import BaseClient
from botocore.exceptions import ClientError, HTTPClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from ingest.connection import Answer, Connections
from ingest.errors import IngestError, MalformedRecordError
from ingest.signing import Signer
from ingest.wire import to_boto3

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from types_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

WRITER_VARIABLE: Final = "DYNALAKE_WRITER"
"""Environment: `direct` (the default) or `plain`, which is boto3's client."""

MAX_SKEW_S: Final = 60.0
"""The service's clock is followed where ours differs by more than this, and a signature was refused; it takes
five minutes. Less than that is not why."""

LEAST_UNITS: Final = 1.0
"""Of a write, where the answer does not say."""

_OPERATION: Final = "PutItem"
_REFUSED_SIGNATURES: Final = frozenset(
    {"InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
)


class LakeWriter(Protocol):
    """Writes rows, each on a condition."""

    def put(
        self, table: str, row: Mapping[str, Any], condition: Mapping[str, Any], *, return_units: bool = False
    ) -> float:
        """Write one row, in wire form, if its condition holds.

        Args:
            table: the table's name.
            row: the row.
            condition: the parameters of PutItem that make the condition.
            return_units: whether to ask what it cost.

        Returns:
            The write units it took; 0 where they were not asked for.

        Raises:
            MalformedRecordError: the row is no DynamoDB JSON.
            botocore.exceptions.ClientError: DynamoDB refused, as boto3 says it.
            botocore.exceptions.HTTPClientError: there was no answer.
            botocore.exceptions.ConnectionError: DynamoDB could not be reached.
        """
        ...


def writer_for(dynamodb: DynamoDBClient, environment: Mapping[str, str]) -> LakeWriter:
    """The writer that the environment wants and the client allows: direct, unless something is against it.

    Raises:
        IngestError: the environment wants a writer that there is not.
    """
    wanted = environment.get(WRITER_VARIABLE) or "direct"
    if wanted not in ("direct", "plain"):
        raise IngestError(
            f"{WRITER_VARIABLE} is {wanted!r}, which names neither of the writers",
            remedy="set it to 'direct' or 'plain'",
        )
    if wanted == "plain":
        return PlainWriter(dynamodb)
    try:
        return direct_writer(dynamodb)
    except NotDirectError as reason:
        log.warning("the lake is written through boto3, at several times the CPU: %s", reason)
        return PlainWriter(dynamodb)


class PlainWriter:
    """Writes through boto3's client, with its retries."""

    def __init__(self, dynamodb: DynamoDBClient) -> None:
        """Write with the lake account's client."""
        self._dynamodb = dynamodb

    def put(
        self, table: str, row: Mapping[str, Any], condition: Mapping[str, Any], *, return_units: bool = False
    ) -> float:
        """Write one row; see `LakeWriter.put`."""
        request: dict[str, Any] = {"TableName": table, "Item": to_boto3(row), **condition}
        if "ExpressionAttributeValues" in request:
            request["ExpressionAttributeValues"] = to_boto3(request["ExpressionAttributeValues"])
        if not return_units:
            self._dynamodb.put_item(**request)
            return 0.0
        response = self._dynamodb.put_item(**request, ReturnConsumedCapacity="TOTAL")
        return response["ConsumedCapacity"].get("CapacityUnits", LEAST_UNITS)


class DirectWriter:
    """Writes over connections of its own; threads may share it."""

    def __init__(
        self,
        connections: Connections,
        signer: Signer,
        credentials: Credentials,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Write over these connections; `direct_writer` makes one from a client.

        Args:
            connections: to the endpoint.
            signer: of PutItem, for that endpoint.
            credentials: botocore's, which renew themselves.
            clock: the time of day, epoch seconds.
        """
        self._connections = connections
        self._signer = signer
        self._credentials = credentials
        self._clock = clock
        self._ahead_s = 0.0
        """How far the service's clock is ahead of ours, where that mattered."""

    def put(
        self, table: str, row: Mapping[str, Any], condition: Mapping[str, Any], *, return_units: bool = False
    ) -> float:
        """Write one row; see `LakeWriter.put`."""
        request = {"TableName": table, "Item": row, **condition}
        if return_units:
            request["ReturnConsumedCapacity"] = "TOTAL"
        body = _body(request)
        ahead_s = self._ahead_s
        answer = self._send(body, ahead_s)
        if answer.status != 200:
            error = _error(answer, retries=0)
            if not self._sets_its_clock_right(error, answer, ahead_s):
                raise error
            answer = self._send(body, self._ahead_s)
            if answer.status != 200:
                raise _error(answer, retries=1)
        return _units(answer) if return_units else 0.0

    def _send(self, body: bytes, ahead_s: float) -> Answer:
        credentials = self._credentials.get_frozen_credentials()
        head = self._signer.head(body, credentials, self._clock() + ahead_s)
        answer = self._connections.exchange(head + body)
        checksum = answer.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(answer.body)):
            raise HTTPClientError(error="the answer does not have the checksum that it says")
        return answer

    def _sets_its_clock_right(self, error: ClientError, answer: Answer, taken_s: float) -> bool:
        """Whether a signature was refused because our clock is wrong; then the service's is followed.

        `taken_s` is by how much the service's clock was taken to be ahead when the signature was made.
        """
        if error.response["Error"]["Code"] not in _REFUSED_SIGNATURES:
            return False
        try:
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return False
        ahead_s = theirs - self._clock()
        if abs(ahead_s - taken_s) <= MAX_SKEW_S:
            return False
        log.warning("this machine's clock is wrong by %.0f s; requests are signed by the service's", ahead_s)
        self._ahead_s = ahead_s
        return True


class NotDirectError(Exception):
    """Why a client's table cannot be written directly."""


def direct_writer(dynamodb: DynamoDBClient) -> DirectWriter:
    """A writer with the client's endpoint, region, credentials, timeouts and trust.

    Raises:
        NotDirectError: the client goes a way that this writer cannot go.
    """
    if not isinstance(dynamodb, BaseClient):
        raise NotDirectError("the client is not boto3's")
    url, region = dynamodb.meta.endpoint_url, dynamodb.meta.region_name
    config: Any = dynamodb.meta.config
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise NotDirectError(f"the endpoint {url} is more than a host")
    proxies = get_environ_proxies(url) if config.proxies is None else config.proxies
    if proxies.get(parts.scheme):
        raise NotDirectError("a proxy is set")
    if config.client_cert:
        raise NotDirectError("a client certificate is set")
    try:  # botocore has no public way to ask a client for these two
        credentials: Credentials | None = dynamodb._request_signer._credentials  # type: ignore[attr-defined]
        verify: bool | str | None = dynamodb._endpoint.http_session._verify  # type: ignore[attr-defined]
    except AttributeError as error:
        raise NotDirectError(f"this release of botocore is built otherwise ({error})") from None
    if credentials is None:
        raise NotDirectError("the client signs nothing")
    if not verify:
        raise NotDirectError("the verification of certificates is switched off")
    secure = parts.scheme == "https"
    usual_port = 443 if secure else 80
    port = parts.port or usual_port
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return DirectWriter(
        Connections(
            url,
            (parts.hostname, port),
            _tls(verify) if secure else None,
            connect_timeout_s=config.connect_timeout,
            read_timeout_s=config.read_timeout,
        ),
        Signer(region, name if port == usual_port else f"{name}:{port}", _OPERATION, "dynalake"),
        credentials,
    )


def _tls(verify: bool | str) -> ssl.SSLContext:
    """Certificates and names are verified, against the certificates that botocore would take."""
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else get_cert_path(True))
    # Python 3.13 sets it, botocore does not: a private CA that serves every other call must serve this one.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


def _body(request: Mapping[str, Any]) -> bytes:
    try:
        return _JSON.encode(request).encode()
    except (TypeError, ValueError, RecursionError):
        raise MalformedRecordError("a value is not DynamoDB JSON") from None


_JSON: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
)


def _units(answer: Answer) -> float:
    return float(json.loads(answer.body).get("ConsumedCapacity", {}).get("CapacityUnits", LEAST_UNITS))


def _error(answer: Answer, retries: int) -> ClientError:
    """The error that boto3 would raise for this answer."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        said = {}
    kind = str(said.get("__type") or answer.status)
    return ClientError(
        {
            "Error": {
                "Code": kind.partition(":")[0].rpartition("#")[2],
                "Message": str(
                    said.get("message") or said.get("Message") or responses.get(answer.status, "")
                ),
            },
            "ResponseMetadata": {
                "RequestId": answer.headers.get("x-amzn-requestid", ""),
                "HTTPStatusCode": answer.status,
                "HTTPHeaders": dict(answer.headers),
                "RetryAttempts": retries,
                "HostId": "",
            },
        },
        _OPERATION,
    )
