from __future__ import annotations

import re

import pyarrow as pa
import pytest

from queries.ddl import analyst_view, hive_type, parquet_table
from queries.ddl.table import HiveTable
from queries.errors import DdlError


def table(schema: pa.Schema, location: str = "s3://bucket/lake/orders/") -> HiveTable:
    return parquet_table(schema, location=location, database="lake", table="orders_parquet")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.string(), "string"),
        (pa.large_string(), "string"),
        (pa.binary(), "binary"),
        (pa.bool_(), "boolean"),
        (pa.int8(), "tinyint"),
        (pa.int32(), "int"),
        (pa.int64(), "bigint"),
        (pa.float64(), "double"),
        (pa.date32(), "date"),
        (pa.decimal128(38, 9), "decimal(38,9)"),
        (pa.dictionary(pa.int32(), pa.string()), "string"),
        (pa.list_(pa.string()), "array<string>"),
        (pa.large_list(pa.decimal128(20, 2)), "array<decimal(20,2)>"),
        (pa.map_(pa.string(), pa.int64()), "map<string,bigint>"),
        (
            pa.list_(pa.struct([("Status", pa.string()), ("at", pa.string())])),
            "array<struct<`status`:string,`at`:string>>",
        ),
    ],
)
def test_arrow_types_have_their_hive_types(kind: pa.DataType, expected: str) -> None:
    assert hive_type(kind, "c") == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(),
        pa.uint64(),
        pa.timestamp("us"),
        pa.decimal256(50, 2),
        pa.decimal128(5, -2),
        pa.float16(),
        pa.struct([]),
        pa.struct([("a b", pa.string())]),
        pa.struct([("a", pa.string()), ("A", pa.string())]),
        pa.list_(pa.null()),
    ],
)
def test_what_hive_would_read_wrong_is_refused_with_the_columns_name(kind: pa.DataType) -> None:
    with pytest.raises(DdlError, match="'odd'"):
        table(pa.schema([("odd", kind)]))


def test_columns_are_read_by_name_where_hive_can_hold_the_names() -> None:
    made = table(pa.schema([("Id", pa.string()), ("order total", pa.int64())]))

    assert "index.access" not in made.create
    assert "  `id` string" in made.create
    assert "  `order total` bigint" in made.create
    assert made.create.endswith("STORED AS PARQUET\nLOCATION 's3://bucket/lake/orders/'")
    assert "`order total` AS `order_total`" in analyst_view(made, "orders").text


@pytest.mark.parametrize("names", [["a.b"], ["a,b"], ["x`y"], ["Name", "name"], ["名前"], ["row__id"]])
def test_columns_are_read_by_position_where_it_cannot(names: list[str]) -> None:
    made = table(pa.schema([(name, pa.string()) for name in names]))

    assert "'parquet.column.index.access' = 'true'" in made.create
    columns = re.findall(r"^  `([^`]+)` string", made.create, re.MULTILINE)
    assert len(set(columns)) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", column) for column in columns)
    assert "position" in made.notes[0]


def test_the_view_hides_metadata_and_tombstones_where_the_export_has_them() -> None:
    plain = table(pa.schema([("id", pa.string())]))
    whole = table(pa.schema([(n, pa.string()) for n in ("id", "_lake_version", "_lake_deleted")]))

    assert plain.live_rows is None
    text = analyst_view(whole, "orders").text
    assert text.endswith("WHERE `_lake_deleted` IS NULL")
    assert "_lake_version" not in text


@pytest.mark.parametrize("location", ["", "/folder", "s3://b/x y", "s3://b/x\n'", "bucket"])
def test_a_location_that_is_no_uri_is_refused(location: str) -> None:
    with pytest.raises(DdlError, match="location"):
        table(pa.schema([("id", pa.string())]), location)


def test_a_quote_in_a_location_stays_inside() -> None:
    made = table(pa.schema([("id", pa.string())]), "s3://b/o'x;/")
    assert made.create.endswith("LOCATION 's3://b/o\\u0027x\\u003b/'")


def test_a_schema_without_columns_of_the_source_is_refused() -> None:
    with pytest.raises(DdlError, match="no column"):
        table(pa.schema([]))
    with pytest.raises(DdlError, match="no column"):
        table(pa.schema([("_lake_version", pa.string())]))
