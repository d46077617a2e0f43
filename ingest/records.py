"""Stream records and the changes they mean.

A record has the form in which Lambda delivers it (AWS Lambda developer guide, "Process DynamoDB records with
Lambda"): what the worker reads through the API is put into that form first, so there is one decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ingest.errors import ForeignEventError, ForeignRecordError, IngestError, MalformedRecordError
from ingest.policy import Policy
from ingest.wire import from_boto3
from lake.contract.rows import RESERVED_PREFIX, Change, DeletedBy, reserved_attribute
from lake.contract.versions import SEQUENCE_DIGITS, label_of_stream, streamed, table_of_stream
from lake.errors import ContractError

Record = Mapping[str, Any]

_TTL_PRINCIPAL: Final = "dynamodb.amazonaws.com"
_OURS: Final = "aws:dynamodb"
_IMAGES: Final = ("Keys", "NewImage", "OldImage")
_KEY_TYPES: Final = ("S", "N", "B")
_SHOWN: Final = 100
"""Characters of a foreign text that a message repeats."""

_UNITS: Final = ((1e11, 1000.0), (1e14, 1.0), (1e17, 0.001))
"""ApproximateCreationDateTime below this bound, and what makes it milliseconds: DynamoDB Streams give seconds, Kinesis
Data Streams for DynamoDB milliseconds or microseconds (ApproximateCreationDateTimePrecision). Each range ends in the
year 5138, and the next begins in 1973."""

_EXPIRY_SLACK_S: Final = 60.0
"""An item that expires so soon after its deletion may have been expired by the clock that deleted it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The table whose records are applied.

    Attributes:
        table_arn: its ARN. Records of another table are refused; the stream may be any of this table's, because it
            gets another label when it is switched off and on.
        replicated_ttl: the attribute of its time-to-live, if the table is a replica of a global table: a deletion by
            another Region's time-to-live arrives without `userIdentity` (DynamoDB developer guide, "Working with
            expired items and time to live"). Empty if the table is not a replica, or has no time-to-live; None if
            that is not known.
        key: the table's key attributes -> DynamoDB type, an empty type if it is not known. A record with another key
            is of a table that was recreated under the same name, and is refused. Not compared if None.
    """

    table_arn: str
    replicated_ttl: str | None = None
    key: Mapping[str, str] | None = None


def records_of(event: Any) -> Sequence[Any]:
    """The records of an event which a DynamoDB stream's event source mapping delivered.

    Raises:
        ForeignEventError: the event came from something else; the text says from what, and what to do.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list | tuple):
        raise _foreign(_kind_of_event(event))
    for record in records:
        if isinstance(record, Mapping):
            source = record.get("eventSource", record.get("EventSource", _OURS))
            if source != _OURS:
                raise _foreign(f"a batch from {_shown(source)}")
    return records


def sequence_number(record: Any) -> str:
    """The record's sequence number, the name by which a batch reports it.

    Raises:
        MalformedRecordError: it has none.
    """
    number = _number_of(record)
    if not number:
        raise MalformedRecordError("the record has no sequence number")
    if number.isascii() and number.isdigit():
        if len(number) <= SEQUENCE_DIGITS:
            return number
        raise MalformedRecordError(f"the sequence number has more than {SEQUENCE_DIGITS} digits")
    raise MalformedRecordError("the sequence number is not a number")


def number_of(record: Any) -> str:
    """The record's sequence number; empty where it has none that is valid."""
    number = _number_of(record)
    return number if number.isascii() and number.isdigit() and len(number) <= SEQUENCE_DIGITS else ""


def _number_of(record: Any) -> str:
    """What the record has in the place of its sequence number, as text; empty where that is missing or has no text."""
    try:
        number = record["dynamodb"]["SequenceNumber"]
        return str(number) if isinstance(number, str | int) else ""
    except (
        KeyError,
        TypeError,
        ValueError,
    ):  # ValueError: Python refuses to write a number of over 4,300 digits
        return ""


def last_number_of(records: Sequence[Any]) -> str | None:
    """The sequence number of the last record that has one: how far a shard has been read."""
    return next((number for record in reversed(records) if (number := number_of(record))), None)


def created_ms(record: Any) -> int | None:
    """When the change was made, epoch milliseconds; None where the record does not say it, or not validly."""
    try:
        return _milliseconds(record["dynamodb"].get("ApproximateCreationDateTime"))
    except (KeyError, TypeError, AttributeError, MalformedRecordError):
        return None


def change_of(
    record: Any,
    policy: Policy,
    origin: Origin,
    on_mismatch: Callable[[str], None] = lambda _reason: None,
) -> Change:
    """The change that a record means, after policy.

    Args:
        record: the record, in Lambda's form.
        policy: what the lake may see.
        origin: what a record of the pipeline must come from.
        on_mismatch: as for `Policy.apply`, for the image.

    Raises:
        ForeignRecordError: the record is of another table.
        MalformedRecordError: the record can never apply; the text says why.
        PolicyRefusedError: the policy cannot be applied to it, so it must not pass.
    """
    try:
        return _change_of(record, policy, origin, on_mismatch)
    except IngestError:
        raise
    except ContractError as error:
        raise MalformedRecordError(error.message, remedy=error.remedy) from None
    except Exception as error:  # whatever a record may hold: it must not stop the records beside it
        raise MalformedRecordError(f"the record lacks its form: {type(error).__name__}") from None


def _change_of(record: Any, policy: Policy, origin: Origin, on_mismatch: Callable[[str], None]) -> Change:
    body = record["dynamodb"]
    event = record["eventName"]
    arn = record["eventSourceARN"]
    label = label_of_stream(arn)
    if table_of_stream(arn) != origin.table_arn:
        raise ForeignRecordError(
            f"the record is of the table {_shown(table_of_stream(arn))}, and this pipeline replicates "
            f"{origin.table_arn}",
            remedy="remove the event source mapping that delivers it",
        )
    version = streamed(label, sequence_number(record))
    source_at = _milliseconds(body.get("ApproximateCreationDateTime"))
    keys, image = body["Keys"], body.get("NewImage")
    if event == "REMOVE":
        image = None
    elif event not in ("INSERT", "MODIFY"):
        raise MalformedRecordError(f"the event name {_shown(event)} is none of INSERT, MODIFY, REMOVE")
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
    if not is_key(key):
        raise MalformedRecordError("a key attribute of the record is not a text, a number or a binary value")
    _check_key(key, origin.key)
    refuse_reserved(image or key)
    if image is not None and None in image.values():
        raise MalformedRecordError("an attribute of the record's new image has no value")
    return Change(
        key=policy.apply(key),
        image=None if image is None else policy.apply(image, on_mismatch),
        version=version,
        source_at=source_at,
        deleted_by="user" if image is not None else _deleted_by(record, source_at, origin.replicated_ttl),
    )


def _check_key(key: Mapping[str, Any], expected: Mapping[str, str] | None) -> None:
    found = {name: tag for name, value in key.items() for tag in value}
    if expected is not None and (
        found.keys() != expected.keys() or any(expected[name] not in ("", found[name]) for name in found)
    ):
        raise MalformedRecordError(
            f"the record's key is {_key_words(found)}, and the pipeline was set up for {_key_words(expected)}: the "
            "source table was recreated with another key"
        )


def _key_words(key: Mapping[str, str]) -> str:
    return _shown(" + ".join(f"{name} ({type_})" if type_ else name for name, type_ in sorted(key.items())))


def is_key(key: Mapping[str, Any]) -> bool:
    """Whether every value is one that a key attribute can have."""
    return all(
        isinstance(value, Mapping)
        and len(value) == 1
        and all(tag in _KEY_TYPES and isinstance(content, str) for tag, content in value.items())
        for value in key.values()
    )


def refuse_reserved(item: Mapping[str, Any]) -> None:
    """Refuse an item that uses a name which is dynalake's own.

    Raises:
        MalformedRecordError: an attribute begins with `_lake_`.
    """
    name = reserved_attribute(item)
    if name is not None:
        raise MalformedRecordError(
            f"the attribute {name!r} begins with {RESERVED_PREFIX!r}, which is reserved for dynalake",
            remedy="rename it in the source, then redrive",
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
    """The event that Lambda would deliver for records which boto3's GetRecords gave.

    What cannot be translated stays as it is, so that the handler refuses that record and no other.
    """
    return {"Records": [_lambda_record(record, stream_arn) for record in records]}


def _lambda_record(record: Mapping[str, Any], stream_arn: str) -> dict[str, Any]:
    delivered: dict[str, Any] = {**record, "eventSource": _OURS, "eventSourceARN": stream_arn}
    body = record.get("dynamodb")
    if isinstance(body, Mapping):
        delivered["dynamodb"] = body = dict(body)
        for image in _IMAGES:
            if isinstance(body.get(image), Mapping):
                body[image] = from_boto3(body[image])
        created = body.get("ApproximateCreationDateTime")
        if isinstance(created, datetime):
            body["ApproximateCreationDateTime"] = created.timestamp()
    identity = record.get("userIdentity")
    if isinstance(identity, Mapping):
        delivered["userIdentity"] = {"type": identity.get("Type"), "principalId": identity.get("PrincipalId")}
    return delivered


def _milliseconds(created: Any) -> int | None:
    """Epoch milliseconds of an ApproximateCreationDateTime in seconds, milliseconds or microseconds.

    Raises:
        MalformedRecordError: it is not a time.
    """
    if created is None:
        return None
    try:
        value = created.timestamp() if isinstance(created, datetime) else float(created)
    except (TypeError, ValueError, OverflowError):
        value = -1.0
    factor = next((factor for bound, factor in _UNITS if 0 <= value < bound), None)
    if factor is None:
        raise MalformedRecordError("ApproximateCreationDateTime is not a time in seconds or milliseconds")
    return round(value * factor)


def _deleted_by(record: Record, deleted_at: int | None, replicated_ttl: str | None) -> DeletedBy:
    """Who deleted the item, as far as the record says it for certain."""
    identity = record.get("userIdentity")
    if identity:
        return "ttl" if identity.get("principalId") == _TTL_PRINCIPAL else "unknown"
    if replicated_ttl == "":
        return "user"
    old = record["dynamodb"].get("OldImage")
    if replicated_ttl is None or old is None or deleted_at is None:
        return "unknown"
    expires_at = old.get(replicated_ttl, {}).get("N")
    may_have_expired = expires_at is not None and float(expires_at) <= deleted_at / 1000 + _EXPIRY_SLACK_S
    return "unknown" if may_have_expired else "user"


def _shown(text: Any) -> str:
    return repr(text) if isinstance(text, str) and len(text) <= _SHOWN else "of another form"


def _kind_of_event(event: Any) -> str:
    """What sent an event that has no records of the form that Lambda gives them."""
    if isinstance(event, list | tuple):
        return "a list, as EventBridge Pipes send it"
    if not isinstance(event, Mapping):
        return "no JSON object"
    for sign, kind in _SIGNS.items():
        if sign in event:
            return kind
    return "without Records"


_SIGNS: Final = {
    "detail-type": "from EventBridge",
    "requestContext": "from API Gateway, a function URL or a load balancer",
    "httpMethod": "from API Gateway",
    "awslogs": "from CloudWatch Logs",
    "deliveryStreamArn": "from Data Firehose",
    "records": "from Kafka or Data Firehose",
    "rmqMessagesByQueue": "from Amazon MQ",
    "messages": "from Amazon MQ",
    "RequestType": "from CloudFormation",
    "triggerSource": "from Cognito",
}
"""An event's key, and what sends events that have it (AWS Lambda developer guide, "Integrating other services")."""


def _foreign(what: str) -> ForeignEventError:
    return ForeignEventError(
        f"the event is {what}, and this function takes the records of one DynamoDB stream",
        remedy="remove the other trigger: the function's only event source mapping must be on the source table's "
        "stream",
    )
