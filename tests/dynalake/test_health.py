"""What commands say of a pipeline's health: from what they see, or from what the lake holds."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynalake.pipeline import Clocks, Pipeline
from ingest.walk import Pacing
from lake.contract.evidence import Reading, TableStream, Waiting
from lake.open import open_lake
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

QUICK = Pacing(least_s=0.0, most_s=0.01, listing_s=0.02, quiet_answers=2, quiet_s=0.02)
HOUR_MS = 3_600_000


@pytest.fixture
def pipeline(aws: None, tmp_path: Path) -> Pipeline:
    """Set up, backfilled and replicated to the stream's end, a moment ago."""
    opened = open_pipeline(write_config(tmp_path))
    make_source(opened)
    opened.setup()
    put(opened, {"pk": {"S": "a"}})
    opened.backfill()
    until_caught_up(opened)
    return opened


def until_caught_up(pipeline: Pipeline) -> None:
    finish = threading.Event()
    finish.set()
    pipeline.run_worker(threading.Event(), finish, pacing=QUICK)


def later(pipeline: Pipeline, milliseconds: int) -> Pipeline:
    """The same pipeline, opened so much later."""
    clocks = replace(pipeline.clocks, now_ms=lambda: Clocks().now_ms() + milliseconds)
    return Pipeline(
        pipeline.name,
        pipeline.config,
        pipeline._source,
        pipeline._lake,
        environment={},
        clocks=clocks,
        in_flight=1,
    )


def test_a_snapshot_taken_while_the_pipeline_was_dead_for_ten_hours_is_not_complete(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    out = tmp_path / "lake.duckdb"
    report = pipeline.snapshot(out, pacing=QUICK)
    assert (report.complete, report.gaps) == (True, ())
    dead = later(pipeline, 10 * HOUR_MS)
    assert dead.health().state == "not known"
    report = dead.snapshot(out, pacing=QUICK)
    assert not report.complete
    (why,) = report.gaps
    assert why.startswith("not known since 20")
    with open_lake(out) as lake:
        fresh = lake.freshness("orders")
        assert (fresh.complete, fresh.gaps) == (False, (why,))
        assert "INCOMPLETE: not known since" in repr(lake)


def test_whoever_looks_first_notes_that_the_stream_is_another(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arn = pipeline.source_table.stream_arn
    other = arn.rpartition("/")[0] + "/2999-01-01T00:00:00.000"

    def table_stream(_dynamodb: Any, _table: str, now_ms: Any) -> TableStream:
        return TableStream(now_ms(), other)

    monkeypatch.setattr("dynalake.onlooker.table_stream", table_stream)
    report = later(pipeline, 0).snapshot(tmp_path / "lake.duckdb", pacing=QUICK)
    assert not report.complete
    assert [gap.kind for gap in pipeline.health_store.gaps()] == ["stream changed"]
    monkeypatch.undo()
    # A reader that cannot look at the source knows it from the lake.
    monkeypatch.setattr("dynalake.onlooker.Onlooker._look", lambda _: None)
    assert later(pipeline, 0).health().state == "gap"


def test_who_may_not_store_what_was_seen_judges_by_it_all_the_same(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalake.onlooker.Onlooker._keep", lambda *_: None)
    pipeline.source_dynamodb().update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    health = later(pipeline, 0).health()
    assert (health.state, health.gaps) == ("gap", ())
    assert "off" in health.reason


def test_who_cannot_ask_the_source_goes_by_what_the_lake_holds(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynalake.errors import AccountError

    def refused(*_: Any) -> Any:
        raise AccountError("the source side's profile is unknown")

    monkeypatch.setattr("dynalake.onlooker.table_stream", refused)
    assert later(pipeline, 0).health().state == "caught up"
    health = later(pipeline, 10 * HOUR_MS).health()
    assert health.state == "not known"


def test_a_stopped_stream_is_reported_by_every_command(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "dynalake.toml"
    out = tmp_path / "lake.duckdb"
    code, answer, _ = command(capsys, "snapshot", "orders", "--out", out, "--config", config, "--json")
    assert (code, json.loads(answer)["complete"]) == (0, True)
    arn = pipeline.source_table.stream_arn
    at = Clocks().now_ms() - 10 * HOUR_MS
    key = {"pipeline": {"S": pipeline.config.lake_table}, "entry": {"S": "health"}}
    pipeline.lake_dynamodb().delete_item(TableName=pipeline.config.checkpoint_table, Key=key)
    pipeline.health_store.read(Reading("worker", at, arn, at_end=True))
    for words in (
        ("snapshot", "orders", "--out", out),
        ("refresh", "orders", "--out", out),
        ("parity", "orders", "--out", tmp_path / "parity.jsonl"),
        ("export", "orders", "--from", out, "--out", tmp_path / "orders.csv", "--format", "csv"),
    ):
        code, answer, _ = command(capsys, *words, "--config", config, "--json")
        found = json.loads(answer)
        assert code == 0
        assert found["complete"] is False, words
        assert "not known since" in found["gaps"][0], words
    code, answer, _ = command(capsys, "snapshot", "orders", "--out", out, "--config", config)
    assert "INCOMPLETE: not known since" in answer


def test_rows_that_differ_though_it_was_caught_up_are_a_gap_until_none_does(pipeline: Pipeline) -> None:
    store, now = pipeline.health_store, pipeline.now_ms()
    store.compared(3, now, was_caught_up=False)
    assert not store.gaps(), "they may be on their way"
    store.compared(3, now, was_caught_up=True)
    (gap,) = store.gaps()
    assert (gap.kind, gap.remedy) == ("different", "repair")
    assert pipeline.health().state == "gap"
    store.compared(0, now - 1, was_caught_up=True)
    assert store.gaps(), "that comparison began before"
    store.compared(0, pipeline.now_ms() + 1, was_caught_up=True)
    assert not store.gaps()


def test_changes_that_a_check_found_waiting_are_in_the_status(pipeline: Pipeline) -> None:
    now = pipeline.now_ms()
    pipeline.health_store.found_waiting(Waiting(now + 1000, now - HOUR_MS))
    health = pipeline.health()
    assert health.state == "catching up"
    assert "changes wait since" in health.reason
    assert "check" in health.remedy
    pipeline.health_store.found_waiting(Waiting(now + 2000, None))
    assert pipeline.health().state == "caught up"
