"""`dynalake backfill --source export:…` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynalake.pipeline import Pipeline
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.stubs.exports import StubFiles, full_export, incremental_export

Capture = pytest.CaptureFixture[str]
BUCKET = "exports"


def item(n: int) -> dict[str, Any]:
    return {"pk": {"S": str(n)}, "n": {"N": str(n)}}


@pytest.fixture
def pipeline(tmp_path: Path, aws: None) -> Pipeline:
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline)
    put(pipeline, *map(item, range(8)))
    pipeline.setup()
    pipeline.source_s3().create_bucket(Bucket=BUCKET)
    return pipeline


def export_of(pipeline: Pipeline, **more: Any) -> StubFiles:
    source = pipeline.source_table
    about = {"tableId": source.id, "shows_ms": pipeline.now_ms() + 1000, **more}
    return full_export(source.arn, list(map(item, range(8))), **about)


def upload(pipeline: Pipeline, files: StubFiles, prefix: str) -> None:
    for key, content in files.items():
        pipeline.source_s3().put_object(Bucket=BUCKET, Key=f"{prefix}{key}", Body=content)


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_from_a_full_export_to_parity(
    pipeline: Pipeline, place: str, tmp_path: Path, capsys: Capture
) -> None:
    files = export_of(pipeline)
    if place == "s3":
        upload(pipeline, files, "2026-Nov/")
        address = f"export:s3://{BUCKET}/2026-Nov"
    else:
        address = f"export:{files.save(tmp_path / 'copy')}"
    at = ("--source", address, "--config", tmp_path / "dynalake.toml")
    code, out, _ = command(capsys, "backfill", "orders", "--dry-run", *at)
    assert code == 0
    assert "backfill from the full export of" in out
    assert "about 8 rows (the export's count): reads 0 and writes at most 8 capacity units" in out
    code, out, _ = command(capsys, "backfill", "orders", "--json", *at)
    answer = json.loads(out)
    assert code == 0
    assert (answer["backfill"]["filled"], answer["export"]["kind"]) == (8, "full")
    assert not pipeline.health_store.gaps()
    assert pipeline.parity(pause_s=0.0).exact


def test_from_an_incremental_export(pipeline: Pipeline, tmp_path: Path, capsys: Capture) -> None:
    changed = [({"pk": {"S": str(n)}}, {"pk": {"S": str(n)}, "n": {"N": "999"}}, None) for n in range(9)]
    source = pipeline.source_table
    now = pipeline.now_ms()
    files = incremental_export(source.arn, changed, from_ms=now - 900_000, to_ms=now, tableId=source.id)
    address = f"export:{files.save(tmp_path / 'copy')}"
    config = tmp_path / "dynalake.toml"
    code, out, _ = command(capsys, "backfill", "orders", "--source", address, "--json", "--config", config)
    changes = json.loads(out)["changes"]
    assert (code, changes["written"], changes["absent"]) == (0, 8, 1)
    assert pipeline.parity(pause_s=0.0).exact
    code, out, _ = command(capsys, "backfill", "orders", "--source", address, "--config", config)
    assert "8 right already" in " ".join(out.split())
    assert "GAP since" in out


def test_what_will_not_do_is_one_line(pipeline: Pipeline, tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "dynalake.toml"
    old = export_of(pipeline, shows_ms=pipeline.now_ms() - 3_600_000).save(tmp_path / "old")
    other = export_of(pipeline, tableArn="arn:aws:dynamodb:us-east-1:111111111111:table/invoices").save(
        tmp_path / "other"
    )
    half = export_of(pipeline).save(tmp_path / "half")
    next(half.rglob("manifest-summary.json")).unlink()
    for source, said in (
        (f"export:{old}", "what was deleted between would come back"),
        (f"export:{other}", "table/invoices, and the source table is"),
        (f"export:{half}", "is not complete"),
        (f"export:{tmp_path / 'none'}", "there is no export"),
        ("export:s3://no-such-bucket/x", "NoSuchBucket"),
        ("export:", "write scan, export:s3://bucket/prefix or export:FOLDER"),
        ("dump", "write scan, export:s3://bucket/prefix or export:FOLDER"),
    ):
        for more in ((), ("--dry-run",)):
            code, out, err = command(
                capsys, "backfill", "orders", "--source", source, *more, "--config", config
            )
            assert code == 2, source
            assert out == ""
            assert said in err, err
            assert err.count("\n") == 1
    assert pipeline.health_store.gaps()
