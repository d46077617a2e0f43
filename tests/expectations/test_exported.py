"""Every kind of fault in an exported file is found at its place, in every format, and nothing else is."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from expectations.errors import ParityError
from expectations.exported import compare_export
from expectations.parity import ParityResult
from lake.export.export import Format, export_table
from lake.export.layout import Layout
from lake.types import literal
from tests.dynalake.accounts import command
from tests.lake.building import build
from tests.stubs.hyper import opened
from tests.tableau.extracts import row

Found = set[tuple[str, str, tuple[str, ...]]]
ROWS = 30


def item(number: int) -> dict[str, Any]:
    """An item with an attribute of each of the ten types, and texts that a spreadsheet would run."""
    return {
        "pk": {"S": f"k{number}"},
        "sk": {"N": f"{number}.5"},
        "s": {"S": f"=text {number}"},
        "n": {"N": str(number)},
        "b": {"B": base64.b64encode(bytes([number])).decode()},
        "bool": {"BOOL": number % 2 == 0},
        "null": {"NULL": True},
        "ss": {"SS": ["a", f"b{number}"]},
        "ns": {"NS": ["1", f"{number + 2}"]},
        "bs": {"BS": [base64.b64encode(bytes([1])).decode(), base64.b64encode(bytes([number + 2])).decode()]},
        "l": {"L": [{"N": str(number)}, {"N": "2"}]},
        "m": {"M": {"street": {"S": f"street {number}"}, "no": {"N": str(number)}}},
        "any": {"L": [{"S": "a"}, {"NULL": True}]},
        "day": {"S": f"2026-01-{number % 3 + 1:02d}"},
        **({"sometimes": {"S": ""}} if number % 2 else {}),
    }


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lake") / "lake.duckdb"
    build(file, [row(item(number), number) for number in range(ROWS)], key=("pk", "sk"))
    return file


def found_in(result: ParityResult) -> Found:
    return {(each.reason, each.key["pk"]["S"], each.attributes) for each in result.differences}


def spoil(file: Path, statements: Sequence[str]) -> None:
    """Change an exported file by SQL in which its rows are the table t."""
    if file.suffix == ".hyper":
        with opened(file) as hyper:
            for statement in statements:
                hyper.execute_command(statement.replace(" t ", ' "extract"."public"."things" '))
        return
    with duckdb.connect() as con:
        match file.suffix:
            case ".csv":
                options = "header=true, all_varchar=true, allow_quoted_nulls=false"
                con.execute(f"CREATE TABLE t AS FROM read_csv({literal(str(file))}, {options})")
            case ".arrow":
                import pyarrow as pa

                table = pa.ipc.open_file(file).read_all()
                con.register("held", table)
                con.execute("CREATE TABLE t AS FROM held")
            case _:
                con.execute(f"CREATE TABLE t AS FROM read_parquet({literal(str(file))})")
        for statement in statements:
            con.execute(statement)
        if file.suffix == ".arrow":
            changed = con.table("t").to_arrow_table()
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, changed.schema) as writer:
                writer.write_table(changed)
        else:
            form = "csv, HEADER" if file.suffix == ".csv" else "parquet"
            con.execute(f"COPY t TO {literal(str(file))} (FORMAT {form})")


ROW_FAULTS: Mapping[str, tuple[tuple[str, ...], Found]] = {
    "a missing row": (("DELETE FROM t WHERE pk = 'k1'",), {("missing", "k1", ())}),
    "S": (("UPDATE t SET s = 'other' WHERE pk = 'k4'",), {("different", "k4", ("s",))}),
    "S absent": (("UPDATE t SET s = NULL WHERE pk = 'k5'",), {("different", "k5", ("s",))}),
    "S empty is absent": (
        ("UPDATE t SET sometimes = NULL WHERE pk = 'k7'",),
        {("different", "k7", ("sometimes",))},
    ),
    "S absent is empty": (
        ("UPDATE t SET sometimes = '' WHERE pk = 'k6'",),
        {("different", "k6", ("sometimes",))},
    ),
    "L of any": (("UPDATE t SET \"any\" = '[]' WHERE pk = 'k8'",), {("different", "k8", ("any",))}),
}
NESTED_FAULTS: Mapping[str, tuple[tuple[str, ...], Found]] = {
    "a key twice": (("INSERT INTO t FROM t WHERE pk = 'k2'",), {("duplicate", "k2", ())}),
    "an extra row": (
        ("INSERT INTO t SELECT * REPLACE ('stranger' AS pk) FROM t WHERE pk = 'k3'",),
        {("extra", "stranger", ())},
    ),
    "a version swapped": (
        ("UPDATE t SET _lake_version = '0~000001' WHERE pk = 'k9'",),
        {("different", "k9", ("_lake_version",))},
    ),
    "a stale row": (
        ("UPDATE t SET _lake_version = '0~000001', _lake_at = 1, n = 0 WHERE pk = 'k10'",),
        {("different", "k10", ("n", "_lake_version", "_lake_at"))},
    ),
    "N": (("UPDATE t SET n = n + 1 WHERE pk = 'k11'",), {("different", "k11", ("n",))}),
    "B": (("UPDATE t SET b = 'x'::BLOB WHERE pk = 'k12'",), {("different", "k12", ("b",))}),
    "BOOL": (('UPDATE t SET "bool" = NOT "bool" WHERE pk = \'k13\'',), {("different", "k13", ("bool",))}),
    "NULL is absent": (
        ("UPDATE t SET _lake_nulls = NULL WHERE pk = 'k14'",),
        {("different", "k14", ("_lake_nulls",))},
    ),
    "SS": (("UPDATE t SET ss = ['a'] WHERE pk = 'k16'",), {("different", "k16", ("ss",))}),
    "NS": (("UPDATE t SET ns = [1, 2, 3] WHERE pk = 'k17'",), {("different", "k17", ("ns",))}),
    "BS": (("UPDATE t SET bs = ['x'::BLOB] WHERE pk = 'k18'",), {("different", "k18", ("bs",))}),
    "L": (("UPDATE t SET l = list_reverse(l) WHERE pk = 'k19'",), {("different", "k19", ("l",))}),
    "M": (
        ("UPDATE t SET m = struct_pack(no := m.no, street := 'other') WHERE pk = 'k20'",),
        {("different", "k20", ("m",))},
    ),
}
CSV_FAULTS: Mapping[str, tuple[tuple[str, ...], Found]] = {
    "a key twice": (("INSERT INTO t FROM t WHERE pk = 'k2'",), {("duplicate", "k2", ())}),
    "an extra row": (
        ("INSERT INTO t SELECT * REPLACE ('stranger' AS pk) FROM t WHERE pk = 'k3'",),
        {("extra", "stranger", ())},
    ),
    "N": (("UPDATE t SET n = '999' WHERE pk = 'k11'",), {("different", "k11", ("n",))}),
    "B": (("UPDATE t SET b = 'eA==' WHERE pk = 'k12'",), {("different", "k12", ("b",))}),
    "BOOL": (("UPDATE t SET \"bool\" = 'true' WHERE pk = 'k13'",), {("different", "k13", ("bool",))}),
    "SS": (("UPDATE t SET ss = '[\"a\"]' WHERE pk = 'k16'",), {("different", "k16", ("ss",))}),
    "M": (("UPDATE t SET m = '{}' WHERE pk = 'k20'",), {("different", "k20", ("m",))}),
}
HYPER_FAULTS: Mapping[str, tuple[tuple[str, ...], Found]] = {
    "a key twice": (("INSERT INTO t  SELECT * FROM t  WHERE pk = 'k2'",), {("duplicate", "k2", ())}),
    "an extra row": (
        ("UPDATE t  SET pk = 'stranger' WHERE pk = 'k3'",),
        {("extra", "stranger", ()), ("missing", "k3", ())},
    ),
    "N": (("UPDATE t  SET n = n + 1 WHERE pk = 'k11'",), {("different", "k11", ("n",))}),
    "BOOL": (("UPDATE t  SET bool = NOT bool WHERE pk = 'k13'",), {("different", "k13", ("bool",))}),
    "B": (("UPDATE t  SET b = NULL WHERE pk = 'k12'",), {("different", "k12", ("b",))}),
    "SS": (("UPDATE t  SET ss = '[]' WHERE pk = 'k16'",), {("different", "k16", ("ss",))}),
    "NS": (("UPDATE t  SET ns = '[]' WHERE pk = 'k17'",), {("different", "k17", ("ns",))}),
    "BS": (("UPDATE t  SET bs = '[]' WHERE pk = 'k18'",), {("different", "k18", ("bs",))}),
    "L": (("UPDATE t  SET l = '[]' WHERE pk = 'k19'",), {("different", "k19", ("l",))}),
    "M": (("UPDATE t  SET m = '{}' WHERE pk = 'k20'",), {("different", "k20", ("m",))}),
}  # fmt: skip
FAULTS: Mapping[Format, Mapping[str, tuple[tuple[str, ...], Found]]] = {
    "parquet": {**ROW_FAULTS, **NESTED_FAULTS},
    "arrow": {**ROW_FAULTS, **NESTED_FAULTS},
    "csv": {**ROW_FAULTS, **CSV_FAULTS},
    "hyper": {**{name: (tuple(s.replace(" t ", " t  ").replace("UPDATE t", "UPDATE t ") for s in statements), found)
                 for name, (statements, found) in ROW_FAULTS.items()}, **HYPER_FAULTS},
}  # fmt: skip


@pytest.mark.parametrize("form", FAULTS)
def test_each_fault_is_found_where_it_is_and_nothing_else(
    form: Format, snapshot: Path, tmp_path: Path
) -> None:
    whole = tmp_path / f"whole.{form}"
    export_table(snapshot, "things", form, whole)
    result = compare_export(snapshot, "things", whole)
    assert (result.exact, result.source_rows, result.lake_rows) == (True, ROWS, ROWS), result
    spoilt = tmp_path / f"spoilt.{form}"
    for name, (statements, expected) in FAULTS[form].items():
        shutil.copyfile(whole, spoilt)
        spoil(spoilt, statements)
        result = compare_export(snapshot, "things", spoilt)
        assert found_in(result) == expected, (form, name)
        assert not result.exact, (form, name)
        assert not result.problems, (form, name, result.problems)


LAYOUTS: Mapping[Format, Sequence[Layout]] = {
    "csv": (Layout(), Layout(flatten=True)),
    "hyper": (Layout(), Layout(flatten=True), Layout(dates=True), Layout(flatten=True, dates=True)),
    "tdsx": (Layout(), Layout(flatten=True), Layout(dates=True), Layout(flatten=True, dates=True)),
    "parquet": (
        Layout(),
        Layout(partition_by=("day",)),
        Layout(partition_by=("n", "half=n < 15"), sort_by=("s desc",)),
        Layout(partition_by=("sometimes_or_none=coalesce(nullif(sometimes, ''), 'a/b ü')", "bool")),
    ),
}
"""What each format can be laid out as."""


@pytest.mark.parametrize(
    ("form", "layout"), [(form, layout) for form, layouts in LAYOUTS.items() for layout in layouts]
)
def test_whatever_the_layout_a_whole_export_is_the_same(
    form: Format, layout: Layout, snapshot: Path, tmp_path: Path
) -> None:
    out = tmp_path / (f"out.{form}" if form != "parquet" else "out")
    export_table(snapshot, "things", form, out, layout=layout)
    result = compare_export(snapshot, "things", out)
    assert (result.exact, result.problems) == (True, ()), (result.problems, result.differences)


def test_a_column_that_is_of_another_type_missing_or_new_is_told(snapshot: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    cases: Mapping[str, str] = {
        "ALTER TABLE t ALTER n TYPE VARCHAR": "the file's column 'n' is VARCHAR, and it should be BIGINT",
        "ALTER TABLE t DROP s": "the file lacks the column 's'",
        "ALTER TABLE t ADD stranger INTEGER": "the file has a column 'stranger'",
    }
    for statement, said in cases.items():
        export_table(snapshot, "things", "parquet", out)
        spoil(out, [statement])
        result = compare_export(snapshot, "things", out)
        assert (result.wrong, result.exact) == (0, False), statement
        (problem,) = result.problems
        assert said in problem


def test_rows_without_a_key_are_told(snapshot: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    export_table(snapshot, "things", "parquet", out)
    spoil(out, ["UPDATE t SET pk = NULL WHERE pk = 'k3'"])
    result = compare_export(snapshot, "things", out)
    assert (found_in(result), result.problems) == (
        {("missing", "k3", ())},
        ("1 rows of the file have no key",),
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.parquet", None, "there is no file"),
        ("cut.parquet", b"PAR1", "cannot be compared"),
        ("cut.tdsx", b"PK", "no package of Tableau"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(
    name: str, content: bytes | None, said: str, snapshot: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ParityError, match=said):
        compare_export(snapshot, "things", tmp_path / name)


def test_the_command_needs_no_account_and_ends_with_1_where_they_differ(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, found = tmp_path / "out.parquet", tmp_path / "found.jsonl"
    export_table(snapshot, "things", "parquet", out)
    words: Sequence[str | Path] = (
        "parity",
        "things",
        "--snapshot",
        snapshot,
        "--export",
        out,
        "--out",
        found,
    )
    code, said, _ = command(capsys, *words)
    assert code == 0
    assert "holds what" in said
    spoil(out, ["DELETE FROM t WHERE pk = 'k1'", "UPDATE t SET n = 0 WHERE pk = 'k2'"])
    code, said, _ = command(capsys, *words, "--json")
    document = json.loads(said)
    assert code == 1
    assert (document["snapshot_rows"], document["export_rows"]) == (ROWS, ROWS - 1)
    assert document["parity"] == {"missing": 1, "extra": 0, "different": 1}
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    assert [(line["reason"], line["key"], line["where"]) for line in lines] == [
        ("missing", {"pk": {"S": "k1"}, "sk": {"N": "1.5"}}, "export"),
        ("different", {"pk": {"S": "k2"}, "sk": {"N": "2.5"}}, "export"),
    ]
    code, _, err = command(capsys, "parity", "things", "--export", out)
    assert code == 2
    assert "--snapshot" in err
