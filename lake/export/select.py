"""The columns of a table as SQL, for files whose readers know less than DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lake.export.layout import NO_ORDER, Order
from lake.stored import METADATA_COLUMNS, ROW, rows_of, value_of
from lake.types import (
    Blob,
    Column,
    Json,
    ListOf,
    Struct,
    Type,
    column_names,
    duckdb_type,
    identifier,
)


def lossless_select(
    columns: Sequence[Column], table: str, order: Order = NO_ORDER, computed: Sequence[tuple[str, str]] = ()
) -> str:
    """All columns and metadata, nested types kept, JSON as plain text.

    Args:
        columns: the table's columns.
        table: its name.
        order: the order of the rows.
        computed: columns that come first, as `rows_of` takes them; rows are in order of them before all else.
    """
    first = [f"{ROW}.{name}" for name, _ in computed]
    parts = [
        f"{value_of(name)}::{duckdb_type(kind, 'VARCHAR')} AS {identifier(name)}"
        for name, kind in with_companions(columns)
    ]
    parts += [f"{ROW}.{name}" for name in METADATA_COLUMNS]
    rows = rows_of(table, columns, (*computed, *order.computed))
    return f"SELECT {', '.join([*first, *parts])} FROM {rows}{Order((*first, *order.terms)).clause}"


@dataclass(frozen=True, slots=True)
class FlatColumn:
    """A column of an export whose readers know no nested types, or one field of a STRUCT.

    Attributes:
        name: its name, different from every other's also where case is ignored.
        type: what it holds.
        value: its SQL, over the stored rows.
        column: the table's column that it comes from.
        companion: whether it is that column's companion.
    """

    name: str
    type: Type
    value: str
    column: Column
    companion: bool


def flat_columns(
    columns: Sequence[Column], *, flatten: bool = False, reserved: Iterable[str] = ()
) -> list[FlatColumn]:
    """Attributes and companions in order, STRUCTs as they are or as a column for each field.

    A name that an earlier column has, or that is `reserved` by the format, gets a number behind it.
    """
    wanted: list[tuple[str, Type, str, Column, bool]] = []
    for column in columns:
        for name, kind in with_companions([column]):
            leaves = [(name, kind, value_of(name))]
            if flatten:
                leaves = _leaves(*leaves[0])
            wanted += [(*leaf, column, name == column.companion) for leaf in leaves]
    # Two paths may give one name: `a.b` is an attribute's name, too.
    taken = list(reserved)
    found = []
    for name, kind, value, column, companion in wanted:
        taken += column_names([name], taken).values()
        found.append(FlatColumn(taken[-1], kind, value, column, companion))
    return found


def flat_select(
    columns: Sequence[Column],
    table: str,
    cell: Callable[[Type, str], str],
    header: Callable[[str], str],
    order: Order = NO_ORDER,
    *,
    flatten: bool = False,
) -> str:
    """Attributes and companions, nested values as JSON text, or STRUCTs as a column for each field.

    Args:
        columns: the table's columns.
        table: its name.
        cell: makes the SQL of a value that is not nested from its type and its column's SQL.
        header: makes a column's header from its name.
        order: the order of the rows.
        flatten: whether STRUCTs become columns `map.field`; a map that is there and empty then looks like none.
    """
    parts = [
        f"{flat_value(each, cell)} AS {identifier(header(each.name))}"
        for each in flat_columns(columns, flatten=flatten)
    ]
    return f"SELECT {', '.join(parts)} FROM {rows_of(table, columns, order.computed)}{order.clause}"


def flat_value(column: FlatColumn, cell: Callable[[Type, str], str]) -> str:
    """The SQL of a column's value: JSON text where it is nested, else what `cell` makes of it."""
    if isinstance(column.type, ListOf | Struct):
        return json_text(column.type, column.value)
    return cell(column.type, column.value)


def _leaves(name: str, kind: Type, value: str) -> list[tuple[str, Type, str]]:
    """A STRUCT's fields, theirs, and so on, each as name, type and SQL; anything else as it is."""
    if not isinstance(kind, Struct):
        return [(name, kind, value)]
    return [
        leaf
        for field, inner in kind.fields
        for leaf in _leaves(f"{name}.{field}", inner, f"{value}.{identifier(field)}")
    ]


def with_companions(columns: Sequence[Column]) -> list[tuple[str, Type]]:
    """Column name and type, each companion after its main column."""
    pairs: list[tuple[str, Type]] = []
    for column in columns:
        pairs.append((column.name, column.type))
        if column.companion is not None:
            pairs.append((column.companion, Json()))
    return pairs


def json_text(kind: Type, value: str) -> str:
    """A nested value as JSON text for people: no type tags, numbers exact, binary as base64."""
    return f"to_json({_jsonable(kind, value, 0)})::VARCHAR"


def _jsonable(kind: Type, value: str, depth: int) -> str:
    """DuckDB's to_json writes decimals exactly, but binary as text: that is made base64 first."""
    match kind:
        case Blob():
            return f"to_base64({value})"
        case ListOf(_, element):
            x = f"x{depth}"
            return f"list_transform({value}, lambda {x}: {_jsonable(element, x, depth + 1)})"
        case Struct(fields):
            packed = ", ".join(
                f"{identifier(name)} := {_jsonable(field, f'{value}.{identifier(name)}', depth)}"
                for name, field in fields
            )
            return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({packed}) END"
        case _:
            return value
