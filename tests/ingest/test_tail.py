"""The lake's stream while a snapshot is made or kept fresh: what came is taken, and a hole is never passed over."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ingest.errors import TrimmedError
from ingest.shards import StreamReader
from ingest.tail import Tail
from lake.contract.positions import StreamPositions
from tests.ingest.building import Clock, item
from tests.ingest.test_worker import QUICK
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.streams import StubStream, StubStreams
from tests.waiting import PATIENCE_S, until

HOUR_S = 3600


class Lake:
    """A lake table with a stream, and whoever follows it."""

    def __init__(self, *, shards: int = 1) -> None:
        self.clock = Clock()
        self.table = StubDynamoDB().create_table("lake", {"pk": "S"})
        self.stream = StubStream("lake", shards=shards, now_ms=self.clock.now_ms)
        self.streams = StubStreams(self.stream)
        self.table.stream = self.stream
        self.taken: list[str] = []
        self.taking = threading.Event()
        self.held = threading.Event()
        self.held.set()

    def put(self, *keys: str) -> None:
        for key in keys:
            self.table.put(item(key, 1))

    def tail(self, since: StreamPositions | None = None) -> Tail:
        reader = StreamReader(self.streams.client, self.stream.arn)
        return Tail(reader, self.take, time.monotonic, QUICK, now_ms=self.clock.now_ms, since=since)

    def take(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.taking.set()
        assert self.held.wait(PATIENCE_S)
        self.taken += [record["dynamodb"]["Keys"]["pk"]["S"] for record in records]

    def positions(self, after: Mapping[str, str | None] | None = None) -> StreamPositions:
        return StreamPositions(self.stream.arn, after or {}, frozenset(), self.clock.now_ms())

    def listed_again(self) -> None:
        """Wait until the stream was asked for its shards anew."""
        before = self.streams.calls["describe_stream"]
        until(lambda: self.streams.calls["describe_stream"] > before + 1)

    @property
    def root(self) -> str:
        return next(iter(self.stream.shards))


def test_what_came_before_is_passed_over_and_what_comes_after_is_taken_through_splits() -> None:
    lake = Lake(shards=2)
    lake.put("before")
    tail = lake.tail()
    lake.put("a", "b")
    lake.stream.split(lake.root)
    lake.put("c", "d", "e")
    reached = tail.finish()
    assert sorted(lake.taken) == ["a", "b", "c", "d", "e"]
    assert lake.root in reached.finished
    lake.put("f")
    lake.tail(reached).finish()
    assert lake.taken[-1] == "f"


def test_a_child_that_waited_for_its_parent_longer_than_the_stream_keeps_is_refused() -> None:
    """What is left of the child would look like all of it: it has no position that the stream could refuse."""
    lake = Lake()
    lake.put("a")
    lake.held.clear()
    tail = lake.tail(lake.positions())
    child = lake.stream.roll(lake.root)
    lake.put("lost")
    assert lake.taking.wait(PATIENCE_S)
    for _ in range(3):
        lake.listed_again()
        lake.clock.sleep(10 * HOUR_S)
    lake.stream.trim(child.id, 1)
    lake.put("kept")
    lake.held.set()
    with pytest.raises(TrimmedError, match=r"was not read for (29|30) hours"):
        tail.finish()


def test_a_child_that_was_born_late_is_not_refused_where_the_reading_began_early() -> None:
    """A snapshot of 23 hours ago is refreshed, which takes two hours; the child came an hour before."""
    lake = Lake()
    since = lake.positions()
    lake.clock.sleep(22 * HOUR_S)
    lake.put("a")
    child = lake.stream.roll(lake.root)
    lake.put("b")
    lake.clock.sleep(HOUR_S)
    lake.held.clear()
    tail = lake.tail(since)
    assert lake.taking.wait(PATIENCE_S)
    lake.clock.sleep(2 * HOUR_S)
    lake.held.set()
    assert tail.finish().after == {child.id: child.records[-1]["dynamodb"]["SequenceNumber"]}
    assert lake.taken == ["a", "b"]


def test_a_child_that_came_and_went_while_its_parent_was_read_is_refused() -> None:
    lake = Lake()
    lake.put("a")
    lake.held.clear()
    tail = lake.tail(lake.positions())
    child = lake.stream.roll(lake.root)
    lake.put("lost")
    assert lake.taking.wait(PATIENCE_S)
    lake.listed_again()
    lake.stream.roll(child.id)
    lake.stream.forget(child.id)
    until(lambda: child.id not in tail._walk._shards)
    lake.held.set()
    with pytest.raises(TrimmedError, match=r"after its beginning: the shard does not exist any more"):
        tail.finish()


@pytest.mark.parametrize("hours", [20, 30])
def test_a_shard_without_records_is_refused_where_nobody_asked_it_for_a_day(hours: int) -> None:
    """A laptop slept: the iterator has expired, and the shard's beginning is not what it was."""
    lake = Lake()
    tail = lake.tail()
    until(lambda: lake.streams.calls["get_records"] > 1)
    with tail.pause():
        lake.clock.sleep(hours * HOUR_S)
        lake.put("a")
        lake.streams.expire_iterators()
    if hours < 24:
        tail.finish()
        assert lake.taken == ["a"]
        return
    with pytest.raises(TrimmedError, match="keeps a record for 24"):
        tail.finish()


def test_nothing_is_called_fresh_that_was_not_asked_for_since() -> None:
    """`as_of` is when the shards were asked, also where the clock has jumped since."""
    lake = Lake()
    tail = lake.tail()
    until(lambda: tail_as_of(tail) > 0)
    asked_at = lake.clock.now_ms()
    tail.stop()
    lake.clock.sleep(10 * HOUR_S)
    tail.on_state(caught_up=True)
    assert tail_as_of(tail) <= asked_at


def tail_as_of(tail: Tail) -> int:
    with tail.pause() as positions:
        return positions.as_of


def test_as_of_does_not_pass_rows_of_a_child_that_is_not_listed_yet() -> None:
    """The lake's stream is enabled, so a closed shard has a child, whatever the list shows."""
    lake = Lake()
    tail = lake.tail()
    until(lambda: lake.streams.calls["get_records"] > 5)
    child = lake.stream.roll(lake.root)
    lake.streams.unlisted = {child.id}
    until(lambda: lake.root in tail._walk.finished)
    lake.clock.sleep(60)
    lake.put("b")
    lake.listed_again()
    written_at = lake.clock.now_ms()
    assert lake.taken == []
    assert tail_as_of(tail) < written_at
    lake.streams.unlisted = set()
    assert tail.finish().as_of >= written_at
    assert lake.taken == ["b"]


def test_a_shard_that_a_list_misses_is_taken_on() -> None:
    lake = Lake(shards=2)
    tail = lake.tail()
    lake.streams.unlisted = set(lake.stream.shards)
    lake.listed_again()
    lake.put("a", "b", "c")
    tail.finish()
    assert sorted(lake.taken) == ["a", "b", "c"]


def test_a_stream_that_is_switched_off_meanwhile_is_refused() -> None:
    lake = Lake()
    tail = lake.tail()
    lake.put("a")
    lake.stream.switch_off()
    with pytest.raises(TrimmedError, match="switched off"):
        tail.finish()
