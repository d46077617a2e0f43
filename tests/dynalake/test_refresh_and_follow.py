"""`refresh` and `follow` between two accounts of an embedded AWS."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynalake.jobs import refresh as jobs
from dynalake.jobs.parity import Scope
from dynalake.jobs.refresh import Refresh, follow, refresh
from dynalake.pipeline import Clocks, Pipeline
from ingest.errors import TrimmedError
from ingest.shards import StreamReader
from ingest.walk import Pacing
from ingest.wire import from_boto3
from lake import open_lake
from lake.encode import snapshot_items
from lake.errors import SnapshotBusyError, SnapshotError
from tests.dynalake.accounts import command, make_source, open_pipeline, put, write_config
from tests.lake.building import as_format_1, by_key, normal
from tests.waiting import until

QUICK = Pacing(least_s=0.0, most_s=0.02, quiet_answers=2, quiet_s=0.02)
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def pipeline(tmp_path: Path, aws: None) -> Pipeline:
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline)
    pipeline.setup()
    put(pipeline, *({"pk": {"S": str(n)}, "n": {"N": "0"}} for n in range(8)))
    pipeline.backfill()
    pipeline.snapshot(tmp_path / "lake.duckdb", pacing=QUICK)
    return pipeline


def change(pipeline: Pipeline, *items: Any, delete: str = "") -> None:
    """Changes in the source, and on to the lake."""
    put(pipeline, *items)
    if delete:
        pipeline.source_dynamodb().delete_item(TableName="orders", Key={"pk": {"S": delete}})
    finish = threading.Event()
    finish.set()
    pipeline.run_worker(threading.Event(), finish, pacing=QUICK)


def rows(out: Path) -> dict[str, Any]:
    return by_key(snapshot_items(out, "orders"))


def later(pipeline: Pipeline, milliseconds: int) -> Pipeline:
    """The same pipeline at another time."""
    clocks = replace(Clocks(), now_ms=lambda: time.time_ns() // 1_000_000 + milliseconds)
    return Pipeline(
        pipeline.name,
        pipeline.config,
        pipeline._source,
        pipeline._lake,
        environment={},
        clocks=clocks,
        in_flight=1,
    )


def spoil_records(monkeypatch: pytest.MonkeyPatch, pk: str, keys: Any = None) -> list[str]:
    """The stream gives the images of this row with an untyped empty map, as DynamoDB Local 3 does."""
    spoilt: list[str] = []
    read = StreamReader.records

    def records(self: StreamReader, iterator: str) -> Any:
        found, following = read(self, iterator)
        for each in found:
            body = each["dynamodb"]
            if body["Keys"] == {"pk": {"S": pk}} and each["eventName"] != "REMOVE":
                body["NewImage"] = {**body["NewImage"], "empty": {}}
                spoilt.append(body["SequenceNumber"])
                if keys is not None:
                    body["Keys"] = keys
        return found, following

    monkeypatch.setattr(StreamReader, "records", records)
    return spoilt


def test_a_record_that_cannot_be_decoded_does_not_end_a_refresh(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lake.duckdb"
    refresh(pipeline, out, pacing=QUICK)
    change(pipeline, {"pk": {"S": "odd"}, "empty": {"M": {}}}, {"pk": {"S": "0"}, "n": {"N": "7"}})
    spoilt = spoil_records(monkeypatch, "odd")
    done = refresh(pipeline, out, "stream", pacing=QUICK)
    assert spoilt
    assert done.source == "stream"
    assert rows(out)[str({"S": "odd"})]["empty"] == {"M": {}}
    assert rows(out)[str({"S": "0"})]["n"] == {"N": "7"}


def test_a_record_that_says_no_row_means_a_new_scan(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lake.duckdb"
    refresh(pipeline, out, pacing=QUICK)
    change(pipeline, {"pk": {"S": "odd"}, "empty": {"M": {}}})
    spoil_records(monkeypatch, "odd", keys={"pk": {}})
    with pytest.raises(SnapshotError, match="cannot be decoded"):
        refresh(pipeline, out, "stream", pacing=QUICK)
    done = refresh(pipeline, out, pacing=QUICK)
    assert done.source == "scan"
    assert "cannot be decoded" in done.why
    assert str({"S": "odd"}) in rows(out)


def test_a_refresh_applies_what_changed_since(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    first = refresh(pipeline, out, pacing=QUICK)
    change(
        pipeline, {"pk": {"S": "0"}, "n": {"N": "1.5"}}, {"pk": {"S": "new"}, "late": {"S": "x"}}, delete="1"
    )
    done = refresh(pipeline, out, "stream", pacing=QUICK)
    # 8 rows are the backfill's, which the stream saw too, and are read again and found stale.
    assert (done.source, done.rows, done.added, done.widened) == ("stream", 8, ("late",), ("n",))
    assert done.as_of > first.as_of
    assert done.complete
    want = {"pk": {"S": "0"}, "n": {"N": "1.5"}}
    assert rows(out)["{'S': '0'}"] == want
    assert "{'S': '1'}" not in rows(out)
    again = refresh(pipeline, out, pacing=QUICK)
    assert (again.changes, again.rows, again.copied) == (0, 8, False)


def test_a_gap_is_carried(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    pipeline.health_store.open_gap("t", "trimmed", "a shard was trimmed")
    done = refresh(pipeline, out, pacing=QUICK)
    assert not done.complete
    assert done.gaps[0] == "a shard was trimmed"
    with open_lake(out) as lake:
        assert not lake.freshness("orders").complete


@pytest.mark.parametrize("why", ["old", "another stream", "trimmed", "unknown"])
def test_beyond_the_stream_s_reach_a_scan_is_made_and_said(
    pipeline: Pipeline, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lake.duckdb"
    change(pipeline, {"pk": {"S": "new"}})
    match why:
        case "old":
            pipeline = later(pipeline, DAY_MS)
        case "another stream":
            arn = "arn:aws:dynamodb:us-east-1:1:table/x/stream/2027-01-01T00:00:00.000"
            monkeypatch.setattr(jobs, "lake_stream", lambda *_: arn)
        case "trimmed":

            def trimmed(reader: StreamReader, shard_id: str, *_: Any) -> str:
                raise TrimmedError(f"{shard_id} was trimmed")

            monkeypatch.setattr(StreamReader, "iterator", trimmed)
        case "unknown":
            import duckdb

            duckdb.connect(str(out)).execute("DELETE FROM _lake.shards").close()
    with pytest.raises(SnapshotError, match="does not reach back"):
        refresh(pipeline, out, "stream", pacing=QUICK)
    monkeypatch.undo()
    if why in ("another stream", "trimmed"):
        return
    said: list[str] = []
    done = refresh(pipeline, out, pacing=QUICK, on_choice=said.append)
    assert (done.source, done.rows, len(said)) == ("scan", 9, 1)
    assert done.why in said[0]
    assert rows(out).keys() >= {"{'S': 'new'}"}


def test_a_snapshot_of_an_earlier_version_is_rebuilt_and_said(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lake.duckdb"
    at = ("--config", tmp_path / "dynalake.toml")
    as_format_1(out, "orders")
    change(pipeline, {"pk": {"S": "new"}, "rowid": {"S": "x"}})
    with pytest.raises(SnapshotError, match="earlier version"):
        refresh(pipeline, out, "stream", pacing=QUICK)
    code, _, said = command(
        capsys, "export", "orders", "--lake", out, "--out", tmp_path / "o.parquet", "--format", "parquet", *at
    )
    assert code != 0
    assert f"dynalake refresh orders --out {out}" in " ".join(said.split())
    told: list[str] = []
    done = refresh(pipeline, out, pacing=QUICK, on_choice=told.append)
    assert (done.source, done.rows, told) == (
        "scan",
        9,
        [f"a new scan of {pipeline.config.lake_table}: {done.why}"],
    )
    assert "earlier version" in done.why
    assert rows(out)["{'S': 'new'}"]["rowid"] == {"S": "x"}
    change(pipeline, {"pk": {"S": "newer"}})
    assert refresh(pipeline, out, "stream", pacing=QUICK).rows == 10


def test_a_follower_rebuilds_a_snapshot_of_an_earlier_version(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    as_format_1(out, "orders")
    following = Following(pipeline, out)
    try:
        following.until(lambda: len(following.seen) > 0)
        change(pipeline, {"pk": {"S": "newer"}})
        following.until(lambda: "{'S': 'newer'}" in rows(out))
    finally:
        following.end()
    assert following.seen[0].source == "scan"
    assert "earlier version" in following.said[0]


@pytest.mark.parametrize(
    "key",
    [{"rowid": "S"}, {"key": "S", "k0": "N"}, {"FILE_INDEX": "S", "RowId": "B"}, {"x0": "S", "version": "S"}],
)
def test_a_table_whose_names_are_those_of_our_sql(tmp_path: Path, aws: None, key: dict[str, str]) -> None:
    pipeline = open_pipeline(write_config(tmp_path))
    make_source(pipeline, key)
    pipeline.setup()
    out = tmp_path / "lake.duckdb"
    values = {
        "S": lambda n: str(n),
        "N": lambda n: str(n),
        "B": lambda n: base64.b64encode(b"%d" % n).decode(),
    }

    def item(number: int, text: str) -> dict[str, Any]:
        more = {
            "rowid": {"N": "1"},
            "key": {"S": text},
            "x": {"NULL": True},
            "m": {"NS": ["1.50"]},
            "Turn": {"S": "t"},
        }
        lists = {"list": {"L": [{"M": {"rowid": {"N": str(number)}}}]}}
        return more | lists | {name: {tag: values[tag](number)} for name, tag in key.items()}

    def source() -> list[str]:
        found = pipeline.source_dynamodb().scan(TableName="orders")["Items"]
        return sorted(json.dumps(normal(from_boto3(each)), sort_keys=True) for each in found)

    def shown() -> list[str]:
        return sorted(json.dumps(normal(each), sort_keys=True) for each in snapshot_items(out, "orders"))

    put(pipeline, *(item(number, "old") for number in range(6)))
    pipeline.backfill()
    pipeline.snapshot(out, pacing=QUICK)
    assert shown() == source()
    change(pipeline, item(1, "new"), item(7, "new"))
    refresh(pipeline, out, "stream", pacing=QUICK)
    assert shown() == source()
    following = Following(pipeline, out)
    try:
        change(pipeline, item(2, "newer"), item(8, "newer"))
        following.until(lambda: shown() == source())
    finally:
        following.end()
    result = pipeline.parity(Scope(lake=str(out)), looks=2, pause_s=0.0, pacing=QUICK)
    assert (result.wrong, result.lake_rows) == (0, 8)


def test_without_a_snapshot_there_is_nothing_to_refresh(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="dynalake snapshot"):
        refresh(pipeline, tmp_path / "none.duckdb", pacing=QUICK)


class Following:
    """A follower in a thread."""

    def __init__(self, pipeline: Pipeline, out: Path) -> None:
        self.stop = threading.Event()
        self.seen: list[Refresh] = []
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._run, args=(pipeline, out))
        self.failure: BaseException | None = None
        self._thread.start()

    def _run(self, pipeline: Pipeline, out: Path) -> None:
        try:
            follow(
                pipeline,
                out,
                self.stop,
                every_s=0.1,
                pacing=QUICK,
                on_choice=self.said.append,
                on_refresh=self.seen.append,
            )
        except BaseException as failure:
            self.failure = failure

    def until(self, condition: Callable[[], bool]) -> None:
        def holds_and_lives() -> bool:
            assert self.failure is None, self.failure
            return condition()

        until(holds_and_lives)

    def end(self) -> None:
        self.stop.set()
        self._thread.join()
        assert self.failure is None, self.failure


def test_a_follower_trails_the_lake(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lake.duckdb"
    following = Following(pipeline, out)
    try:
        for number in range(3):
            change(pipeline, {"pk": {"S": f"new {number}"}})
            following.until(lambda: f"{{'S': 'new {number}'}}" in rows(out))  # noqa: B023 - called at once
        # Somebody else writes for a while: nothing is lost.
        refused: list[str] = []

        def busy(*_: object) -> None:
            refused.append("busy")
            raise SnapshotBusyError("busy")

        monkeypatch.setattr("lake.publish.replacing", busy)
        change(pipeline, {"pk": {"S": "meanwhile"}})
        following.until(lambda: len(refused) > 1)
        monkeypatch.undo()
        following.until(lambda: "{'S': 'meanwhile'}" in rows(out))
    finally:
        following.end()
    assert following.said == []
    assert sum(done.changes for done in following.seen) >= 4
    refresh(pipeline, out, pacing=QUICK)
    assert len(rows(out)) == 12


def test_a_follower_begins_with_a_scan_where_it_must(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "lake.duckdb"
    change(pipeline, {"pk": {"S": "new"}})
    following = Following(later(pipeline, 2 * DAY_MS), out)
    try:
        following.until(lambda: "{'S': 'new'}" in rows(out))
        change(pipeline, {"pk": {"S": "newer"}})
        following.until(lambda: "{'S': 'newer'}" in rows(out))
    finally:
        following.end()
    assert len(following.said) == 1
    assert following.seen[0].source == "scan"


def test_the_commands(pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("orders", "--out", tmp_path / "lake.duckdb", "--config", tmp_path / "dynalake.toml")
    change(pipeline, {"pk": {"S": "new"}})
    code, printed, _ = command(capsys, "refresh", *at, "--json")
    assert (code, json.loads(printed)["rows"], json.loads(printed)["source"]) == (0, 9, "stream")
    code, printed, _ = command(capsys, "refresh", *at)
    assert "9 rows as of" in printed
    code, _, said = command(capsys, "follow", *at, "--every", "soon")
    assert (code, "5s" in said) == (2, True)
    code, _, said = command(capsys, "refresh", "orders", "--out", tmp_path / "x", *at[3:])
    assert (code, said.count("\n")) == (2, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_following_cleanly(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    out = tmp_path / "lake.duckdb"
    change(pipeline, {"pk": {"S": "new"}})
    before = {which: signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)}

    def end_it() -> None:
        until(lambda: "{'S': 'new'}" in rows(out))
        os.kill(os.getpid(), number)

    ending = threading.Thread(target=end_it)
    ending.start()
    at = ("--out", out, "--config", tmp_path / "dynalake.toml", "--every", "0.2s", "--json")
    try:
        code, printed, _ = command(capsys, "follow", "orders", *at)
    finally:
        ending.join()
        for which, handler in before.items():
            signal.signal(which, handler)
    assert code == 0
    assert json.loads(printed)["changes"] >= 1
    assert {path.name for path in tmp_path.glob(".lake*")} == {".lake.duckdb.spare"}


def test_an_export_to_s3_uses_the_lake_side(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s3 = pipeline.lake_s3()
    s3.create_bucket(Bucket="lake")
    at = ("--config", tmp_path / "dynalake.toml", "--json")
    words = ("export", "orders", "--out", "s3://lake/orders", "--partition-by", "n", "--sort-by", "pk desc")
    code, printed, _ = command(capsys, *words, "--from", tmp_path / "lake.duckdb", *at)
    assert (code, json.loads(printed)["rows"], json.loads(printed)["files"]) == (0, 8, 1)
    (found,) = s3.list_objects_v2(Bucket="lake")["Contents"]
    assert found["Key"].startswith("orders/n=0/part-")
    code, _, said = command(
        capsys, "export", "orders", "--out", "s3://none/x", "--from", tmp_path / "lake.duckdb", *at
    )
    assert (code, "'none' does not exist" in said, said.count("\n")) == (2, True, 1)
