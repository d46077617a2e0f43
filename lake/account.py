"""Whether typed columns hold everything that was in the bytes they were read from: an account in quotation marks.

Every name, every type tag, every text, number and binary of DynamoDB JSON stands in quotation marks. So the typed
columns tell how many of them their rows must have had; and each mark counted belongs to another place in the bytes.
If rows have just as many, nothing else was in them: no attribute that no column has, no second type, no field that
the STRUCT does not name, no name that stands twice. A value that did not fit its column exactly is NULL there and
is not counted. It costs almost nothing: counting bytes on the one side, and NULLs and list lengths on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lake.decode import MARKS, METADATA
from lake.discover import Found
from lake.stored import stored
from lake.types import NULLS, Boolean, Json, ListOf, Struct, Type, identifier

_NAME: Final = 2
"""The quotation marks of an attribute's or a field's name, and of a type tag."""

_TEXT: Final = 2
"""Those of a text, a number or a binary."""


def account_of_rows(found: Sequence[Found], wrapper: str | None) -> str:
    """The SQL of an aggregate: how many quotation marks the rows of a relation with these columns had as JSON."""
    terms = [f"{_NAME if wrapper is not None else 0} * count(*)"]
    for one in found:
        terms.append(_sum(stored(one.column.name), one.column.type, _NAME))
        if one.column.companion is not None:
            terms.append(_sum(stored(one.column.companion), Json(), _NAME))
    terms += [f"{2 * _NAME + _TEXT} * count({name})" for name in (*METADATA, *MARKS)]
    terms.append(f"{2 * _NAME} * coalesce(sum(len({NULLS})), 0)")
    return " + ".join(terms)


def account_of_row(found: Sequence[Found]) -> str:
    """The SQL of the same for one row, without its wrapper."""
    terms = []
    for one in found:
        terms.append(_one(stored(one.column.name), one.column.type, _NAME))
        if one.column.companion is not None:
            terms.append(_one(stored(one.column.companion), Json(), _NAME))
    terms += [_present(name, 2 * _NAME + _TEXT) for name in (*METADATA, *MARKS)]
    terms.append(f"{2 * _NAME} * coalesce(len({NULLS}), 0)")
    return " + ".join(terms)


def quotes_in(text: str) -> str:
    """The SQL that counts the quotation marks of JSON text, but for those within strings."""
    alone = f"replace({text}, '\\\\', '')"
    escaped = f"(strlen({alone}) - strlen(replace({alone}, '\\\"', ''))) // 2"
    every = f"(strlen({text}) - strlen(replace({text}, '\"', '')))"
    return f"({every} - CASE WHEN contains({text}, '\\') THEN {escaped} ELSE 0 END)"


def _sum(value: str, kind: Type, name: int) -> str:
    """Over all rows: the marks of a column, with `name` marks for the name before each value."""
    match kind:
        case Json():
            return f"coalesce(sum({quotes_in(f'{value}::VARCHAR')}), 0) + {name} * count({value})"
        case Struct(fields):
            inner = [_sum(f"{value}.{identifier(field)}", each, _NAME) for field, each in fields]
            return " + ".join([f"{name + _NAME} * count({value})", *inner])
        case ListOf(tag, element):
            if tag != "L" or not isinstance(element, Json | Struct | ListOf):
                each = _TEXT if tag != "L" else _weight(element)
                return f"{name + _NAME} * count({value}) + {each} * coalesce(sum(list_count({value})), 0)"
            return f"coalesce(sum({_one(value, kind, name)}), 0)"
        case _:
            return f"{name + _weight(kind)} * count({value})"


def _one(value: str, kind: Type, name: int, depth: int = 0) -> str:
    """The marks of one value, 0 where it is NULL."""
    match kind:
        case Json():
            return f"coalesce({quotes_in(f'{value}::VARCHAR')} + {name}, 0)"
        case Struct(fields):
            inner = [_one(f"{value}.{identifier(field)}", each, _NAME, depth) for field, each in fields]
            return f"CASE WHEN {value} IS NULL THEN 0 ELSE {' + '.join([str(name + _NAME), *inner])} END"
        case ListOf(tag, element):
            if tag != "L" or not isinstance(element, Json | Struct | ListOf):
                each = _TEXT if tag != "L" else _weight(element)
                return f"coalesce({name + _NAME} + {each} * list_count({value}), 0)"
            x = f"y{depth}"
            marks = f"list_sum(list_transform({value}, lambda {x}: {_one(x, element, 0, depth + 1)}))"
            return f"CASE WHEN {value} IS NULL THEN 0 ELSE {name + _NAME} + coalesce({marks}, 0) END"
        case _:
            return _present(value, name + _weight(kind))


def _weight(kind: Type) -> int:
    """The marks of a scalar value with its type tag."""
    return _NAME if isinstance(kind, Boolean) else _NAME + _TEXT


def _present(value: str, marks: int) -> str:
    return f"CASE WHEN {value} IS NULL THEN 0 ELSE {marks} END"
