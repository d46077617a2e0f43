"""Partitions, order, flattening, and what a spreadsheet must not run."""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.encode import arrow_items
from lake.errors import ExportError
from lake.export import Layout, export_table, parquet
from lake.export.csv import original
from tests.lake.building import build, by_key, lake_row

ROOT = Path(__file__).parents[2]
COUNTRIES = ["de", "fr/ch", "it", None]


def item(number: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "pk": {"S": f"{number:05d}"},
        "total": {"N": str(number * 7919 % 1000)},
        "day": {"S": f"2026-0{number % 3 + 1}-05"},
        "map": {"M": {"a": {"N": "1.5"}, "in": {"M": {"b": {"S": "x"}}}, "list": {"L": [{"N": "1"}]}}},
        "map.a": {"S": "mine"},
    }
    country = COUNTRIES[number % 4]
    return found | ({"country": {"S": country}} if country else {})


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    build(tmp_path / "lake.duckdb", (lake_row(item(n)) for n in range(3000)))
    return tmp_path / "lake.duckdb"


def test_partitions_are_folders_and_rows_in_them_are_sorted(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 50)
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 6_000)
    monkeypatch.setattr(parquet, "FILE_BYTES", 12_000)
    out = tmp_path / "parts"
    layout = Layout(("country", "month=left(day, 7)"), ("total desc", "pk"))
    report = export_table(snapshot, "things", "parquet", out, layout=layout)
    folders = {path.parent.relative_to(out).as_posix() for path in out.rglob("*.parquet")}
    assert len(folders) == 12
    assert "country=fr%2Fch/month=2026-02" in folders
    assert "country=__HIVE_DEFAULT_PARTITION__/month=2026-01" in folders
    assert report.files > 12
    groups = 0
    items = []
    for folder in folders:
        totals: list[int] = []
        for file in sorted((out / folder).iterdir()):
            opened = pq.ParquetFile(file)
            groups += opened.metadata.num_row_groups
            assert opened.metadata.row_group(0).column(0).compression == "ZSTD"
            table = opened.read()
            assert "country" not in table.column_names
            totals += table.column("total").to_pylist()
            country = folder.split("/")[0].removeprefix("country=").replace("%2F", "/")
            value = None if country.startswith("__HIVE") else country
            # The partition's column is in the folder's name.
            table = table.append_column("country", pa.array([value] * table.num_rows, pa.string()))
            items += list(arrow_items(table))
        assert totals == sorted(totals, reverse=True)
    assert groups > report.files
    assert by_key(items) == by_key(item(n) for n in range(3000))
    found = duckdb.execute(
        f"SELECT country, count(*) FROM read_parquet('{out}/**/*.parquet', hive_partitioning=true) GROUP BY ALL"
    )
    assert dict(found.fetchall()) == {"de": 750, "fr/ch": 750, "it": 750, None: 750}
    export_table(snapshot, "things", "parquet", out)
    assert {path.suffix for path in out.iterdir()} == {".parquet"}


def test_one_file_is_sorted(snapshot: Path, tmp_path: Path) -> None:
    for format_, name in (("parquet", "t.parquet"), ("arrow", "t.arrow"), ("csv", "t.csv")):
        export_table(snapshot, "things", format_, tmp_path / name, layout=Layout((), ("total",)))  # type: ignore[arg-type]
    want = sorted(n * 7919 % 1000 for n in range(3000))
    assert pq.read_table(tmp_path / "t.parquet").column("total").to_pylist() == want
    with pa.OSFile(str(tmp_path / "t.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().column("total").to_pylist() == want
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as text:
        assert [int(row["total"]) for row in csv.DictReader(text)] == want


def test_maps_are_flattened_where_asked(snapshot: Path, tmp_path: Path) -> None:
    export_table(snapshot, "things", "csv", tmp_path / "t.csv", layout=Layout(flatten=True))
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert (row["map.a"], row["map.in.b"], row["map.list"], row["map.a_2"]) == ("1.5", "x", "[1]", "mine")
    pantab = pytest.importorskip("pantab")
    export_table(snapshot, "things", "hyper", tmp_path / "t.hyper", layout=Layout((), ("pk",), flatten=True))
    first = pantab.frame_from_hyper(tmp_path / "t.hyper", table="things", return_type="pyarrow").to_pylist()[
        0
    ]
    assert (str(first["map.a"]), first["map.in.b"], first["map.a_2"]) == ("1.5", "x", "mine")


@pytest.mark.parametrize(
    ("format_", "layout", "message"),
    [
        ("csv", Layout(("country",)), "only Parquet"),
        ("parquet", Layout(flatten=True), "only CSV and Tableau"),
        ("parquet", Layout(("nope",)), "no column 'nope'"),
        ("parquet", Layout(("total=1",)), "is a column 'total' already"),
        ("parquet", Layout(("m=1", "M=2")), "named twice"),
        ("parquet", Layout(("map",)), "only plain values"),
        ("parquet", Layout(("e=''",)), "empty text in 3,000 rows"),
        ("parquet", Layout(("pk",)), "would make 3,000 folders"),
        ("parquet", Layout(("x=nonsense(",)), "cannot be exported"),
        ("parquet", Layout((), ("nope",)), "cannot be exported"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(
    snapshot: Path,
    tmp_path: Path,
    format_: Any,
    layout: Layout,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "MAX_PARTITIONS", 100)
    with pytest.raises(ExportError, match=message):
        export_table(snapshot, "things", format_, tmp_path / "out", layout=layout)
    assert list(tmp_path.iterdir()) == [snapshot]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(st.text(max_size=5), st.text(alphabet="'=+-@\t\r\n＝x,\"", max_size=5)).filter(
            lambda t: "\0" not in t
        ),
        min_size=1,
        max_size=30,
    )
)
def test_csv_is_safe_and_the_way_back_is_certain(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        snapshot, out = Path(folder) / "l", Path(folder) / "t.csv"
        build(snapshot, (lake_row({"pk": {"S": f"{n:03d}"}, "t": {"S": t}}) for n, t in enumerate(texts)))
        export_table(snapshot, "things", "csv", out, layout=Layout((), ("pk",)))
        with out.open(newline="", encoding="utf-8") as file:
            cells = [row["t"] for row in csv.DictReader(file)]
    assert all(cell[:1] not in tuple("=+-@\t\r\n＝＋－＠") for cell in cells)
    assert [original(cell) for cell in cells] == texts
    undone = r"regexp_replace(x, '^''(''*[=+@\t\r\n＝＋－＠-])', '\1')"
    assert undone.replace("(x,", "(cell,") in (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    found = duckdb.execute(f"SELECT list_transform($1::VARCHAR[], lambda x: {undone})", [cells]).fetchall()
    assert found == [(texts,)]


def test_what_a_killed_run_had_moved_aside_comes_back(snapshot: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    export_table(snapshot, "things", "parquet", out)
    dead = 2**22 + 1
    assert not Path(f"/proc/{dead}").exists()
    out.rename(tmp_path / f".parts.{dead}.old")
    (tmp_path / f".parts.{dead}.part").mkdir()
    (tmp_path / f".parts.{os.getppid()}.part").mkdir()
    with pytest.raises(ExportError):
        export_table(snapshot, "things", "parquet", out, layout=Layout(("map",)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f".parts.{os.getppid()}.part", "lake.duckdb", "parts",
    ]  # fmt: skip
    assert list(out.iterdir())
