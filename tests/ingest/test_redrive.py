"""Redrive: what was put away is settled, and nothing that is not is taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ingest.policy import Policy
from ingest.quarantine import place_of
from ingest.repair import BATCH
from ingest.shelves import S3Shelf, Shelf, shelf_of
from lake.contract.health import Gap
from lake.contract.rows import VERSION
from lake.contract.versions import read_over, streamed
from tests.ingest import mutants_redrive as mutants
from tests.ingest import redriving
from tests.ingest.building import LABEL, fails, item
from tests.ingest.model import DivergedError, run
from tests.ingest.redriving import MemoryShelf, PutAway
from tests.stubs.faults import client_error, throttled

Scenario = Callable[[], None]
SCENARIOS: list[Scenario] = [
    redriving.the_source_is_asked_again,
    redriving.a_record_that_comes_late_does_no_harm,
    redriving.a_row_that_an_older_change_reaches_meanwhile_is_looked_at_again,
    redriving.a_kill_leaves_the_document,
    redriving.one_that_can_still_not_be_written_stays_with_its_gap,
    redriving.what_the_stream_lost_leaves_a_gap_that_only_a_repair_closes,
    redriving.what_is_put_away_meanwhile_keeps_the_gap_open,
    redriving.a_pointer_means_every_record_from_its_first_to_its_last,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_scenario(scenario: Scenario) -> None:
    scenario()


@pytest.mark.parametrize(
    ("mutant", "scenario"), mutants.CAUGHT_BY_SCENARIO.items(), ids=lambda each: each.__name__
)
def test_a_scenario_catches_the_mutant(
    mutant: Callable[[pytest.MonkeyPatch], None], scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        scenario()


@pytest.mark.parametrize("mutant", mutants.CAUGHT_BY_SIMULATOR, ids=lambda each: each.__name__)
def test_the_simulator_catches_the_mutant(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert any(diverges(seed) for seed in range(mutants.SEEDS))


def diverges(seed: int) -> bool:
    try:
        run(seed)
    except DivergedError:
        return True
    return False


def test_every_mutant_is_caught() -> None:
    assert set(mutants.MUTANTS) == {*mutants.CAUGHT_BY_SCENARIO, *mutants.CAUGHT_BY_SIMULATOR}


def test_the_row_carries_the_newest_version_known_and_a_tombstone_does_too() -> None:
    side = PutAway()
    side.put("k", 1)
    record, buried = side.put("k", 2), side.put("gone", 1)
    side.delete("gone")
    for each in (record, buried):
        side.give_up(each)
    side.redrive()
    for pk, given_up in (("k", record), ("gone", buried)):
        version = streamed(LABEL, given_up["dynamodb"]["SequenceNumber"])
        assert (side.row(pk) or {})[VERSION] == {"S": read_over(version)}
    assert (side.row("gone") or {})["_lake_deleted"] == {"S": "unknown"}


def test_garbage_is_told_and_left_and_stops_nothing() -> None:
    side = PutAway()
    good = side.put("good", 1)
    garbage: dict[str, Any] = {
        "bytes": b"\x00\xff not json",
        "list": b"[1, 2]",
        "deep": b"[" * 100_000,
        "empty": b"",
        "something": {"hello": "world"},
        "no numbers": {"DDBStreamBatchInfo": {"streamArn": side.stream.arn, "shardId": "s"}},
        "another format": {"format": 99, "pipeline": "orders", "record": good},
        "no key": {"format": 1, "pipeline": "orders", "reason": "r", "record": {"dynamodb": {"Keys": {}}}},
        "no record": {"format": 1, "pipeline": "orders", "reason": "r", "record": None},
        "no item": {"format": 1, "pipeline": "orders", "reason": "r", "item": {"x": {"S": "1"}}},
    }
    side.shelf.documents.update(garbage)
    side.give_up(good)
    report = side.redrive()
    assert side.shown() == {"good": "1"}
    assert (report.documents, report.settled, report.unknown) == (len(garbage) + 1, 1, len(garbage))
    assert set(side.shelf.documents) == set(garbage)
    assert {problem.document for problem in report.problems} == set(garbage)
    assert "only a repair" in report.gap_stays
    assert side.open_gaps == ["given up"]


def enveloped(document: Any) -> dict[str, Any]:
    """As SNS hands a message to a queue that is subscribed without raw message delivery."""
    return {
        "Type": "Notification",
        "MessageId": "5fb2fb9e-…",
        "TopicArn": "arn:aws:sns:eu-west-1:111111111111:failures",
        "Message": json.dumps(document),
        "Timestamp": "2026-11-24T06:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "…",
    }


@pytest.mark.parametrize("topics", [1, 2, 3])
@pytest.mark.parametrize("whole", [True, False])
def test_a_document_in_sns_s_envelope_is_settled(topics: int, whole: bool) -> None:
    side = PutAway()
    side.give_up(side.put("k", 1), side.put("l", 2), whole=whole, name="wrapped")
    side.quarantine_record(side.put("m", 3))
    for name, document in list(side.shelf.documents.items()):
        for _ in range(topics):
            document = enveloped(document)
        side.shelf.documents[name] = document
    report = side.redrive()
    assert (report.documents, report.settled, report.unknown) == (2, 2, 0)
    assert side.shown() == {"k": "1", "l": "2", "m": "3"}
    assert not side.shelf.documents
    assert not side.open_gaps


def test_an_envelope_around_a_foreign_or_unknown_document_changes_nothing() -> None:
    side = PutAway()
    foreign = {"format": 1, "pipeline": "parcels", "reason": "r", "record": side.put("k", 1)}
    side.shelf.documents["foreign"] = enveloped(foreign)
    for name, message in {"text": "hello", "nothing": None, "list": [1], "deep": "[" * 100_000}.items():
        side.shelf.documents[name] = {"Type": "Notification", "Message": message}
    endless: Any = {"Type": "Notification"}
    for _ in range(6):
        endless = enveloped(endless)
    side.shelf.documents["endless"] = endless
    report = side.redrive()
    assert (report.foreign, report.unknown, report.settled) == (1, 5, 0)
    assert len(side.shelf.documents) == 6


@pytest.mark.parametrize("value", [{}, {"S": "k", "N": "1"}, {"BOOL": True}, {"S": 1}, "k", None, ["S", "k"]])
def test_a_key_that_is_none_says_no_row(value: Any) -> None:
    side = PutAway()
    record = {"dynamodb": {"SequenceNumber": "9", "Keys": {"pk": value}}}
    side.shelf.documents["odd"] = {"format": 1, "pipeline": "orders", "reason": "r", "record": record}
    assert side.redrive().unknown == 1


def test_a_document_of_which_one_record_says_no_row_stays_and_its_others_are_settled() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1), {"dynamodb": {"SequenceNumber": "9", "Keys": {}}})
    report = side.redrive()
    assert side.shown() == {"k": "1"}
    assert (report.unknown, report.settled) == (1, 0)
    assert len(side.shelf.documents) == 1


def test_documents_of_others_are_left_and_do_not_keep_the_gap_open() -> None:
    side = PutAway()
    record = side.put("k", 1)
    side.shelf.documents["theirs"] = {
        "format": 1, "pipeline": "invoices", "reason": "r", "record": record,
    }  # fmt: skip
    elsewhere = json.loads(json.dumps(record).replace("table/orders", "table/invoices"))
    side.give_up(elsewhere, name="their table")
    side.shelf.documents["their table"]["DDBStreamBatchInfo"]["streamArn"] = elsewhere["eventSourceARN"]
    side.give_up(record)
    report = side.redrive()
    assert set(side.shelf.documents) == {"theirs", "their table"}
    assert (report.foreign, report.settled) == (2, 1)
    assert not side.health.gaps()


def test_a_payload_may_be_an_object_and_one_that_is_cut_off_is_read_from_the_stream() -> None:
    side = PutAway()
    first, second = side.put("a", 1), side.put("b", 2)
    side.give_up(first)
    side.give_up(second)
    one, other = side.shelf.documents.values()
    one["payload"] = json.loads(one["payload"])
    other["payload"] = other["payload"][:-20]
    side.redrive()
    assert side.shown() == {"a": "1", "b": "2"}
    assert not side.shelf.documents


def test_rows_that_a_backfill_put_away_are_settled() -> None:
    side = PutAway()
    side.put("k", 7)
    side.shelf.documents["backfill/x"] = {
        "format": 1, "pipeline": "orders", "reason": "r", "item": item("k", 1, _lake_x={"S": "1"}),
    }  # fmt: skip
    side.redrive()
    assert side.shown() == {"k": "7"}


def test_many_documents_of_one_row_ask_the_source_once_a_batch() -> None:
    side = PutAway()
    for number in range(30):
        side.give_up(side.put("k", number))
    report = side.redrive()
    assert (report.rows, report.written, report.settled) == (1, 1, 30)
    assert side.source.calls["get_item"] == 1


def test_a_document_may_hold_more_rows_than_a_batch() -> None:
    side = PutAway()
    records = [side.put(f"k{number}", number) for number in range(BATCH + 20)]
    side.give_up(*records)
    side.give_up(side.put("last", 1))
    asked: list[int] = []
    side.a_redrive().run([side.shelf], covers_all=True, on_progress=lambda report: asked.append(report.rows))
    assert len(side.shown()) == BATCH + 21
    assert asked == [BATCH + 20, BATCH + 21, BATCH + 21]


def test_a_pointer_into_a_shard_that_was_split_since_is_followed() -> None:
    side = PutAway()
    records = [side.put(f"k{number}", number) for number in range(3)]
    shard = next(iter(side.stream.shards))
    side.give_up(*records, whole=False)
    side.stream.split(shard)
    side.put("later", 1)
    side.redrive()
    assert side.shown() == {"k0": "0", "k1": "1", "k2": "2"}


def test_a_pointer_partly_trimmed_or_into_a_vanished_stream_is_lost_and_said() -> None:
    side = PutAway()
    records = [side.put(f"k{number}", number) for number in range(3)]
    side.give_up(*records, whole=False)
    shard = next(iter(side.stream.shards))
    side.stream.trim(shard, 1)
    assert side.redrive().lost == 1
    assert side.open_gaps == ["trimmed"]
    side.give_up(*records, whole=False)
    side.streams.streams.clear()
    assert side.redrive().lost == 1
    assert side.open_gaps == ["trimmed"]


def test_a_stream_that_is_busy_keeps_the_pointer_for_the_next_run() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1), whole=False)
    side.give_up(side.put("m", 1))
    side.streams.hook = fails("get_records", lambda: throttled("GetRecords"))
    report = side.redrive()
    assert (report.left, report.settled) == (1, 1)
    assert side.shown() == {"m": "1"}
    side.streams.hook = fails("get_records", lambda: throttled("GetRecords"), times=3)
    side.streams.expire_iterators()
    side.redrive()
    assert side.shown() == {"k": "1", "m": "1"}
    assert not side.health.gaps()


def test_a_stream_that_may_not_be_read_keeps_the_pointer() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1), whole=False)
    side.streams.hook = fails("get_shard_iterator", lambda: client_error("X", "AccessDeniedException"))
    report = side.redrive()
    assert report.left == 1
    assert "AccessDenied" in report.problems[0].why


def test_what_fails_is_said_even_where_nobody_had_noted_a_gap() -> None:
    """Lambda gives records up by itself, and tells the pipeline's health nothing."""
    side = PutAway()
    side.give_up(side.put("bad", 1, _lake_x={"S": "1"}))
    side.health.close_gaps("repair", side.clock.now_ms())
    assert not side.health.gaps()
    side.redrive()
    assert side.open_gaps == ["given up"]


def test_one_place_of_several_closes_no_gap() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1))
    report = side.redrive(covers_all=False)
    assert report.settled == 1
    assert "without --from" in report.gap_stays
    assert side.open_gaps == ["given up"]
    assert side.redrive().gaps_closed[0].kind == "given up"


def test_a_queue_that_may_have_forgotten_something_closes_no_gap() -> None:
    side = PutAway()
    side.shelf = MemoryShelf(queue_keeps_s=3600)
    side.give_up(side.put("k", 1))
    side.clock.sleep(4000)
    assert "forgets a message" in side.redrive().gap_stays
    assert side.open_gaps == ["given up"]


def test_a_queue_with_hidden_messages_closes_no_gap() -> None:
    side = PutAway()
    side.shelf = MemoryShelf(queue_keeps_s=3600)
    side.give_up(side.put("k", 1))
    side.shelf.hidden = 1
    assert "still holds about 1" in side.redrive().gap_stays
    side.shelf.hidden = 0
    assert side.redrive().gaps_closed


def test_a_second_run_finds_nothing_and_changes_nothing() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1))
    side.redrive()
    before = dict(side.row("k") or {})
    report = side.redrive()
    assert (report.documents, report.rows) == (0, 0)
    assert side.row("k") == before


def test_a_row_that_changes_all_the_time_is_left_for_the_next_run() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1))
    numbers = iter(range(10, 99))

    def change() -> None:
        """The lake's row moves on, by changes that are older than the record."""
        row = {**item("k", 0), VERSION: {"S": f"2026-11-23T00:00:00.000/{next(numbers):040d}"}}
        side.table.put(row)
        side.before_a_write(change)

    side.before_a_write(change)
    report = side.redrive()
    assert (report.left, report.failed) == (1, 1)
    assert len(side.shelf.documents) == 1


def test_a_hashed_key_is_found_again() -> None:
    policy = Policy({"pk": "hash"}, key_attributes=["pk"], hash_key=b"0123456789abcdef")
    side = PutAway(policy)
    side.give_up(side.put("k", 1))
    side.redrive()
    assert len(side.table.items) == 1
    assert side.row("k") is None


def test_a_survey_tells_what_a_run_would_find_and_changes_nothing() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1))
    side.give_up(side.put("k", 2), side.put("m", 1))
    side.give_up(side.put("n", 1), whole=False)
    side.shelf.documents["garbage"] = b"x"
    queue = MemoryShelf(queue_keeps_s=9)
    queue.documents["unseen"] = b"x"
    writes = side.dynamodb.calls["put_item"]
    survey = side.a_redrive().survey([side.shelf, queue])
    assert (survey.documents, survey.rows, survey.pointers, survey.unknown, survey.unseen) == (5, 2, 1, 1, 1)
    assert side.dynamodb.calls["put_item"] == writes
    assert len(side.shelf.documents) == 4


def test_gaps_of_other_kinds_stay_open() -> None:
    side = PutAway()
    side.health.open_gap("x", "trimmed", "why")
    side.give_up(side.put("k", 1))
    report = side.redrive()
    assert [gap.kind for gap in report.gaps_closed] == ["given up"]
    assert [gap.id for gap in side.health.gaps()] == ["x"]
    assert isinstance(report.gaps_closed[0], Gap)


# The places themselves

REGION = "us-east-1"


@pytest.fixture
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def documents_of(side: PutAway) -> Mapping[str, Any]:
    side.quarantine_record(side.put("a", 1))
    side.quarantine_record(side.put("bad", 1, _lake_x={"S": "1"}))
    side.give_up(side.put("b", 1))
    return side.shelf.documents


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("place", ["folder", "s3", "sqs"])
def test_from_each_kind_of_place(place: str, tmp_path: Path) -> None:
    s3, sqs = boto3.client("s3", region_name=REGION), boto3.client("sqs", region_name=REGION)
    s3.create_bucket(Bucket="put-away")
    url = sqs.create_queue(QueueName="put-away")["QueueUrl"]
    address = {"folder": str(tmp_path), "s3": "s3://put-away/orders", "sqs": f"sqs:{url}"}[place]
    side = PutAway()
    for name, document in documents_of(side).items():
        place_of(address, s3, sqs).put(name, document)
    shelf: Shelf = shelf_of(address, s3, sqs)
    report = side.redrive(shelf)
    assert side.shown() == {"a": "1", "b": "1"}
    assert (report.documents, report.settled, report.left) == (3, 2, 1)
    side.put("bad", 2)
    report = side.redrive(shelf_of(address, s3, sqs))
    assert (report.documents, report.settled, report.left) == (1, 1, 0)
    assert side.shown() == {"a": "1", "b": "1", "bad": "2"}
    assert not side.health.gaps()
    if place == "folder":
        assert len(list((tmp_path / "done").rglob("*.json"))) == 3


@pytest.mark.usefixtures("aws")
def test_objects_as_lambda_names_them_are_found() -> None:
    s3 = boto3.client("s3", region_name=REGION)
    s3.create_bucket(Bucket="failures")
    side = PutAway()
    side.give_up(side.put("k", 1))
    (document,) = side.shelf.documents.values()
    key = "aws/lambda/2d8752fd-0000/shardId-0001/2026/11/24/2026-11-24T05.00.00-8a1b"
    s3.put_object(Bucket="failures", Key=key, Body=json.dumps(document).encode())
    side.redrive(S3Shelf(s3, "failures", "aws/lambda"))
    assert side.shown() == {"k": "1"}
    assert s3.list_objects_v2(Bucket="failures")["KeyCount"] == 0
