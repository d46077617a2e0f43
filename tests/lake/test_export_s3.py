"""Exports to S3, on moto: whole, replaced at once, and nothing left by a run that fails."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from lake.encode import arrow_items
from lake.errors import ExportError
from lake.export import Layout, export_table, target
from tests.lake.building import build, by_key, lake_row

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ITEMS = [{"pk": {"S": str(n)}, "part": {"S": str(n % 3)}} for n in range(30)]


@pytest.fixture
def s3() -> Iterator[S3Client]:
    with mock_aws():
        s3 = client()
        s3.create_bucket(Bucket="lake")
        yield s3


def client() -> S3Client:
    return boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x", aws_session_token="x"
    )


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    build(tmp_path / "lake.duckdb", map(lake_row, ITEMS))
    return tmp_path / "lake.duckdb"


def keys(s3: S3Client) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket="lake").get("Contents", ())]


def uploads(s3: S3Client) -> list[Any]:
    return list(s3.list_multipart_uploads(Bucket="lake").get("Uploads", ()))


def read(s3: S3Client, key: str) -> Any:
    return pq.read_table(io.BytesIO(s3.get_object(Bucket="lake", Key=key)["Body"].read()))


def test_a_folder_is_replaced_as_a_whole(s3: S3Client, snapshot: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = export_table(
        snapshot, "things", "parquet", "s3://lake/a/things", s3=s3,
        layout=Layout(("part",)), on_progress=lambda *done: seen.append(done),
    )  # fmt: skip
    first = keys(s3)
    assert (report.files, report.rows, report.path) == (3, 30, "s3://lake/a/things")
    assert {key.split("/")[2] for key in first} == {"part=0", "part=1", "part=2"}
    assert seen[-1] == (report.bytes, report.bytes)
    s3.put_object(Bucket="lake", Key="a/things-else/x.txt", Body=b"not ours")
    export_table(snapshot, "things", "parquet", "s3://lake/a/things/", s3=s3)
    (key, other) = keys(s3)[::-1]
    assert other == "a/things-else/x.txt" or key == "a/things-else/x.txt"
    (mine,) = [key for key in keys(s3) if key.startswith("a/things/")]
    assert by_key(arrow_items(read(s3, mine))) == by_key(ITEMS)
    assert not uploads(s3)


@pytest.mark.parametrize(
    ("format_", "name"), [("csv", "t.csv"), ("arrow", "t.arrow"), ("parquet", "t.parquet")]
)
def test_a_file_is_one_object(s3: S3Client, snapshot: Path, format_: Any, name: str) -> None:
    for _ in range(2):
        report = export_table(snapshot, "things", format_, f"s3://lake/{name}", s3=s3)
        assert keys(s3) == [name]
        assert s3.head_object(Bucket="lake", Key=name)["ContentLength"] == report.bytes


def test_large_files_go_in_parts(s3: S3Client, snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "PART_BYTES", 5 << 20)
    build(snapshot, (lake_row({"pk": {"S": str(n)}, "t": {"S": "x" * 300_000}}) for n in range(40)))
    report = export_table(snapshot, "things", "csv", "s3://lake/t.csv", s3=s3)
    assert report.bytes > 12_000_000
    assert s3.head_object(Bucket="lake", Key="t.csv")["ContentLength"] == report.bytes
    assert s3.head_object(Bucket="lake", Key="t.csv")["ETag"].endswith('-3"')


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_failed_run_leaves_what_was_there(s3: S3Client, snapshot: Path, operation: str, nth: int) -> None:
    s3.put_object(Bucket="lake", Key="d/part-old-0.parquet", Body=b"the export before")
    failing, calls = client(), 0

    def fail(**_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise ConnectionResetError("the network is gone")

    failing.meta.events.register(f"before-call.s3.{operation}", fail)
    with pytest.raises(ConnectionResetError):
        export_table(snapshot, "things", "parquet", "s3://lake/d", s3=failing, layout=Layout(("part",)))
    assert keys(s3) == ["d/part-old-0.parquet"]
    assert not uploads(s3)


def test_a_killed_run_shows_nothing_and_the_next_one_sweeps(
    s3: S3Client, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying, calls = client(), 0

    class KilledError(BaseException):
        pass

    def die(**_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 6:
            # From here on nothing is done any more: neither this request nor those that would tidy up.
            raise KilledError

    dying.meta.events.register("before-call.s3", die)
    with pytest.raises(KilledError):
        export_table(snapshot, "things", "parquet", "s3://lake/k", s3=dying, layout=Layout(("part",)))
    assert keys(s3) == []
    left = uploads(s3)
    assert left
    monkeypatch.setattr(target, "STALE", timedelta(0))
    export_table(snapshot, "things", "parquet", "s3://lake/k", s3=s3)
    assert len(keys(s3)) == 1
    assert not uploads(s3)


def test_what_cannot_be_served_is_refused(s3: S3Client, snapshot: Path) -> None:
    with pytest.raises(ExportError, match="the bucket 'none' does not exist"):
        export_table(snapshot, "things", "csv", "s3://none/t.csv", s3=s3)
    for nowhere in ("s3://lake", "s3://lake/", "s3://"):
        with pytest.raises(ExportError, match="no place"):
            export_table(snapshot, "things", "csv", nowhere, s3=s3)
    with pytest.raises(ExportError, match="needs an S3 client"):
        export_table(snapshot, "things", "csv", "s3://lake/t.csv")
    s3.put_object(Bucket="lake", Key="mine/notes.txt", Body=b"")
    with pytest.raises(ExportError, match=r"notes\.txt"):
        export_table(snapshot, "things", "parquet", "s3://lake/mine", s3=s3)
    assert keys(s3) == ["mine/notes.txt"]
