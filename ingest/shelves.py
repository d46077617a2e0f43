"""What a quarantine or a failure destination holds: finding it, and taking away what is settled.

The other side of `ingest.quarantine`: bucket, folder or queue. Nothing here looks into a document.

- A bucket's document is deleted. In a bucket with versioning, as `dynalake deploy` makes it, S3 keeps the noncurrent
  version until the bucket's lifecycle rule deletes it.
- A folder's document moves to `done/`, since a folder has no versions.
- A queue's message is deleted. What was received and not deleted is let go at the end, or by the queue itself
  after `HOLD_S` if the process was killed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import QuarantineError
from ingest.quarantine import (
    OTHER_OWNER,
    DirectoryPlace,
    SqsPlace,
    bucket_of,
    is_denied,
    is_queue,
    queue_of,
)
from lake.contract.files import is_within, make_folder

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient

DONE: Final = "done"
"""Where a folder's settled documents go."""

HOLD_S: Final = 600
"""How long a message is held back from others while it is worked on. If that takes longer, the message comes
again, which is harmless."""

EMPTY_ANSWERS: Final = 3
"""A queue's answer may be empty although it holds messages (Amazon SQS developer guide, "Short and long
polling"): so many in a row count as its end."""

_WAIT_S: Final = 1
_MESSAGES_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as a shelf holds it.

    Attributes:
        name: what people may call it.
        handle: what the shelf itself calls it.
        body: its bytes.
    """

    name: str
    handle: str
    body: bytes


class Shelf(Protocol):
    """A place whose documents can be read and taken away.

    Every method raises QuarantineError where the place does not answer, or refuses.
    """

    @property
    def keeps_s(self) -> int | None:
        """After how many seconds it forgets a document by itself; None for never."""
        ...

    @property
    def looking_is_touching(self) -> bool:
        """Whether reading a document changes anything: a queue counts and hides what it gives."""
        ...

    def count(self) -> int:
        """How many documents it holds, those held back included; of a queue, about so many."""
        ...

    def stored(self) -> Iterator[Stored]:
        """The documents, each once."""
        ...

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        """Put another document in the place of one."""
        ...

    def take_away(self, stored: Stored) -> None:
        """Take away a document that is settled."""
        ...

    def close(self) -> None:
        """Let go of what was read and not taken away."""
        ...


def shelf_of(address: str, s3: S3Client, sqs: SQSClient | None = None) -> Shelf:
    """The shelf that an address names: `s3://bucket/prefix`, `sqs:<queue URL>`, or a folder's path.

    Raises:
        QuarantineError: it names a queue that cannot be used, or there is no SQS client.
    """
    if address.startswith("s3://"):
        return S3Shelf(s3, *bucket_of(address))
    if is_queue(address):
        if sqs is None:
            raise QuarantineError(
                f"a queue such as {address} cannot be used here", remedy="name a bucket or a folder"
            )
        return QueueShelf(sqs, queue_of(address)[0])
    return FolderShelf(Path(address))


class S3Shelf:
    """The objects below a prefix of a bucket."""

    keeps_s: int | None = None
    looking_is_touching = False

    def __init__(self, s3: S3Client, bucket: str, prefix: str) -> None:
        """Hold what is below `s3://<bucket>/<prefix>/`."""
        self._s3 = s3
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def count(self) -> int:
        """How many documents there are."""
        return sum(1 for _ in self._keys())

    def stored(self) -> Iterator[Stored]:
        """The documents, in order of name."""
        for key in self._keys():
            try:
                body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":  # somebody else has settled it
                    continue
                raise self._unusable(error) from error
            except BotoCoreError as error:
                raise self._unusable(error) from error
            yield Stored(key.removeprefix(self._prefix), key, body)

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        """Write the document under the same key."""
        body = json.dumps(document, ensure_ascii=False).encode()
        try:
            self._s3.put_object(
                Bucket=self._bucket, Key=stored.handle, Body=body, ContentType="application/json"
            )
        except (ClientError, BotoCoreError) as error:
            raise self._unusable(error) from error

    def take_away(self, stored: Stored) -> None:
        """Delete the object."""
        try:
            self._s3.delete_object(Bucket=self._bucket, Key=stored.handle)
        except (ClientError, BotoCoreError) as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Nothing is held."""

    def _keys(self) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        try:
            for page in pages:
                for found in page.get("Contents", []):
                    if not found["Key"].endswith("/"):
                        yield found["Key"]
        except (ClientError, BotoCoreError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: ClientError | BotoCoreError) -> QuarantineError:
        remedy = OTHER_OWNER if is_denied(error) else ""
        return _unusable(f"s3://{self._bucket}/{self._prefix}", error, remedy)


class FolderShelf:
    """The JSON files below a folder."""

    keeps_s: int | None = None
    looking_is_touching = False

    def __init__(self, folder: Path) -> None:
        """Hold what is below `folder`; one that is not there is empty."""
        self._folder = folder

    def count(self) -> int:
        """How many documents there are."""
        return len(self._files())

    def stored(self) -> Iterator[Stored]:
        """The documents, in order of name."""
        for path in self._files():
            try:
                body = path.read_bytes()
            except FileNotFoundError:  # somebody else has settled it
                continue
            except OSError as error:
                raise self._unusable(error) from error
            yield Stored(str(path.relative_to(self._folder)), str(path), body)

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        """Write the document under the same name, whole or not at all."""
        DirectoryPlace(self._folder).put(stored.name.removesuffix(".json"), document)

    def take_away(self, stored: Stored) -> None:
        """Move the file to `done/`."""
        target = self._folder / DONE / stored.name
        try:
            make_folder(target.parent)
            Path(stored.handle).replace(target)
        except FileNotFoundError:  # somebody else has settled it
            return
        except OSError as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Nothing is held."""

    def _files(self) -> list[Path]:
        done = self._folder / DONE
        return sorted(
            path
            for path in self._folder.rglob("*.json")
            if path.is_file() and not path.is_relative_to(done) and is_within(path, self._folder)
        )

    def _unusable(self, error: OSError) -> QuarantineError:
        return QuarantineError(f"the folder {self._folder} cannot be used: {error.strerror}")


class QueueShelf:
    """The messages of a standard queue."""

    looking_is_touching = True

    def __init__(self, sqs: SQSClient, url: str) -> None:
        """Hold what is in the queue `url`."""
        self._sqs = sqs
        self._url = url
        self._held: dict[str, str] = {}
        self._seen: set[str] = set()

    @property
    def keeps_s(self) -> int | None:
        """The queue's MessageRetentionPeriod, seconds."""
        return self._attributes()["MessageRetentionPeriod"]

    def count(self) -> int:
        """About how many messages there are: to be received, held back, or delayed."""
        attributes = self._attributes()
        return sum(number for name, number in attributes.items() if name.startswith("Approximate"))

    def stored(self) -> Iterator[Stored]:
        """The messages, in no particular order, until the queue seems empty."""
        empty = 0
        while empty < EMPTY_ANSWERS:
            try:
                messages = self._sqs.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=_MESSAGES_AT_ONCE,
                    VisibilityTimeout=HOLD_S,
                    WaitTimeSeconds=_WAIT_S,
                    MessageAttributeNames=["name"],
                ).get("Messages", [])
            except (ClientError, BotoCoreError) as error:
                raise self._unusable(error) from error
            fresh = [message for message in messages if message["MessageId"] not in self._seen]
            empty = 0 if fresh else empty + 1
            for message in messages:
                self._held[message["MessageId"]] = message["ReceiptHandle"]
            for message in fresh:
                self._seen.add(message["MessageId"])
                attributes = message.get("MessageAttributes", {})
                named = attributes["name"].get("StringValue") if "name" in attributes else None
                name = named or message["MessageId"]
                yield Stored(name, message["MessageId"], message["Body"].encode())

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        """Send the document as a new message, then delete the old one."""
        SqsPlace(self._sqs, self._url).put(stored.name, document)
        self.take_away(stored)

    def take_away(self, stored: Stored) -> None:
        """Delete the message."""
        try:
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=self._held[stored.handle])
        except (ClientError, BotoCoreError) as error:
            raise self._unusable(error) from error
        del self._held[stored.handle]

    def close(self) -> None:
        """Let others see the messages that were not taken away."""
        while self._held:
            _, handle = self._held.popitem()
            try:
                self._sqs.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=handle, VisibilityTimeout=0
                )
            except (ClientError, BotoCoreError):  # it shows again by itself after HOLD_S
                continue

    def _attributes(self) -> dict[str, int]:
        try:
            attributes = self._sqs.get_queue_attributes(
                QueueUrl=self._url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                    "MessageRetentionPeriod",
                ],
            )["Attributes"]
        except (ClientError, BotoCoreError) as error:
            raise self._unusable(error) from error
        return {str(name): int(value) for name, value in attributes.items()}

    def _unusable(self, error: ClientError | BotoCoreError) -> QuarantineError:
        return _unusable(f"the queue {self._url}", error)


def _unusable(place: str, error: ClientError | BotoCoreError, remedy: str = "") -> QuarantineError:
    said = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return QuarantineError(f"{place} cannot be read or cleared: {said}", remedy=remedy)
