"""One lake table, one hash key: another key is refused by every job, and a change of the key never mixes rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any, Final

import boto3
import duckdb
import pytest

import ingest.lambda_function
from dynalake.demo.world import LAKE_ACCOUNT, REGION
from dynalake.pipeline import Pipeline
from ingest.errors import HashKeyChangedError
from ingest.hashkey import HashKey
from ingest.policy import Policy
from ingest.walk import Pacing
from tests.dynalake.accounts import ROLE, command, make_source, open_pipeline, put, write_config

Capture = pytest.CaptureFixture[str]

QUICK: Final = Pacing(least_s=0.0, most_s=0.02, quiet_answers=2, quiet_s=0.02)
PARITY: Final = Pipeline.parity
OLD, NEW = "9d41c07be2a85f3366b1d0e94c72fa18", "f2c80b3a7d914e65b1a0c8d7e6f59234"
POLICY: Final[dict[str, Any]] = {"pk": "hash", "email": "hash"}


@pytest.fixture
def folder(tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pipeline, "parity", partialmethod(PARITY, looks=1, pacing=QUICK))
    return tmp_path


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, table: str = "") -> Pipeline:
    monkeypatch.setenv("DYNALAKE_HASH_KEY", key)
    path = write_config(folder, policy='{ pk = "hash", email = "hash" }')
    if table:
        text = path.read_text()
        path.write_text(text.replace("lake = {", f'lake = {{ table = "{table}",'))
    return open_pipeline(path)


def item(n: int) -> dict[str, Any]:
    return {"pk": {"S": f"k{n}"}, "email": {"S": f"ann{n}@example.org"}}


def work(pipeline: Pipeline) -> Any:
    finish = threading.Event()
    finish.set()
    return pipeline.run_worker(threading.Event(), finish, pacing=QUICK)


def rows(pipeline: Pipeline, table: str | None = None) -> dict[str, dict[str, Any]]:
    found = pipeline.lake_dynamodb().scan(TableName=table or pipeline.config.lake_table)["Items"]
    return {row["pk"]["S"]: row for row in found}


def hashed(key: str, numbers: range) -> dict[str, str]:
    """What the rows of a lake table must show: the key's hash -> the mail's hash."""
    policy = Policy(POLICY, key_attributes=["pk"], hash_key=key.encode())
    seen = [policy.apply(item(n)) for n in numbers]
    return {row["pk"]["S"]: row["email"]["S"] for row in seen}


def shown(pipeline: Pipeline, table: str | None = None) -> dict[str, str]:
    return {key: row["email"]["S"] for key, row in rows(pipeline, table).items() if "email" in row}


def build_function(pipeline: Pipeline, key: str) -> Any:
    return ingest.lambda_function.build(
        {
            "DYNALAKE_PIPELINE": "orders",
            "DYNALAKE_STREAM_ARN": pipeline.described_source.stream_arn,
            "DYNALAKE_LAKE_TABLE": pipeline.config.lake_table,
            "DYNALAKE_CATALOGUE_TABLE": pipeline.config.catalogue_table,
            "DYNALAKE_CHECKPOINT_TABLE": pipeline.config.checkpoint_table,
            "DYNALAKE_LAKE_REGION": REGION,
            "DYNALAKE_LAKE_ROLE_ARN": ROLE.format(LAKE_ACCOUNT),
            "DYNALAKE_EXTERNAL_ID": "secret",
            "DYNALAKE_QUARANTINE": "s3://quarantine",
            "DYNALAKE_KEY_ATTRIBUTES": '["pk"]',
            "DYNALAKE_POLICY": json.dumps(POLICY),
            "DYNALAKE_HASH_KEY": key,
        },
        boto3.Session(region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x"),
    )


JOBS: Final[dict[str, Callable[[Pipeline], Any]]] = {
    "setup": lambda pipeline: pipeline.setup(),
    "worker": work,
    "backfill": lambda pipeline: pipeline.backfill(restart=True),
    "repair": lambda pipeline: pipeline.repair([{"pk": {"S": "k0"}}]),
    "parity": lambda pipeline: pipeline.parity(),
    "function": lambda pipeline: build_function(pipeline, NEW),
}


def test_another_key_is_refused_by_every_job_and_changes_no_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pipeline = opened(folder, monkeypatch, OLD)
    make_source(pipeline)
    put(pipeline, *map(item, range(3)))
    pipeline.setup()
    pipeline.backfill()
    work(pipeline)
    build_function(pipeline, OLD)
    before = rows(pipeline)
    assert shown(pipeline) == hashed(OLD, range(3))
    put(pipeline, item(3))
    for name, job in JOBS.items():
        with pytest.raises(HashKeyChangedError) as refused:
            job(opened(folder, monkeypatch, NEW))
        assert NEW not in str(refused.value), name
        assert "new lake table" in refused.value.remedy, name
        assert rows(pipeline) == before, name
    config = ("--config", folder / "dynalake.toml")
    for words in (
        ("setup",), ("run", "--until-caught-up"), ("backfill",), ("repair",), ("redrive",), ("parity",), ("check",)
    ):  # fmt: skip
        code, _, err = command(capsys, words[0], "orders", *words[1:], *config)
        assert code == (3 if words == ("check",) else 2), words
        assert "the hash key is not the one" in err, words
        assert rows(pipeline) == before, words
    again = opened(folder, monkeypatch, OLD)
    work(again)
    assert again.parity().exact, "the earlier key is taken as before"


def test_a_policy_that_begins_to_hash_notes_its_key_at_its_first_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a pipeline that an earlier release set up: what hashes first is the key."""
    plain = open_pipeline(write_config(folder))
    make_source(plain)
    plain.setup()
    assert plain.key_register().read() is None
    write_config(folder, policy='{ email = "hash" }')
    monkeypatch.setenv("DYNALAKE_HASH_KEY", OLD)
    open_pipeline(folder / "dynalake.toml").backfill()
    noted = plain.key_register().read()
    assert noted is not None
    assert noted.fingerprint == HashKey(OLD.encode()).fingerprint
    monkeypatch.setenv("DYNALAKE_HASH_KEY", NEW)
    with pytest.raises(HashKeyChangedError):
        open_pipeline(folder / "dynalake.toml").backfill()
    text = json.dumps(
        plain.lake_dynamodb().scan(TableName=plain.config.checkpoint_table)["Items"], default=str
    )
    assert noted.fingerprint in text
    assert OLD not in text


def test_changing_the_key_as_documented_never_mixes_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    old = opened(folder, monkeypatch, OLD)
    make_source(old)
    put(old, *map(item, range(3)))
    old.setup()
    old.backfill()
    work(old)
    snapshot = folder / "lake.duckdb"
    config = ("--config", folder / "dynalake.toml")
    assert command(capsys, "snapshot", "orders", "--out", snapshot, *config)[0] == 0

    new = opened(folder, monkeypatch, NEW, "dynalake.orders-2")
    put(new, item(3))
    new.setup()
    new.backfill()
    put(new, item(4))
    new.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": "k0"}})
    work(new)
    assert new.parity().exact
    assert shown(new) == hashed(NEW, range(1, 5))
    assert shown(old, old.config.lake_table) == hashed(OLD, range(3)), "the earlier table is as it was"

    code, out, err = command(capsys, "refresh", "orders", "--out", snapshot, "--json", *config)
    assert code in (0, 2), err
    with duckdb.connect(str(snapshot), read_only=True) as lake:
        emails = {row[0] for row in lake.execute("SELECT email FROM orders").fetchall()}
    assert emails in (set(hashed(NEW, range(1, 5)).values()), set(hashed(OLD, range(3)).values())), out
