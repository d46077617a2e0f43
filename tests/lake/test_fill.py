"""The fast way into a table finds what a look at all rows finds, and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lake import fill
from lake.decode import typed_read
from lake.discover import Found, discover, prepare
from lake.encode import encode_batches
from lake.errors import DecodeError
from lake.fill import Filler
from lake.lines import item_to_line
from lake.parts import Chunk, Part, chunk_of_lines, first_bad_row, spool_parts, structural_quotes
from lake.snapshot import build_snapshot
from lake.stored import column_names_of, stored
from lake.types import NULLS, Decimal38, Int64, Json, NumberText, Struct, Text, identifier
from tests.lake.building import ABOUT, by_key, lake_row
from tests.lake.test_roundtrip import ITEMS, keyed

Item = dict[str, Any]


def chunks(items: Sequence[Mapping[str, Any]], form: str) -> list[Chunk]:
    """One item a chunk, in one of the ways that rows come."""
    lines = [item_to_line(item) for item in items]
    match form:
        case "lines":
            return [Chunk(line, 1, "lines") for line in lines]
        case "items":
            return [Chunk(memoryview(line), 1, "items") for line in lines]
        case _:
            return [Chunk(b'{"Item": ' + line + b" }\n", 1, "lines", "Item") for line in lines]


class Filled:
    """A table filled in parts of so many rows, each row a block, and what it holds."""

    def __init__(self, items: Sequence[Mapping[str, Any]], form: str, rows_a_part: int = 1) -> None:
        rows = [lake_row(item) for item in items]
        with tempfile.TemporaryDirectory() as folder, duckdb.connect(f"{folder}/l.duckdb") as con:
            prepare(con)
            self.filler = Filler(con, "t", ["pk"], Path(folder), {}, None)
            groups = [rows[n : n + rows_a_part] for n in range(0, len(rows), rows_a_part)]
            numbers = itertools.count()
            for group in groups:
                (part,) = spool_parts(chunks(group, form), Path(folder), block_bytes=1)
                self.filler.add(_moved(part, numbers))
            self.filler.finish()
            self.filler.trim()
            columns = [one.column for one in self.filler.found]
            names = [f"{stored(name)} AS {identifier(name)}" for name in column_names_of(columns)]
            shown = con.sql(f"SELECT {', '.join([*names, NULLS])} FROM t")
            self.items = by_key(encode_batches(columns, shown.to_arrow_reader(100)))
            path = Path(folder) / "all"
            path.write_bytes(b"".join(item_to_line(row) + b"\n" for row in rows))
            every = f"(SELECT json AS line FROM read_json_objects('{path}', format = 'newline_delimited'))"
            self.looked_at = {one.column.attribute: one for one in discover(con, every, ["pk"])}
        self.found = {one.column.attribute: one for one in self.filler.found}


def _moved(part: Part, numbers: Iterator[int]) -> Part:
    """The part, its blocks numbered on from those of the parts before."""
    blocks = []
    for block in part.blocks:
        number = next(numbers)
        path = block.path.rename(block.path.with_name(f"block {number}"))
        blocks.append(replace(block, number=number, path=path))
    return replace(part, blocks=tuple(blocks))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(ITEMS, st.sampled_from(["lines", "items", "wrapped"]))
@example(
    [{"a": {"M": {}}}, {"a": {"M": {"x": {"N": "1"}}}}, {"a": {"L": []}}, {"a": {"L": [{"NULL": True}]}}],
    "items",
)
@example([{"a": {"NULL": True}}, {"a": {"N": "1"}}, {"a": {"N": "1.5"}}, {"a": {"N": "1E-130"}}], "lines")
@example([{"a": {"S": "x"}}, {"a": {"N": "1"}}, {"a": {"N": "2"}}, {"A": {"S": 'q"\\'}}], "wrapped")
def test_rows_that_come_one_by_one_make_the_table_that_all_at_once_do(items: list[Item], form: str) -> None:
    items = keyed(items)
    filled = Filled(items, form)
    assert filled.items == by_key(items)
    assert {name: (one.column, one.rows) for name, one in filled.found.items()} == {
        name: (one.column, one.rows) for name, one in filled.looked_at.items()
    }


def rows_of(*values: Mapping[str, Any]) -> list[Item]:
    return [{"pk": {"S": str(number)}, "a": value} for number, value in enumerate(values)]


def test_a_new_attribute_does_not_fill_the_table_anew() -> None:
    filled = Filled([*rows_of({"N": "1"}), {"pk": {"S": "x"}, "late": {"S": "y"}}], "items")
    assert filled.filler.generation == 1
    assert filled.found["late"].column.type == Text()


def test_only_the_blocks_that_do_not_fit_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []

    def noting(found: Sequence[Found], part: Part) -> str:
        read.append([block.number for block in part.blocks])
        return typed_read(found, part)

    monkeypatch.setattr(fill, "typed_read", noting)
    monkeypatch.setattr(fill, "SAMPLE_ROWS", 1)
    rows = [*rows_of({"N": "1"}, {"N": "2"}), {"pk": {"S": "x"}, "late": {"S": "y"}}, *rows_of({"N": "4"})]
    rows[3]["pk"] = {"S": "y"}
    filled = Filled(rows, "items", rows_a_part=4)
    assert read == [[0, 1, 2, 3], [2]]
    assert filled.items == by_key(rows)


@pytest.mark.parametrize("name", ["file_index", "FILE_INDEX", "filename"])
def test_an_attribute_may_be_called_as_what_duckdb_calls_its_own(name: str) -> None:
    rows: list[Item] = [{"pk": {"S": str(n)}, name: {"N": str(n)}} for n in range(3)]
    for form in ("items", "wrapped"):
        assert Filled(rows, form, rows_a_part=2).items == by_key(rows)


def test_a_second_type_gets_a_companion_and_the_majority_the_column() -> None:
    few = Filled(rows_of({"N": "1"}, {"N": "2"}, {"S": "x"}), "items")
    assert few.filler.generation == 1
    assert (few.found["a"].column.type, few.found["a"].rows) == (Int64(), {"S": 1, "N": 2})
    many = Filled(rows_of({"N": "1"}, {"S": "x"}, {"S": "y"}), "items")
    assert (many.found["a"].column.type, many.found["a"].rows) == (Text(), {"S": 2, "N": 1})
    assert many.filler.main_tags["a"] == "S"


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (["1", "1.7"], Decimal38(1)),
        (["1.7", "1.25", "9"], Decimal38(2)),
        (["1", "9223372036854775808"], Decimal38(0)),
        (["1", "1E-130"], NumberText()),
        (["1.5", "9" * 37 + ".5"], Decimal38(1)),
        (["1.5", "9" * 38], NumberText()),
        (["1.5", "9" * 36, "1.25"], Decimal38(2)),
        (["1.5", "9" * 37, "1.25"], NumberText()),
        (["1", "1E2", "007", "+5", "-0"], Int64()),
    ],
)
def test_a_number_that_would_be_rounded_widens_its_column(numbers: list[str], kind: object) -> None:
    filled = Filled(rows_of(*({"N": number} for number in numbers)), "lines")
    assert filled.found["a"].column.type == kind
    assert filled.items == by_key(rows_of(*({"N": number} for number in numbers)))


def test_fields_that_come_late_are_in_the_struct() -> None:
    shapes: list[Item] = [
        {"M": {"x": {"N": "1"}}},
        {"M": {"y": {"L": [{"S": "z"}]}}},
        {"M": {"x": {"N": "1.5"}}},
    ]
    kind = Filled(rows_of(*shapes), "items").found["a"].column.type
    assert isinstance(kind, Struct)
    assert dict(kind.fields)["x"] == Decimal38(1)
    dictionary: list[Item] = [{"M": {f"name {n}": {"S": "x"}}} for n in range(120)]
    assert Filled(rows_of(*dictionary), "items", rows_a_part=30).found["a"].column.type == Json()


def test_a_table_that_never_fits_is_looked_at_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "quotes_in", lambda text: "-1")
    monkeypatch.setattr(fill, "account_of_rows", lambda found, wrapper: "-1")
    items = rows_of({"N": "1"}, {"S": "x"}, {"M": {"x": {"N": "1.5"}}})
    filled = Filled(items, "items")
    assert filled.items == by_key(items)
    assert {n: o.column for n, o in filled.found.items()} == {
        n: o.column for n, o in filled.looked_at.items()
    }


@pytest.mark.parametrize(
    "bad",
    [
        b'{"pk":{"S":"2"},"a":{"S":5}}',
        b'{"pk":{"S":"2"},"a":{"S":"1","N":"1"}}',
        b'{"pk":{"S":"2"},"a":{"N":"one"}}',
        b'{"pk":{"S":"2"},"a":{"BOOL":1}}',
        b'{"pk":{"S":"2"},"a":{"NULL":false}}',
        b'{"pk":{"S":"2"},"a":{"SS":["1",2]}}',
        b'{"pk":{"S":"2"},"a":{"B":"not base64!"}}',
        b'{"pk":{"S":"2"},"a":{"M":{"x":5}}}',
        b'{"pk":{"S":"2"},"a":{"S":"x"},"a":{"S":"y"}}',
        b'{"pk":{"S":"2"},"a":{"S":"x"}',
        b'{"pk":{"S":"2"}}{"pk":{"S":"3"}}',
        b"[]",
    ],
)
@pytest.mark.parametrize("form", ["items", "lines"])
def test_what_is_malformed_is_named_though_its_column_is_known(tmp_path: Path, bad: bytes, form: Any) -> None:
    known = [
        {"pk": {"S": "0"}, "a": value}
        for value in ({"S": "x"}, {"N": "1"}, {"BOOL": True}, {"NULL": True}, {"SS": ["x"]}, {"B": "AA=="})
    ]
    good = [Chunk(item_to_line(lake_row(item)), 1, form) for item in known]
    # A scan's rows have no order, so that their number means little.
    number = "7" if form == "lines" else r"\d"
    with pytest.raises(DecodeError, match=f"line {number} of the rows of things is not an item"):
        build_snapshot(tmp_path / "l", "things", ["pk"], [*good, Chunk(bad, 1, form)], list, lambda: ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_row_too_few_is_noticed(tmp_path: Path) -> None:
    line = item_to_line(lake_row({"pk": {"S": "1"}}))
    with pytest.raises(DecodeError, match="of 2 rows 1"):
        build_snapshot(tmp_path / "l", "t", ["pk"], [Chunk(line, 2, "items")], list, lambda: ABOUT)


@given(
    st.recursive(st.text(max_size=8), lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=3))
)
def test_quotes_are_counted_without_those_in_texts(value: Any) -> None:
    def expected(part: Any) -> int:
        if isinstance(part, str):
            return 2
        return sum(2 + expected(inner) for inner in part.values())

    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        assert structural_quotes(text) == expected(value)
        assert structural_quotes(memoryview(text)) == expected(value)


def test_parts_keep_every_chunk_and_number_rows_through(tmp_path: Path) -> None:
    lines = [item_to_line({"pk": {"S": str(n)}}) for n in range(10)]
    for form in ("lines", "items"):
        folder = tmp_path / form
        folder.mkdir()
        given_ = [Chunk(line, 1, form) for line in [*lines, b'{"pk":5}']]
        parts = list(spool_parts(given_, folder, part_bytes=60, block_bytes=30))
        assert len(parts) > 1
        assert len(parts[0].blocks) > 1
        assert [block.number for part in parts for block in part.blocks] == list(
            range(sum(len(part.blocks) for part in parts))
        )
        assert sum(part.rows for part in parts) == 11
        bad = first_bad_row(parts)
        assert bad is not None
        assert bad[0] == 11
    assert chunk_of_lines(lines, 0, "x").rows == 10
