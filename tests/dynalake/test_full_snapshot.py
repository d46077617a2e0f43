"""`dynalake snapshot` from a scan and from an export of the lake table, on an embedded AWS."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dynalake.pipeline import Pipeline
from lake import open_lake
from lake.encode import snapshot_items
from lake.errors import ContractError, SnapshotError
from tests.dynalake.accounts import make_source, open_pipeline, put, write_config
from tests.dynalake.test_refresh_and_follow import DAY_MS, QUICK, change, later
from tests.lake.building import by_key
from tests.stubs.exports import full_export, incremental_export


@pytest.fixture
def pipeline(tmp_path: Path, aws: None) -> Pipeline:
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": "0"}} for n in range(5)))
    pipeline.backfill()
    return pipeline


def export(pipeline: Pipeline, folder: Path, table: str | None = None) -> str:
    """The lake table as it is now, as an export that was taken a minute ago."""
    items = pipeline.lake_dynamodb().scan(TableName=pipeline.config.lake_table)["Items"]
    arn = f"arn:aws:dynamodb:us-east-1:999999999999:table/{table or pipeline.config.lake_table}"
    full_export(arn, items, shows_ms=pipeline.now_ms() - 60_000).save(folder)
    return f"export:{folder}"


def rows(out: Path) -> dict[str, Any]:
    return by_key(snapshot_items(out, "orders"))


def made_by(out: Path) -> str:
    with open_lake(out) as lake:
        return str(lake.sql("SELECT made_by FROM _lake.tables").fetchall()[0][0])


def test_an_export_is_rolled_forward_from_the_stream(pipeline: Pipeline, tmp_path: Path) -> None:
    source = export(pipeline, tmp_path / "export")
    change(
        pipeline, {"pk": {"S": "0"}, "n": {"N": "1.5"}}, {"pk": {"S": "late"}, "x": {"S": "y"}}, delete="1"
    )
    began_ms = time.time_ns() // 1_000_000
    report = pipeline.snapshot(tmp_path / "l.duckdb", source, pacing=QUICK)
    assert (report.rows, report.rows_read, report.tombstones) == (5, 5, 1)
    ended_ms = time.time_ns() // 1_000_000
    pipeline.snapshot(tmp_path / "scanned.duckdb", pacing=QUICK)
    assert rows(tmp_path / "l.duckdb") == rows(tmp_path / "scanned.duckdb")
    assert rows(tmp_path / "l.duckdb")["{'S': '0'}"]["n"] == {"N": "1.5"}
    assert made_by(tmp_path / "l.duckdb").endswith("rolled forward from the lake table's stream")
    assert made_by(tmp_path / "scanned.duckdb").startswith("parallel scan")
    with open_lake(tmp_path / "l.duckdb") as lake:
        positions = lake.positions("orders")
    assert positions is not None
    assert began_ms - 60_000 < positions.as_of <= ended_ms


def test_an_old_export_is_of_its_moment_and_says_so(pipeline: Pipeline, tmp_path: Path) -> None:
    source = export(pipeline, tmp_path / "export")
    change(pipeline, {"pk": {"S": "late"}})
    pipeline = later(pipeline, 2 * DAY_MS)
    report = pipeline.snapshot(tmp_path / "l.duckdb", source, pacing=QUICK)
    assert (report.rows, report.changes_read) == (5, 0)
    assert "not rolled forward" in report.made_by
    with open_lake(tmp_path / "l.duckdb") as lake:
        positions = lake.positions("orders")
    assert positions is not None
    assert pipeline.now_ms() - positions.as_of > 2 * DAY_MS


def test_what_is_no_export_of_the_lake_table_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "l.duckdb"
    with pytest.raises(SnapshotError, match="no source 'nonsense'"):
        pipeline.snapshot(out, "nonsense")
    with pytest.raises(ContractError, match="no export"):
        pipeline.snapshot(out, f"export:{tmp_path / 'missing'}")
    with pytest.raises(SnapshotError, match="of the table 'orders'"):
        pipeline.snapshot(out, export(pipeline, tmp_path / "source", "orders"))
    arn = f"arn:aws:dynamodb:us-east-1:999999999999:table/{pipeline.config.lake_table}"
    incremental_export(arn, [], from_ms=1, to_ms=2).save(tmp_path / "incremental")
    with pytest.raises(SnapshotError, match="incremental"):
        pipeline.snapshot(out, f"export:{tmp_path / 'incremental'}")
    assert not out.exists()
