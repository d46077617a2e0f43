"""The worker over streams that split, trim, vanish, expire and stall; and what it says of what may be lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import pytest

from ingest.checkpoints import ShardCheckpoint, StreamCheckpoint
from ingest.delivery import Delivery, RetryRule
from ingest.errors import LakeUnavailableError, StreamError
from ingest.records import number_of
from ingest.shards import StreamReader, readable
from ingest.walk import Pacing
from ingest.worker import Worker, WorkerReport, replicate
from lake.contract.evidence import Reading, TableStream
from tests.ingest.building import NOW_MS, FakeEvent, LakeSide, fails, item
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.faults import Call, Fault, client_error, server_error, throttled
from tests.stubs.streams import StubStream, StubStreams
from tests.waiting import PATIENCE_S

QUICK = Pacing(least_s=0.0, most_s=0.01, listing_s=0.02, quiet_answers=2, quiet_s=0.02)
HOUR_MS = 3_600_000


class Run:
    """A source with a stream, a lake, and workers between them."""

    def __init__(
        self, *, shards: int = 1, page_size: int = 100, label: str = "2026-11-24T00:00:00.000"
    ) -> None:
        self.side = LakeSide()
        self.page_size = page_size
        self.source = StubDynamoDB()
        self.table = self.source.create_table("orders", {"pk": "S"})
        self.stream = StubStream("orders", label=label, shards=shards, now_ms=self.side.clock.now_ms)
        self.streams = StubStreams(self.stream, page_size=page_size)
        self.streams.most_calls = 20_000
        self.table.stream = self.stream
        self.side.checkpoints.note_stream(StreamCheckpoint(self.stream.arn, NOW_MS))
        self.order: list[tuple[str, int]] = []
        """(shard, sequence number) as delivered."""
        self.rule = RetryRule(retries=2, base_s=0.0, cap_s=0.0)

    def put(self, *keys: str) -> None:
        for key in keys:
            self.table.put(item(key, next(_numbers)))

    def worker(
        self,
        pacing: Pacing = QUICK,
        stop: threading.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Worker:
        replicator = self.side.replicator()

        def process(event: Mapping[str, Any]) -> Any:
            report = replicator.process(event, self.side.clock.within(60))
            numbers = [int(number_of(record) or 0) for record in event["Records"]]
            self.order += [(self.shard_of(number), number) for number in numbers]
            return report

        return Worker(
            StreamReader(self.streams.client, self.stream.arn),
            Delivery(
                process,
                self.stream.arn,
                self.side.place,
                self.side.health,
                now_ms=self.side.clock.now_ms,
                stop=stop or threading.Event(),
                random=Random(1),
                rule=self.rule,
            ),
            self.side.checkpoints,
            self.side.health,
            self.latest,
            now_ms=self.side.clock.now_ms,
            monotonic=monotonic,
            pacing=pacing,
        )

    def latest(self) -> TableStream:
        """Which stream the table has: the one that takes records."""
        recorder = self.table.stream
        arn = recorder.arn if isinstance(recorder, StubStream) and recorder.enabled else None
        return TableStream(self.side.clock.now_ms(), arn)

    def drain(self) -> WorkerReport:
        stop, finish = threading.Event(), threading.Event()
        finish.set()
        return self.worker(stop=stop).run(stop, finish)

    def shard_of(self, number: int) -> str:
        return next(
            shard.id
            for stream in self.streams.streams.values()
            for shard in stream.shards.values()
            if any(int(record["dynamodb"]["SequenceNumber"]) == number for record in shard.records)
        )

    def expected(self) -> dict[str, Any]:
        return {row["pk"]["S"]: row["n"]["N"] for row in self.table.items.values()}


_numbers = itertools.count(1)


# The family tree


def test_parents_are_read_to_their_end_before_their_children() -> None:
    run = Run(page_size=3)
    keys = [f"k{n}" for n in range(12)]
    run.put(*keys)
    children = run.stream.split(run.stream.open_shards()[0].id)
    run.put(*keys)
    grandchildren = [*run.stream.split(children[0].id), run.stream.roll(children[1].id)]
    run.put(*keys)
    assert run.drain().caught_up
    assert run.side.shown() == run.expected()
    parents = {shard.id: shard.parent for shard in run.stream.shards.values()}
    last = {shard: index for index, (shard, _) in enumerate(run.order)}
    first = {shard: index for index, (shard, _) in reversed(list(enumerate(run.order)))}
    assert {shard.id for shard in grandchildren} <= first.keys()
    assert last.keys() == parents.keys(), "no shard is passed over"
    for shard, parent in parents.items():
        if parent is not None:
            assert last[parent] < first[shard]
    for shard in parents:
        numbers = [number for each, number in run.order if each == shard]
        assert numbers == sorted(set(numbers)), "each record once, in order"


def test_shards_that_are_no_relations_are_read_side_by_side() -> None:
    """Each waits in its first call until the others are in theirs, too."""
    run = Run(shards=4)
    run.put(*(f"k{n}" for n in range(40)))
    together = threading.Barrier(4, timeout=PATIENCE_S)
    met: set[str] = set()

    def hook(call: Call) -> Fault | None:
        if call.operation == "get_records":
            shard = run.streams._iterators[call.request["ShardIterator"]].shard.id
            if shard not in met:
                met.add(shard)
                together.wait()
        return None

    run.streams.hook = hook
    run.drain()
    assert len(met) == 4
    assert run.side.shown() == run.expected()


def test_a_child_whose_parent_is_gone_from_the_list_is_read_at_once() -> None:
    run = Run()
    parent = run.stream.open_shards()[0]
    run.put("a")
    run.drain()
    child = run.stream.roll(parent.id)
    run.put("b")
    run.drain()
    run.stream.forget(parent.id)
    run.put("c")
    report = run.drain()
    assert not report.gaps, "it had been read to its end"
    assert child.parent == parent.id
    assert run.side.shown() == run.expected()


def test_readable_waits_for_unfinished_parents_only() -> None:
    run = Run()
    parent = run.stream.open_shards()[0].id
    children = {child.id for child in run.stream.split(parent)}
    shards = StreamReader(run.streams.client, run.stream.arn).shards()
    assert [shard.id for shard in readable(shards, set())] == [parent]
    assert {shard.id for shard in readable(shards, {parent})} == children
    del shards[parent]
    assert {shard.id for shard in readable(shards, set())} == children


def test_what_is_split_while_it_is_read_is_read_on() -> None:
    run = Run(page_size=2)
    keys = [f"k{n}" for n in range(8)]
    run.put(*keys)
    split: list[Any] = []

    def hook(call: Call) -> Fault | None:
        if call.operation == "get_records" and len(split) < 4:
            shard = run.stream.open_shards()[0]
            split.append(run.stream.split(shard.id))
            run.put(*keys)
        return None

    run.streams.hook = hook
    assert run.drain().caught_up
    assert len(split) == 4
    assert run.side.shown() == run.expected()


# What may be lost


def gaps(run: Run) -> list[tuple[str, str]]:
    return [(gap.kind, gap.detail) for gap in run.side.health.gaps()]


def test_records_that_were_trimmed_are_a_gap_between_two_moments() -> None:
    run = Run()
    run.put("a")
    run.drain()
    run.side.clock.sleep(30 * 3600)
    run.put("b", "c", "d")
    shard = run.stream.open_shards()[0]
    now = run.side.clock.now_ms()
    run.side.health.read(Reading("worker", now, run.stream.arn, at_end=True))  # this is about the shard alone
    run.stream.trim(shard.id, 3)
    report = run.drain()
    ((kind, detail),) = gaps(run)
    assert kind == "trimmed"
    assert detail.startswith("changes between 2026-11-24 ")
    assert " and 2026-11-24 " in detail
    assert f"may be lost (in the shard {shard.id} after " in detail
    assert report.gaps == [detail]
    assert run.side.shown().keys() == {"a", "d"}, "the rest is read on"
    assert run.side.health.gaps()[0].remedy == "repair"


def test_a_shard_that_vanished_before_its_end_is_a_gap() -> None:
    run = Run()
    run.put("a")
    first = run.stream.open_shards()[0]
    run.drain()
    run.put("b")
    run.stream.roll(first.id)
    run.put("c")
    run.stream.forget(first.id)
    run.drain()
    ((kind, detail),) = gaps(run)
    assert kind == "trimmed"
    assert "does not exist any more" in detail
    assert run.side.shown().keys() == {"a", "c"}
    run.drain()
    assert len(gaps(run)) == 1, "it is found once"


def test_a_stream_that_was_switched_off_and_on_is_a_gap() -> None:
    run = Run()
    run.put("a")
    run.drain()
    old = run.stream
    run.table.stream = None
    run.put("lost")
    run.stream = StubStream("orders", label="2026-11-25T06:00:00.000", now_ms=run.side.clock.now_ms)
    run.table.stream = run.stream
    run.streams.add(run.stream)
    old.switch_off()
    run.put("b")
    run.drain()
    ((kind, detail),) = gaps(run)
    assert kind == "stream changed"
    assert detail == (
        "changes between 2026-11-24 06:00:00 UTC and 2026-11-25 06:00:00 UTC may be lost "
        "(the stream was switched off and on)"
    )
    assert run.side.shown().keys() == {"a", "b"}
    noted = run.side.checkpoints.stream()
    assert noted is not None
    assert noted.arn == run.stream.arn
    run.drain()
    assert len(gaps(run)) == 1


def test_a_stream_that_nobody_read_for_a_day_is_a_gap() -> None:
    run = Run()
    run.put("a")
    run.drain()
    run.side.clock.sleep(30 * 3600)
    run.drain()
    ((_, detail),) = gaps(run)
    assert detail == (
        "changes between 2026-11-24 06:00:00 UTC and 2026-11-24 12:00:00 UTC may be lost "
        "(nobody read the stream for 30 hours, and it keeps a record for 24)"
    )


@pytest.mark.parametrize("asked", [False, True])
def test_a_shard_that_nobody_asked_for_a_day_is_a_gap_though_others_were_read(asked: bool) -> None:
    """It never gave a record, so it has no position, and reading what is left of it would look like all."""
    run = Run(shards=2)
    served, other = run.stream.shards
    worker = run.worker()
    worker._attend()
    worker._resume()
    for _ in range(5):
        worker.on_listed([served, other], time.monotonic())
        worker.on_empty(served, time.monotonic())
        if asked:
            worker.on_empty(other, time.monotonic())
        worker._tell_health()
        run.side.clock.sleep(6 * 3600)
    following = run.worker()
    following._attend()
    following._resume()
    following.on_listed([served, other], time.monotonic())
    following.on_empty(served, time.monotonic())
    following.on_empty(other, time.monotonic())
    found = gaps(run)
    if asked:
        assert not found
        return
    ((_, detail),) = found
    assert f"in the shard {other}, which was not read for so long" in detail


def test_a_worker_that_was_away_for_less_than_a_day_finds_no_gap() -> None:
    run = Run()
    run.put("a")
    run.drain()
    run.side.clock.sleep(20 * 3600)
    run.put("b")
    assert not run.drain().gaps
    assert not gaps(run)


def test_the_log_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    run.drain()
    run.side.clock.sleep(30 * 3600)
    run.drain()
    assert "may be lost" in caplog.text
    assert "run `dynalake repair`" in caplog.text


# Iterators, troubles, pace


def test_an_expired_iterator_is_asked_for_anew_where_it_stood() -> None:
    run = Run(page_size=2)
    run.put(*(f"k{n}" for n in range(9)))
    calls = [0]

    def hook(call: Call) -> Fault | None:
        if call.operation == "get_records":
            calls[0] += 1
            if calls[0] % 2:
                run.streams.expire_iterators()
        return None

    run.streams.hook = hook
    run.drain()
    assert run.side.shown() == run.expected()
    assert len(run.order) == 9, "nothing twice"


@pytest.mark.parametrize("error", [throttled, server_error])
@pytest.mark.parametrize("operation", ["describe_stream", "get_shard_iterator", "get_records"])
def test_a_stream_that_is_busy_is_asked_again(operation: str, error: Any) -> None:
    run = Run(shards=2)
    run.put(*(f"k{n}" for n in range(10)))
    run.streams.hook = fails(operation, error, times=5)
    assert run.drain().caught_up
    assert run.side.shown() == run.expected()
    assert not gaps(run)


def test_a_stream_that_may_not_be_read_ends_the_worker() -> None:
    run = Run()
    run.streams.hook = fails("get_records", lambda: client_error("GetRecords", "AccessDeniedException"))
    with pytest.raises(StreamError, match="AccessDenied"):
        run.drain()


def test_an_idle_shard_is_asked_ever_more_rarely_and_a_busy_one_at_once() -> None:
    run = Run()
    times: list[float] = []
    clock = run.side.clock
    stop = FakeEvent(clock)

    def hook(call: Call) -> Fault | None:
        if call.operation == "get_records":
            times.append(clock.monotonic())
            if len(times) == 8:
                run.put("a")
            if len(times) == 11:
                stop.set()
        return None

    run.streams.hook = hook
    pacing = Pacing(least_s=0.01, most_s=0.16, listing_s=60.0, quiet_answers=10**6)
    run.worker(pacing, stop, clock.monotonic).run(stop)
    pauses = [round(after - before, 3) for before, after in itertools.pairwise(times)]
    assert pauses[:7] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.16, 0.16]
    assert pauses[7:9] == [0.01, 0.02], "after records it is asked soon again"
    assert run.side.shown() == run.expected()


# Checkpoints


def test_a_worker_goes_on_where_it_stood() -> None:
    run = Run(shards=2, page_size=2)
    run.put(*(f"k{n}" for n in range(10)))
    run.drain()
    before = len(run.order)
    run.put("k1", "k2", "k3")
    run.drain()
    assert len(run.order) == before + 3
    saved = run.side.checkpoints.shards(run.stream.label)
    assert {checkpoint.finished for checkpoint in saved.values()} == {False}


def test_a_checkpoint_never_passes_what_was_not_settled() -> None:
    run = Run(page_size=2)
    run.put("a", "b", "c", "d", "e")

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and call.request["Item"].get("pk", {}).get("S") == "c":
            return Fault(client_error("PutItem", "AccessDeniedException"))
        return None

    run.side.dynamodb.hook = hook
    with pytest.raises(LakeUnavailableError):
        run.drain()
    (checkpoint,) = run.side.checkpoints.shards(run.stream.label).values()
    numbers = [record["dynamodb"]["SequenceNumber"] for record in run.stream.open_shards()[0].records]
    assert checkpoint == ShardCheckpoint(numbers[1], finished=False, at=NOW_MS)
    run.side.dynamodb.hook = lambda _: None
    run.drain()
    assert run.side.shown() == run.expected()


def test_a_shard_that_is_finished_is_never_asked_again() -> None:
    run = Run()
    run.put("a")
    parent = run.stream.open_shards()[0].id
    run.stream.roll(parent)
    run.drain()
    assert run.side.checkpoints.shards(run.stream.label)[parent].finished
    asked: list[str] = []

    def hook(call: Call) -> Fault | None:
        if call.operation == "get_shard_iterator":
            asked.append(call.request["ShardId"])
        return None

    run.streams.hook = hook
    run.drain()
    assert asked
    assert parent not in asked


# Retry, bisect, maximum age, failure destination: as Lambda's event source mapping


def refuses(*keys: str) -> Any:
    """Writes of these rows are throttled for ever."""

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and call.request["Item"].get("pk", {}).get("S") in keys:
            return Fault(throttled())
        return None

    return hook


def failed_documents(run: Run) -> list[Mapping[str, Any]]:
    return [document for document in run.side.place.documents.values() if "DDBStreamBatchInfo" in document]


@pytest.mark.parametrize("poison", [("k3",), ("k0", "k6"), ("k2", "k3", "k4")])
def test_a_record_that_keeps_failing_is_given_up_alone_and_the_shard_goes_on(poison: Sequence[str]) -> None:
    run = Run()
    keys = [f"k{n}" for n in range(7)]
    run.put(*keys)
    run.side.dynamodb.hook = refuses(*poison)
    report = run.drain()
    assert report.caught_up
    assert run.side.shown().keys() == set(keys) - set(poison)
    documents = failed_documents(run)
    named = [document["payload"]["Records"][0]["dynamodb"]["Keys"]["pk"]["S"] for document in documents]
    assert sorted(named) == sorted(poison)
    shard = run.stream.open_shards()[0]
    for document in documents:
        info = document["DDBStreamBatchInfo"]
        assert info["batchSize"] == 1
        assert info["startSequenceNumber"] == info["endSequenceNumber"]
        assert info["shardId"] == shard.id
        assert info["streamArn"] == run.stream.arn
        assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    ((kind, _),) = gaps(run)
    assert kind == "given up"


def test_a_record_is_tried_as_often_as_the_rule_says() -> None:
    run = Run()
    run.rule = RetryRule(retries=4, base_s=0.0, cap_s=0.0)
    run.put("a")
    run.side.dynamodb.hook = fails("put_item", lambda: client_error("PutItem", "x", status=503))
    calls: list[int] = []
    run.side.place.put = lambda *_: calls.append(len(run.order))  # type: ignore[method-assign]
    run.side.dynamodb.hook = refuses("a")
    run.drain()
    assert calls == [5]


def test_what_is_older_than_the_maximum_age_is_given_up_at_its_first_failure() -> None:
    run = Run()
    run.rule = RetryRule(retries=1000, max_age_s=3600, base_s=0.0, cap_s=0.0)
    run.put("old", "fine")
    run.side.clock.sleep(3601)
    run.side.dynamodb.hook = refuses("old")
    run.drain()
    assert len(failed_documents(run)) == 1
    assert run.side.shown().keys() == {"fine"}


def test_what_cannot_be_put_away_holds_the_shard() -> None:
    run = Run()
    run.put("a", "b")
    run.side.dynamodb.hook = refuses("a")
    run.side.place.full = True
    with pytest.raises(Exception, match="full"):
        run.drain()
    held = run.side.checkpoints.shards(run.stream.label).values()
    assert all(each.sequence_number is None and not each.finished for each in held)
    run.side.place.full = False
    run.side.dynamodb.hook = lambda _: None
    run.drain()
    assert run.side.shown() == run.expected()


# Health


def test_health_says_caught_up_only_at_the_end_of_every_shard() -> None:
    run = Run(shards=3)
    said: list[str] = []
    read = run.side.health.read

    def noting(reading: Reading, **_: Any) -> None:
        said.append("caught up" if reading.at_end else "catching up")
        read(reading)

    run.side.health.read = noting  # type: ignore[method-assign]
    run.put(*(f"k{n}" for n in range(9)))
    run.drain()
    assert said[0] == "catching up"
    assert said[-1] == "caught up"
    health = run.side.health.health()
    assert health.state == "caught up"
    assert health.newest_source_at == NOW_MS


def test_a_few_empty_answers_are_not_the_end() -> None:
    """An open shard may answer nothing while records remain behind."""
    run = Run()
    run.put("a")
    run.streams.empty_answers = 2
    stop, finish = threading.Event(), threading.Event()
    finish.set()
    patient = Pacing(least_s=0.0, most_s=0.01, listing_s=0.02, quiet_answers=3, quiet_s=0.02)
    assert run.worker(patient, stop).run(stop, finish).caught_up
    assert run.side.shown() == run.expected()


# Lists of shards that miss something


def test_a_shard_that_one_list_misses_is_probed_and_read_on() -> None:
    """One incomplete answer of DescribeStream used to end an open shard for ever."""
    run = Run(shards=2)
    run.put(*(f"k{n}" for n in range(8)))
    run.drain()
    missed = {run.shard_of(run.order[0][1])}
    run.streams.unlisted = missed
    run.put(*(f"k{n}" for n in range(8)))
    run.drain()
    assert run.side.shown() == run.expected(), "it is read while it is not listed"
    assert not gaps(run)
    saved = run.side.checkpoints.shards(run.stream.label)
    assert not any(checkpoint.finished for checkpoint in saved.values())
    run.streams.unlisted = set()
    run.put(*(f"k{n}" for n in range(8)))
    run.drain()
    assert run.side.shown() == run.expected()
    assert run.side.health.health().state == "caught up"


def test_a_shard_that_is_misjudged_gone_is_read_on_when_it_is_listed_again() -> None:
    """Neither the list nor the probe shows it for a while: what may be lost is a gap, and nothing is finished."""
    run = Run()
    run.put("a")
    run.drain()
    (shard,) = run.stream.open_shards()
    shard.listed = False
    run.drain()
    ((kind, detail),) = gaps(run)
    assert kind == "trimmed"
    assert "does not exist any more" in detail
    run.drain()
    assert len(gaps(run)) == 1, "it is found once"
    shard.listed = True
    run.put("b")
    run.drain()
    assert run.side.shown() == run.expected()
    assert not run.side.checkpoints.shards(run.stream.label)[shard.id].finished


def test_a_shard_that_the_first_list_misses_is_found_before_the_end_is_claimed() -> None:
    run = Run(shards=2)
    run.put(*(f"k{n}" for n in range(8)))
    run.streams.unlisted = {next(iter(run.stream.shards))}
    listings = [0]

    def hook(call: Call) -> Fault | None:
        if call.operation == "describe_stream":
            listings[0] += 1
            if listings[0] == 2:
                run.streams.unlisted = set()
        return None

    run.streams.hook = hook
    assert run.drain().caught_up
    assert run.side.shown() == run.expected()


def test_a_parent_that_is_missed_while_its_child_is_listed_is_read_first() -> None:
    run = Run()
    run.put("a", "b")
    (parent,) = run.stream.open_shards()
    child = run.stream.roll(parent.id)
    run.put("a")
    run.streams.unlisted = {parent.id}
    run.drain()
    assert [shard for shard, _ in run.order] == [parent.id, parent.id, child.id]
    assert not gaps(run)


@pytest.mark.parametrize("seen_closed", [True, False])
def test_a_closed_shard_without_a_child_is_not_the_end_of_an_enabled_stream(seen_closed: bool) -> None:
    """The list shows the child later than the parent's end, which its reader finds first."""
    run = Run()
    run.put("a")
    (parent,) = run.stream.open_shards()
    child = run.stream.roll(parent.id)
    run.put("b")
    run.streams.unlisted = {child.id}
    run.streams.closed_unseen = set() if seen_closed else {parent.id}
    worker = run.worker()
    stop, finish = threading.Event(), threading.Event()
    finish.set()
    listings = [0]

    def hook(call: Call) -> Fault | None:
        if call.operation == "describe_stream":
            listings[0] += 1
            if listings[0] == 20:
                stop.set()
        return None

    run.streams.hook = hook
    report = worker.run(stop, finish)
    assert not report.caught_up
    assert run.side.health.health().state == "catching up"
    run.streams.unlisted = run.streams.closed_unseen = set()
    run.streams.hook = lambda _: None
    assert run.drain().caught_up
    assert run.side.shown() == run.expected()


def test_a_later_worker_waits_for_a_child_that_an_earlier_one_did_not_see() -> None:
    """The later one's lists miss the finished parent, too, so that nothing in them points to the child."""
    run = Run(shards=2)
    run.put(*(f"k{n}" for n in range(8)))
    parent = run.stream.open_shards()[0]
    child = run.stream.roll(parent.id)
    run.put(*(f"k{n}" for n in range(8)))
    run.streams.unlisted = {child.id}
    for missed in ({child.id}, {child.id, parent.id}):
        run.streams.unlisted = missed
        stop, finish = threading.Event(), threading.Event()
        finish.set()
        until_listed = run.streams.calls["describe_stream"] + 10

        def hook(call: Call, until: int = until_listed, stop: threading.Event = stop) -> Fault | None:
            if call.operation == "describe_stream" and run.streams.calls["describe_stream"] >= until:
                stop.set()
            return None

        run.streams.hook = hook
        assert not run.worker(stop=stop).run(stop, finish).caught_up
    run.streams.hook = lambda _: None
    run.streams.unlisted = set()
    assert run.drain().caught_up
    assert run.side.shown() == run.expected()
    assert not any(each.childless for each in run.side.checkpoints.shards(run.stream.label).values())


# A stream that is switched off and on while the worker runs


def switch(run: Run, *, on: bool = True) -> StubStream:
    """Switch the table's stream off, make a change that leaves no record, and switch it on again; the old one."""
    old = run.stream
    old.switch_off()
    run.table.stream = None
    run.put("lost")
    if on:
        run.stream = StubStream("orders", label="2026-11-25T06:00:00.000", now_ms=run.side.clock.now_ms)
        run.streams.add(run.stream)
        run.table.stream = run.stream
        run.put("new")
    return old


def follow(run: Run) -> WorkerReport:
    """A worker that reads what stream the table has, until it is caught up."""
    stop, finish = threading.Event(), threading.Event()
    finish.set()

    def worker(arn: str, report: WorkerReport) -> Worker:
        made = run.worker(stop=stop)
        made._reader = made._walk._reader = StreamReader(run.streams.client, arn)
        made._report = report
        return made

    return replicate(worker, run.stream.arn, stop, finish)


def test_a_switch_while_the_worker_runs_is_a_gap_and_the_new_stream_is_read_on() -> None:
    run = Run()
    run.put("a", "b", "c")
    switched: list[StubStream] = []

    def hook(call: Call) -> Fault | None:
        if call.operation == "get_records" and not switched:
            switched.append(switch(run))
        return None

    run.streams.hook = hook
    report = follow(run)
    assert report.caught_up
    assert run.side.shown().keys() == {"a", "b", "c", "new"}, "the rest of the old stream is read, too"
    found = gaps(run)  # two of them where the worker looked while the stream was off
    assert {kind for kind, _ in found} == {"stream changed"}
    assert sorted(report.gaps) == sorted(detail for _, detail in found)
    noted = run.side.checkpoints.stream()
    assert noted is not None
    assert noted.arn == run.stream.arn
    health = run.side.health.health()
    assert (health.state, health.complete) == ("gap", False)
    run.side.health.close_gaps("repair", run.side.clock.now_ms())
    assert run.side.health.health().complete


def test_a_stream_that_is_off_is_a_gap_and_never_caught_up() -> None:
    run = Run()
    run.put("a")
    run.drain()
    switch(run, on=False)
    run.streams.most_calls = run.streams.calls.total() + 1_000
    assert not run.drain().caught_up
    ((kind, detail),) = gaps(run)
    assert kind == "stream changed"
    assert "the stream is switched off" in detail
    run.side.clock.sleep(1)
    run.side.health.close_gaps("repair", run.side.clock.now_ms())
    health = run.side.health.health()
    assert health.state == "gap", "while it is off, changes go on leaving no record"
    assert "off" in health.reason
    assert "doctor" in health.remedy


def test_an_empty_answer_that_is_more_than_a_minute_old_says_nothing_of_now() -> None:
    run = Run(shards=2)
    clock = run.side.clock
    walk = run.worker(monotonic=clock.monotonic)._walk
    for _ in range(4):
        walk.look_for_shards()
        for reading in walk._readings.values():
            walk._step(reading)
        clock.sleep(1)
    assert walk.at_end
    clock.sleep(61)
    walk._step(next(iter(walk._readings.values())))
    assert not walk.at_end
