"""Types, names and quoting."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import SnapshotError
from lake.types import (
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
    arrow_type,
    column_names,
    columns_from_json,
    columns_to_json,
    duckdb_type,
    identifier,
    literal,
    number_type,
)

LEAVES: list[Type] = [Text(), Int64(), Decimal38(0), Decimal38(38), NumberText(), Blob(), Boolean(), Json()]
FIELD_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
TYPES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds(ListOf, st.sampled_from(["L", "NS"]), inner),
        st.lists(
            st.tuples(FIELD_NAMES, inner), min_size=1, max_size=3, unique_by=lambda f: f[0].casefold()
        ).map(lambda fields: Struct(tuple(fields))),
    ),
    max_leaves=6,
)


@given(TYPES)
def test_a_type_survives_storage_and_means_the_same_in_duckdb_and_arrow(kind: Type) -> None:
    column = Column("a", "b", kind, "c")
    assert columns_from_json(columns_to_json([column])) == (column,)
    with duckdb.connect() as con:
        table = con.sql(f"SELECT NULL::{duckdb_type(kind, 'VARCHAR')} AS x").to_arrow_table()
    assert table.schema.field("x").type.equals(arrow_type(kind))


@pytest.mark.parametrize(
    "text", ["[{}]", "[1]", "{", '[{"attribute":"a","name":"a","type":"float","companion":null}]']
)
def test_what_describes_no_columns_is_refused(text: str) -> None:
    with pytest.raises(SnapshotError):
        columns_from_json(text)


@given(st.text(min_size=1))
def test_names_and_texts_reach_duckdb_as_they_are(name: str) -> None:
    name = name.replace("\0", "") or "x"
    with duckdb.connect() as con:
        assert con.sql(f"SELECT 1 AS {identifier(name)}").columns == [name]


@given(st.text())
def test_literals_reach_duckdb_as_they_are(text: str) -> None:
    with duckdb.connect() as con:
        assert con.sql(f"SELECT {literal(text)}").fetchall() == [(text,)]


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_no_identifier_can_be_is_refused(name: str) -> None:
    with pytest.raises(SnapshotError):
        identifier(name)


def test_names_that_clash_by_case_get_a_suffix_in_the_order_given() -> None:
    names = column_names(["name", "Name", "NAME", "name_2", "a.b", 'q"', "", "x\0"], taken=["A.B"])
    assert names["name"] == "name"
    assert names["a.b"] == "a.b_2"
    assert names['q"'] == 'q"'
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(name and "\0" not in name for name in names.values())


@pytest.mark.parametrize(
    ("digits", "scale", "int64", "kind"),
    [
        (19, 0, True, Int64()),
        (19, 0, False, Decimal38(0)),
        (38, 0, False, Decimal38(0)),
        (0, 38, False, Decimal38(38)),
        (37, 2, False, NumberText()),
        (126, 0, False, NumberText()),
    ],
)
def test_numbers_get_the_narrowest_exact_type(digits: int, scale: int, int64: bool, kind: Type) -> None:
    assert number_type(digits, scale, int64) == kind


def test_a_set_and_a_list_are_told_apart() -> None:
    assert ListOf("SS", Text()) != ListOf("L", Text())
    assert arrow_type(ListOf("SS", Text())) == pa.list_(pa.string())
