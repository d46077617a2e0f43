"""Numbers in SQL, and bytes that are not DynamoDB JSON."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.contract.numbers import canonical_number
from lake.discover import discover, prepare
from lake.errors import DecodeError
from lake.lines import first_bad_line, item_from_line, item_to_line, spool
from lake.snapshot import build_snapshot
from lake.types import Json, ListOf, Struct
from tests.lake.building import ABOUT, lake_row

NUMBER = st.from_regex(
    r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@settings(max_examples=30)
@given(st.lists(NUMBER.filter(str.isascii), min_size=1, max_size=20))
def test_the_canonical_number_of_sql_is_that_of_the_contract(numbers: list[str]) -> None:
    with duckdb.connect() as con:
        prepare(con)
        found = con.execute(
            "SELECT _lake_number(t) FROM (SELECT unnest(?::VARCHAR[]) AS t)", [numbers]
        ).fetchall()
    assert [text for (text,) in found] == list(map(canonical_number, numbers))


GOOD = item_to_line(lake_row({"pk": {"S": "1"}}))


@pytest.mark.parametrize(
    "bad",
    [
        b'{"pk":{"S":"2"}',
        b"[1]",
        b"5",
        b" ",
        b'{"pk":{"S":"2"}}{"pk":{"S":"3"}}',
        b'{"pk":{"S":"2"},"a":{"S":5}}',
        b'{"pk":{"S":"2"},"a":"text"}',
        b'{"pk":{"S":"2"},"a":{"X":"1"}}',
        b'{"pk":{"S":"2"},"a":{}}',
        b'{"pk":{"S":"2"},"a":{"S":"1","N":"1"}}',
        b'{"pk":{"S":"2"},"a":{"N":"one"}}',
        b'{"pk":{"S":"2"},"a":{"NS":["1","NaN"]}}',
        b'{"pk":{"S":"2"},"a":{"SS":["1",2]}}',
        b'{"pk":{"S":"2"},"a":{"B":"not base64!"}}',
        b'{"pk":{"S":"2"},"a":{"M":{"x":5}}}',
        b'{"pk":{"S":"2"},"a":{"L":[{"S":"x"},5]}}',
        b'{"pk":{"S":"2"},"a":{"S":"x"},"a":{"S":"y"}}',
        b'{"pk":{"S":"2"},"a":{"M":{"x":{"S":"1"},"x":{"S":"2"}}}}',
        b'{"pk":{"S":"\xff"}}',
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: bytes) -> None:
    out = tmp_path / "l.duckdb"
    with pytest.raises(DecodeError, match="line 3 of the rows of things"):
        build_snapshot(out, "things", ["pk"], [[GOOD, GOOD], [bad, GOOD]], list, lambda: ABOUT)
    wrapped = [b'{"NewImage":' + line + b"}" for line in (GOOD, bad)]
    with pytest.raises(DecodeError, match="line 2 of the changes of things"):
        build_snapshot(out, "things", ["pk"], [[GOOD]], lambda: [wrapped], lambda: ABOUT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [b"", GOOD + b"\n" + GOOD])
def test_a_line_is_one_line(tmp_path: Path, bad: bytes) -> None:
    with pytest.raises(DecodeError, match="line 3 of x"):
        spool([[GOOD], [GOOD, bad]], tmp_path / "s", "x")


def test_a_row_without_its_key_is_named(tmp_path: Path) -> None:
    other = item_to_line(lake_row({"id": {"S": "1"}}))
    with pytest.raises(DecodeError, match="row 2 has not the key pk"):
        build_snapshot(tmp_path / "l.duckdb", "t", ["pk"], [[GOOD, other]], list, lambda: ABOUT)


def test_sound_lines_have_no_bad_one(tmp_path: Path) -> None:
    assert spool([[GOOD], [], [GOOD]], tmp_path / "s", "x") == 2
    assert first_bad_line(tmp_path / "s") is None
    assert item_to_line(item_from_line(GOOD)) == GOOD


def test_a_map_with_many_names_is_kept_as_json_and_its_neighbours_are_not() -> None:
    with duckdb.connect() as con:
        prepare(con)
        con.execute(
            """CREATE TABLE rows AS SELECT json_object(
                'pk', json_object('S', i::VARCHAR),
                'dictionary', json_object('M', json_object('name ' || i, json_object('S', 'x'))),
                'outer', json_object('M', json_object(
                    'dictionary', json_object('M', json_object('name ' || i, json_object('S', 'x'))),
                    'list', json_object('L', json_array(json_object('NS', json_array('1'))))))
            ) AS line FROM range(200) AS t(i)"""
        )
        found = {one.column.attribute: one.column.type for one in discover(con, "rows", ["pk"])}
    assert found["dictionary"] == Json()
    outer = found["outer"]
    assert isinstance(outer, Struct)
    assert outer.fields[0] == ("dictionary", Json())
    assert isinstance(outer.fields[1][1], ListOf)


def test_the_oldest_of_names_that_clash_keeps_its_own() -> None:
    with duckdb.connect() as con:
        prepare(con)
        con.execute(
            """CREATE TABLE rows AS SELECT '{"pk":{"S":"1"},"Name":{"S":"x"},"name":{"N":"1"}}'::JSON AS line"""
        )
        names = {
            one.column.attribute: one.column.name
            for one in discover(con, "rows", ["pk"], {"name": 1, "Name": 2})
        }
    assert names == {"pk": "pk", "name": "name", "Name": "Name_2"}
