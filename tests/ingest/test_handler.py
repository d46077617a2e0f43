"""One batch: what is applied, what is put away, what comes again; and what the catalogue learns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ingest.capacity import CapacityLimit
from ingest.errors import ForeignEventError, LakeUnavailableError, QuarantineError
from ingest.handler import Replicator
from ingest.policy import Policy
from ingest.quarantine import DirectoryPlace, Quarantine
from lake.contract.catalogue import from_item
from tests.ingest.building import (
    ARN,
    CATALOGUE,
    LABEL,
    ORIGIN,
    TABLE_ARN,
    Clock,
    LakeSide,
    event_of,
    fails,
    item,
    put_change,
    record,
)
from tests.stubs.faults import Call, Fault, client_error, throttled


def failing_for(*keys: str) -> Any:
    """A hook: writes of these lake rows are throttled for ever."""

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and call.request["Item"].get("pk", {}).get("S") in keys:
            return Fault(throttled())
        return None

    return hook


def test_a_batch_is_applied_and_counted() -> None:
    side = LakeSide()
    event = event_of(record(1, "a"), record(2, "b"), record(3, "a"), record(4, "b", "REMOVE"))
    report = side.replicator().process(event)
    assert side.shown() == {"a": "3"}
    assert report.response() == {"batchItemFailures": []}
    assert report.records == 4
    assert {name: n for name, n in report.outcomes.items() if n} == {
        "applied": 2,
        "deleted": 1,
        "superseded": 2,
    }
    assert report.lags_ms == [1000, 1000]
    assert side.dynamodb.calls["put_item"] == 2 + len(report.observed)


def test_an_empty_batch_is_no_failure() -> None:
    assert LakeSide().replicator().process(event_of()).response() == {"batchItemFailures": []}


@pytest.mark.parametrize("failing", [("a",), ("c", "b"), ("a", "c"), ("a", "b", "c")])
def test_the_lowest_record_that_failed_is_reported(failing: tuple[str, ...]) -> None:
    """The numbers have 9 and 10 digits: as text the higher would come first."""
    numbers = {"a": 999_999_998, "b": 999_999_999, "c": 1_000_000_000}
    side = LakeSide()
    side.dynamodb.hook = failing_for(*failing)
    event = event_of(*(record(number, key) for key, number in numbers.items()))
    report = side.replicator().process(event, side.clock.within(5.0 * len(failing)))
    lowest = min(numbers[key] for key in failing)
    assert report.response() == {"batchItemFailures": [{"itemIdentifier": str(lowest)}]}
    assert report.failure
    side.dynamodb.hook = lambda _: None
    again = [each for each in event["Records"] if int(each["dynamodb"]["SequenceNumber"]) >= lowest]
    assert side.replicator().process(event_of(*again)).failed_from is None
    assert side.shown() == {key: str(number) for key, number in numbers.items()}


def test_a_batch_may_come_any_number_of_times() -> None:
    side = LakeSide()
    old = event_of(record(1, "a"), record(2, "b"))
    new = event_of(record(3, "a", "REMOVE"), record(4, "b"))
    for event in (old, old, new, old, new, old):
        assert side.replicator().process(event).failed_from is None
    assert side.shown() == {"b": "4"}


def test_what_can_never_apply_is_put_away_whole_and_the_rest_goes_on() -> None:
    side = LakeSide()
    reserved = record(2, "b", NewImage=item("b", 2, _lake_x={"S": "1"}))
    large = record(3, "c", NewImage=item("c", 3, x={"S": "x" * (400 * 1024 - 40)}))
    odd = record(4, "d", NewImage=item("d", 4, bad={"X": "?"}))
    report = side.replicator().process(event_of(record(1, "a"), reserved, large, odd, record(5, "e")))
    assert report.failed_from is None
    assert report.outcomes["quarantined"] == 3
    assert side.shown() == {"a": "1", "e": "5"}
    assert len(side.place.documents) == 3
    for number, whole in ((2, reserved), (3, large), (4, odd)):
        assert side.kept(number)["record"] == whole
    assert "_lake_x" in side.kept(2)["reason"]
    assert len(side.gaps.details) == 3


def test_a_record_that_could_not_be_put_away_comes_again() -> None:
    side = LakeSide()
    side.place.full = True
    event = event_of(record(1, "a"), {**record(2, "b"), "eventName": "?"}, record(3, "c"))
    report = side.replicator().process(event)
    assert report.failed_from == "2"
    assert report.outcomes["quarantined"] == 0
    side.place.full = False
    assert side.replicator().process(event).failed_from is None
    assert side.shown() == {"a": "1", "c": "3"}


def test_a_gap_that_could_not_be_noted_makes_the_record_come_again() -> None:
    side = LakeSide()

    class NoGaps:
        def given_up(self, detail: str) -> None:
            raise client_error("PutItem", "InternalServerError", status=500)

    side.gaps = NoGaps()  # type: ignore[assignment]
    report = side.replicator().process(event_of({**record(2), "eventName": "?"}))
    assert report.failed_from == "2"


def test_a_record_without_a_number_is_put_away_or_stops_the_batch() -> None:
    side = LakeSide()
    nameless = {"eventID": "e9", "eventSourceARN": ARN}
    assert side.replicator().process(event_of(nameless)).failed_from is None
    ((name, document),) = side.place.documents.items()
    assert name.startswith(f"orders/{LABEL}/unnumbered-")
    assert document["record"] == nameless
    side.place.full = True
    with pytest.raises(QuarantineError):
        side.replicator().process(event_of(nameless))


def test_two_records_with_one_sequence_number_are_both_kept() -> None:
    """Also where one comes from another table, or is put away after it was decoded."""
    side = LakeSide()
    spoilt = [
        {**record(7, "a"), "eventName": "?"},
        {**record(7, "b"), "eventName": "?"},
        {**record(7, "c"), "eventSourceARN": f"{TABLE_ARN}s/stream/{LABEL}"},
        record(7, "d", NewImage=item("d", 7, bad={"X": "?"})),
        record(7, "e", NewImage=item("e", 7, bad={"X": "?"})),
    ]
    for _ in range(2):
        report = side.replicator().process(event_of(*spoilt, record(7, "f")))
        assert report.failed_from is None
        assert report.outcomes["quarantined"] == 5
    kept = [document["record"] for document in side.place.documents.values()]
    assert len(kept) == 5, "and each once, though it came twice"
    assert all(each in kept for each in spoilt)
    assert side.shown() == {"f": "7"}


def test_a_record_of_another_table_is_put_away_and_opens_no_gap(caplog: pytest.LogCaptureFixture) -> None:
    """The lake lacks nothing by it."""
    side = LakeSide()
    foreign = {**record(2, "b"), "eventSourceARN": f"{TABLE_ARN}s/stream/{LABEL}"}
    report = side.replicator().process(event_of(record(1, "a"), foreign, record(3, "c")))
    assert report.failed_from is None
    assert report.outcomes["quarantined"] == 1, "the alarm counts it"
    assert side.shown() == {"a": "1", "c": "3"}
    ((name, document),) = side.place.documents.items()
    assert name.startswith(f"orders/foreign/{LABEL}/2-")
    assert document["record"] == foreign
    assert f"{TABLE_ARN}s" in document["reason"]
    assert not side.gaps.details
    assert "was put into quarantine" in caplog.text


@pytest.mark.parametrize(
    "key",
    [
        {"id": {"S": "a"}},
        {"pk": {"N": "1"}},
        {"pk": {"S": "a"}, "sk": {"S": "1"}},
    ],
    ids=["renamed", "of another type", "with a sort key"],
)
@pytest.mark.parametrize("event", ["INSERT", "REMOVE"])
def test_a_record_of_a_table_recreated_with_another_key_is_put_away(
    key: Mapping[str, Mapping[str, str]], event: str
) -> None:
    """Applied, the rows of one partition key would become one, and a delete of one would delete the others."""
    side = LakeSide()
    image = {} if event == "REMOVE" else {"NewImage": {**key, "n": {"N": "2"}}}
    odd = record(2, "a", event, Keys=key, **image)
    replicator = side.replicator(replace(ORIGIN, key={"pk": "S"}))
    report = replicator.process(event_of(record(1, "a"), odd))
    assert report.failed_from is None
    assert report.outcomes["quarantined"] == 1
    assert side.shown() == {"a": "1"}
    assert "recreated with another key" in side.kept(2)["reason"]
    assert side.gaps.details, "the source has changes that the lake lacks"


def test_types_of_the_key_that_are_not_known_are_not_compared() -> None:
    side = LakeSide()
    side.replicator(replace(ORIGIN, key={"pk": ""})).process(event_of(record(1, "a")))
    assert side.shown() == {"a": "1"}


FOREIGN_EVENTS: dict[str, tuple[Any, str]] = {
    "a list": ([record(1)], "EventBridge Pipes"),
    "nothing": (None, "no JSON object"),
    "a text": ("Records", "no JSON object"),
    "empty": ({}, "without Records"),
    "no list of records": ({"Records": {"0": record(1)}}, "without Records"),
    "EventBridge": ({"detail-type": "x", "source": "aws.s3", "detail": {}}, "from EventBridge"),
    "API Gateway": ({"requestContext": {}, "body": "{}"}, "from API Gateway"),
    "CloudWatch Logs": ({"awslogs": {"data": ""}}, "from CloudWatch Logs"),
    "Kinesis": (event_of({"eventSource": "aws:kinesis", "kinesis": {"data": "e30="}}), "'aws:kinesis'"),
    "SQS": (event_of({"eventSource": "aws:sqs", "body": "{}", "messageId": "1"}), "'aws:sqs'"),
    "S3": (event_of({"eventSource": "aws:s3", "s3": {}}), "'aws:s3'"),
    "SNS": (event_of({"EventSource": "aws:sns", "Sns": {"Message": "{}"}}), "'aws:sns'"),
    "Kafka": ({"eventSource": "aws:kafka", "records": {}}, "from Kafka"),
    "a mixture": (event_of(record(1), {**record(2), "eventSource": "aws:kinesis"}), "'aws:kinesis'"),
    "a source of another form": (event_of({**record(1), "eventSource": ["x"]}), "of another form"),
}


@pytest.mark.parametrize("name", FOREIGN_EVENTS)
def test_an_event_of_something_else_is_refused_and_says_of_what(name: str) -> None:
    """It fails, so that its sender keeps it; nothing of it is applied, kept, or taken for a gap."""
    event, what = FOREIGN_EVENTS[name]
    side = LakeSide()
    with pytest.raises(ForeignEventError, match="remove the other trigger") as raised:
        side.replicator().process(event)
    assert what in raised.value.message
    assert raised.value.remedy
    assert not side.place.documents
    assert not side.gaps.details
    assert not side.shown()


@pytest.mark.parametrize("nothing", [None, "text", 7, [], [1], {}, {"dynamodb": None}, {"dynamodb": []}])
def test_what_is_no_record_at_all_is_put_away_and_the_rest_goes_on(nothing: Any) -> None:
    side = LakeSide()
    report = side.replicator().process({"Records": [record(1, "a"), nothing, record(2, "b")]})
    assert report.failed_from is None
    assert report.outcomes["quarantined"] == 1
    assert side.shown() == {"a": "1", "b": "2"}
    (document,) = side.place.documents.values()
    assert document["record"] == nothing


@pytest.mark.parametrize(
    "hostile",
    [
        {"eventSourceARN": f"{TABLE_ARN}/stream/../../../../2026T"},
        {"eventSourceARN": f"{TABLE_ARN}/stream/.."},
        {"eventSourceARN": "../../x/stream/../../etc"},
        {"eventSourceARN": f"{TABLE_ARN}/stream/" + "x" * 5000},
        {"dynamodb": {"SequenceNumber": "../../../x"}},
        {"dynamodb": {"SequenceNumber": "\u0667"}},
        {"eventID": "../../../x"},
        {"eventName": "\ud800"},
    ],
    ids=str,
)
def test_a_record_cannot_choose_where_it_is_kept(tmp_path: Path, hostile: dict[str, Any]) -> None:
    folder = tmp_path / "a" / "b" / "c" / "quarantine"
    side = LakeSide()
    replicator = Replicator(
        side.applier(),
        side.policy,
        Quarantine(DirectoryPlace(folder), "orders"),
        side.observer(),
        side.gaps,
        side.clock.now_ms,
        origin=ORIGIN,
    )
    spoilt = {**record(7), "eventName": "?", **hostile}
    assert replicator.process(event_of(spoilt)).outcomes["quarantined"] == 1
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert kept.is_relative_to(folder / "orders")
    assert json.loads(kept.read_bytes())["record"] == spoilt


def test_a_lake_that_refuses_every_write_is_no_failure_of_records() -> None:
    side = LakeSide()
    side.dynamodb.hook = fails("put_item", lambda: client_error("PutItem", "AccessDeniedException"))
    with pytest.raises(LakeUnavailableError):
        side.replicator().process(event_of(record(1)))
    assert not side.place.documents


# The catalogue


def catalogue(side: LakeSide) -> set[tuple[str, str]]:
    items = side.dynamodb.tables[CATALOGUE].items.values()
    return {(seen.attribute, seen.kind) for seen in map(from_item, items)}


def test_each_kind_is_written_once_and_costs_nothing_when_nothing_is_new() -> None:
    side = LakeSide()
    replicator = side.replicator()
    first = replicator.process(event_of(record(1, "a"), record(2, "b")))
    assert {(seen.attribute, seen.kind) for seen in first.observed} == {("pk", "S"), ("n", "N.int64")}
    assert catalogue(side) == {("pk", "S"), ("n", "N.int64")}
    side.dynamodb.calls.clear()
    for number in range(3, 9):
        assert not replicator.process(event_of(record(number, "a"))).observed
    assert side.dynamodb.calls == {"put_item": 6}, "the rows, and nothing else"


def test_a_new_container_reads_the_catalogue_once_and_writes_nothing() -> None:
    side = LakeSide()
    side.replicator().process(event_of(record(1, "a")))
    side.dynamodb.calls.clear()
    cold = side.replicator()
    for number in (2, 3):
        assert not cold.process(event_of(record(number, "a"))).observed
    assert side.dynamodb.calls == {"put_item": 2, "query": 1}


def test_what_another_observer_wrote_first_is_left_as_it_is() -> None:
    side = LakeSide()
    one, other = side.observer(), side.observer()
    one.note([])
    other.note([])
    assert len(one.note([put_change("a", 1)])) == 2
    before = dict(side.dynamodb.tables[CATALOGUE].items)
    side.clock.sleep(60)
    assert other.note([put_change("a", 2)]) == []
    assert side.dynamodb.tables[CATALOGUE].items == before


def test_a_changed_type_and_a_late_attribute_are_new() -> None:
    side = LakeSide()
    observer = side.observer()
    observer.note([put_change("a", 1)])
    seen = observer.note([put_change("a", 2, late={"BOOL": True}), put_change("b", 3, n={"S": "text"})])
    assert [(each.attribute, each.kind) for each in seen] == [("late", "BOOL"), ("n", "S")]
    assert seen[0].version == put_change("a", 2).version


def test_a_catalogue_that_cannot_be_written_makes_the_batch_come_again_and_forgets_nothing() -> None:
    side = LakeSide()
    replicator = side.replicator()

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and call.request["TableName"] == CATALOGUE:
            return Fault(throttled())
        return None

    side.dynamodb.hook = hook
    with pytest.raises(ClientError):
        replicator.process(event_of(record(1, "a")))
    side.dynamodb.hook = lambda _: None
    report = replicator.process(event_of(record(1, "a")))
    assert report.outcomes["stale"] == 1
    assert len(report.observed) == 2, "a stale row is in the lake: its kinds count"


def test_what_policy_drops_is_never_seen() -> None:
    side = LakeSide(Policy({"n": "drop"}))
    side.replicator().process(event_of(record(1, "a")))
    assert catalogue(side) == {("pk", "S")}
    assert side.row("a") is not None
    assert "n" not in (side.row("a") or {})


# The quarantine in a folder; buckets are in test_on_moto


def test_a_folder_keeps_a_record_whole_and_a_second_time_the_same(tmp_path: Path) -> None:
    quarantine = Quarantine(DirectoryPlace(tmp_path / "q"), "orders")
    for reason in ("first", "second"):
        quarantine.keep_record(f"{LABEL}/7", record(7), reason, 1000)
    (document,) = (tmp_path / "q").rglob("7-*.json")
    assert json.loads(document.read_text()) == {
        "format": 1, "pipeline": "orders", "reason": "second", "at": 1000, "record": record(7),
    }  # fmt: skip
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("a file")
    with pytest.raises(QuarantineError, match="cannot be written"):
        Quarantine(DirectoryPlace(tmp_path / "q"), "orders").keep_item("x", item("a"), "why", 1)


# The capacity's rate


@pytest.mark.parametrize("costs", [[1.0] * 200, [0.5, 30.0, 0.5] * 20, [400.0, 1.0]])
def test_the_mean_rate_is_the_limit_whatever_single_requests_cost(costs: list[float]) -> None:
    clock = Clock()
    limit = CapacityLimit(10.0, clock.monotonic, clock.sleep)
    began = clock.s
    for cost in costs:
        assert limit.wait()
        limit.spend(cost)
    took, before_last = clock.s - began, sum(costs[:-1])
    assert took >= (before_last - 10.0) / 10.0 - 0.001
    assert took <= before_last / 10.0 + 0.001


def test_idleness_is_not_saved_up() -> None:
    clock = Clock()
    limit = CapacityLimit(10.0, clock.monotonic, clock.sleep)
    clock.sleep(3600)
    began = clock.s
    for _ in range(100):
        limit.wait()
        limit.spend(1.0)
    assert clock.s - began >= 8.0


def test_a_debt_that_outlasts_the_time_left_is_not_waited_for() -> None:
    clock = Clock()
    limit = CapacityLimit(1.0, clock.monotonic, clock.sleep)
    limit.spend(100.0)
    began = clock.s
    assert not limit.wait(clock.within(5.0))
    assert clock.s == began
    assert limit.wait(clock.within(500.0))
