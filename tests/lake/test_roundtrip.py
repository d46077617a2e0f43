"""Whatever goes in comes out: through DuckDB, Parquet and Arrow."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lake.encode import arrow_items, snapshot_items
from lake.export import export_table
from lake.open import open_lake
from lake.types import Boolean, Decimal38, Int64, Json, ListOf, NumberText, Struct, Text
from tests.lake.building import build, by_key, lake_row, normal

NAMES = st.one_of(
    st.sampled_from(
        ["name", "Name", "NAME", "a.b", 'q"uote', "it's", "sp ace", "new\nline", "😀", "a/b~c", "$", "select",
         "name__other", "nul\0", "[0]", "*", "ä", "Ä", "_LAKE_version", "-"]
    ),
    st.text(min_size=1, max_size=6).filter(lambda n: not n.startswith("_lake_") and n != "pk"),
)  # fmt: skip
FIELDS = st.one_of(st.sampled_from(["x", "X", "y", "", "a.b", "z\0"]), st.text(max_size=3))
NUMBERS = st.one_of(
    st.integers(-(2**66), 2**66).map(str),
    st.integers(0, 9).map(str),
    st.decimals(-100, 100, places=2).map(str),
    st.sampled_from(
        ["1E2", "1.10", "-0", "0.0", "1E-130", "9.9999999999999999999999999999999999999E+125", "1.7", "-1E-130",
         "99999999999999999999999999999999999999", "-0.00000000000000000000000000000000000001",
         "9223372036854775807", "9223372036854775808", "-9223372036854775808", "12345678901234567890.5E-3"]
    ),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["", "2020-01-01", "true", "null", "1", "a\0b", '{"S":"x"}'])
)
BINARY = st.binary(max_size=5).map(lambda raw: base64.b64encode(raw).decode())
LEAVES = st.one_of(
    TEXTS.map(lambda v: {"S": v}),
    NUMBERS.map(lambda v: {"N": v}),
    BINARY.map(lambda v: {"B": v}),
    st.booleans().map(lambda v: {"BOOL": v}),
    st.just({"NULL": True}),
    st.sets(TEXTS, min_size=1, max_size=3).map(lambda v: {"SS": sorted(v)}),
    st.lists(st.integers(-5, 5), min_size=1, max_size=3, unique=True).map(
        lambda v: {"NS": [str(n) for n in v]}
    ),
    st.just({"NS": ["1.5", "1E-130"]}),
    st.sets(BINARY, min_size=1, max_size=3).map(lambda v: {"BS": sorted(v)}),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: {"L": v}),
        st.dictionaries(FIELDS, inner, max_size=3).map(lambda v: {"M": v}),
    ),
    max_leaves=5,
)
ITEMS = st.lists(st.dictionaries(NAMES, VALUES, max_size=6), min_size=1, max_size=6)


def keyed(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"pk": {"S": f"key {number}"}, **item} for number, item in enumerate(items)]


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(ITEMS)
@example([{"a": {"M": {"x": {"S": "1"}}}}, {"a": {"M": {}}}, {}, {"a": {"NULL": True}}, {"a": {"S": ""}}])
@example([{"a": {"L": [{"N": "1"}]}}, {"a": {"L": []}}, {"a": {"L": [{"NULL": True}]}}])
@example(
    [
        {"name": {"S": "1"}, "Name": {"N": "1"}, "NAME": {"NULL": True}, "name__other": {"S": "2"}},
        {"name": {"N": "2"}},
    ]
)
def test_items_survive_duckdb_parquet_and_arrow(items: list[dict[str, Any]]) -> None:
    items = keyed(items)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lake.duckdb"
        build(out, map(lake_row, items))
        want = by_key(items)
        assert by_key(snapshot_items(out, "things")) == want
        export_table(out, "things", "parquet", Path(folder) / "t.parquet")
        assert by_key(arrow_items(pq.ParquetFile(Path(folder) / "t.parquet").read())) == want
        export_table(out, "things", "arrow", Path(folder) / "t.arrow")
        with pa.OSFile(str(Path(folder) / "t.arrow")) as file:
            assert by_key(arrow_items(pa.ipc.open_file(file).read_all())) == want


def test_each_type_gets_its_documented_home(tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [
        {
            "pk": {"S": "1"}, "int": {"N": "1E2"}, "dec": {"N": "1.10"}, "huge": {"N": "1E-130"},
            "big": {"N": "9223372036854775808"}, "flag": {"BOOL": False}, "tags": {"SS": ["a"]},
            "ns": {"NS": ["1", "2.5"]}, "map": {"M": {"a": {"N": "1"}, "b": {"L": [{"S": "x"}]}}},
            "mixed": {"S": "x"},
            "clash": {"M": {"a": {"S": ""}, "A": {"S": ""}}}, "inner": {"M": {"n": {"NULL": True}}},
        },
        {"pk": {"S": "2"}, "mixed": {"S": "y"}, "map": {"M": {"b": {"L": []}}}},
        {"pk": {"S": "3"}, "mixed": {"N": "5"}, "list": {"L": [{"S": "a"}, {"N": "1"}]}},
    ]  # fmt: skip
    build(tmp_path / "l.duckdb", map(lake_row, items))
    with open_lake(tmp_path / "l.duckdb") as lake:
        kinds = {one.column.attribute: one.column.type for one in lake.schema("things")}
        assert kinds == {
            "pk": Text(), "int": Int64(), "dec": Decimal38(1), "huge": NumberText(), "big": Decimal38(0),
            "flag": Boolean(), "tags": ListOf("SS", Text()), "ns": ListOf("NS", Decimal38(1)),
            "map": Struct((("a", Int64()), ("b", ListOf("L", Text())))), "mixed": Text(), "clash": Json(),
            "inner": Json(), "list": Json(),
        }  # fmt: skip
        assert lake.sql("SELECT mixed, mixed__other FROM things ORDER BY pk").fetchall() == [
            ("x", None),
            ("y", None),
            (None, '{"N":"5"}'),
        ]
        assert lake.sql("SELECT int, huge, map.b FROM things WHERE pk = '1'").fetchall() == [
            (100, "1E-130", ["x"])
        ]


def test_an_attribute_first_seen_in_the_last_row_is_there(tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [{"pk": {"S": str(n)}} for n in range(3000)]
    items[-1]["late"] = {"M": {"deep": {"N": "1.5"}}}
    build(tmp_path / "l.duckdb", map(lake_row, items))
    with open_lake(tmp_path / "l.duckdb") as lake:
        assert lake.sql("SELECT pk FROM things WHERE late.deep = 1.5").fetchall() == [("2999",)]


def test_a_wide_a_large_and_a_deep_item_survive(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"N": "1"}
    for level in range(31):
        deep = {"L": [deep]} if level % 2 else {"M": {"k": deep}}
    wide = {f"attribute {n}": {"N": str(n)} if n % 2 else {"S": str(n)} for n in range(500)}
    many = {"L": [{"NULL": True}] * 200_000}
    items = keyed([wide, {"big": {"S": "\x01" * 399_000}}, {"deep": deep}, {"many": many}])
    build(tmp_path / "l.duckdb", map(lake_row, items))
    assert by_key(snapshot_items(tmp_path / "l.duckdb", "things")) == by_key(items)


def test_containers_too_long_to_look_into_are_kept_as_json(tmp_path: Path) -> None:
    numbers = [str(n) for n in range(20_000)]
    items = keyed([{"ns": {"NS": numbers}, "l": {"L": [{"N": n} for n in numbers]}}, {"ns": {"NS": ["1"]}}])
    build(tmp_path / "l.duckdb", map(lake_row, items))
    with open_lake(tmp_path / "l.duckdb") as lake:
        assert {one.column.type for one in lake.schema("things")[1:]} == {Json()}
    assert by_key(snapshot_items(tmp_path / "l.duckdb", "things")) == by_key(items)


def test_metadata_comes_back_when_asked_for(tmp_path: Path) -> None:
    row = lake_row({"pk": {"N": "1.50"}}) | {"_lake_source_at": {"N": "5"}}
    build(tmp_path / "l.duckdb", [row])
    assert [normal(i) for i in snapshot_items(tmp_path / "l.duckdb", "things", metadata=True)] == [
        normal(row)
    ]
