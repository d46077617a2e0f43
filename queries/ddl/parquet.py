"""An external Hive table over a Parquet export of the lake table.

Hive finds a Parquet column by its name, ignoring case. So a column keeps the file's name where Hive can hold
it; where it cannot (a dot, a comma or a colon in it, names that differ only in case), the columns get tame
names and the table reads by position (`parquet.column.index.access`), which Hive and Athena know and Spark
does not. The view over it has tame names in either case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from lake.contract import rows
from queries.ddl.identifiers import (
    MAX_COLUMN_NAME,
    VIRTUAL_COLUMNS,
    ColumnNames,
    comment,
    quoted,
    string_literal,
    tame,
    true_name,
)
from queries.ddl.table import HiveTable, ViewColumn, properties, qualified
from queries.errors import DdlError

_SIMPLE: Final[dict[pa.DataType, str]] = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.string_view(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.binary_view(): "binary",
    pa.date32(): "date",
}
_FIELD: Final = re.compile(r"[A-Za-z0-9_]+")
_KEEPABLE: Final = re.compile(r"[A-Za-z0-9_ +/()@#%&=~^!?<>-]+")
_LOCATION: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\x00-\x1f]+")


def hive_type(kind: pa.DataType, column: str) -> str:
    """The Hive type of an Arrow type, as precise as Hive has it.

    Args:
        kind: the Arrow type.
        column: the column's name, for the error's text.

    Raises:
        DdlError: Hive reads no such Parquet column, or would read it wrong. Unsigned 64-bit integers would
            turn negative; timestamps as Arrow writes them (INT64) are read by Hive 4 only; a decimal has 38
            digits at most; a column that is nothing but NULL has no type; and a struct's fields must be named
            with letters, digits and underscores, or `TypeInfoUtils` refuses what the parser took.
    """
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if pa.types.is_decimal(kind) and 0 <= kind.scale <= kind.precision <= 38:
        return f"decimal({kind.precision},{kind.scale})"
    nested = _NESTED.get(kind.id)
    if nested is None:
        raise DdlError(f"the column {column!r} has the Arrow type {kind}, for which Hive has no column type")
    return nested(kind, column)


def parquet_table(schema: pa.Schema, *, location: str, database: str, table: str) -> HiveTable:
    """The external table over a Parquet export.

    Args:
        schema: the export's schema, all columns in the files' order.
        location: the folder that holds the files, such as "s3://bucket/lake/orders/".
        database: the Hive database.
        table: the Hive table.

    Raises:
        DdlError: a name, the location or a column's type cannot be used.
    """
    target = qualified(database, table)
    if not _LOCATION.fullmatch(location):
        raise DdlError(f"{location!r} is no location: it must be a URI such as s3://bucket/folder/")
    if not schema.names:
        raise DdlError("the Parquet schema has no column")
    by_name = _readable_by_name(schema.names)
    tame_names = ColumnNames()
    lines, view_columns, live_rows = [], [], None
    for field in schema:
        shown = tame_names.give(field.name)
        stored = field.name.lower() if by_name else shown
        about = f"attribute {true_name(field.name)[:200]}"
        column_type = hive_type(field.type, field.name)
        lines.append(f"  {quoted(stored)} {column_type} COMMENT {comment(about)}")
        if field.name == rows.DELETED:
            live_rows = f"{quoted(stored)} IS NULL"
        if not field.name.startswith(rows.RESERVED_PREFIX):
            view_columns.append(ViewColumn(shown, quoted(stored), about, field.name))
    if not view_columns:
        raise DdlError("the Parquet schema has no column of the source's")

    create = (
        f"CREATE EXTERNAL TABLE {target} (\n" + ",\n".join(lines) + "\n)\n"
        f"COMMENT {comment('A Parquet export of a lake table.')}\n"
        f"STORED AS PARQUET\nLOCATION {string_literal(location)}"
    )
    notes: tuple[str, ...] = ()
    if not by_name:
        create += f"\nTBLPROPERTIES (\n{properties({'parquet.column.index.access': 'true'})}\n)"
        notes = (
            "a column's name cannot stand in Hive, so the table reads columns by position: Spark, which "
            "reads by name, needs the files themselves",
        )
    return HiveTable(database, table, create, tuple(view_columns), live_rows, notes)


def _readable_by_name(names: list[str]) -> bool:
    lowered = {name.lower() for name in names}
    return (
        len(lowered) == len(names)
        and not lowered & VIRTUAL_COLUMNS
        and all(_KEEPABLE.fullmatch(name) and len(name) <= MAX_COLUMN_NAME for name in names)
    )


def _list(kind: pa.DataType, column: str) -> str:
    return f"array<{hive_type(kind.value_type, column)}>"


def _map(kind: pa.DataType, column: str) -> str:
    return f"map<{hive_type(kind.key_type, column)},{hive_type(kind.item_type, column)}>"


def _struct(kind: pa.DataType, column: str) -> str:
    fields = [kind.field(at) for at in range(kind.num_fields)]
    if not fields:
        raise DdlError(f"the column {column!r} holds a struct without fields, which Hive does not have")
    names = [field.name for field in fields]
    if len({tame(name) for name in names}) != len(names) or not all(_FIELD.fullmatch(n) for n in names):
        raise DdlError(
            f"the column {column!r} holds a struct with the fields {names}: Hive takes only names of "
            "letters, digits and underscores that differ in more than case; export it as text or as a map"
        )
    return "struct<" + ",".join(f"{quoted(f.name.lower())}:{hive_type(f.type, column)}" for f in fields) + ">"


def _dictionary(kind: pa.DataType, column: str) -> str:
    return hive_type(kind.value_type, column)


_NESTED: Final[dict[int, Callable[[pa.DataType, str], str]]] = {
    pa.list_(pa.null()).id: _list,
    pa.large_list(pa.null()).id: _list,
    pa.map_(pa.string(), pa.null()).id: _map,
    pa.struct([]).id: _struct,
    pa.dictionary(pa.int32(), pa.string()).id: _dictionary,
}
