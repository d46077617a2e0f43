"""Fuzzed events and records through handler, worker and refresh: applied, or kept whole under a name of their own.

A valid record is changed at random places, or replaced; whatever comes of it must not stop the records beside it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynalake.jobs.changes import ChangeSpool, LakeRows, change_lines
from ingest.delivery import RetryRule
from ingest.errors import ForeignEventError, MalformedRecordError, QuarantineError, UndecodableError
from lake.contract.rows import VERSION
from tests.ingest.building import ARN, LAKE, NOW_MS, TABLE_ARN, LakeSide, event_of, item, record
from tests.ingest.test_worker import Run, failed_documents
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.faults import Call, Fault, client_error

Json = Any

JUNK: Final[st.SearchStrategy[Json]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**45), 10**45)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "1", "S", "pk", "REMOVE", "aws:dynamodb", "aws:sqs", ARN, TABLE_ARN, "../../x", "\ud800", "9" * 41]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["S", "N", "B", "M", "L", "NULL", "pk", "x", "_lake_x"]), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


def places(value: Json, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside."""
    found = [here] if here else []
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        found += places(child, (*here, name))
    return found


@st.composite
def spoilt(draw: st.DrawFn, valid: Json, times: int = 3) -> Json:
    """A valid record, changed at some places; or something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JUNK)
    changed = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, times))):
        everywhere = places(changed)
        if not everywhere:
            break
        *way, last = draw(st.sampled_from(everywhere))
        parent = changed
        for step in way:
            parent = parent[step]
        if draw(st.booleans()):
            parent[last] = draw(JUNK)
        else:
            del parent[last]
    return changed


def valid(number: int, event: str) -> dict[str, Any]:
    body = item(
        "victim",
        number,
        m={"M": {"l": {"L": [{"S": "x"}, {"BOOL": True}]}}},
        b={"B": "AA=="},
        s={"SS": ["a"]},
    )
    more: dict[str, Any] = {"OldImage": body} if event == "REMOVE" else {"NewImage": body}
    return {
        **record(number, "victim", event, **more),
        "eventSource": "aws:dynamodb",
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
    }


def count(side: LakeSide) -> int:
    return len(side.place.documents)


# The handler


@settings(max_examples=400, deadline=None)
@given(st.lists(spoilt(valid(7, "MODIFY")) | spoilt(valid(7, "REMOVE")), min_size=1, max_size=3))
@example([None])
@example([{"dynamodb": {"Keys": {"pk": {}}, "NewImage": {"pk": {}}}, **valid(7, "MODIFY")}])
@example([valid(7, "MODIFY"), valid(7, "MODIFY")])
@example([{**valid(7, "MODIFY"), "eventSource": "aws:sqs"}])
def test_no_record_stops_those_beside_it(records: list[Json]) -> None:
    side = LakeSide()
    replicator = side.replicator()
    replicator.process(event_of(record(1, "first")))
    batch = [record(2, "before"), *records, record(9, "after")]
    for _ in range(2):
        before = copy.deepcopy(side.place.documents)
        try:
            report = replicator.process({"Records": batch})
        except ForeignEventError:
            assert any(
                isinstance(each, Mapping) and {"eventSource", "EventSource"} & each.keys() for each in records
            )
            assert not side.place.documents
            return
        assert report.failed_from is None, report.failure
        assert {"first", "before", "after"} <= {pk for pk in side.shown() if isinstance(pk, str)}
        settled = sum(report.outcomes[kind] for kind in ("applied", "stale", "superseded", "quarantined"))
        assert settled == len(batch), "each was applied, or is kept"
        for name, document in before.items():
            assert same(side.place.documents[name], document), "what was kept stays as it was"
    kept = [document["record"] for document in side.place.documents.values()]
    distinct = {json.dumps(each, sort_keys=True) for each in kept}
    assert len(distinct) == len(kept) <= report.outcomes["quarantined"]


def same(one: Json, other: Json) -> bool:
    """Equal but for the time at which it was kept; a NaN equals itself here."""
    return json.dumps({**one, "at": 0}, sort_keys=True) == json.dumps({**other, "at": 0}, sort_keys=True)


@settings(max_examples=200, deadline=None)
@given(JUNK | st.fixed_dictionaries({"Records": JUNK}))
def test_no_event_ends_in_a_defect(event: Json) -> None:
    side = LakeSide()
    try:
        report = side.replicator().process(event)
    except ForeignEventError:
        assert not side.place.documents
    else:
        assert report.outcomes["quarantined"] == report.records


def test_what_is_nested_without_end_does_not_stop_the_others() -> None:
    """DynamoDB allows 32 levels; a forged record may have any number."""
    side = LakeSide()
    deep: Json = {"S": "x"}
    for _ in range(20_000):
        deep = {"M": {"x": deep}}
    report = side.replicator().process(
        event_of(record(1, "a"), record(2, "b", NewImage=item("b", 2, deep=deep)), record(3, "c"))
    )
    assert side.shown().keys() >= {"a", "c"}
    assert report.failed_from in (None, "2")


def test_a_sequence_number_that_is_no_text_does_not_stop_the_others() -> None:
    deep: Json = "7"
    for _ in range(20_000):
        deep = [deep]
    odd = [record(2, "odd"), record(3, "odder"), record(4, "oddest")]
    for each, number in zip(odd, (deep, 10**45, None), strict=True):
        each["dynamodb"]["SequenceNumber"] = number
    side = LakeSide()
    for each in odd:
        with pytest.raises(QuarantineError) if each is odd[0] else nullcontext():
            side.replicator().process(event_of(record(1, "a"), each, record(9, "c")))
    assert side.shown().keys() == {"a", "c"}


# The worker, which gets records as boto3 gives them


def as_boto3(delivered: dict[str, Any]) -> dict[str, Any]:
    body = delivered["dynamodb"]
    for image in ("NewImage", "OldImage"):
        if image in body:
            body[image] = {**body[image], "b": {"B": b"\0"}}
    body["ApproximateCreationDateTime"] = datetime.fromtimestamp(NOW_MS // 1000, UTC)
    return {**delivered, "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        spoilt(as_boto3(valid(7, "MODIFY"))).filter(lambda each: isinstance(each, dict)),
        min_size=1,
        max_size=3,
    )
)
@example([{**as_boto3(valid(7, "MODIFY")), "dynamodb": {}}])
def test_no_record_stops_the_worker(records: list[Json]) -> None:
    run = Run()
    run.rule = RetryRule(retries=2, base_s=0.0, cap_s=0.0)  # so that a record that fails for ever shows
    run.shard_of = lambda number: ""  # type: ignore[method-assign]
    run.put("before")
    shard = run.stream.open_shards()[0]
    shard.records += [dict(each) for each in records]
    run.put("after")
    served = run.side.replicator()
    run.side.replicator = lambda **_: served  # type: ignore[method-assign]
    served.process(event_of(record(1, "first")))
    report = run.drain()
    assert report.caught_up
    assert not failed_documents(run)
    shown = run.side.shown()
    assert shown["before"] == run.expected()["before"]
    assert shown["after"] == run.expected()["after"]


def test_an_untyped_empty_map_does_not_stop_the_worker_and_is_kept_whole() -> None:
    """As DynamoDB Local 3 streams it: `{"M": {}}` arrives as `{}`."""
    run = Run()
    run.put("before", "odd", "after")
    (odd,) = (
        each
        for each in run.stream.open_shards()[0].records
        if each["dynamodb"]["Keys"] == {"pk": {"S": "odd"}}
    )
    odd["dynamodb"]["NewImage"] = {**odd["dynamodb"]["NewImage"], "empty": {}, "raw": {"B": b"\xff"}}
    for _ in range(2):
        assert run.drain().caught_up
    assert run.side.shown().keys() == {"before", "after"}
    (document,) = run.side.place.documents.values()
    assert document["record"]["dynamodb"]["NewImage"]["empty"] == {}
    assert document["record"]["dynamodb"]["NewImage"]["raw"] == {"B": "/w=="}
    assert run.side.gaps.details


# A snapshot's refresh and follow, which read the lake table's stream


class Lake:
    """A lake table, whose rows can be read again."""

    def __init__(self) -> None:
        self.dynamodb = StubDynamoDB()
        self.table = self.dynamodb.create_table(LAKE, {"pk": "S"})
        self.rows = LakeRows(lambda: self.dynamodb.client, LAKE)

    def lines(self, *records: Mapping[str, Any]) -> list[dict[str, Any]]:
        with ChangeSpool(self.rows) as spool:
            spool.take(records)
            return [json.loads(line) for page in spool.pages(spool.end) for line in page]


def row_record(number: int, pk: str = "a", event: str = "MODIFY", **more: Any) -> dict[str, Any]:
    row = {**item(pk, number), VERSION: {"S": str(number)}, **more}
    image = "OldImage" if event == "REMOVE" else "NewImage"
    return {
        "eventName": event,
        "dynamodb": {"SequenceNumber": str(number), "Keys": {"pk": {"S": pk}}, image: row},
    }


ODD_VALUES: Final = [
    {},
    {"M": {"x": {}}},
    {"L": [{}]},
    {"N": "x"},
    {"S": 1},
    {"B": "text"},
    {"X": "?"},
    None,
    "text",
    [],
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=str)
@pytest.mark.parametrize("event", ["MODIFY", "INSERT", "REMOVE"])
def test_a_row_whose_record_cannot_be_decoded_is_read_again(value: Any, event: str) -> None:
    lake = Lake()
    now = {**item("a", 9), VERSION: {"S": "9"}, "raw": {"B": b"\xff"}}
    lake.table.put(now)
    lines = lake.lines(row_record(1, "b"), row_record(2, "a", event, odd=value), row_record(3, "c"))
    assert lines[0] == {"NewImage": {**item("b", 1), VERSION: {"S": "1"}}}
    assert lines[1] == {"OldImage": {"pk": {"S": "a"}, VERSION: {"S": "~"}}}
    assert lines[2] == {"NewImage": {**item("a", 9), VERSION: {"S": "9"}, "raw": {"B": "/w=="}}}
    assert len(lines) == 4


def test_a_row_that_is_gone_meanwhile_is_removed() -> None:
    lines = Lake().lines(row_record(2, "a", odd={}))
    assert lines == [{"OldImage": {"pk": {"S": "a"}, VERSION: {"S": "~"}}}]


@pytest.mark.parametrize("keys", [None, {}, {"pk": {}}, {"pk": {"S": 1}}, {"id": {"S": "a"}}, "a"])
def test_a_record_without_its_key_is_refused_with_a_reason(keys: Any) -> None:
    spoiled = row_record(2, "a", odd={})
    spoiled["dynamodb"]["Keys"] = keys
    with pytest.raises(UndecodableError, match="the record 2 of the stream of"):
        Lake().lines(spoiled)


def test_a_row_that_cannot_be_read_again_is_refused_with_a_reason() -> None:
    lake = Lake()
    lake.dynamodb.hook = lambda _: Fault(client_error("GetItem", "AccessDeniedException"))
    with pytest.raises(UndecodableError, match="AccessDeniedException"):
        lake.lines(row_record(2, "a", odd={}))


def test_a_row_is_read_again_only_where_it_must() -> None:
    lake = Lake()
    asked: list[Call] = []
    lake.dynamodb.hook = lambda call: asked.append(call)
    values = [
        {"N": "1E-130"},
        {"BS": [b"x"]},
        {"M": {}},
        {"L": []},
        {"NULL": True},
        {"BOOL": False},
        {"SS": ["a"]},
    ]
    lake.lines(*(row_record(number, v=value) for number, value in enumerate(values, 1)))
    assert not asked


@settings(max_examples=200, deadline=None)
@given(spoilt(row_record(2, "a", m={"M": {"x": {"S": "y"}}})).filter(lambda each: isinstance(each, dict)))
def test_no_record_ends_a_refresh_in_a_defect(spoiled: Any) -> None:
    lake = Lake()
    lake.table.put({**item("a", 9), VERSION: {"S": "9"}})
    try:
        lines = lake.lines(spoiled)
    except UndecodableError:
        with pytest.raises(MalformedRecordError):
            change_lines(spoiled)
    else:
        assert all(set(line) <= {"NewImage", "OldImage"} for line in lines)
