"""Arrow types from a server's type names, and nested values from JSON.

HiveServer2's protocol has no nested columns: a list, map or struct arrives as text. Spark's Thrift server writes
that text without escaping quotes, so nothing reads it back safely; `HiveSession` therefore has Spark write JSON
and gives it to `from_json` with the exact type, which `DESCRIBE QUERY` tells.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from queries.errors import EngineError

_PLAIN: Final[dict[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp_ntz": pa.timestamp("us"),
    "void": pa.null(),
}
_DECIMAL: Final = re.compile(r"decimal\((\d+),\s*(\d+)\)")


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type of a type's name in Hive or Spark, such as `array<struct<at:string,n:decimal(38,2)>>`.

    What Arrow has no match for, such as an interval, is text.
    """
    kind, rest = _parse(text.strip())
    if rest:
        raise EngineError(f"the server calls a column's type {text!r}, which cannot be read")
    return kind


def from_json(texts: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    """JSON texts as an array of a nested type."""
    values = [None if text is None else json.loads(text, parse_float=Decimal) for text in texts]
    return pa.array([_value(value, kind) for value in values], kind)


def _parse(text: str) -> tuple[pa.DataType, str]:
    for word, build in (("array", _array), ("map", _map), ("struct", _struct)):
        if text.startswith(word + "<"):
            return build(text[len(word) + 1 :])
    end = _end(text)
    return _scalar(text[:end].strip().lower()), text[end:]


def _scalar(name: str) -> pa.DataType:
    if found := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return _PLAIN.get(name, pa.string())


def _end(text: str) -> int:
    """Where a scalar's name ends: at a comma or bracket outside of parentheses."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth and character in ",>":
            return at
    return len(text)


def _array(text: str) -> tuple[pa.DataType, str]:
    element, rest = _parse(text)
    return pa.list_(element), _closed(rest)


def _map(text: str) -> tuple[pa.DataType, str]:
    key, rest = _parse(text)
    if not rest.startswith(","):
        raise EngineError("the server's name of a map type has no second part")
    item, rest = _parse(rest[1:].lstrip())
    return pa.map_(key, item), _closed(rest)


def _struct(text: str) -> tuple[pa.DataType, str]:
    fields = []
    while not text.startswith(">"):
        name, _, text = text.partition(":")
        kind, text = _parse(text)
        fields.append((name.strip().strip("`"), kind))
        text = text.removeprefix(",").lstrip()
        if not text:
            raise EngineError("the server's name of a struct type has no end")
    return pa.struct(fields), text[1:]


def _closed(rest: str) -> str:
    if not rest.startswith(">"):
        raise EngineError("the server's name of a nested type has no end")
    return rest[1:]


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_value(each, kind.value_type) for each in value]
    if pa.types.is_map(kind):
        return [(_value(key, kind.key_type), _value(item, kind.item_type)) for key, item in value.items()]
    if pa.types.is_struct(kind):
        return {field.name: _value(value.get(field.name), field.type) for field in kind}
    for holds, build in _SCALARS:
        if holds(kind):
            return build(value)
    return value


_SCALARS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]], ...]] = (
    (pa.types.is_decimal, lambda value: Decimal(str(value))),
    (pa.types.is_floating, float),
    (pa.types.is_integer, int),
    (pa.types.is_binary, lambda value: base64.b64decode(value)),
    (pa.types.is_date, date.fromisoformat),
    (pa.types.is_timestamp, datetime.fromisoformat),
)
"""A map's keys are texts in JSON, whatever they were; and a double may be "NaN"."""
