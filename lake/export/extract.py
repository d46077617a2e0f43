"""What of a table's columns a Tableau extract has: names, Hyper's types, and the SQL that fills them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from lake.export.layout import Layout
from lake.export.select import FlatColumn, flat_columns, flat_value
from lake.open import Lake
from lake.stored import rows_of
from lake.types import (
    DECIMAL_DIGITS,
    Blob,
    Boolean,
    Decimal38,
    Int64,
    Json,
    Text,
    Type,
    identifier,
    type_to_json,
)

Kind = Literal["text", "big int", "numeric", "bytes", "bool", "date", "timestamp"]

SYSTEM_COLUMNS: Final = ("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin")
"""Names that Hyper refuses for a column ("conflicts with a system column name")."""

_DATE: Final = "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
_TIMESTAMP: Final = _DATE + "[T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?"
"""ISO 8601, as far as Hyper's microseconds go, and without an offset."""


@dataclass(frozen=True, slots=True)
class ExtractColumn:
    """A column of an extract.

    Attributes:
        name: its name.
        kind: Hyper's type.
        scale: of a numeric, the digits after the point.
        value: the SQL of its values over the stored rows (`lake.stored`).
        attribute: the DynamoDB attribute that it comes from.
        is_key: whether that is part of the table's key.
        companion: whether it holds that attribute's values of other types.
        utc: of a timestamp, whether its text said so (`Z`).
        made_of: what its values are made from: the snapshot's type, and the DynamoDB type that the attribute's main
            column is for. While that stays, an unchanged row's value does.
    """

    name: str
    kind: Kind
    scale: int
    value: str
    attribute: str
    is_key: bool = False
    companion: bool = False
    utc: bool = False
    made_of: str = ""

    @property
    def type(self) -> str:
        """The type as Hyper writes it."""
        return f"numeric({DECIMAL_DIGITS},{self.scale})" if self.kind == "numeric" else self.kind


def extract_columns(lake: Lake, table: str, layout: Layout) -> list[ExtractColumn]:
    """The columns of the table's extract, in order.

    Args:
        lake: the snapshot.
        table: the table's name in it.
        layout: whether STRUCTs are flattened; whether text becomes dates where every row of the column is one.
    """
    schema = lake.schema(table)
    keys = {one.column.attribute for one in schema if one.is_key}
    flat = flat_columns([one.column for one in schema], flatten=layout.flatten, reserved=SYSTEM_COLUMNS)
    main = dict(
        lake.sql(
            "SELECT attribute, main_type FROM _lake.columns WHERE table_name = ?", params=[table]
        ).fetchall()
    )
    columns = [_column(each, keys, main[each.column.attribute]) for each in flat]
    if not layout.dates:
        return columns
    # Key columns stay text: rows are found by them.
    plain = [isinstance(each.type, Text) and each.column.attribute not in keys for each in flat]
    return _with_dates(lake, table, columns, plain)


def rows_query(columns: Sequence[ExtractColumn], rows: str) -> str:
    """The SELECT of the extract's rows from the snapshot's, a relation of `lake.stored.rows_of`."""
    parts = ", ".join(f"{each.value} AS {identifier(each.name)}" for each in columns)
    return f"SELECT {parts} FROM {rows}"


def _column(flat: FlatColumn, keys: set[str], main: str | None) -> ExtractColumn:
    kind, scale = _kind(flat.type)
    attribute = flat.column.attribute
    return ExtractColumn(
        flat.name,
        kind,
        scale,
        flat_value(flat, lambda of, value: f"{value}::VARCHAR" if isinstance(of, Json) else value),
        attribute,
        is_key=attribute in keys and not flat.companion,
        companion=flat.companion,
        made_of=json.dumps([type_to_json(flat.type), main]),
    )


def _kind(kind: Type) -> tuple[Kind, int]:
    match kind:
        case Int64():
            return "big int", 0
        case Decimal38(scale):
            return "numeric", scale
        case Blob():
            return "bytes", 0
        case Boolean():
            return "bool", 0
        case _:
            return "text", 0


def _with_dates(
    lake: Lake, table: str, columns: list[ExtractColumn], plain: list[bool]
) -> list[ExtractColumn]:
    """Those that hold plain text, all of it ISO dates or all of it ISO times, as what they are."""
    wanted = [each for each, is_plain in zip(columns, plain, strict=True) if is_plain]
    if not wanted:
        return columns
    asked = []
    for each in wanted:
        asked += [
            _all(each.value, _DATE, "DATE"),
            _all(each.value, _TIMESTAMP, "TIMESTAMP"),
            _all(each.value, f"{_TIMESTAMP}Z", "TIMESTAMP"),
        ]
    (answer,) = lake.sql(f"SELECT {', '.join(asked)} FROM {rows_of(table)}").fetchall()
    dated = {}
    for number, each in enumerate(wanted):
        date, local, utc = answer[3 * number : 3 * number + 3]
        if date:
            dated[each.name] = replace(each, kind="date", value=f"{each.value}::DATE")
        elif local or utc:
            dated[each.name] = replace(
                each, kind="timestamp", value=f"{each.value}::TIMESTAMP", utc=bool(utc)
            )
    return [dated.get(each.name, each) for each in columns]


def _all(value: str, pattern: str, kind: str) -> str:
    """Whether every value has this shape and is such a date; NULL, so no, where there is no value."""
    return (
        f"bool_and(regexp_full_match({value}, '{pattern}') AND TRY_CAST({value} AS {kind}) IS NOT NULL) "
        f"FILTER ({value} IS NOT NULL)"
    )
