"""A pipeline's tables for other engines: what the policy is said to do, exports here and in S3, the commands."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dynalake.errors import UserError
from dynalake.exports import open_export
from dynalake.tables import told_of_policy
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config


def no_s3() -> Any:
    pytest.fail("S3 is not asked")


def test_the_policy_is_told_in_words() -> None:
    assert told_of_policy(
        {
            "ssn": "mask",
            "id": "keep",
            "address.street": "drop",
            "address.city": "hash",
            "pk": {"split": "#", "after": {"CUSTOMER": "hash", "ORDER": "keep"}, "at": {-1: "mask"}},
        }
    ) == {
        "ssn": "masked by policy",
        "address": "dropped at address.street, hashed at address.city by policy",
        "pk": "segments hashed and masked by policy",
    }


def test_an_export_in_s3_is_read_by_its_footer(aws: None) -> None:
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    s3.create_bucket(Bucket="our-lake")
    # So many columns that the footer is larger than what is read at once.
    wide = pa.table({f"column_{number:04}": ["x"] for number in range(2_000)})
    for day, table in (("2013-01-01", wide), ("2013-01-02", wide.slice(0, 0))):
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        s3.put_object(
            Bucket="our-lake", Key=f"orders/day={day}/a.parquet", Body=buffer.getvalue().to_pybytes()
        )
    s3.put_object(Bucket="our-lake", Key="orders/_SUCCESS", Body=b"")
    found = open_export("s3://our-lake/orders", lambda: s3)

    assert found.schema.names == wide.column_names
    assert found.location == "s3://our-lake/orders/"
    assert found.files == (
        PurePosixPath("day=2013-01-01/a.parquet"),
        PurePosixPath("day=2013-01-02/a.parquet"),
    )
    with pytest.raises(UserError, match="holds no Parquet"):
        open_export("s3://our-lake/nothing/", lambda: s3)
    with pytest.raises(UserError, match="NoSuchBucket"):
        open_export("s3://another/orders/", lambda: s3)


def test_a_file_among_others_is_warned_of(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "orders.parquet")
    assert open_export(str(tmp_path / "orders.parquet"), no_s3).warning is None
    (tmp_path / "lake.duckdb").write_text("")
    found = open_export(str(tmp_path / "orders.parquet"), no_s3)

    assert "lake.duckdb is there too" in (found.warning or "")
    assert found.location == tmp_path.resolve().as_uri()


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"no parquet at all, but long enough to look"])
def test_what_is_no_parquet_is_said(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match="holds no Parquet"):
        open_export(str(tmp_path), no_s3)


def test_ddl_and_dictionary_of_a_pipeline(
    tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, policy='{ email = "hash" }')
    monkeypatch.setenv("DYNALAKE_HASH_KEY", "a secret of 16 bytes")
    pipeline = open_pipeline(config)
    make_source(pipeline)
    at = ("--config", config)
    assert command(capsys, "setup", "orders", *at)[0] == 0
    put(pipeline, {"pk": {"S": "1"}, "email": {"S": "ann@example.org"}, "price": {"N": "1.5"}})
    assert command(capsys, "run", "orders", "--until-caught-up", *at)[0] == 0

    _, out, _ = command(capsys, "ddl", "orders", *at)
    assert "hashed by policy" in out
    assert "CREATE OR REPLACE VIEW `lake`.`_lake_orders`" in out
    assert "-- 'price' is of type double, which rounds" in out
    pq.write_table(pa.table({"pk": ["1"], "price": [1]}), tmp_path / "part.parquet")
    parquet = ("--parquet", tmp_path / "part.parquet", "--location", "s3://b/orders/")
    for engine, says in (
        ("athena", 'FROM "lake"."orders_parquet"'),
        ("spark", "USING parquet"),
        ("parquet", "STORED AS"),
    ):
        code, out, _ = command(capsys, "ddl", "orders", "--engine", engine, *parquet, *at)
        assert code == 0
        assert says in out
    for words, said in (
        (("--engine", "spark"), "needs an export"),
        (("--diff",), "--since"),
        (("--since", tmp_path / "x"), "--diff"),
        (("--diff", "--since", config), "is no state"),
        (("--apply", "emr:10000"), "hive://"),
    ):
        code, out, err = command(capsys, "ddl", "orders", *words, *at)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert said in err

    _, out, _ = command(capsys, "dictionary", "orders", "--format", "alation", *at)
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(out))}
    assert "hashed by policy" in rows["lake.orders.email"]["description"]
    _, out, _ = command(capsys, "dictionary", "orders", "--json", *at)
    (mail,) = (r for r in json.loads(out)["columns"] if r["attribute"] == "email" and r["view"] == "orders")
    assert mail["sensitivity"] == "hashed by policy"
