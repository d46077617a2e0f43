"""Rows that a policy cannot be applied to, through every command: none of them leaks, crashes or differs falsely."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partialmethod
from pathlib import Path
from typing import Any, Final

import pytest

from dynalake.doctor import Patient, send_canary
from dynalake.errors import UserError
from dynalake.jobs.freshness import look_at_stream
from dynalake.jobs.parity import read_keys
from dynalake.pipeline import Pipeline
from ingest.shards import StreamReader
from ingest.walk import Pacing
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.dynalake.test_policy_canaries import lake_side, logged, reasons

Capture = pytest.CaptureFixture[str]

QUICK: Final = Pacing(least_s=0.0, most_s=0.02, quiet_answers=2, quiet_s=0.02)
PARITY: Final = Pipeline.parity
CANARY: Final = "canary-3b81"

POLICY: Final = """{ "address.street" = "drop", "contacts[].email" = "hash", ref = { split = "#", at = { 1 = "hash" } },
  pk = { split = "#", after = { CUSTOMER = "hash" } } }""".replace("\n", " ")

GOOD: Final[dict[str, Any]] = {
    "pk": {"S": f"CUSTOMER#{CANARY}-good"},
    "address": {"M": {"street": {"S": CANARY}, "city": {"S": "kept"}}},
    "contacts": {"L": [{"M": {"email": {"S": CANARY}}}, {"NULL": True}]},
    "ref": {"S": f"a#{CANARY}"},
}
WRONG: Final[dict[str, dict[str, Any]]] = {
    "a text for a map": {"address": {"S": CANARY}},
    "a list for a map": {"address": {"L": [{"M": {"street": {"S": CANARY}}}]}},
    "a map for a list": {"contacts": {"M": {"email": {"S": CANARY}}}},
    "a set for a list": {"contacts": {"SS": [CANARY]}},
    "a text as an element": {"contacts": {"L": [{"S": CANARY}]}},
    "a list that is split": {"ref": {"L": [{"S": CANARY}]}},
    "a set that is split": {"ref": {"NS": ["38149921"]}},
    "a text without the separator": {"ref": {"S": CANARY}},
}


def wrong_rows() -> list[dict[str, Any]]:
    rows = [{**GOOD, "pk": {"S": f"ORDER#{n}"}, **change} for n, change in enumerate(WRONG.values())]
    keys = [f"{CANARY}@example.org", f"customer#{CANARY}", f"CUSTOMER:{CANARY}"]
    return [*rows, *({**GOOD, "pk": {"S": key}} for key in keys)]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "ingest"), caplog.at_level(logging.DEBUG, "dynalake"):
        yield caplog


def pipeline_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, policy: str = POLICY) -> Pipeline:
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "9d41c07be2a85f3366b1d0e94c72fa18")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pipeline, "parity", partialmethod(PARITY, looks=1, pacing=QUICK))
    return open_pipeline(write_config(tmp_path, policy=policy, policy_mismatch=f'"{mode}"'))


def work(pipeline: Pipeline) -> Any:
    finish = threading.Event()
    finish.set()
    return pipeline.run_worker(threading.Event(), finish, pacing=QUICK)


def counted(pipeline: Pipeline) -> float:
    """What CloudWatch was told of this pipeline's mismatches."""
    cloudwatch = pipeline._source.cloudwatch()
    found = cloudwatch.list_metrics(Namespace="dynalake", MetricName="policy_mismatches")["Metrics"]
    assert all(each["Dimensions"] == [{"Name": "service", "Value": "orders"}] for each in found)
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace="dynalake",
        MetricName="policy_mismatches",
        Dimensions=[{"Name": "service", "Value": "orders"}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=7200,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(point["Sum"] for point in points)


def test_rows_that_the_policy_refuses_are_quarantined_and_reported_by_every_command(
    tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch, capsys: Capture, log: pytest.LogCaptureFixture
) -> None:
    pipeline = pipeline_of(tmp_path, monkeypatch, "quarantine")
    make_source(pipeline)
    rows = wrong_rows()
    put(pipeline, GOOD, *rows[::2])
    pipeline.setup()
    config = ("--config", tmp_path / "dynalake.toml")
    said = ""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        nonlocal said
        code, out, err = command(capsys, *words, "--json", *config)
        said += out + err
        return code, json.loads(out)

    code, answer = run("backfill", "orders")
    assert (code, answer["backfill"]["filled"]) == (0, 1)
    assert answer["backfill"]["quarantined"] == answer["backfill"]["policy_mismatches"] == len(rows[::2])
    put(pipeline, *rows[1::2], {**GOOD, "pk": {"S": "ORDER#later"}})
    report = work(pipeline)
    assert report.outcomes["policy_mismatches"] == report.outcomes["quarantined"] == len(rows)
    assert counted(pipeline) == len(rows[::2]) + len(rows)

    run("parity", "orders")
    assert CANARY not in Path("orders.parity.jsonl").read_text(), (
        "a key that the policy refuses is no key to show"
    )
    code, answer = run("parity", "orders", "--source-keys")
    assert code == 1
    assert answer["parity"] == {"missing": 0, "extra": 0, "different": 0}
    assert answer["refused"] == len(rows)
    differences = [json.loads(line) for line in Path("orders.parity.jsonl").read_text().splitlines()]
    assert {each["reason"] for each in differences} == {"refused"}
    assert sorted(each["source_key"]["pk"]["S"] for each in differences) == sorted(
        row["pk"]["S"] for row in rows
    )
    for words in (("--since", "1h"), ("--sample", "100")):
        code, answer = run("parity", "orders", *words)
        assert (code, answer["refused"]) == (1, len(rows))
        assert set(answer["parity"].values()) == {0}

    code, answer = run("repair", "orders")
    assert code == 1
    assert (answer["repair"]["refused"], answer["repair"]["policy_mismatches"]) == (len(rows), len(rows))
    assert answer["gaps_closed"] == [], "the lake still lacks those rows"
    code, answer = run("redrive", "orders")
    assert code == 1
    assert answer["redrive"]["refused"] == len(rows)
    fresh = look_at_stream(
        StreamReader(pipeline.source_streams(), pipeline.source_table.stream_arn),
        {},
        set(),
        lambda keys: read_keys(
            pipeline.lake_dynamodb(), pipeline.config.lake_table, keys, sleep=lambda _: None
        ),
        pipeline.policy.admit,
        now_ms=pipeline.now_ms,
        sleep=lambda _: None,
        lake_newest_at=None,
        limit_s=300.0,
    )
    assert fresh.waiting == 0, "what is in quarantine does not wait"

    lake = lake_side(pipeline)
    assert "kept" in lake
    for place in (lake, reasons(pipeline), logged(log)):
        assert CANARY not in place
        assert "38149921" not in place
    documents = [json.loads(path.read_text()) for path in Path(pipeline.config.quarantine).rglob("*.json")]
    whole = {
        (each.get("item") or each["record"]["dynamodb"]["NewImage"])["pk"]["S"]: each for each in documents
    }
    assert whole.keys() == {row["pk"]["S"] for row in rows}

    # The policy learns the new forms, and the rows whose key cannot be split are renamed in the source.
    key_rule = POLICY[POLICY.index("pk =") : -2]
    wider = f"{{ address = 'hash', contacts = 'mask', ref = 'hash', {key_rule} }}"
    changed = pipeline_of(tmp_path, monkeypatch, "quarantine", wider)
    for row in rows[-3:]:
        changed.source_dynamodb().delete_item(TableName="orders", Key={"pk": row["pk"]})
        put(changed, {**row, "pk": {"S": f"CUSTOMER#{row['pk']['S'].replace('#', '-')}"}})
    report = work(changed)
    assert report.outcomes["policy_mismatches"] == 3, "the deletes of keys that no lake row can have"
    code, answer = run("redrive", "orders")
    assert (code, answer["redrive"]["left"]) == (0, 0), said
    code, answer = run("repair", "orders")
    assert (code, answer["after"]["refused"], answer["repair"]["refused"]) == (0, 0, 0)
    assert changed.health().complete
    assert CANARY not in lake_side(changed)


def test_rows_pass_without_the_values_where_the_policy_says_drop(
    tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch, capsys: Capture, log: pytest.LogCaptureFixture
) -> None:
    pipeline = pipeline_of(tmp_path, monkeypatch, "drop")
    make_source(pipeline)
    rows = wrong_rows()
    put(pipeline, *rows)
    pipeline.setup()
    report = pipeline.backfill()
    keys = 3  # a key cannot be dropped
    assert (report.filled, report.quarantined, report.policy_mismatches) == (
        len(rows) - keys,
        keys,
        len(rows),
    )
    later = {**GOOD, "pk": {"S": "ORDER#later"}, "address": {"S": CANARY}}
    put(pipeline, later)
    work(pipeline)
    config = ("--config", tmp_path / "dynalake.toml")
    code, out, _ = command(capsys, "parity", "orders", "--json", *config)
    answer = json.loads(out)
    assert (code, answer["parity"], answer["refused"]) == (
        1,
        {"missing": 0, "extra": 0, "different": 0},
        keys,
    )
    command(capsys, "repair", "orders", "--json", *config)
    for place in (lake_side(pipeline), reasons(pipeline), logged(log)):
        assert CANARY not in place
        assert "38149921" not in place
    assert "a value was dropped" in logged(log)
    assert counted(pipeline) > len(rows)


def test_a_row_whose_type_changes_after_it_was_replicated_is_refused_and_not_extra(
    tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pipeline = pipeline_of(tmp_path, monkeypatch, "quarantine")
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, {**GOOD, "pk": {"S": "ORDER#1"}})
    pipeline.backfill()
    work(pipeline)
    put(pipeline, {**GOOD, "pk": {"S": "ORDER#1"}, "address": {"S": CANARY}})
    work(pipeline)
    result = pipeline.parity()
    assert (result.refused, result.wrong, result.exact) == (1, 0, False)
    assert (result.source_rows, result.lake_rows) == (1, 1)
    (difference,) = result.differences
    assert (difference.reason, difference.key) == ("refused", {"pk": {"S": "ORDER#1"}})
    assert not pipeline.health().complete
    pipeline.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": "ORDER#1"}})
    work(pipeline)
    assert pipeline.parity().exact, "a delete needs nothing but the key"


def test_a_canary_that_the_policy_refuses_is_not_sent(
    tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "9d41c07be2a85f3366b1d0e94c72fa18")
    pipeline = open_pipeline(
        write_config(tmp_path, policy='{ pk = { split = "#", after = { CUSTOMER = "hash" } } }')
    )
    make_source(pipeline)
    pipeline.setup()
    with pytest.raises(UserError, match="does not have the form that the policy expects") as raised:
        send_canary(Patient("orders", pipeline.config, pipeline._source, pipeline._lake))
    assert "leave --canary out" in raised.value.remedy
    assert not pipeline.source_dynamodb().scan(TableName="orders")["Items"]
