"""Where a record goes that can never apply: whole, with its reason, so that nothing is lost.

A place holds one JSON document for each record, named by its stream label, its sequence number and a digest of its
content: a redelivered record overwrites its own document, and two records never share one, whatever they call
themselves.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import QuarantineError
from lake.errors import DENIED

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

FORMAT: Final = 1
"""The version of the document's form: `{"format", "pipeline", "reason", "at", "record" or "item"}`."""

MAX_MESSAGE_BYTES: Final = 1 << 20
"""What SQS takes at most, body and attributes together (Amazon SQS API reference, SetQueueAttributes,
MaximumMessageSize: up to 1,048,576 bytes, which is the default). A queue may be set lower."""

_NOT_IN_A_MESSAGE: Final = re.compile("[\ufffe\uffff\ud800-\udfff]")
"""What SQS refuses and JSON may hold as it is (API reference, SendMessage); JSON escapes control characters."""

_SCHEME: Final = "sqs:"

_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._:=-]|^\.+$")
"""What a part of a document's name does without: it comes from the record, and becomes a path or an object's key."""

OTHER_OWNER: Final = (
    "check the permissions, and that the bucket belongs to the source account; a bucket of another account is used "
    "only if source.bucket_owners names that account"
)
"""What to do where S3 refuses a request."""

_PART_CHARACTERS: Final = 128
_DIGEST_CHARACTERS: Final = 24


class Place(Protocol):
    """Somewhere documents can be put by name."""

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep the document under this name, replacing one of the same name.

        Raises:
            QuarantineError: it was not kept.
        """
        ...


class S3Place:
    """Documents in a bucket, below a prefix."""

    def __init__(self, s3: S3Client, bucket: str, prefix: str) -> None:
        """Keep documents as `s3://<bucket>/<prefix>/<name>.json`."""
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix.strip("/")

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep the document.

        Raises:
            QuarantineError: S3 did not take it.
        """
        key = f"{self._prefix}/{name}.json".lstrip("/")
        try:
            self._s3.put_object(
                Bucket=self._bucket, Key=key, Body=_bytes(document), ContentType="application/json"
            )
        except (ClientError, BotoCoreError) as error:
            raise QuarantineError(
                f"the quarantine s3://{self._bucket}/{self._prefix} did not take a record: {_said(error)}",
                remedy=OTHER_OWNER if is_denied(error) else "",
            ) from error


class DirectoryPlace:
    """Documents in a folder: for a worker on a laptop or an EC2 host."""

    def __init__(self, folder: Path) -> None:
        """Keep documents as `<folder>/<name>.json`; the folder is created when it is first needed."""
        self._folder = folder
        self._swept: set[Path] = set()

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep the document, whole or not at all.

        Raises:
            QuarantineError: the folder cannot be written.
        """
        from lake.contract import files  # imported here because the Lambda function never needs it

        target = self._folder / f"{name}.json"
        with files.explaining(self._folder, QuarantineError):
            files.make_folder(target.parent)
            if target.parent not in self._swept:
                files.sweep(target.parent)
                self._swept.add(target.parent)
        files.write_bytes(target, _bytes(document), error=QuarantineError, sweeps=False)


class SqsPlace:
    """Documents in a standard queue, one a message.

    A queue forgets a message when its retention is over (4 days unless set, 14 at most), and takes 1 MiB at
    most, where a record of a large item may have more: a bucket is the better place.
    """

    def __init__(self, sqs: SQSClient, url: str, prefix: str = "") -> None:
        """Send documents to the queue `url`; their name goes with them, below `prefix`, as an attribute."""
        self._sqs = sqs
        self._url = url
        self._prefix = prefix

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep the document.

        Raises:
            QuarantineError: SQS did not take it, or it is larger than SQS takes. It is not cut to fit.
        """
        text = _bytes(document).decode(errors="surrogatepass")
        body = _NOT_IN_A_MESSAGE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        full_name = f"{self._prefix}/{name}".lstrip("/")
        size = len(body.encode()) + len("name") + len("String") + len(full_name.encode())
        if size > MAX_MESSAGE_BYTES:
            raise QuarantineError(
                f"a record needs {size:,} bytes, and SQS takes {MAX_MESSAGE_BYTES:,} at most; the record's shard waits",
                remedy=f"name a bucket or a folder as the quarantine instead of the queue {self._url}",
            )
        try:
            self._sqs.send_message(
                QueueUrl=self._url,
                MessageBody=body,
                MessageAttributes={"name": {"DataType": "String", "StringValue": full_name}},
            )
        except (ClientError, BotoCoreError) as error:
            raise QuarantineError(
                f"the queue {self._url} did not take a record of {size:,} bytes: {_said(error)}",
                remedy="if that is more than its MaximumMessageSize, raise that limit, or name a bucket instead",
            ) from error


def place_of(address: str, s3: S3Client, sqs: SQSClient | None = None) -> Place:
    """The place that an address names: `s3://bucket/prefix`, `sqs:<queue URL>`, or a folder's path.

    Raises:
        QuarantineError: it names a queue that cannot be used, or there is no SQS client.
    """
    if address.startswith("s3://"):
        return S3Place(s3, *bucket_of(address))
    if address.startswith(_SCHEME):
        if sqs is None:
            raise QuarantineError(
                f"a queue such as {address} cannot be used here", remedy="name a bucket or a folder"
            )
        return SqsPlace(sqs, *queue_of(address))
    return DirectoryPlace(Path(address))


def bucket_of(address: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`."""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    return bucket, prefix


def is_queue(address: str) -> bool:
    """Whether an address names a queue."""
    return address.startswith(_SCHEME)


def queue_of(address: str) -> tuple[str, str]:
    """The queue's URL, and what stands behind it, of `sqs:https://<host>/<account>/<queue>[/<more>]`.

    Raises:
        QuarantineError: this is no queue's URL, or a FIFO queue's: those neither take Lambda's failures
            (AWS Lambda developer guide, "Retain discarded records for a DynamoDB event source") nor ours.
    """
    found = re.fullmatch(r"sqs:(https?://[^/]+/[^/]+/[^/]+)/?(.*)", address)
    if found is None:
        raise QuarantineError(
            f"{address!r} names no queue", remedy="write sqs:https://<host>/<account>/<queue>"
        )
    if found[1].endswith(".fifo"):
        raise QuarantineError(f"{address!r} is a FIFO queue", remedy="name a standard queue")
    return found[1], found[2]


class Quarantine:
    """The quarantine of one pipeline."""

    def __init__(self, place: Place, pipeline: str) -> None:
        """Put records away in `place`, saying which pipeline they belong to."""
        self._place = place
        self._pipeline = pipeline

    def keep_record(self, name: str, record: Any, reason: str, now_ms: int) -> None:
        """Put a stream record away, whole.

        Args:
            name: what the document is called, such as "<stream label>/<sequence number>"; a digest of the record
                follows it.
            record: the record as it was delivered; whatever JSON it is.
            reason: why it can never apply, without an item's values.
            now_ms: epoch milliseconds.

        Raises:
            QuarantineError: it was not kept; the record must not be passed over.
        """
        self._keep(f"{name}-{digest(record)}", {"record": record}, reason, now_ms)

    def keep_item(self, name: str, item: Mapping[str, Any], reason: str, now_ms: int) -> None:
        """Put an item away that was read, not streamed. Arguments and errors as for `keep_record`."""
        self._keep(name, {"item": item}, reason, now_ms)

    def _keep(self, name: str, content: Mapping[str, Any], reason: str, now_ms: int) -> None:
        head = {"format": FORMAT, "pipeline": self._pipeline, "reason": reason, "at": now_ms}
        self._place.put(document_name(self._pipeline, *name.split("/")), {**head, **content})


def document_name(*parts: str) -> str:
    """A document's name of these parts, without anything that would lead out of a folder or a prefix."""
    return "/".join(_NOT_IN_A_NAME.sub("_", part[:_PART_CHARACTERS]) or "_" for part in parts)


def digest(content: Any) -> str:
    """A digest of JSON, the same for equal content.

    Raises:
        QuarantineError: it is nested too deeply.
    """
    return hashlib.sha256(_json(content, ensure_ascii=True, sort_keys=True)).hexdigest()[:_DIGEST_CHARACTERS]


def is_denied(error: ClientError | BotoCoreError) -> bool:
    """Whether S3 refused a request, which it also does where the bucket belongs to an unexpected account."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in DENIED


def _said(error: ClientError | BotoCoreError) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def _bytes(document: Mapping[str, Any]) -> bytes:
    try:
        return _json(document, ensure_ascii=False)
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 does not have and JSON can escape
        return _json(document, ensure_ascii=True)


def _json(content: Any, **how: bool) -> bytes:
    try:
        return json.dumps(content, default=_unusual, **how).encode()  # type: ignore[arg-type]
    except RecursionError:
        raise QuarantineError("a record is nested too deeply to be kept") from None


def _unusual(value: Any) -> str:
    """Of a value that JSON does not have: bytes as DynamoDB JSON writes them."""
    return base64.b64encode(value).decode() if isinstance(value, bytes | bytearray) else str(value)
