"""Thrift's columns as Arrow arrays, without a Python row in between."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queries.errors import EngineError

_BY_TYPE_ID: Final[dict[str, pa.DataType]] = {
    "BOOLEAN_TYPE": pa.bool_(),
    "TINYINT_TYPE": pa.int8(),
    "SMALLINT_TYPE": pa.int16(),
    "INT_TYPE": pa.int32(),
    "BIGINT_TYPE": pa.int64(),
    "FLOAT_TYPE": pa.float32(),
    "DOUBLE_TYPE": pa.float64(),
    "BINARY_TYPE": pa.binary(),
    "DATE_TYPE": pa.date32(),
    "TIMESTAMP_TYPE": pa.timestamp("us"),
    "NULL_TYPE": pa.null(),
}
_SURPLUS_ZEROS: Final = r"(\.\d{6})0+$"


def arrow_field(column: Any) -> pa.Field:
    """The Arrow field of a column that GetResultSetMetadata describes; nested and strange types are text."""
    from TCLIService.ttypes import TTypeId

    entry = column.typeDesc.types[0].primitiveEntry
    name = "STRING_TYPE" if entry is None else TTypeId._VALUES_TO_NAMES[entry.type]
    if name == "DECIMAL_TYPE":
        told = entry.typeQualifiers.qualifiers if entry.typeQualifiers else {}
        precision = told["precision"].i32Value if "precision" in told else 38
        scale = told["scale"].i32Value if "scale" in told else 18
        return pa.field(column.columnName, pa.decimal128(precision, scale))
    return pa.field(column.columnName, _BY_TYPE_ID.get(name, pa.string()))


def arrow_array(column: Any, kind: pa.DataType) -> pa.Array:
    """A Thrift column as an Arrow array.

    Args:
        column: a TColumn.
        kind: its type, of `arrow_field`.

    Raises:
        EngineError: a value is not of the column's type.
    """
    values, missing = _values(column)
    if pa.types.is_null(kind):
        return pa.nulls(len(values))
    try:
        if isinstance(values[0] if values else None, str | bytes):
            texts = pa.array(
                values, pa.binary() if isinstance(values[0], bytes) else pa.string(), mask=missing
            )
            return _from_text(texts, kind)
        return pa.array(values, kind, mask=missing)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise EngineError(f"the server sent a value that is no {kind}: {error}") from None


def texts_of(column: Any) -> list[str | None]:
    """A Thrift column of text as Python texts."""
    values, missing = _values(column)
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _values(column: Any) -> tuple[list[Any], np.ndarray[Any, np.dtype[np.bool_]]]:
    """A TColumn's values, and which of them are NULL: a bit each, the lowest first, trailing zeros left out."""
    wrapper = next(part for part in vars(column).values() if part is not None)
    bits = np.unpackbits(np.frombuffer(wrapper.nulls, np.uint8), bitorder="little").astype(bool)
    missing = np.zeros(len(wrapper.values), bool)
    missing[: len(bits)] = bits[: len(missing)]
    return wrapper.values, missing


def _from_text(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Decimals, dates and times arrive as text."""
    if pa.types.is_timestamp(kind):
        texts = pc.replace_substring_regex(texts, _SURPLUS_ZEROS, r"\1")
    return texts.cast(kind)
