"""Rows whose time-to-live has passed are left out of backfill, parity and snapshots alike, and each says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynalake.errors import UserError
from dynalake.jobs.parity import Scope
from dynalake.jobs.refresh import refresh
from dynalake.pipeline import Clocks, Pipeline
from expectations.parity import ParityResult
from ingest.walk import Pacing
from lake.contract.expiry import FIVE_YEARS_S, Expiry
from lake.open import open_lake
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]
QUICK = Pacing(least_s=0.01, most_s=0.05, quiet_answers=2, quiet_s=0.05)
NOW_S = int(time.time())
HOUR_MS = 3_600_000
ROWS: dict[str, dict[str, Any] | None] = {
    "never": None,
    "later": {"N": str(NOW_S + 3 * 86_400)},
    "soon": {"N": str(NOW_S + 4 * 3_600)},
    "past": {"N": str(NOW_S - 60)},
    "past, with a fraction": {"N": f"{NOW_S - 60}.5"},
    "long past": {"N": str(NOW_S - FIVE_YEARS_S - 86_400)},
    "no number": {"S": str(NOW_S - 60)},
    "nothing": {"NULL": True},
}
EXPIRED = {"past", "past, with a fraction"}


def item(key: str, **more: Any) -> dict[str, Any]:
    ttl = ROWS.get(key)
    return {"pk": {"S": key}, **({} if ttl is None else {"expires": ttl}), **more}


def set_up(tmp_path: Path, **more: Any) -> Path:
    config = write_config(tmp_path, **more)
    pipeline = open_pipeline(config)
    make_source(pipeline)
    pipeline.source_dynamodb().update_time_to_live(
        TableName="orders", TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
    )
    put(pipeline, *map(item, ROWS))
    pipeline.setup()
    return config


@pytest.fixture
def config(tmp_path: Path, aws: None) -> Path:
    return set_up(tmp_path)


def opened(config: Path, *, leaves_out: bool = True, hours: int = 0) -> Pipeline:
    """The pipeline, so many hours later."""
    pipeline = open_pipeline(config)
    pipeline.leave_out_expired = leaves_out
    now: Callable[[], int] = lambda: time.time_ns() // 1_000_000 + hours * HOUR_MS  # noqa: E731
    pipeline._clocks = Clocks(now_ms=now)
    return pipeline


def compared(pipeline: Pipeline, snapshot: Path | None = None) -> ParityResult:
    scope = Scope(lake=str(snapshot)) if snapshot else None
    return pipeline.parity(scope, looks=2, pause_s=0.0, pacing=QUICK)


def shown(file: Path) -> set[str]:
    with open_lake(file) as lake:
        return {key for (key,) in lake.sql("SELECT pk FROM orders").fetchall()}


def test_as_dynamodb_judges_it() -> None:
    expiry = Expiry("expires", NOW_S * 1000)
    assert {key for key in ROWS if expiry.has_passed(item(key))} == EXPIRED
    assert not expiry.has_passed({"expires": {"N": str(NOW_S)}})
    assert expiry.has_passed({"expires": {"N": "1E9"}}) == (NOW_S - FIVE_YEARS_S < 1e9)


def test_backfill_and_parity_leave_out_the_same_rows(config: Path) -> None:
    pipeline = opened(config)
    report = pipeline.backfill()
    assert report.left_out is not None
    assert (report.left_out.attribute, report.left_out.rows) == ("expires", len(EXPIRED))
    assert (report.read, report.filled) == (len(ROWS), len(ROWS) - len(EXPIRED))
    result = compared(pipeline)
    assert result.exact
    assert result.left_out is not None
    assert [one.rows for one in result.left_out] == [len(EXPIRED), 0]
    without = compared(opened(config, leaves_out=False))
    assert {(each.reason, each.key["pk"]["S"]) for each in without.differences} == {
        ("missing", key) for key in EXPIRED
    }


def test_parity_leaves_out_what_only_one_side_still_has(config: Path) -> None:
    opened(config, leaves_out=False).backfill()
    pipeline = opened(config)
    pipeline.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": "past"}})
    result = compared(pipeline)
    assert result.left_out is not None
    assert ([one.rows for one in result.left_out], result.exact) == ([1, 2], True)
    pipeline.lake_dynamodb().delete_item(TableName=pipeline.config.lake_table, Key={"pk": {"S": "later"}})
    assert [each.key["pk"]["S"] for each in compared(pipeline).differences] == ["later"]


def test_a_snapshot_and_its_refreshes_leave_them_out(config: Path, tmp_path: Path) -> None:
    opened(config, leaves_out=False).backfill()
    file = tmp_path / "lake.duckdb"
    report = opened(config).snapshot(file, pacing=QUICK)
    assert report.left_out is not None
    assert (report.rows, report.left_out.rows) == (len(ROWS) - len(EXPIRED), len(EXPIRED))
    assert shown(file) == ROWS.keys() - EXPIRED
    with open_lake(file) as lake:
        assert lake.left_out("orders") == report.left_out
        counts = {one.column.attribute: dict(one.rows) for one in lake.schema("orders")}
    assert counts["expires"] == {"N": 3, "S": 1, "NULL": 1}
    for leaves_out in (True, False):  # without being asked, as the snapshot says that it leaves them out
        result = compared(opened(config, leaves_out=leaves_out), file)
        assert (result.exact, result.problems) == (True, ()), result.differences

    later = opened(config, leaves_out=False, hours=5)
    put(later, item("past", expires={"N": str(NOW_S + 8 * 3_600)}))
    later.repair([{"pk": {"S": "past"}}])
    done = refresh(later, file, pacing=QUICK)
    assert done.left_out is not None
    # "soon" has gone, "past" is back, and "past, with a fraction" came again, as this shard had no position yet.
    assert (done.left_out.rows, done.rows) == (2, len(ROWS) - len(EXPIRED))
    assert shown(file) == (ROWS.keys() - EXPIRED - {"soon"}) | {"past"}
    assert refresh(later, file, pacing=QUICK).rows == done.rows
    with open_lake(file) as lake:
        counts = {one.column.attribute: dict(one.rows) for one in lake.schema("orders")}
    assert counts["expires"] == {"N": 3, "S": 1, "NULL": 1}
    assert compared(later, file).exact


def test_a_snapshot_that_leaves_nothing_out_stays_as_it_is(config: Path, tmp_path: Path) -> None:
    pipeline = opened(config, leaves_out=False)
    pipeline.backfill()
    file = tmp_path / "lake.duckdb"
    assert pipeline.snapshot(file, pacing=QUICK).left_out is None
    assert refresh(pipeline, file, pacing=QUICK).left_out is None
    assert shown(file) == ROWS.keys()
    refresh(opened(config), file, pacing=QUICK)
    assert shown(file) == ROWS.keys() - EXPIRED


def test_the_policy_may_hide_the_attribute_from_the_lake(tmp_path: Path, aws: None) -> None:
    config = set_up(tmp_path, policy='{ expires = "drop" }')
    pipeline = opened(config, leaves_out=False)
    pipeline.backfill()
    pipeline = opened(config)
    assert compared(pipeline).exact
    with pytest.raises(UserError, match="the policy hides the time-to-live attribute 'expires'"):
        pipeline.snapshot(tmp_path / "lake.duckdb", pacing=QUICK)


def test_a_table_without_time_to_live_is_told(tmp_path: Path, aws: None) -> None:
    config = write_config(tmp_path, leave_out_expired="true")
    pipeline = open_pipeline(config)
    make_source(pipeline)
    pipeline.setup()
    with pytest.raises(UserError, match="has no time-to-live"):
        pipeline.backfill()


def test_each_command_says_what_it_left_out(config: Path, tmp_path: Path, capsys: Capture) -> None:
    said = f"{len(EXPIRED)} rows were left out: 'expires' had passed as of "
    file, found = tmp_path / "lake.duckdb", tmp_path / "found.jsonl"
    for words in (
        ("backfill", "orders", "--leave-out-expired"),
        ("parity", "orders", "--leave-out-expired", "--out", found),
    ):
        code, out, _ = command(capsys, *words, "--config", config)
        assert code == 0
        assert said in out
    opened(config, leaves_out=False).backfill(restart=True)
    config.write_text(
        config.read_text().replace('quarantine = "', 'leave_out_expired = true\nquarantine = "')
    )
    code, out, _ = command(capsys, "snapshot", "orders", "--config", config, "--out", file, "--json")
    assert (code, json.loads(out)["left_out"]["rows"]) == (0, len(EXPIRED))
    code, out, _ = command(capsys, "refresh", "orders", "--config", config, "--out", file)
    assert code == 0
    assert "rows were left out: 'expires' had passed" in out
    code, out, _ = command(
        capsys, "parity", "orders", "--config", config, "--snapshot", file, "--out", found, "--json"
    )
    assert (code, json.loads(out)["left_out"]["lake"]["rows"]) == (0, len(EXPIRED))
