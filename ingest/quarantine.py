"""Where a record goes that can never apply: whole, with its reason, so that nothing is lost.

A place holds one JSON document for each record, named by its stream label and sequence number, so that a
redelivered record overwrites its own document and none other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import QuarantineError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FORMAT: Final = 1
"""The version of the document's form: `{"format", "pipeline", "reason", "at", "record" or "item"}`."""


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
                f"the quarantine s3://{self._bucket}/{self._prefix} did not take a record: {type(error).__name__}"
            ) from error


class DirectoryPlace:
    """Documents in a folder: for a worker on a laptop or an EC2 host."""

    def __init__(self, folder: Path) -> None:
        """Keep documents as `<folder>/<name>.json`; the folder is made when it is first needed."""
        self._folder = folder

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep the document, whole or not at all.

        Raises:
            QuarantineError: the folder cannot be written.
        """
        target = self._folder / f"{name}.json"
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(_bytes(document))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError as error:
            raise QuarantineError(
                f"the quarantine folder {self._folder} cannot be written: {error.strerror}"
            ) from error


def place_of(address: str, s3: S3Client) -> Place:
    """The place that an address names: `s3://bucket/prefix`, or a folder's path."""
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return S3Place(s3, bucket, prefix)
    return DirectoryPlace(Path(address))


class Quarantine:
    """The quarantine of one pipeline."""

    def __init__(self, place: Place, pipeline: str) -> None:
        """Put records away in `place`, saying which pipeline they belong to."""
        self._place = place
        self._pipeline = pipeline

    def keep_record(self, name: str, record: Mapping[str, Any], reason: str, now_ms: int) -> None:
        """Put a stream record away, whole.

        Args:
            name: names the document, such as "<stream label>/<sequence number>".
            record: the record as it was delivered.
            reason: why it can never apply, without an item's values.
            now_ms: epoch milliseconds.

        Raises:
            QuarantineError: it was not kept; the record must not be passed over.
        """
        self._keep(name, {"record": record}, reason, now_ms)

    def keep_item(self, name: str, item: Mapping[str, Any], reason: str, now_ms: int) -> None:
        """Put an item away that was read, not streamed. Arguments and errors as for `keep_record`."""
        self._keep(name, {"item": item}, reason, now_ms)

    def _keep(self, name: str, content: Mapping[str, Any], reason: str, now_ms: int) -> None:
        head = {"format": FORMAT, "pipeline": self._pipeline, "reason": reason, "at": now_ms}
        self._place.put(f"{self._pipeline}/{name}", {**head, **content})


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, default=str).encode()
