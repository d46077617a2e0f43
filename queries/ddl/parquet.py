"""An external Hive table over a Parquet export of the lake table.

Hive finds a Parquet column by its name, ignoring case. So a column keeps the file's name where Hive can hold
it; where it cannot (a dot, a comma or a colon in it, names that differ only in case), the columns get tame
names and the table reads by position (`parquet.column.index.access`), which Hive and Athena know and Spark
does not: its own form of the table keeps any name. The view over it has tame names in every case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from lake.contract import rows
from lake.contract.catalogue import Observation
from lake.types import METADATA_KEY, columns_from_json
from queries.ddl.history import METADATA_COMMENTS, SHOWN_METADATA, History, histories
from queries.ddl.identifiers import (
    MAX_COLUMN_NAME,
    VIRTUAL_COLUMNS,
    ColumnNames,
    has_control_character,
    quoted,
    string_literal,
    tame,
)
from queries.ddl.table import BY_POSITION, Flavour, HiveTable, TableColumn, ViewColumn, qualified
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
_KEEPABLE_IN_ATHENA: Final = _FIELD
"""Athena's guide, "Name databases, tables, and columns": no special character but the underscore."""
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_BY_POSITION_NOTE: Final = (
    "a column's name cannot stand in the engine's catalogue, so the table reads columns by position: what reads it "
    "by name, as Spark does, needs `--engine spark` or the files themselves"
)
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


@dataclass(frozen=True, slots=True)
class Partitions:
    """How the export's folders partition it: `day=2013-01-01/carrier=UA/`.

    Attributes:
        columns: (name, Hive type), in the folders' order; the files do not hold these columns.
        values: where given, each partition's values in the columns' order, made known one by one
            (ALTER TABLE ... ADD PARTITION); where None, MSCK REPAIR TABLE finds them.
    """

    columns: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, ...], ...] | None = None


def parquet_table(
    schema: pa.Schema,
    *,
    location: str,
    database: str,
    table: str,
    flavour: Flavour = "hive",
    partitions: Partitions | None = None,
    observations: Sequence[Observation] = (),
    sensitivity: Mapping[str, str] | None = None,
) -> HiveTable:
    """The external table over a Parquet export.

    Args:
        schema: the export's schema, all columns in the files' order; its metadata say which attribute each is.
        location: the folder that holds the files, such as "s3://bucket/lake/orders/".
        database: the Hive database.
        table: the Hive table.
        flavour: whose DDL.
        partitions: how folders partition it, if they do.
        observations: what the schema catalogue holds, for the comments.
        sensitivity: attribute -> what the policy does to it, likewise.

    Raises:
        DdlError: a name, the location or a column's type cannot be used.
    """
    qualified(database, table)
    if not _LOCATION.fullmatch(location):
        raise DdlError(f"{location!r} is not a location", remedy="give a URI such as s3://bucket/folder/")
    if not schema.names:
        raise DdlError("the Parquet schema has no column")
    partition_columns = partitions.columns if partitions else ()
    by_name = _readable_by_name([*schema.names, *(name for name, _ in partition_columns)], flavour)
    tame_names, shown_names = ColumnNames(), ColumnNames(reserved=METADATA_COMMENTS)
    known, attributes = histories(observations, sensitivity), attributes_of(schema)
    columns, view_columns, metadata, live_rows = [], [], [], None

    def note(name: str, stored: str, column_type: str) -> TableColumn:
        """One column of the table, and what the views make of it."""
        nonlocal live_rows
        if name.startswith(rows.RESERVED_PREFIX):
            about = METADATA_COMMENTS.get(name, "metadata of dynalake: attributes that are explicitly NULL")
            if name in SHOWN_METADATA:
                metadata.append(ViewColumn(name, quoted(stored), about, name))
            if name == rows.DELETED:
                live_rows = f"{quoted(stored)} IS NULL"
        else:
            attribute, remark = attributes.get(name, (name, ""))
            history = known.get(attribute, History(attribute, sensitivity=(sensitivity or {}).get(attribute)))
            about = history.text(remark)
            view_columns.append(ViewColumn(shown_names.give(name), quoted(stored), about, attribute))
        return TableColumn(stored, column_type, about)

    for field in schema:
        tamed = tame_names.give(field.name)
        stored = field.name if flavour == "spark" else field.name.lower() if by_name else tamed
        columns.append(note(field.name, stored, hive_type(field.type, field.name)))
    partitioned = tuple(note(name, name, kind) for name, kind in partition_columns)
    if not view_columns:
        raise DdlError("the Parquet schema has no column of the source's")
    return HiveTable(
        database=database,
        name=table,
        columns=tuple(columns),
        about="A Parquet export of a lake table.",
        view_columns=tuple(view_columns),
        metadata=tuple(metadata),
        live_rows=live_rows,
        notes=() if by_name else (_BY_POSITION_NOTE,),
        location=location,
        partitions=partitioned,
        properties={} if by_name else {BY_POSITION: "true"},
        partition_statements=_partition_statements(qualified(database, table), partitions),
        flavour=flavour,
    )


def attributes_of(schema: pa.Schema) -> dict[str, tuple[str, str]]:
    """Column name -> (true attribute, remark), as the export's metadata have it; empty without them."""
    stored = (schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        return {}
    known: dict[str, tuple[str, str]] = {}
    for column in columns_from_json(stored.decode()):
        known[column.name] = (column.attribute, "")
        if column.companion is not None:
            known[column.companion] = (column.attribute, "values of other types, as DynamoDB JSON")
    return known


def _partition_statements(target: str, partitions: Partitions | None) -> tuple[str, ...]:
    if partitions is None:
        return ()
    if partitions.values is None:
        return (f"MSCK REPAIR TABLE {target}",)
    names = [quoted(name) for name, _ in partitions.columns]
    kinds = [kind for _, kind in partitions.columns]
    return tuple(
        f"ALTER TABLE {target} ADD IF NOT EXISTS PARTITION ("
        + ", ".join(
            f"{name}={_partition_value(value, kind)}"
            for name, kind, value in zip(names, kinds, each, strict=True)
        )
        + ")"
        for each in partitions.values
    )


def _partition_value(value: str, kind: str) -> str:
    if kind == "string":
        return string_literal(value)
    if not _INTEGER.fullmatch(value):
        raise DdlError(f"the partition value {value!r} is no {kind}")
    return value


def _readable_by_name(names: list[str], flavour: Flavour) -> bool:
    """Whether the engine finds each column by its name; DdlError where it finds none at all."""
    lowered = {name.lower() for name in names}
    if flavour == "spark":
        if len(lowered) < len(names):
            raise DdlError(
                "two columns differ only in case, which Spark cannot tell apart", remedy="export it again"
            )
        if any(has_control_character(name) or not name for name in names):
            raise DdlError("a column's name is empty or holds a control character, which Spark does not take")
        return True
    keepable = _KEEPABLE_IN_ATHENA if flavour == "athena" else _KEEPABLE
    return (
        len(lowered) == len(names)
        and not lowered & VIRTUAL_COLUMNS
        and all(keepable.fullmatch(name) and len(name) <= MAX_COLUMN_NAME for name in names)
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
            "letters, digits and underscores that differ in more than case",
            remedy="export it as text or as a map",
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
