"""The two spellings of DynamoDB JSON: the wire's and boto3's.

The wire, Lambda events, S3 exports and everything inside dynalake write binary as base64 text; boto3's client
takes and gives bytes. Numbers are strings in both. Only this module knows the difference.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from ingest.errors import MalformedRecordError

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def to_boto3(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The item as boto3's client takes it.

    Raises:
        MalformedRecordError: a binary value is not base64, or a value is not DynamoDB JSON.
    """
    return {name: _value_to_boto3(value) for name, value in item.items()}


def from_boto3(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as the wire has it.

    This never fails: a value that is not DynamoDB JSON stays what it is, with bytes as base64 text, so that whoever
    reads it next can refuse it or keep it whole. DynamoDB Local 3, for one, streams an empty map as `{}`.
    """
    return {name: _leniently(value) for name, value in item.items()}


def checked_from_boto3(item: Any) -> dict[str, Any]:
    """The item as the wire has it, where every value is DynamoDB JSON.

    Raises:
        MalformedRecordError: a value is not.
    """
    try:
        return {name: _value_from_boto3(value) for name, value in item.items()}
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise MalformedRecordError("a value is not DynamoDB JSON") from None


def _value_to_boto3(value: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        ((tag, content),) = value.items()
        match tag:
            case "B":
                return {"B": base64.b64decode(content, validate=True)}
            case "BS":
                return {"BS": [base64.b64decode(member, validate=True) for member in content]}
            case "M":
                return {"M": to_boto3(content)}
            case "L":
                return {"L": [_value_to_boto3(element) for element in content]}
    except binascii.Error:
        raise MalformedRecordError("a binary value is not base64") from None
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise MalformedRecordError("a value is not DynamoDB JSON") from None
    return value


def _leniently(value: Any) -> Any:
    try:
        return _value_from_boto3(value)
    except (AttributeError, TypeError, ValueError):
        return _untyped(value)
    except RecursionError:
        return value


def _value_from_boto3(value: Any) -> dict[str, Any]:
    """Raises AttributeError, TypeError or ValueError for what is not DynamoDB JSON."""
    ((tag, content),) = value.items()
    match tag, content:
        case "S", str():
            return {"S": content}
        case "N", str():
            return {"N": _number(content)}
        case "M", _:
            return {"M": {name: _value_from_boto3(member) for name, member in content.items()}}
        case "L", list():
            return {"L": [_value_from_boto3(element) for element in content]}
        case "B", _:
            return {"B": base64.b64encode(content).decode()}
        case ("BOOL", bool()) | ("NULL", True):
            return {tag: content}
        case "BS", list():
            return {"BS": [base64.b64encode(member).decode() for member in content]}
        case "SS", list() if all(isinstance(member, str) for member in content):
            return {"SS": content}
        case "NS", list():
            return {"NS": [_number(member) for member in content]}
    raise ValueError(tag)


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return text


def _untyped(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _untyped(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_untyped(element) for element in value]
    return value
