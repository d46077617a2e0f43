"""Files that other tools read."""

from __future__ import annotations

import base64
import csv
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.encode import arrow_items
from lake.errors import ExportError, SnapshotError
from lake.export import export_table
from tests.lake.building import build, by_key, lake_row

DIGITS = "1234567890123456789012345678901234.5678"
ITEMS: list[dict[str, Any]] = [
    {
        "pk": {"S": "1"}, "text": {"S": "=1+1"}, "amount": {"N": "-5"}, "exact": {"N": DIGITS},
        "tiny": {"N": "-1E-130"}, "raw": {"B": base64.b64encode(b"\xfb\xff").decode()}, "flag": {"BOOL": True},
        "set": {"BS": [base64.b64encode(b"ab").decode()]}, "map": {"M": {"n": {"N": DIGITS}}}, "=head": {"S": "x"},
        "mixed": {"S": "-x"}, "any": {"L": [{"S": "a"}, {"NULL": True}]},
    },
    {"pk": {"S": "2"}, "text": {"S": ""}, "mixed": {"N": "1"}, "exact": {"NULL": True}},
    {"pk": {"S": "3"}, "text": {"S": "\tx"}, "mixed": {"S": "plain"}},
]  # fmt: skip


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    gone = lake_row({"pk": {"S": "4"}}) | {"_lake_deleted": {"S": "user"}}
    build(tmp_path / "lake.duckdb", [*map(lake_row, ITEMS), gone])
    return tmp_path / "lake.duckdb"


def test_parquet_is_one_file_or_a_directory_and_can_be_written_again(snapshot: Path, tmp_path: Path) -> None:
    for name in ("t.parquet", "parts", "t.parquet", "parts"):
        report = export_table(snapshot, "things", "parquet", tmp_path / name)
        path = tmp_path / name
        files = [path] if path.is_file() else list(path.iterdir())
        assert report.bytes == sum(file.stat().st_size for file in files)
        assert report.rows == 3
        table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        assert by_key(arrow_items(table)) == by_key(ITEMS)
        assert all(file.suffix == ".parquet" for file in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake.duckdb", "parts", "t.parquet"]
    described = pq.ParquetFile(tmp_path / "t.parquet")
    assert described.metadata.row_group(0).column(0).compression == "ZSTD"
    assert described.schema_arrow.field("any").type == pa.string()
    assert described.schema_arrow.field("map").type == pa.struct([("n", pa.decimal128(38, 4))])


def test_csv_does_not_run_in_a_spreadsheet(snapshot: Path, tmp_path: Path) -> None:
    export_table(snapshot, "things", "csv", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["pk"]: row for row in csv.DictReader(file)}
    first = rows["1"]
    assert first["text"] == "'=1+1"
    assert first["mixed"] == "'-x"
    assert rows["3"]["text"] == "'\tx"
    assert first["'=head"] == "x"
    assert first["amount"] == "-5"
    assert first["exact"] == DIGITS
    assert first["tiny"] == "-1E-130"
    assert first["raw"] == "'+/8="
    assert first["set"] == '["YWI="]'
    assert first["map"] == f'{{"n":{DIGITS}}}'
    assert first["flag"] == "true"
    assert rows["2"]["mixed__other"] == '{"N":"1"}'
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert '""' in next(line for line in text.splitlines() if line.startswith("2,")), (
        "an empty text is not NULL"
    )


def test_hyper_keeps_digits_and_nested_values(snapshot: Path, tmp_path: Path) -> None:
    pantab = pytest.importorskip("pantab")
    report = export_table(snapshot, "things", "hyper", tmp_path / "t.hyper")
    assert report.rows == 3
    rows = pantab.frame_from_hyper(report.path, table="things", return_type="pyarrow").to_pylist()
    first = next(row for row in rows if row["pk"] == "1")
    assert first["exact"] == Decimal(DIGITS)
    assert first["tiny"] == "-1E-130"
    assert first["map"] == f'{{"n":{DIGITS}}}'
    assert first["raw"] == b"\xfb\xff"
    assert first["text"] == "=1+1"
    assert first["amount"] == -5
    second = next(row for row in rows if row["pk"] == "2")
    assert (second["text"], second["exact"], second["mixed__other"]) == ("", None, '{"N":"1"}')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake.duckdb", "t.hyper"]


def test_hyper_without_pantab_says_what_to_install(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pantab", None)
    with pytest.raises(ExportError, match=r"install dynalake\[tableau\]"):
        export_table(snapshot, "things", "hyper", tmp_path / "t.hyper")
    assert list(tmp_path.iterdir()) == [snapshot]


def test_a_failed_export_leaves_the_old_file(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "t.hyper"
    out.write_text("old")
    monkeypatch.setitem(sys.modules, "pantab", None)
    with pytest.raises(ExportError):
        export_table(snapshot, "things", "hyper", out)
    assert out.read_text() == "old"


def test_what_cannot_be_served_is_refused(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="xlsx"):
        export_table(snapshot, "things", "xlsx", tmp_path / "t")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="it has things"):
        export_table(snapshot, "missing", "csv", tmp_path / "t")
    with pytest.raises(ExportError, match="not a directory"):
        export_table(snapshot, "things", "csv", tmp_path / "missing" / "t")
    with pytest.raises(SnapshotError):
        export_table(tmp_path / "missing", "things", "csv", tmp_path / "t")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").touch()
    with pytest.raises(ExportError, match=r"notes\.txt"):
        export_table(snapshot, "things", "parquet", mine)
    with pytest.raises(ExportError, match="is a directory"):
        export_table(snapshot, "things", "csv", mine)
    assert list(mine.iterdir()) == [mine / "notes.txt"]
