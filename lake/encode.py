"""From columns back to DynamoDB JSON: the proof that nothing was lost on the way.

It makes Python objects of every value: it is for checks and single rows, not for bulk.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, assert_never

from lake.contract.numbers import canonical_number
from lake.contract.rows import SOURCE_AT, VERSION, WRITTEN_AT
from lake.errors import SnapshotError
from lake.open import open_lake
from lake.types import (
    METADATA_KEY,
    NULLS,
    Blob,
    Boolean,
    Column,
    Decimal38,
    Int64,
    Json,
    ListOf,
    NumberText,
    Struct,
    Text,
    Type,
    columns_from_json,
    identifier,
)

BATCH_ROWS: Final = 2048
"""Rows that are Python objects at a time."""


def snapshot_items(path: Path, table: str, metadata: bool = False) -> Iterator[dict[str, Any]]:
    """The items of a snapshot's table, in no order.

    Args:
        path: the snapshot.
        table: the table's name in it.
        metadata: whether dynalake's own attributes are given back too, as in the lake row.

    Raises:
        SnapshotError: there is no such snapshot or table.
    """
    with open_lake(path, table) as lake:
        columns = lake.columns(table)
        reader = lake.sql(f"FROM _lake.{identifier(table)}").to_arrow_reader(BATCH_ROWS)
        yield from encode_batches(columns, reader, metadata)


def arrow_items(table: Any, metadata: bool = False) -> Iterator[dict[str, Any]]:
    """The items of a `pyarrow.Table` that was exported, or read from an exported Parquet or Arrow file.

    Raises:
        SnapshotError: the table has not the columns' description in its metadata.
    """
    columns = stored_columns(table.schema)
    yield from encode_batches(columns, table.to_batches(max_chunksize=BATCH_ROWS), metadata)


def stored_columns(schema: Any) -> tuple[Column, ...]:
    """How attributes live in the columns of an exported file, from its `pyarrow.Schema`.

    Raises:
        SnapshotError: the schema does not tell.
    """
    stored = (schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        raise SnapshotError(
            "the file does not tell which attributes its columns hold", remedy="export it with dynalake"
        )
    return columns_from_json(stored.decode())


def encode_batches(
    columns: Sequence[Column], batches: Iterable[Any], metadata: bool = False
) -> Iterator[dict[str, Any]]:
    """The items that record batches of pyarrow hold.

    Args:
        columns: how attributes live in the batches' columns.
        batches: `pyarrow.RecordBatch`es with these columns, their companions and `_lake_nulls`.
        metadata: whether dynalake's own attributes are given back too.
    """
    for batch in batches:
        for row in batch.to_pylist():
            yield _item(columns, row, metadata)


def encode_value(kind: Type, value: Any) -> dict[str, Any]:
    """One attribute value, from the Python value that a column of this type gives."""
    match kind:
        case Text():
            return {"S": value}
        case Int64() | Decimal38() | NumberText():
            return {"N": canonical_number(str(value))}
        case Blob():
            return {"B": base64.b64encode(value).decode()}
        case Boolean():
            return {"BOOL": value}
        case Json():
            return dict(json.loads(value))
        case ListOf("L", element):
            return {"L": [encode_value(element, one) for one in value]}
        case ListOf(tag, element):
            return {tag: [next(iter(encode_value(element, one).values())) for one in value]}
        case Struct(fields):
            return {"M": {n: encode_value(field, value[n]) for n, field in fields if value[n] is not None}}
        case _:
            assert_never(kind)


def _item(columns: Sequence[Column], row: dict[str, Any], metadata: bool) -> dict[str, Any]:
    item: dict[str, Any] = {}
    for column in columns:
        if row[column.name] is not None:
            item[column.attribute] = encode_value(column.type, row[column.name])
        elif column.companion is not None and row[column.companion] is not None:
            item[column.attribute] = encode_value(Json(), row[column.companion])
    for attribute in row[NULLS] or ():
        item[attribute] = {"NULL": True}
    if metadata:
        if row[VERSION] is not None:
            item[VERSION] = {"S": row[VERSION]}
        item |= {name: {"N": str(row[name])} for name in (WRITTEN_AT, SOURCE_AT) if row[name] is not None}
    return item
