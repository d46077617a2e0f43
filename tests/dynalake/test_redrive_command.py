"""`dynalake redrive` as a user calls it, from a folder, a bucket and a queue."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

import ingest.shelves
from dynalake.pipeline import Pipeline
from ingest.walk import Pacing
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]
QUICK = Pacing(least_s=0.0, most_s=0.02, quiet_answers=2, quiet_s=0.02)
BUCKET = "put-away"


def replicate(pipeline: Pipeline) -> None:
    finish = threading.Event()
    finish.set()
    pipeline.run_worker(threading.Event(), finish, pacing=QUICK)


def rows(pipeline: Pipeline) -> dict[str, str]:
    items = pipeline.lake_dynamodb().scan(TableName=pipeline.config.lake_table)["Items"]
    return {row["pk"]["S"]: row["n"]["N"] for row in items if "_lake_deleted" not in row}


def item(pk: str, number: int, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": pk}, "n": {"N": str(number)}, **more}


@pytest.fixture
def config(
    request: pytest.FixtureRequest, tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A pipeline whose quarantine is such a place; two records of its source are in there."""
    monkeypatch.setattr(ingest.shelves, "_WAIT_S", 0)
    path = write_config(tmp_path)
    pipeline = open_pipeline(path)
    if request.param == "s3":
        pipeline._source.s3().create_bucket(Bucket=BUCKET)
        change_quarantine(path, f"s3://{BUCKET}/orders")
    elif request.param == "sqs":
        url = pipeline._source.sqs().create_queue(QueueName=BUCKET)["QueueUrl"]
        change_quarantine(path, f"sqs:{url}")
    pipeline = open_pipeline(path)
    make_source(pipeline)
    pipeline.setup()
    pipeline.backfill()
    put(
        pipeline,
        item("good", 1),
        item("bad", 1, _lake_x={"S": "secret"}),
        item("worse", 1, _lake_y={"S": "1"}),
    )
    replicate(pipeline)
    assert rows(pipeline) == {"good": "1"}
    return path


def change_quarantine(config: Path, address: str) -> None:
    lines = config.read_text().splitlines()
    config.write_text(
        "\n".join(f'quarantine = "{address}"' if line.startswith("quarantine") else line for line in lines)
    )


@pytest.mark.parametrize("config", ["folder", "s3", "sqs"], indirect=True)
def test_from_quarantine_to_parity(config: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    at = ("--config", config, "--json")
    code, out, _ = command(capsys, "redrive", "orders", *at)
    assert code == 1
    assert json.loads(out)["redrive"]["left"] == 2
    assert "secret" not in out
    assert not json.loads(out)["complete"]

    put(pipeline, item("bad", 2))
    code, out, _ = command(capsys, "redrive", "orders", *at)
    report = json.loads(out)["redrive"]
    assert (code, report["settled"], report["written"], report["left"]) == (1, 1, 1, 1)
    assert rows(pipeline) == {"good": "1", "bad": "2"}

    pipeline.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": "worse"}})
    code, out, _ = command(capsys, "redrive", "orders", *at)
    answer = json.loads(out)
    assert (code, answer["redrive"]["settled"], answer["complete"]) == (0, 1, True)
    assert len(answer["redrive"]["gaps_closed"]) == 1
    replicate(pipeline)
    assert rows(pipeline) == {"good": "1", "bad": "2"}
    assert pipeline.parity(pause_s=0.0).exact
    _, out, _ = command(capsys, "redrive", "orders", *at)
    assert json.loads(out)["redrive"]["documents"] == 0


@pytest.mark.parametrize("config", ["folder", "sqs"], indirect=True)
def test_a_dry_run_changes_nothing_and_tells_the_cost(config: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    code, out, _ = command(capsys, "redrive", "orders", "--dry-run", "--json", "--config", config)
    found = json.loads(out)["found"]
    assert code == 0
    assert found["documents"] == 2
    assert found["rows"] + found["unseen"] == 2
    code, out, _ = command(capsys, "redrive", "orders", "--dry-run", "--config", config)
    assert "2 documents: about" in out
    assert "capacity units" in out
    assert pipeline.health_store.gaps()


@pytest.mark.parametrize("config", ["folder"], indirect=True)
def test_for_people_it_says_what_stays_and_why(config: Path, capsys: Capture) -> None:
    code, out, _ = command(capsys, "redrive", "orders", "--config", config)
    assert code == 1
    text = " ".join(out.split())
    assert "2 left" in text
    assert "reserved for dynalake" in text
    assert "the gap stays open: 2 documents could not be settled" in text
    assert "dynalake redrive orders" in text


def test_what_lambda_gave_up_is_found_in_the_same_bucket(tmp_path: Path, aws: None, capsys: Capture) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    s3 = pipeline._source.s3()
    s3.create_bucket(Bucket=BUCKET)
    change_quarantine(config, f"s3://{BUCKET}/orders")
    make_source(pipeline)
    pipeline.setup()
    pipeline.backfill()
    put(pipeline, item("k", 1))
    replicate(pipeline)
    arn = pipeline.source_table.stream_arn
    put(pipeline, item("k", 2))
    record = {
        "eventName": "MODIFY",
        "eventSourceARN": arn,
        "dynamodb": {"Keys": {"pk": {"S": "k"}}, "NewImage": item("k", 99), "SequenceNumber": "9" * 30},
    }
    document = {
        "DDBStreamBatchInfo": {
            "shardId": "shard", "startSequenceNumber": "9" * 30, "endSequenceNumber": "9" * 30,
            "batchSize": 1, "streamArn": arn,
        },
        "payload": json.dumps({"Records": [record]}),
    }  # fmt: skip
    key = "aws/lambda/8a1b/shardId-1/2026/11/24/2026-11-24T05.00.00-1"
    s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(document).encode())
    code, _, _ = command(capsys, "redrive", "orders", "--config", config)
    assert code == 0
    assert rows(pipeline) == {"k": "2"}
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


@pytest.mark.usefixtures("aws")
def test_places_that_are_none_are_one_line(tmp_path: Path, capsys: Capture) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline)
    pipeline.setup()
    for address, said in (
        (str(tmp_path / "nowhere"), "there is no such folder"),
        ("s3://no-such-bucket/x", "NoSuchBucket"),
        ("sqs:https://sqs.us-east-1.amazonaws.com/111111111111/no-such-queue", "cannot be read"),
        ("sqs:https://sqs.us-east-1.amazonaws.com/111111111111/q.fifo", "standard queue"),
    ):
        code, _, err = command(capsys, "redrive", "orders", "--from", address, "--config", config)
        assert code == 2, address
        assert said in err
        assert err.count("\n") == 1
    for wrong in ("sqs:queue", "https://sqs.us-east-1.amazonaws.com/1/q", "s3://", "sqs:https://h/a/q.fifo"):
        change_quarantine(config, wrong)
        code, _, err = command(capsys, "redrive", "orders", "--config", config)
        assert code == 2, wrong
        assert "quarantine" in err


@pytest.mark.usefixtures("aws")
def test_one_place_closes_no_gap_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    config = write_config(tmp_path)
    pipeline = open_pipeline(config)
    make_source(pipeline)
    pipeline.setup()
    pipeline.backfill()
    put(pipeline, item("bad", 1, _lake_x={"S": "1"}))
    replicate(pipeline)
    put(pipeline, item("bad", 2))
    place = tmp_path / "quarantine" / "quarantine" / "orders"
    code, out, _ = command(capsys, "redrive", "orders", "--from", place, "--config", config)
    assert code == 0
    assert "a redrive without --from looks at all of them" in " ".join(out.split())
    assert pipeline.health_store.gaps()
    command(capsys, "redrive", "orders", "--config", config)
    assert not pipeline.health_store.gaps()
