"""Stream records and the changes they mean.

A record has the form in which Lambda delivers it (AWS Lambda developer guide, "Process DynamoDB records with
Lambda"): what the worker reads through the API is put into that form first, so there is one decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ingest.errors import MalformedRecordError
from ingest.policy import Policy
from ingest.wire import from_boto3
from lake.contract.rows import RESERVED_PREFIX, Change, DeletedBy, reserved_attribute
from lake.contract.versions import label_of_stream, streamed
from lake.errors import ContractError

Record = Mapping[str, Any]

_TTL_PRINCIPAL: Final = "dynamodb.amazonaws.com"


def sequence_number(record: Record) -> str:
    """The record's sequence number, the name by which a batch reports it.

    Raises:
        MalformedRecordError: it has none.
    """
    try:
        return str(record["dynamodb"]["SequenceNumber"])
    except (KeyError, TypeError):
        raise MalformedRecordError("the record has no sequence number") from None


def change_of(record: Record, policy: Policy) -> Change:
    """The change that a record means, after policy.

    Raises:
        MalformedRecordError: the record can never apply; the text says why.
    """
    try:
        body = record["dynamodb"]
        event = record["eventName"]
        version = streamed(label_of_stream(record["eventSourceARN"]), sequence_number(record))
        source_at = _milliseconds(body.get("ApproximateCreationDateTime"))
        keys, image = body["Keys"], body.get("NewImage")
        if event == "REMOVE":
            image = None
        elif event not in ("INSERT", "MODIFY"):
            raise MalformedRecordError(f"the event name {event!r} is none of INSERT, MODIFY, REMOVE")
        elif image is None:
            raise MalformedRecordError(
                "the record has no new image: the stream's view type must be NEW_IMAGE or NEW_AND_OLD_IMAGES"
            )
        if not keys:
            raise MalformedRecordError("the record has no keys")
        if image is not None and not keys.keys() <= image.keys():
            raise MalformedRecordError("the record's new image lacks a key attribute")
        # The images are the better witness of the key: they are what the table holds.
        witness = image or body.get("OldImage") or keys
        key = {name: witness.get(name, value) for name, value in keys.items()}
        refuse_reserved(image or key)
        return Change(
            key=policy.apply(key),
            image=None if image is None else policy.apply(image),
            version=version,
            source_at=source_at,
            deleted_by=_deleted_by(record.get("userIdentity")),
        )
    except ContractError as error:
        raise MalformedRecordError(str(error)) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MalformedRecordError(f"the record lacks its form: {type(error).__name__}") from None


def refuse_reserved(item: Mapping[str, Any]) -> None:
    """Refuse an item that uses a name which is dynalake's own.

    Raises:
        MalformedRecordError: an attribute begins with `_lake_`.
    """
    name = reserved_attribute(item)
    if name is not None:
        raise MalformedRecordError(
            f"the attribute {name!r} begins with {RESERVED_PREFIX!r}, which is reserved for dynalake: "
            "rename it in the source, then redrive"
        )


def last_change_per_key(changes: Iterable[Change]) -> list[Change]:
    """The newest change of each key; the earlier ones of the same key are superseded by it."""
    newest: dict[tuple[tuple[str, str], ...], Change] = {}
    for change in changes:
        identity = key_identity(change.key)
        held = newest.get(identity)
        if held is None or change.version > held.version:
            newest[identity] = change
    return list(newest.values())


def key_identity(key: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """A hashable name of an item: its key attributes in order of name, with tag and value in one text."""
    return tuple(sorted((name, repr(next(iter(value.items())))) for name, value in key.items()))


def lambda_event(records: Sequence[Mapping[str, Any]], stream_arn: str) -> dict[str, Any]:
    """The event that Lambda would deliver for records which boto3's GetRecords gave."""
    return {"Records": [_lambda_record(record, stream_arn) for record in records]}


def _lambda_record(record: Mapping[str, Any], stream_arn: str) -> dict[str, Any]:
    body = dict(record["dynamodb"])
    for image in ("Keys", "NewImage", "OldImage"):
        if image in body:
            body[image] = from_boto3(body[image])
    created = body.get("ApproximateCreationDateTime")
    if isinstance(created, datetime):
        body["ApproximateCreationDateTime"] = created.timestamp()
    delivered = {**record, "dynamodb": body, "eventSourceARN": stream_arn}
    identity = record.get("userIdentity")
    if identity:
        delivered["userIdentity"] = {"type": identity.get("Type"), "principalId": identity.get("PrincipalId")}
    return delivered


def _milliseconds(created: float | None) -> int | None:
    return None if created is None else round(float(created) * 1000)


def _deleted_by(identity: Mapping[str, Any] | None) -> DeletedBy:
    return "ttl" if identity and identity.get("principalId") == _TTL_PRINCIPAL else "user"
