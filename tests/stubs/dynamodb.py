"""DynamoDB tables in memory, behind the methods of boto3's client that dynalake calls.

    account = StubDynamoDB()
    table = account.create_table("orders", {"pk": "S", "sk": "N"}, StubStream(…))
    Applier(account.client, "orders", …)          # the client, typed as boto3's
    table.put({"pk": {"S": "1"}, …})              # a source's write: goes to the stream, meets no faults
    account.hook = lambda call: Fault(throttled()) if call.operation == "put_item" else None
    account.land()                                # lets a write of effect "later" take effect
    account.calls                                 # Counter of operations

By the API reference: writes are checked (key, size, numbers) before their condition; a condition that fails is
ConditionalCheckFailedException; Scan and Query page; a page that is exactly full has a LastEvaluatedKey even
where nothing follows it.
"""

from __future__ import annotations

import functools
import re
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Context, Decimal, InvalidOperation
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import botocore.session
from botocore.validate import ParamValidator

from tests.stubs.expressions import ExpressionError, assignments, check_placeholders, holds
from tests.stubs.faults import Call, Fault, Hook, client_error, no_fault

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
Identity = tuple[tuple[str, str], ...]

MAX_ITEM_BYTES: Final = 400 * 1024
_PARTITION: Final = re.compile(r"(#\w+) = (:\w+)")
_PREFIX: Final = re.compile(r"(#\w+) = (:\w+) AND begins_with\((#\w+), (:\w+)\)")
_SMALL_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,14}")
_NUMBERS: Final = Context(prec=38)
_EXACT: Final = Context(prec=1000)


class Recorder(Protocol):
    """What a table tells its changes to; `tests.stubs.streams.StubStream` is one."""

    def record(self, event: str, key: Item, new: Item | None, old: Item | None, *, ttl: bool) -> None: ...


class StubTable:
    """One table."""

    def __init__(self, name: str, key: Mapping[str, str], stream: Recorder | None) -> None:
        self.name = name
        self.key = dict(key)
        self.stream = stream
        self.indexes: list[tuple[str, str, str, int]] = []
        """(index, key attribute, its type, most bytes) of its secondary indexes."""
        self.items: dict[Identity, Item] = {}
        self._sorted: list[Identity] | None = None
        self.on_write: Callable[[Item | None, Item | None], None] = lambda _old, _new: None
        """Told of every write that took effect: (old item, new item)."""

    def put(self, item: Mapping[str, Any]) -> None:
        """Write an item as its owner would."""
        self.write(self.identity(item), {name: normal(value) for name, value in item.items()})

    def delete(self, key: Mapping[str, Any], *, ttl: bool = False) -> None:
        """Delete an item as its owner, or the table's time-to-live, would."""
        self.write(self.identity(key), None, ttl=ttl)

    def get(self, key: Mapping[str, Any]) -> Item | None:
        return self.items.get(self.identity(key))

    def sorted_keys(self) -> list[Identity]:
        """The keys of all items, in order."""
        if self._sorted is None:
            self._sorted = sorted(self.items)
        return self._sorted

    def identity(self, item: Mapping[str, Any]) -> Identity:
        return tuple([(tag, str(item[name][tag])) for name, tag in self.key.items()])

    def write(self, identity: Identity, new: Item | None, *, ttl: bool = False) -> None:
        old = self.items.get(identity)
        if (new is None) != (old is None):
            self._sorted = None
        if new is None:
            self.items.pop(identity, None)
        else:
            self.items[identity] = new
        self.on_write(old, new)
        if self.stream is not None and new != old:
            event = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
            witness = cast("Item", new or old)
            self.stream.record(event, {name: witness[name] for name in self.key}, new, old, ttl=ttl)


class StubDynamoDB:
    """An account's tables."""

    def __init__(
        self, *, validate: bool = True, page_size: int = 100, max_item_bytes: int = MAX_ITEM_BYTES
    ) -> None:
        """Make an account without tables.

        Args:
            validate: check each request by botocore's own model of the API.
            page_size: that of Scan and Query.
            max_item_bytes: the size above which PutItem refuses an item.
        """
        self.tables: dict[str, StubTable] = {}
        self.calls: Counter[str] = Counter()
        self.hook: Hook = no_fault
        self.landing: list[Callable[[], None]] = []
        self.page_size = page_size
        self.meta = SimpleNamespace(region_name="eu-west-1")
        self._validate = validate
        self._max_item_bytes = max_item_bytes

    @property
    def client(self) -> DynamoDBClient:
        return cast("DynamoDBClient", self)

    def create_table(self, name: str, key: Mapping[str, str], stream: Recorder | None = None) -> StubTable:
        """Make a table; `key` is name -> type, the partition key first."""
        self.tables[name] = StubTable(name, key, stream)
        return self.tables[name]

    def land(self, index: int = 0) -> None:
        """Let a write that was under way take effect now."""
        self.landing.pop(index)()

    # The operations

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._call("put_item", request, self._put_item)

    def update_item(self, **request: Any) -> dict[str, Any]:
        return self._call("update_item", request, self._update_item)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        return self._call("delete_item", request, self._delete_item)

    def get_item(self, **request: Any) -> dict[str, Any]:
        return self._call("get_item", request, self._get_item)

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        return self._call("batch_get_item", request, self._batch_get_item)

    def scan(self, **request: Any) -> dict[str, Any]:
        return self._call("scan", request, self._scan)

    def query(self, **request: Any) -> dict[str, Any]:
        return self._call("query", request, self._query)

    def get_paginator(self, operation: str) -> _Paginator:
        return _Paginator(getattr(self, operation))

    # How they go

    def _call(
        self, operation: str, request: dict[str, Any], run: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        self.calls[operation] += 1
        if self._validate:
            validate("dynamodb", operation, request)
        fault = self.hook(Call("dynamodb", operation, request))
        if fault is None:
            return run(request)
        raise self._failed(fault, lambda: run(request))

    def _failed(self, fault: Fault, run: Callable[[], Any]) -> BaseException:
        def quietly() -> None:
            with suppress(Exception):  # nobody waits for the answer any more
                run()

        if fault.effect == "done":
            quietly()
        elif fault.effect == "later":
            self.landing.append(quietly)
        return fault.error

    def _put_item(self, request: dict[str, Any]) -> dict[str, Any]:
        table = self._table("PutItem", request)
        item = _normal_or_refuse("PutItem", request["Item"])
        _check_key("PutItem", table, item)
        _check_indexes("PutItem", table, item)
        size = item_bytes(item)
        if size > self._max_item_bytes:
            raise _invalid("PutItem", "Item size has exceeded the maximum allowed size")
        self._check_condition("PutItem", table, item, request)
        table.write(table.identity(item), item)
        return _answer(request, max(1.0, -(-size // 1024)))

    def _update_item(self, request: dict[str, Any]) -> dict[str, Any]:
        table = self._table("UpdateItem", request)
        names, values = _placeholders(request)
        update, condition = request["UpdateExpression"], request.get("ConditionExpression", "")
        used = {value: content for value, content in values.items() if value in update}
        rest = {value: content for value, content in values.items() if value in condition}
        try:
            old = table.get(request["Key"])
            if condition and not holds(
                condition, old, {n: a for n, a in names.items() if n in condition}, rest
            ):
                raise client_error(
                    "UpdateItem", "ConditionalCheckFailedException", "The conditional request failed"
                )
            new = assignments(update, {n: a for n, a in names.items() if n in update}, used)
        except ExpressionError as error:
            raise _invalid("UpdateItem", str(error)) from None
        table.write(table.identity(request["Key"]), {**request["Key"], **(old or {}), **new})
        return _answer(request, 1.0)

    def _delete_item(self, request: dict[str, Any]) -> dict[str, Any]:
        table = self._table("DeleteItem", request)
        self._check_condition("DeleteItem", table, request["Key"], request)
        table.write(table.identity(request["Key"]), None)
        return _answer(request, 1.0)

    def _get_item(self, request: dict[str, Any]) -> dict[str, Any]:
        table = self._table("GetItem", request)
        if {name: next(iter(value)) for name, value in request["Key"].items()} != table.key:
            raise _invalid("GetItem", "The provided key element does not match the schema")
        item = table.get(request["Key"])
        return {} if item is None else {"Item": dict(item)}

    def _batch_get_item(self, request: dict[str, Any]) -> dict[str, Any]:
        """At most 100 keys, none twice, answers in another order; what is beyond `page_size` comes back unread."""
        ((name, wanted),) = request["RequestItems"].items()
        table, keys = self._table("BatchGetItem", {"TableName": name}), wanted["Keys"]
        if len(keys) > 100 or len({table.identity(key) for key in keys}) < len(keys):
            raise _invalid("BatchGetItem", "Too many items requested, or a key is there twice")
        found = [table.get(key) for key in reversed(keys[: self.page_size])]
        answer: dict[str, Any] = {"Responses": {name: [dict(item) for item in found if item is not None]}}
        rest = keys[self.page_size :]
        answer["UnprocessedKeys"] = {name: {**wanted, "Keys": rest}} if rest else {}
        return answer

    def _scan(self, request: dict[str, Any]) -> dict[str, Any]:
        table = self._table("Scan", request)
        segment, segments = request.get("Segment", 0), request.get("TotalSegments", 1)
        first = next(iter(table.key))
        places = {
            (_hash(item[first]), identity): item
            for identity, item in table.items.items()
            if _hash(item[first]) % segments == segment
        }
        start = request.get("ExclusiveStartKey")
        after = (_hash(start[first]), table.identity(start)) if start else None
        return self._page(
            request, table, [places[at] for at in sorted(places) if after is None or at > after]
        )

    def _query(self, request: dict[str, Any]) -> dict[str, Any]:
        table = self._table("Query", request)
        names, values = _placeholders(request)
        start = request.get("ExclusiveStartKey")
        after = table.identity(start) if start else None
        condition = request["KeyConditionExpression"]
        keys = table.sorted_keys()
        begin = bisect_right(keys, after) if after is not None else 0
        span = _span(table, condition, names, values)
        if span is not None:
            check_placeholders(condition, tuple(names), tuple(values))
            first, end = span
            found = [table.items[identity] for identity in keys[max(begin, first) : end]]
        else:
            items = (table.items[identity] for identity in keys[begin:])
            found = [item for item in items if holds(condition, item, names, values)]
        return self._page(request, table, found)

    def _page(self, request: Mapping[str, Any], table: StubTable, items: list[Item]) -> dict[str, Any]:
        size = min(self.page_size, request.get("Limit", self.page_size))
        page = [dict(item) for item in items[:size]]
        answer: dict[str, Any] = {"Items": page, "Count": len(page)}
        if len(page) == size:
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in table.key}
        return answer | _answer(request, max(0.5, len(page) / 2))

    def _table(self, operation: str, request: Mapping[str, Any]) -> StubTable:
        if request["TableName"] not in self.tables:
            message = "Requested resource not found"
            raise client_error(operation, "ResourceNotFoundException", message)
        return self.tables[request["TableName"]]

    @staticmethod
    def _check_condition(operation: str, table: StubTable, key: Item, request: Mapping[str, Any]) -> None:
        condition = request.get("ConditionExpression")
        names, values = _placeholders(request)
        if condition is None:
            if names or values:
                raise _invalid(
                    operation, "Expression attributes can only be specified when using expressions"
                )
            return
        try:
            if holds(condition, table.get(key), names, values):
                return
        except ExpressionError as error:
            raise _invalid(operation, str(error)) from None
        raise client_error(operation, "ConditionalCheckFailedException", "The conditional request failed")


class _Paginator:
    """Goes on with LastEvaluatedKey until there is none."""

    def __init__(self, operation: Callable[..., dict[str, Any]]) -> None:
        self._operation = operation

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self._operation(**request, **more)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


class _Models:
    """botocore's models of the services, loaded once."""

    @cached_property
    def session(self) -> botocore.session.Session:
        return botocore.session.get_session()

    def shape(self, service: str, operation: str) -> Any:
        camel = "".join(word.capitalize() for word in operation.split("_"))
        return self._model(service).operation_model(camel).input_shape

    def _model(self, service: str) -> Any:
        if service not in self._loaded:
            self._loaded[service] = self.session.get_service_model(service)
        return self._loaded[service]

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        return {}


_models: Final = _Models()


def validate(service: str, operation: str, request: Mapping[str, Any]) -> None:
    """Refuse a request that botocore itself would not send.

    Raises:
        botocore.exceptions.ParamValidationError: as botocore does.
    """
    from botocore.exceptions import ParamValidationError

    report = ParamValidator().validate(dict(request), _models.shape(service, operation))
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())


def _span(
    table: StubTable, condition: str, names: Mapping[str, str], values: Mapping[str, Any]
) -> tuple[int, int] | None:
    """The range of the sorted keys for which a key condition on texts holds; None where it has to be evaluated."""
    form = _form(condition)
    if form is None:
        return None
    texts = []
    for (attribute, tag), (name, value) in zip(table.key.items(), form, strict=False):
        text = values.get(value, {}).get("S")
        if text is None or tag != "S" or names.get(name) != attribute:
            return None
        texts.append(text)
    if len(texts) < len(form):
        return None
    keys, first = table.sorted_keys(), ("S", texts[0])
    if len(texts) == 1:
        return bisect_left(keys, (first,)), bisect_left(keys, (("S", texts[0] + "\0"),))
    begin = bisect_left(keys, (first, ("S", texts[1])))
    return begin, bisect_left(keys, (first, ("S", texts[1] + chr(0x10FFFF))), begin)


@functools.cache
def _form(condition: str) -> list[tuple[str, str]] | None:
    """The placeholders (name, value) of a key condition of the usual forms: a partition, or a prefix in one."""
    match = _PARTITION.fullmatch(condition) or _PREFIX.fullmatch(condition)
    if match is None:
        return None
    groups = match.groups()
    return list(zip(groups[::2], groups[1::2], strict=True))


def item_bytes(item: Mapping[str, Any]) -> int:
    """An item's size (developer guide, "DynamoDB item sizes and formats")."""
    size = 0
    for name, value in item.items():
        size += len(name.encode()) + _value_bytes(value)
    return size


def normal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A value as DynamoDB stores it: numbers without superfluous zeros."""
    ((tag, content),) = value.items()
    match tag:
        case "N":
            return {"N": _number(content)}
        case "NS":
            return {"NS": [_number(number) for number in content]}
        case "L":
            return {"L": [normal(element) for element in content]}
        case "M":
            return {"M": {name: normal(member) for name, member in content.items()}}
    return {tag: content}


def _number(text: str) -> str:
    if _SMALL_INTEGER.fullmatch(text):
        return text
    value = Decimal(text)
    if value.normalize(_EXACT) != value.normalize(_NUMBERS):
        raise InvalidOperation  # DynamoDB refuses what has more than 38 significant digits
    return "0" if value.is_zero() else format(value.normalize(_NUMBERS), "f")


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((tag, content),) = value.items()
    match tag:
        case "S":
            return len(content.encode())
        case "N":
            return (len(content.lstrip("-").replace(".", "").strip("0")) + 1) // 2 + 1
        case "B":
            return len(content)
        case "L":
            return 3 + sum(1 + _value_bytes(element) for element in content)
        case "M":
            return 3 + len(content) + item_bytes(content)
        case "SS" | "NS" | "BS":
            return sum(_value_bytes({tag[0]: member}) for member in content)
    return 1


def _normal_or_refuse(operation: str, item: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {name: normal(value) for name, value in item.items()}
    except InvalidOperation:
        raise _invalid(operation, "The parameter cannot be converted to a numeric value") from None
    except ValueError:
        raise _invalid(operation, "Supplied AttributeValue has more than one datatypes set") from None


def _check_key(operation: str, table: StubTable, item: Item) -> None:
    for name, tag in table.key.items():
        if name not in item:
            raise _invalid(
                operation, f"One or more parameter values were invalid: Missing the key {name} in the item"
            )
        (actual,) = item[name]
        if actual != tag:
            raise _invalid(
                operation,
                "One or more parameter values were invalid: "
                f"Type mismatch for key {name} expected: {tag} actual: {actual}",
            )


def _check_indexes(operation: str, table: StubTable, item: Item) -> None:
    """In the words of DynamoDB."""
    for index, name, tag, most in table.indexes:
        if name not in item:
            continue
        ((actual, content),) = item[name].items()
        if actual != tag:
            raise _invalid(
                operation,
                "One or more parameter values were invalid: "
                f"Type mismatch for Index Key {name} Expected: {tag} Actual: {actual} IndexName: {index}",
            )
        size = len(content.encode() if isinstance(content, str) else content)
        if size > most:
            raise _invalid(
                operation,
                f"One or more parameter values were invalid: Size limit exceeded for Index Key {name} "
                f"Actual Size: {size} bytes Max Size: {most} bytes IndexName: {index}",
            )
        if not size:
            kind = "string" if tag == "S" else "binary"
            raise _invalid(
                operation,
                "One or more parameter values are not valid. A value specified for a secondary index key is not "
                f"supported. The AttributeValue for a key attribute cannot contain an empty {kind} value. "
                f"IndexName: {index}, IndexKey: {name}",
            )


def _placeholders(request: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    return request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})


def _answer(request: Mapping[str, Any], units: float) -> dict[str, Any]:
    if request.get("ReturnConsumedCapacity", "NONE") == "NONE":
        return {}
    return {"ConsumedCapacity": {"TableName": request["TableName"], "CapacityUnits": float(units)}}


def _invalid(operation: str, message: str) -> BaseException:
    return client_error(operation, "ValidationException", message)


def _hash(value: Mapping[str, Any]) -> int:
    return zlib.crc32(repr(value).encode())


def rows(table: StubTable) -> Iterable[Item]:
    """A table's items, in no order that means anything."""
    return list(table.items.values())
