"""What a quarantine or a failure destination holds, understood: which rows a document is about.

Four forms of JSON documents, each of records of one stream:

    {"format": 1, "pipeline", "reason", "record"}    our quarantine, of a record (`ingest.quarantine`)
    {"format": 1, "pipeline", "reason", "item"}      our quarantine, of a row that a backfill read
    {"DDBStreamBatchInfo", "payload"}                 a failure destination in S3, Lambda's or the worker's
    {"DDBStreamBatchInfo"}                            a failure destination in SQS or SNS: a pointer into the stream

AWS Lambda developer guide, "Retain discarded records for a DynamoDB event source": a bucket gets the whole
invocation record, in which `payload` is the event as a text; a queue or topic gets the metadata alone.

A queue that is subscribed to a topic without raw message delivery gets each of them in SNS's envelope, which is removed
(Amazon SNS developer guide, "Amazon SNS message formats").

Of an image only the key is taken. The image itself is old, and nothing here looks further into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ingest.errors import ForeignDocumentError, UnknownDocumentError
from ingest.quarantine import FORMAT
from ingest.records import is_key
from lake.contract.versions import Version, label_of_stream, streamed, table_of_stream
from lake.errors import ContractError

_ENVELOPES: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A row that a document is about.

    Attributes:
        key: the source's key, in wire form.
        version: the version of the record that did not arrive; None where it is not known.
    """

    key: Mapping[str, Any]
    version: Version | None


@dataclass(frozen=True, slots=True)
class Pointer:
    """A stretch of a stream's shard.

    Attributes:
        arn: the stream's ARN.
        shard_id: the shard.
        first: the sequence number of its first record.
        last: that of its last record.
    """

    arn: str
    shard_id: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a document says.

    Attributes:
        document: the document.
        rows: the rows that it is about.
        unknown: how many of its records do not say which row they are of.
        pointer: where its records are, if it does not hold them.
    """

    document: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    unknown: int = 0
    pointer: Pointer | None = None

    @property
    def reason(self) -> str:
        """Why its records were put away."""
        return str(self.document.get("reason") or _context(self.document).get("reason") or "")

    def with_reason(self, reason: str) -> dict[str, Any]:
        """The document with another reason, all else as it was."""
        if "DDBStreamBatchInfo" in self.document:
            return {**self.document, "requestContext": {**_context(self.document), "reason": reason}}
        return {**self.document, "reason": reason}


class Reader:
    """Understands the documents of one pipeline."""

    def __init__(self, pipeline: str, table_arn: str, key: Sequence[str]) -> None:
        """Understand documents of `pipeline`, or of the streams of the table `table_arn`.

        `key` are the names of the source table's key attributes.
        """
        self._pipeline = pipeline
        self._table_arn = table_arn
        self._key = tuple(key)

    def understand(self, body: bytes) -> Meaning:
        """What a document says.

        Raises:
            ForeignDocumentError: it is of another pipeline or table.
            UnknownDocumentError: it has none of the forms.
        """
        document = _without_envelope(_object(body))
        if "DDBStreamBatchInfo" in document:
            return self._of_destination(document)
        if document.get("format") == FORMAT and ("record" in document or "item" in document):
            if document.get("pipeline") != self._pipeline:
                raise ForeignDocumentError(f"it is of the pipeline {document.get('pipeline')!r}")
            if "item" in document:
                key = self._key_of(document["item"])
                return Meaning(document, (Row(key, None),) if key else (), unknown=0 if key else 1)
            return self._of_records(document, [document["record"]])
        raise UnknownDocumentError("it is not a document of a quarantine or a failure destination")

    def rows_of(self, records: Sequence[Any]) -> Iterator[Row | None]:
        """The rows that records in Lambda's form are of; None for one that does not say.

        Raises:
            ForeignDocumentError: a record is of another table.
        """
        for record in records:
            yield self._row(record)

    def _of_destination(self, document: Mapping[str, Any]) -> Meaning:
        info = document["DDBStreamBatchInfo"]
        try:
            arn, first, last = info["streamArn"], info["startSequenceNumber"], info["endSequenceNumber"]
            pointer = Pointer(str(arn), str(info["shardId"]), str(int(first)), str(int(last)))
        except (KeyError, TypeError, ValueError):
            raise UnknownDocumentError(
                "its DDBStreamBatchInfo does not say which records it is about"
            ) from None
        self._check_table(pointer.arn)
        payload = document.get("payload")
        if payload is None:
            return Meaning(document, pointer=pointer)
        if isinstance(payload, str):
            try:
                payload = json.loads(payload)
            except ValueError:
                payload = None
        records = payload.get("Records") if isinstance(payload, Mapping) else None
        if not isinstance(records, list) or not records:
            return Meaning(document, pointer=pointer)  # the stream may still have what the payload lacks
        return self._of_records(document, records)

    def _of_records(self, document: Mapping[str, Any], records: Sequence[Any]) -> Meaning:
        rows = list(self.rows_of(records))
        return Meaning(document, tuple(row for row in rows if row), unknown=rows.count(None))

    def _row(self, record: Any) -> Row | None:
        body = record.get("dynamodb") if isinstance(record, Mapping) else None
        if not isinstance(body, Mapping):
            return None
        arn = record.get("eventSourceARN")
        if isinstance(arn, str):
            self._check_table(arn)
        # The images are the better witness of the key: they are what the table holds (`ingest.records`).
        for witness in (body.get("NewImage"), body.get("OldImage"), body.get("Keys")):
            key = self._key_of(witness)
            if key:
                break
        else:
            return None
        try:
            version = streamed(label_of_stream(str(arn)), str(body.get("SequenceNumber")))
        except ContractError:
            version = None
        return Row(key, version)

    def _key_of(self, item: Any) -> dict[str, Any] | None:
        if not isinstance(item, Mapping) or not all(name in item for name in self._key):
            return None
        key = {name: item[name] for name in self._key}
        return key if is_key(key) else None

    def _check_table(self, arn: str) -> None:
        table = table_of_stream(arn)
        if table != self._table_arn:
            raise ForeignDocumentError(f"it is of the table {table}")


def _object(body: bytes | str) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnknownDocumentError("it is not a JSON object")
    return found


def _without_envelope(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document itself, also where SNS delivered it, by way of as many topics as there may be."""
    for _ in range(_ENVELOPES):
        message = document.get("Message")
        if document.get("Type") != "Notification" or not isinstance(message, str):
            break
        document = _object(message)
    return document


def _context(document: Mapping[str, Any]) -> Mapping[str, Any]:
    context = document.get("requestContext")
    return context if isinstance(context, Mapping) else {}
