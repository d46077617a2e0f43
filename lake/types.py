"""How one DynamoDB attribute lives in a column.

Where each of DynamoDB's ten types has its home. Nothing is rounded, cut or guessed:

| DynamoDB | Arrow | DuckDB | Parquet | CSV | Hive | Hyper |
| --- | --- | --- | --- | --- | --- | --- |
| S | string | VARCHAR | STRING | text | string | text |
| N, all within 64 bits | int64 | BIGINT | INT64 | number | bigint | big int |
| N, all in 38 digits | decimal128(38, s) | DECIMAL(38,s) | DECIMAL | number | decimal(38,s) | numeric |
| N, others | string | VARCHAR | STRING | number | string | text |
| B | binary | BLOB | BYTE_ARRAY | base64 | binary | bytes |
| BOOL | bool | BOOLEAN | BOOLEAN | true, false | boolean | bool |
| NULL | name in `_lake_nulls` | VARCHAR[] | LIST | empty | array<string> | null |
| SS | list<string> | VARCHAR[] | LIST | JSON text | array<string> | JSON text |
| NS | list<as N> | list of as N | LIST | JSON text | array<as N> | JSON text |
| BS | list<binary> | BLOB[] | LIST | JSON text | array<binary> | JSON text |
| L, one element type | list | list | LIST | JSON text | array | JSON text |
| L, otherwise | string | JSON | STRING | DynamoDB JSON | string | DynamoDB JSON |
| M, stable fields | struct | STRUCT | group | JSON text | struct | JSON text |
| M, otherwise | string | JSON | STRING | DynamoDB JSON | string | DynamoDB JSON |

The Hive column is that of tables over Parquet; the storage handler's own rules are in the DDL generator.
An attribute with several types has its main column for the type that most rows have, and a companion column
that keeps each other value whole, as DynamoDB JSON such as `{"S":"x"}`. What is NULL in both, and is not
named in `_lake_nulls`, is missing from the item. A container of more than 64 KB of JSON text, nested more than
8 deep, or with more than 100 field names is kept as DynamoDB JSON too (`lake.discover` says why).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

from lake.errors import SnapshotError

DECIMAL_DIGITS: Final = 38
"""What a decimal of DuckDB, Arrow, Parquet, Hive and Hyper holds: precision 38, whatever the scale."""

NULLS: Final = "_lake_nulls"
"""The column that names a row's top-level attributes that are explicitly NULL; NULL where there is none."""

COMPANION_SUFFIX: Final = "__other"
METADATA_KEY: Final = b"dynalake"
"""The key of the stored columns in the metadata of a Parquet or Arrow file."""


@dataclass(frozen=True, slots=True)
class Text:
    """S."""


@dataclass(frozen=True, slots=True)
class Int64:
    """N, where every value is an integer within 64 bits."""


@dataclass(frozen=True, slots=True)
class Decimal38:
    """N, where every value fits 38 digits with `scale` of them after the point."""

    scale: int


@dataclass(frozen=True, slots=True)
class NumberText:
    """N, where no decimal holds all values: the number's exact text."""


@dataclass(frozen=True, slots=True)
class Blob:
    """B."""


@dataclass(frozen=True, slots=True)
class Boolean:
    """BOOL."""


@dataclass(frozen=True, slots=True)
class Json:
    """A value kept whole as DynamoDB JSON text, its type tag included."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """L, SS, NS or BS (`tag`) whose elements all have one type."""

    tag: Literal["L", "SS", "NS", "BS"]
    element: Type


@dataclass(frozen=True, slots=True)
class Struct:
    """M whose fields each have one type; a field that is NULL is missing."""

    fields: tuple[tuple[str, Type], ...]


Type = Text | Int64 | Decimal38 | NumberText | Blob | Boolean | Json | ListOf | Struct

_PLAIN: Final[Mapping[str, Type]] = {
    "text": Text(),
    "int64": Int64(),
    "number text": NumberText(),
    "blob": Blob(),
    "boolean": Boolean(),
    "json": Json(),
}
_NAMES: Final[Mapping[Type, str]] = {kind: name for name, kind in _PLAIN.items()}


@dataclass(frozen=True, slots=True)
class Column:
    """How one attribute lives in a table.

    Attributes:
        attribute: the attribute's true name in DynamoDB.
        name: the column's name; it differs from the attribute's only where that would clash by case, is
            empty, or holds NUL.
        type: what the main column holds.
        companion: the column that keeps values of other types; None where there are none.
    """

    attribute: str
    name: str
    type: Type
    companion: str | None = None


def identifier(name: str) -> str:
    """A name as an SQL identifier: the one place that quotes them.

    Raises:
        SnapshotError: the name is empty or holds NUL, which no SQL identifier can.
    """
    if not name or "\0" in name:
        raise SnapshotError(f"{name!r} cannot be an SQL name: it is empty or holds a NUL character")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string literal of DuckDB; NUL, which no literal can hold, becomes chr(0)."""
    quoted = ["'" + part.replace("'", "''") + "'" for part in text.split("\0")]
    return quoted[0] if len(quoted) == 1 else "(" + " || chr(0) || ".join(quoted) + ")"


def duckdb_type(kind: Type, json_as: Literal["JSON", "VARCHAR"] = "JSON") -> str:
    """The type's name in DuckDB's SQL.

    Args:
        kind: the type.
        json_as: what a value kept as JSON becomes: DuckDB's JSON, or plain text for files that others read.
    """
    match kind:
        case Text() | NumberText():
            return "VARCHAR"
        case Int64():
            return "BIGINT"
        case Decimal38(scale):
            return f"DECIMAL({DECIMAL_DIGITS},{scale})"
        case Blob():
            return "BLOB"
        case Boolean():
            return "BOOLEAN"
        case Json():
            return json_as
        case ListOf(_, element):
            return f"{duckdb_type(element, json_as)}[]"
        case Struct(fields):
            inner = ", ".join(f"{identifier(name)} {duckdb_type(field, json_as)}" for name, field in fields)
            return f"STRUCT({inner})"
        case _:
            assert_never(kind)


def arrow_type(kind: Type) -> Any:
    """The type as a `pyarrow.DataType`."""
    import pyarrow as pa

    match kind:
        case Text() | NumberText() | Json():
            return pa.string()
        case Int64():
            return pa.int64()
        case Decimal38(scale):
            return pa.decimal128(DECIMAL_DIGITS, scale)
        case Blob():
            return pa.binary()
        case Boolean():
            return pa.bool_()
        case ListOf(_, element):
            return pa.list_(arrow_type(element))
        case Struct(fields):
            return pa.struct([pa.field(name, arrow_type(field)) for name, field in fields])
        case _:
            assert_never(kind)


def number_type(integer_digits: int, scale: int, int64: bool) -> Type:
    """The narrowest type that holds numbers exactly.

    Args:
        integer_digits: the most digits that a number has before the point.
        scale: the most digits that a number has after it, without superfluous zeros.
        int64: whether every number is an integer within 64 bits.
    """
    if int64:
        return Int64()
    return Decimal38(scale) if integer_digits + scale <= DECIMAL_DIGITS else NumberText()


def column_names(attributes: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A column name for each attribute, none the same as another when case is ignored.

    DuckDB and Hive ignore the case of column names, DynamoDB does not: the first attribute in the order given
    keeps its name, the next become `name_2`, `name_3` and so on.

    Args:
        attributes: true names; the order decides who keeps a name that several want.
        taken: column names that are already in use.
    """
    used = {name.casefold() for name in taken}
    names: dict[str, str] = {}
    for attribute in attributes:
        wanted = attribute.replace("\0", "\N{SYMBOL FOR NULL}") or "_"
        name, number = wanted, 1
        while name.casefold() in used:
            number += 1
            name = f"{wanted}_{number}"
        used.add(name.casefold())
        names[attribute] = name
    return names


def type_to_json(kind: Type) -> Any:
    """The type as plain JSON values, see `type_from_json`."""
    match kind:
        case Decimal38(scale):
            return {"decimal": scale}
        case ListOf(tag, element):
            return {"list": type_to_json(element), "tag": tag}
        case Struct(fields):
            return {"struct": [[name, type_to_json(field)] for name, field in fields]}
        case _:
            return _NAMES[kind]


def type_from_json(stored: Any) -> Type:
    """The type that `type_to_json` stored.

    Raises:
        SnapshotError: this describes no type that this version of dynalake knows.
    """
    match stored:
        case str() if stored in _PLAIN:
            return _PLAIN[stored]
        case {"decimal": int(scale)}:
            return Decimal38(scale)
        case {"list": element, "tag": ("L" | "SS" | "NS" | "BS") as tag}:
            return ListOf(tag, type_from_json(element))
        case {"struct": list(fields)}:
            return Struct(tuple((str(name), type_from_json(field)) for name, field in fields))
        case _:
            raise SnapshotError(
                f"no column type is called {stored!r}",
                remedy="update dynalake, as a newer release may have written it",
            )


def columns_to_json(columns: Sequence[Column]) -> str:
    """The columns as JSON text, to be kept beside the data."""
    return json.dumps(
        [
            {"attribute": c.attribute, "name": c.name, "type": type_to_json(c.type), "companion": c.companion}
            for c in columns
        ]
    )


def columns_from_json(text: str) -> tuple[Column, ...]:
    """The columns that `columns_to_json` wrote.

    Raises:
        SnapshotError: the text does not describe columns.
    """
    try:
        return tuple(
            Column(c["attribute"], c["name"], type_from_json(c["type"]), c["companion"])
            for c in json.loads(text)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the stored columns cannot be read: {error}") from error
