"""Rows whose version dynalake did not write: parity reports them, and repair resets them, on an embedded AWS."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dynalake.jobs.parity import Scope
from dynalake.jobs.refresh import refresh
from dynalake.pipeline import Pipeline
from expectations.parity import ParityResult
from ingest.repair import Refusal, Wanted
from ingest.walk import Pacing
from ingest.wire import from_boto3, to_boto3
from lake.contract.versions import label_of_stream, streamed
from lake.open import open_lake
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]
Item = Mapping[str, Any]
QUICK = Pacing(least_s=0.01, most_s=0.05, quiet_answers=2, quiet_s=0.05)
FORGED: Mapping[str, Any] = {
    "f0": {"S": f"9999-01-01T00:00:00.000/{1:040d}"},
    "f1": {"S": "~999999"},
    "f2": {"S": "~zzz"},
    "f3": {"N": "7"},
    "f4": {"S": f"2020-01-01T00:00:00.000/{1:040d}"},
    "f5": {"S": "0~999999"},
    "f6": {"M": {"x": {"S": "y"}}},
    "f7": {"B": "AAEC"},
}
"""Key -> a forged version."""


def item(key: str, content: str = "right") -> dict[str, Any]:
    return {"pk": {"S": key}, "content": {"S": content}}


def lake_row(pipeline: Pipeline, key: str) -> dict[str, Any]:
    answer = pipeline.lake_dynamodb().get_item(
        TableName=pipeline.config.lake_table, Key={"pk": {"S": key}}, ConsistentRead=True
    )
    return from_boto3(answer["Item"])


def lake_put(pipeline: Pipeline, row: Item) -> None:
    pipeline.lake_dynamodb().put_item(TableName=pipeline.config.lake_table, Item=to_boto3(row))


def replicate(pipeline: Pipeline) -> None:
    caught_up = threading.Event()
    caught_up.set()
    pipeline.run_worker(threading.Event(), caught_up, pacing=QUICK)


def compared(pipeline: Pipeline, scope: Scope | None = None) -> ParityResult:
    return pipeline.parity(scope, looks=2, pause_s=0.0, pacing=QUICK)


@pytest.fixture
def config(tmp_path: Path, aws: None) -> Path:
    path = write_config(tmp_path)
    pipeline = open_pipeline(path)
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, *(item(key) for key in (*FORGED, "k1", "k2", "buried")))
    replicate(pipeline)
    assert compared(pipeline).exact
    for key, version in FORGED.items():
        lake_put(pipeline, {**lake_row(pipeline, key), "_lake_version": version})
    tomb = {"_lake_deleted": {"S": "user"}, "_lake_expires": {"N": "9999999999"}, "_lake_at": {"N": "1"}}
    for key in ("buried", "stranger"):
        lake_put(pipeline, {"pk": {"S": key}, "_lake_version": {"S": "~"}, **tomb})
    lake_put(pipeline, {**lake_row(pipeline, "k1"), "content": {"S": "wrong"}})
    return path


def test_parity_reports_forged_versions_and_what_else_is_wrong(config: Path) -> None:
    result = compared(open_pipeline(config))
    found = {each.key["pk"]["S"]: (each.reason, each.attributes, each.forged) for each in result.differences}
    assert found == {
        **dict.fromkeys(FORGED, ("different", ("_lake_version",), True)),
        "buried": ("missing", (), True),
        "stranger": ("different", ("_lake_version",), True),
        "k1": ("different", ("content",), False),
    }
    assert result.forged == len(FORGED) + 2


def test_a_forged_row_is_refused_and_the_rest_of_the_repair_goes_on(config: Path) -> None:
    pipeline = open_pipeline(config)
    refused: list[Refusal] = []
    keys = [each.source_key for each in compared(pipeline).differences if each.source_key]
    report = pipeline.repair(keys, on_refused=refused.append)
    assert (report.written, report.refused) == (1, len(FORGED) + 2)
    assert {each.key["pk"]["S"] for each in refused} == {*FORGED, "buried", "stranger"}
    assert all("version is forged" in each.reason for each in refused)
    assert lake_row(pipeline, "k1")["content"] == {"S": "right"}


def test_a_reset_row_is_newer_than_what_it_has_seen_and_older_than_what_comes(config: Path) -> None:
    pipeline = open_pipeline(config)
    found = compared(pipeline).differences
    keys = [each.source_key for each in found if each.source_key]
    lake_put(pipeline, {**lake_row(pipeline, "f0"), "content": {"S": "forged"}})
    forged = [each.source_key for each in found if each.forged and each.source_key]
    report = pipeline.repair(keys, reset_versions_of=forged, pacing=QUICK)
    assert (report.refused, report.written, report.deleted) == (0, len(FORGED) + 2, 1)
    assert compared(pipeline).exact
    label = label_of_stream(pipeline.source_table.stream_arn)
    for key in (*FORGED, "buried"):
        version = lake_row(pipeline, key)["_lake_version"]["S"]
        assert version.startswith(f"{label}/"), "the newest change that the stream holds of the row"
        assert version.endswith("~000001")
    # All of the stream comes again, and then a real change.
    for entry, _ in list(pipeline.checkpoints().entries("shard/")):
        pipeline.checkpoints().delete(entry)
    replicate(pipeline)
    assert compared(pipeline).exact
    put(pipeline, item("f0", "changed"), item("f3", "changed"))
    replicate(pipeline)
    assert compared(pipeline).exact
    assert lake_row(pipeline, "f3")["content"] == {"S": "changed"}


def test_a_snapshot_of_the_forged_row_takes_the_reset_one(config: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(config)
    lake_put(pipeline, {**lake_row(pipeline, "f0"), "content": {"S": "forged"}})
    file = tmp_path / "lake.duckdb"
    pipeline.snapshot(file, pacing=QUICK)
    keys = [each.source_key for each in compared(pipeline).differences if each.source_key]
    pipeline.repair(keys, reset_versions_of=keys, pacing=QUICK)
    refresh(pipeline, file, "stream", pacing=QUICK)
    with open_lake(file) as lake:
        assert lake.sql("SELECT content FROM orders WHERE pk = 'f0'").fetchall() == [("right",)]
    result = compared(pipeline, Scope(lake=str(file)))
    assert (result.exact, result.problems, result.in_flight) == (True, (), 0), result.differences


def test_the_commands(config: Path, tmp_path: Path, capsys: Capture) -> None:
    found = tmp_path / "found.jsonl"
    code, out, _ = command(capsys, "parity", "orders", "--config", config, "--out", found, "--json")
    document = json.loads(out)
    assert (code, document["forged"]) == (1, len(FORGED) + 2)
    code, out, _ = command(capsys, "repair", "orders", "--config", config, "--from", found)
    assert code == 1
    assert "the lake row's version is forged" in out
    words = ("repair", "orders", "--config", config, "--from", found, "--reset-version", "--json")
    code, out, _ = command(capsys, *words)
    assert (code, json.loads(out)["repair"]["refused"]) == (0, 0)
    assert compared(open_pipeline(config)).exact
    lake_put(open_pipeline(config), {**item("f0"), "_lake_version": {"S": "~zzz"}})
    words = ("parity", "orders", "--config", config, "--out", found, "--repair", "--json")
    code, out, _ = command(capsys, *words)
    document = json.loads(out)
    assert (code, document["before"]["forged"], document["forged"]) == (0, 1, 0)


def test_every_stream_that_is_read_stays_on_record(config: Path) -> None:
    pipeline = open_pipeline(config)
    first = label_of_stream(pipeline.source_table.stream_arn)
    known = pipeline.checkpoints().known_labels(pipeline.now_ms())
    assert (set(known.labels), known.complete) == ({first}, True)
    event = {
        "eventID": "1", "eventName": "INSERT", "eventSource": "aws:dynamodb",
        "eventSourceARN": pipeline.source_table.stream_arn.replace(first, "2026-01-01T00:00:00.000"),
        "dynamodb": {"Keys": {"pk": {"S": "k9"}}, "NewImage": item("k9"), "SequenceNumber": "1" * 21},
    }  # fmt: skip
    pipeline.replicator().process({"Records": [event]})
    assert "2026-01-01T00:00:00.000" in pipeline.known_labels().labels
    forged = {**event, "eventSourceARN": event["eventSourceARN"].replace("2026-01", "9999-01")}  # type: ignore[attr-defined]
    report = pipeline.replicator().process({"Records": [forged]})
    assert report.outcomes["quarantined"] == 1
    assert not any(label.startswith("9999") for label in pipeline.known_labels().labels)


def test_a_record_that_is_redriven_puts_its_stream_on_record_unless_it_is_forged(config: Path) -> None:
    pipeline = open_pipeline(config)
    label = label_of_stream(pipeline.source_table.stream_arn)
    mender = pipeline.mender()
    genuine = Wanted({"pk": {"S": "k2"}}, streamed(f"{label}1", "1" * 21))
    forged = Wanted({"pk": {"S": "k1"}}, streamed("9999-01-01T00:00:00.000", "1" * 21))
    outcomes = {each.wanted.key["pk"]["S"]: each.outcome for each in mender.settle([genuine, forged])}
    assert outcomes == {"k1": "refused", "k2": "written"}
    known = pipeline.known_labels()
    assert f"{label}1" in known.labels
    assert known.forgery(lake_row(pipeline, "k2")["_lake_version"]) is None
