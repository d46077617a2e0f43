"""`dynalake parity` in each of its scopes, on an embedded AWS."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dynalake.errors import UserError
from dynalake.jobs.parity import Scope
from dynalake.pipeline import Pipeline
from ingest.walk import Pacing
from ingest.wire import from_boto3, to_boto3
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.lake.building import change_rows

Capture = pytest.CaptureFixture[str]
QUICK = Pacing(least_s=0.01, most_s=0.05, quiet_answers=2, quiet_s=0.05)
ROWS = 30


@pytest.fixture
def config(tmp_path: Path, aws: None) -> Path:
    path = write_config(tmp_path)
    pipeline = open_pipeline(path)
    make_source(pipeline, {"pk": "S", "sk": "N"})
    put(pipeline, *(row(n) for n in range(ROWS)))
    pipeline.setup()
    pipeline.backfill()
    return path


def row(n: int, **more: Any) -> dict[str, Any]:
    blob = {"B": "AAEC"}
    return {"pk": {"S": f"é{n}"}, "sk": {"N": str(n)}, "b": blob, "s": {"SS": ["a", "b"]}, **more}


def key(n: int) -> dict[str, Any]:
    return {"pk": {"S": f"é{n}"}, "sk": {"N": str(n)}}


def lake_put(pipeline: Pipeline, item: Mapping[str, Any]) -> None:
    """Spoil the lake behind the pipeline's back."""
    pipeline._lake.dynamodb().put_item(TableName=pipeline.config.lake_table, Item=to_boto3(item))


def lake_get(pipeline: Pipeline, n: int) -> dict[str, Any]:
    answer = pipeline._lake.dynamodb().get_item(TableName=pipeline.config.lake_table, Key=to_boto3(key(n)))
    return from_boto3(answer["Item"])


def spoil(pipeline: Pipeline, n: int) -> None:
    lake_put(pipeline, {**lake_get(pipeline, n), "s": {"SS": ["a"]}})


def compared(pipeline: Pipeline, scope: Scope | None = None) -> Any:
    return pipeline.parity(scope, looks=2, pause_s=0.0, pacing=QUICK)


def export(folder: Path, items: Iterable[Mapping[str, Any]]) -> Path:
    """A full export as DynamoDB writes it."""
    lines = [json.dumps({"Item": each}, ensure_ascii=False).encode() + b"\n" for each in items]
    name = "AWSDynamoDB/01/data/a.json.gz"
    content = gzip.compress(b"".join(lines))
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(content)
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    listed = {"itemCount": len(lines), "md5Checksum": md5, "etag": "", "dataFileS3Key": name}
    (folder / "AWSDynamoDB/01/manifest-files.json").write_text(json.dumps(listed) + "\n")
    summary = {
        "exportArn": "arn:aws:dynamodb:us-east-1:111111111111:table/orders/export/01",
        "tableArn": "arn:aws:dynamodb:us-east-1:111111111111:table/orders",
        "exportTime": "2026-11-24T00:00:00.000Z",
        "itemCount": len(lines),
        "outputFormat": "DYNAMODB_JSON",
    }
    (folder / "AWSDynamoDB/01/manifest-summary.json").write_text(json.dumps(summary))
    return folder


def scanned(pipeline: Pipeline, side: str) -> list[dict[str, Any]]:
    account = pipeline._source if side == "source" else pipeline._lake
    table = pipeline.config.source.table if side == "source" else pipeline.config.lake_table
    return [from_boto3(item) for item in account.dynamodb().scan(TableName=table)["Items"]]


def test_two_exports_are_compared_and_what_differs_is_read_again(config: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(config)
    source = export(tmp_path / "source", scanned(pipeline, "source"))
    spoil(pipeline, 3)
    stale = scanned(pipeline, "lake")[:-1]  # one row came to the lake after its export
    lake = export(tmp_path / "lake", stale)
    result = compared(pipeline, Scope(source=str(source), lake=str(lake)))
    assert (result.source_rows, result.lake_rows) == (ROWS, ROWS - 1)
    assert [(each.reason, each.key, each.attributes) for each in result.differences] == [
        ("different", key(3), ("s",))
    ]
    assert result.in_flight == 1


def test_an_export_in_a_bucket(config: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(config)
    folder = export(tmp_path / "source", scanned(pipeline, "source"))
    s3 = pipeline._source.s3()
    s3.create_bucket(Bucket="exports")
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put_object(
                Bucket="exports", Key=f"of/orders/{path.relative_to(folder)}", Body=path.read_bytes()
            )
    assert compared(pipeline, Scope(source="s3://exports/of/orders")).exact


def test_a_snapshot_takes_the_lake_s_place(config: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(config)
    spoil(pipeline, 4)
    file = tmp_path / "lake.duckdb"
    pipeline.snapshot(file, pacing=QUICK)
    assert [each.key for each in compared(pipeline, Scope(lake=str(file))).differences] == [key(4)]
    pipeline.repair([key(4)])
    moved = compared(pipeline, Scope(lake=str(file)))
    assert (moved.exact, moved.in_flight) == (True, 1), "the row has moved on since: not the snapshot's fault"


def test_a_snapshot_that_is_wrong_is_found(config: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(config)
    file = tmp_path / "lake.duckdb"
    lake_put(pipeline, {**lake_get(pipeline, 9), "_lake_at": {"N": "1700000000000"}})
    pipeline.snapshot(file, pacing=QUICK)
    with duckdb.connect(str(file)) as spoilt:
        change_rows(spoilt, "orders", "DELETE FROM _lake.orders WHERE sk = 9")
        change_rows(spoilt, "orders", "UPDATE _lake.orders SET b = 'x'::BLOB WHERE sk = 8")
    result = compared(pipeline, Scope(lake=str(file)))
    assert {(each.reason, each.key["sk"]["N"]) for each in result.differences} == {
        ("missing", "9"),
        ("different", "8"),
    }


def test_since_compares_what_the_stream_names(config: Path) -> None:
    pipeline = open_pipeline(config)
    spoil(pipeline, 5)
    result = compared(pipeline, Scope(since_ms=pipeline.now_ms() - 3_600_000))
    assert [each.key for each in result.differences] == [key(5)]
    assert result.source_rows == ROWS
    assert compared(pipeline, Scope(since_ms=pipeline.now_ms() + -1)).source_rows <= ROWS


def test_a_sample_of_everything_finds_everything(config: Path) -> None:
    pipeline = open_pipeline(config)
    spoil(pipeline, 6)
    lake_put(pipeline, {**row(99), "_lake_version": {"S": "x"}})
    result = compared(pipeline, Scope(percent=100))
    assert {each.reason for each in result.differences} == {"different", "extra"}
    assert (result.source_rows, result.lake_rows) == (ROWS, ROWS + 1)


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({"percent": 5, "since_ms": 1}, "give one of them"),
        ({"percent": 5, "source": "x"}, "read the live tables"),
        ({"percent": 0}, "a share in percent"),
        ({"since_ms": 1}, "keeps 24 hours"),
        ({"since_ms": 10**15}, "in the future"),
    ],
)
def test_scopes_that_cannot_be_are_refused(scope: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Scope(**scope).check(1_795_500_000_000)


def test_repair_mends_and_tells_before_and_after(config: Path, tmp_path: Path, capsys: Capture) -> None:
    pipeline = open_pipeline(config)
    spoil(pipeline, 7)
    lake_put(pipeline, {**row(77), "_lake_version": {"S": "2020-01-01T00:00:00.000/0"}})
    words = ("parity", "orders", "--config", config, "--out", tmp_path / "found.jsonl", "--repair", "--json")
    code, out, _ = command(capsys, *words)
    document = json.loads(out)
    assert code == 0
    assert document["before"]["parity"] == {"missing": 0, "extra": 1, "different": 1}
    assert document["repair"]["written"] == document["repair"]["deleted"] == 1
    assert document["parity"] == {"missing": 0, "extra": 0, "different": 0}


def test_the_sql_for_spark_is_printed(config: Path, capsys: Capture) -> None:
    words = ("parity", "orders", "--config", config, "--spark-sql")
    code, out, _ = command(capsys, *words, "--source-export", "s3://a/x", "--lake-export", "s3://b/y")
    assert code == 0
    assert "FROM text.`s3://a/x`" in out
    code, _, err = command(capsys, *words)
    assert code == 2
    assert "give --source-export and --lake-export" in err
