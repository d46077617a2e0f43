"""Incremental exports lead a snapshot to where the lake's stream reaches back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dynalake.jobs.refresh import refresh
from dynalake.pipeline import Pipeline
from lake import open_lake
from lake.errors import LakeError, SnapshotError
from tests.dynalake.accounts import command
from tests.dynalake.test_refresh_and_follow import DAY_MS, QUICK, change, later, pipeline, rows
from tests.stubs.exports import full_export, incremental_export

__all__ = ["pipeline"]
HOUR_MS = 3_600_000


def key(name: str) -> dict[str, Any]:
    return {"pk": {"S": name}}


def row(name: str) -> dict[str, Any]:
    return {**key(name), "_lake_version": {"S": f"2030-01-01T00:00:00.000/{1:040d}"}, "from": {"S": "export"}}


@pytest.fixture
def arn(pipeline: Pipeline) -> str:
    described = pipeline.lake_dynamodb().describe_table(TableName=pipeline.config.lake_table)
    return described["Table"]["TableArn"]


def test_exports_and_then_the_stream(pipeline: Pipeline, arn: str, tmp_path: Path) -> None:
    out, now = tmp_path / "lake.duckdb", time.time_ns() // 1_000_000
    change(pipeline, {"pk": {"S": "new"}}, delete="1")
    first = incremental_export(
        arn,
        [(key("x"), row("x"), None), (key("y"), row("y"), None)],
        from_ms=now - HOUR_MS,
        to_ms=now + DAY_MS,
    ).save(tmp_path / "a")
    second = incremental_export(
        arn,
        [(key("y"), None, None), (key("z"), row("z"), row("z"))],
        from_ms=now + DAY_MS,
        to_ms=now + 2 * DAY_MS,
    ).save(tmp_path / "b")
    then = later(pipeline, 2 * DAY_MS + HOUR_MS)
    said: list[str] = []
    done = refresh(then, out, [str(second), str(first)], pacing=QUICK, on_choice=said.append)
    assert (done.source, len(said)) == ("export", 1)
    assert not done.complete, "for two days nothing has looked at the source"
    assert "not known since" in done.gaps[0]
    shown = rows(out)
    assert shown.keys() >= {"{'S': 'x'}", "{'S': 'z'}", "{'S': 'new'}", "{'S': '0'}"}
    assert not shown.keys() & {"{'S': 'y'}", "{'S': '1'}"}
    with open_lake(out) as lake:
        positions = lake.positions("orders")
    assert positions is not None
    assert positions.as_of > now + 2 * DAY_MS
    assert refresh(then, out, "stream", pacing=QUICK).changes == 0


@pytest.mark.parametrize("hole", ["before", "between", "after", "full", "other table", "nothing"])
def test_a_hole_is_refused(pipeline: Pipeline, arn: str, tmp_path: Path, hole: str) -> None:
    out, now = tmp_path / "lake.duckdb", time.time_ns() // 1_000_000
    start = now + HOUR_MS if hole == "before" else now - HOUR_MS
    middle = now + DAY_MS + (HOUR_MS if hole == "between" else 0)
    end = now + 2 * DAY_MS - (DAY_MS if hole == "after" else 0)
    table = arn.replace("orders", "others") if hole == "other table" else arn
    first = incremental_export(table, [], from_ms=start, to_ms=now + DAY_MS).save(tmp_path / "a")
    second = (
        full_export(arn, [], shows_ms=end)
        if hole == "full"
        else incremental_export(arn, [], from_ms=min(middle, end), to_ms=end)
    ).save(tmp_path / "b")
    if hole == "nothing":
        second = tmp_path
    before = out.read_bytes()
    with pytest.raises(LakeError):
        refresh(later(pipeline, 2 * DAY_MS + HOUR_MS), out, [str(first), str(second)], pacing=QUICK)
    assert out.read_bytes() == before


def test_the_command(
    pipeline: Pipeline, arn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time_ns() // 1_000_000
    export = incremental_export(arn, [(key("x"), row("x"), None)], from_ms=now - HOUR_MS, to_ms=now).save(
        tmp_path / "a"
    )
    at = (
        "refresh",
        "orders",
        "--out",
        tmp_path / "lake.duckdb",
        "--config",
        tmp_path / "dynalake.toml",
        "--json",
    )
    code, printed, said = command(capsys, *at, "--source", f"export:{export}")
    assert code == 0, said
    assert (code, json.loads(printed)["source"], json.loads(printed)["rows"]) == (0, "export", 9)
    for wrong in ("export:", "nonsense"):
        code, _, said = command(capsys, *at, "--source", wrong)
        assert (code, said.count("\n")) == (2, True)


def test_a_snapshot_that_does_not_tell_how_far_it_is(pipeline: Pipeline, tmp_path: Path) -> None:
    import duckdb

    out = tmp_path / "lake.duckdb"
    duckdb.connect(str(out)).execute("DELETE FROM _lake.shards").close()
    with pytest.raises(SnapshotError, match="how far"):
        refresh(pipeline, out, [str(tmp_path)], pacing=QUICK)
