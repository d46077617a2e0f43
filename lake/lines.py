"""Lines of DynamoDB JSON: an item a line, binary as base64, the form in which rows travel in bulk.

`item_to_line` and `item_from_line` make a Python object of every value: they are for tests, single items and
error messages. The bulk path leaves lines as they are.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lake.contract.numbers import canonical_number
from lake.contract.rows import Item
from lake.errors import ContractError, DecodeError


def spool(pages: Iterable[Sequence[bytes]], path: Path, source: str) -> int:
    """Writes pages of lines to a file, and returns how many lines there are.

    Args:
        pages: pages of lines, each one JSON object without a line end.
        path: the file to write.
        source: what to call the lines in an error.

    Raises:
        DecodeError: a line is empty or holds a line end.
    """
    lines = 0
    with path.open("wb") as file:
        for page in pages:
            if not page:
                continue
            block = b"\n".join(page)
            if block.count(b"\n") != len(page) - 1 or not all(page):
                number = next(i for i, line in enumerate(page, lines + 1) if not line or b"\n" in line)
                raise DecodeError(f"line {number} of {source} is empty or is more than one line")
            file.write(block)
            file.write(b"\n")
            lines += len(page)
    return lines


def pick_lines(source: Path, wanted: Iterator[int], target: Path) -> None:
    """Copies some lines of a spooled file to another, as they are.

    Args:
        source: the file.
        wanted: the lines' numbers, from 0, ascending.
        target: the file to write.
    """
    following = next(wanted, None)
    with source.open("rb") as lines, target.open("wb") as file:
        for number, line in enumerate(lines):
            if number == following:
                file.write(line)
                following = next(wanted, None)


def item_to_line(item: Item) -> bytes:
    """An item as one line."""
    return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()


def item_from_line(line: bytes | str) -> dict[str, Any]:
    """The item that a line holds.

    Raises:
        DecodeError: the line is not an item in DynamoDB JSON.
    """
    try:
        item = json.loads(line, object_pairs_hook=_object)
        if not isinstance(item, dict):
            raise DecodeError("it is not a JSON object")
        for name, value in item.items():
            reason = _malformed(value)
            if reason:
                raise DecodeError(f"the attribute {name!r} {reason}")
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"it is not JSON: {error}") from error
    return item


def first_bad_line(path: Path, wrappers: Sequence[str] = ()) -> tuple[int, str] | None:
    """The first line of a spooled file that is no item, and why; None where all are sound.

    It is slow, and meant for telling people where the trouble is once it is known that there is some.

    Args:
        path: the file.
        wrappers: where a line is not the item but `{"NewImage": item}`: the names that may wrap it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                content: bytes | str = line
                if wrappers:
                    wrapped = json.loads(line, object_pairs_hook=_object)
                    if not isinstance(wrapped, dict) or len(wrapped.keys() & set(wrappers)) != 1:
                        return number, f"it has not one of {', '.join(wrappers)}"
                    content = json.dumps(next(wrapped[name] for name in wrappers if name in wrapped))
                item_from_line(content)
            except (DecodeError, ValueError) as error:
                return number, str(error)
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _malformed(value: Any) -> str | None:
    """Why this is no attribute value; None where it is one."""
    match value:
        case {"S": str(), **rest} | {"BOOL": bool(), **rest} | {"NULL": True, **rest}:
            wrong = None
        case {"N": content, **rest}:
            wrong = _no_number(content)
        case {"B": content, **rest}:
            wrong = _no_binary(content)
        case {"SS": list(content), **rest}:
            wrong = None if all(isinstance(text, str) for text in content) else "has a set with a non-string"
        case {"NS": list(content), **rest}:
            wrong = next(filter(None, map(_no_number, content)), None)
        case {"BS": list(content), **rest}:
            wrong = next(filter(None, map(_no_binary, content)), None)
        case {"L": list(content), **rest}:
            wrong = next(filter(None, map(_malformed, content)), None)
        case {"M": dict(content), **rest}:
            wrong = next(filter(None, map(_malformed, content.values())), None)
        case _:
            return "holds no DynamoDB value"
    return "has more than one type tag" if rest else wrong


def _no_number(content: Any) -> str | None:
    try:
        canonical_number(content)
    except (ContractError, TypeError, AttributeError):
        return "has a number that is none"
    return None


def _no_binary(content: Any) -> str | None:
    try:
        base64.b64decode(content, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return "has a binary that is not base64"
    return None
