"""Both accounts with something put away, and what a redrive must make of it.

Each scenario is a function that asserts; `test_redrive` runs them, and `mutants_redrive` shows that they bite.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest

from ingest.documents import Reader
from ingest.handler import Replicator
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import Origin, lambda_event
from ingest.redrive import Redrive, RedriveReport
from ingest.repair import Repair
from ingest.shards import StreamReader
from ingest.shelves import Shelf, Stored
from tests.ingest.building import LABEL, LakeSide, item
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.faults import Call, Fault, Killed
from tests.stubs.streams import StubStream, StubStreams

SOURCE: Final = "orders"
TABLE_ARN: Final = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders"


class MemoryShelf:
    """Documents in memory; the last is looked at last."""

    def __init__(self, *, queue_keeps_s: int | None = None) -> None:
        self.documents: dict[str, Any] = {}
        self.keeps_s = queue_keeps_s
        self.looking_is_touching = queue_keeps_s is not None
        self.hidden = 0

    def count(self) -> int:
        return len(self.documents) + self.hidden

    def stored(self) -> Iterator[Stored]:
        for name, document in list(self.documents.items()):
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            yield Stored(name, name, body)

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        self.documents[stored.handle] = document

    def take_away(self, stored: Stored) -> None:
        del self.documents[stored.handle]

    def close(self) -> None:
        pass


class PutAway(LakeSide):
    """A pipeline whose source has a stream; `give_up` puts its newest records away."""

    def __init__(self, policy: Policy | None = None) -> None:
        super().__init__(policy)
        self.source = StubDynamoDB()
        self.stream = StubStream(SOURCE, label=LABEL, now_ms=self.clock.now_ms)
        self.orders = self.source.create_table(SOURCE, {"pk": "S"}, self.stream)
        self.streams = StubStreams(self.stream, clock=self.clock.monotonic)
        self.shelf = MemoryShelf()

    def put(self, pk: str, number: int, **more: Any) -> dict[str, Any]:
        """Write to the source; the record that its stream gets, as Lambda delivers it."""
        self.orders.put(item(pk, number, **more))
        return self.newest_record()

    def delete(self, pk: str) -> dict[str, Any]:
        self.orders.delete({"pk": {"S": pk}})
        return self.newest_record()

    def newest_record(self) -> dict[str, Any]:
        records = [record for shard in self.stream.shards.values() for record in shard.records]
        newest = max(records, key=lambda record: int(record["dynamodb"]["SequenceNumber"]))
        return dict(lambda_event([newest], self.stream.arn)["Records"][0])

    def deliver(self, *records: Mapping[str, Any]) -> None:
        replicator = Replicator(
            self.applier(),
            self.policy,
            Quarantine(self.place, "orders"),
            self.observer(),
            self.health,
            self.clock.now_ms,
            origin=Origin(TABLE_ARN, replicated_ttl=""),
        )
        replicator.process({"Records": records})

    def give_up(self, *records: Mapping[str, Any], whole: bool = True, name: str | None = None) -> None:
        """As a failure destination gets them: whole, as a bucket does, or as a queue's pointer."""
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        document: dict[str, Any] = {
            "requestContext": {"condition": "RetryAttemptsExhausted", "functionArn": "arn:…"},
            "version": "1.0",
            "DDBStreamBatchInfo": {
                "shardId": next(iter(self.stream.shards)),
                "startSequenceNumber": numbers[0],
                "endSequenceNumber": numbers[-1],
                "batchSize": len(records),
                "streamArn": self.stream.arn,
            },
        }
        if whole:
            document["payload"] = json.dumps({"Records": records})
        self.shelf.documents[name or f"failed/{numbers[0]}"] = document
        self.health.given_up("records were given up")
        self.clock.sleep(1)

    def quarantine_record(self, record: Mapping[str, Any], reason: str = "too large") -> None:
        number = record["dynamodb"]["SequenceNumber"]
        self.shelf.documents[f"quarantine/{number}"] = {
            "format": 1, "pipeline": "orders", "reason": reason, "at": 1, "record": record,
        }  # fmt: skip
        self.health.given_up("records are in quarantine")
        self.clock.sleep(1)

    def a_redrive(self) -> Redrive:
        repair = Repair(
            self.source.client,
            SOURCE,
            self.dynamodb.client,
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.clock.now_ms,
        )
        return Redrive(
            repair,
            Reader("orders", TABLE_ARN, ["pk"]),
            lambda arn: StreamReader(self.streams.client, arn),
            self.health,
            now_ms=self.clock.now_ms,
            sleep=self.clock.sleep,
        )

    def redrive(self, *shelves: Shelf, covers_all: bool = True) -> RedriveReport:
        return self.a_redrive().run(list(shelves) or [self.shelf], covers_all=covers_all)

    def before_a_write(self, act: Any) -> None:
        """Something happens just before the next write to the lake table."""

        def hook(call: Call) -> Fault | None:
            if call.operation == "put_item" and call.request["TableName"] == self.table.name:
                self.dynamodb.hook = lambda _: None
                act()
            return None

        self.dynamodb.hook = hook

    @property
    def open_gaps(self) -> Sequence[str]:
        return [gap.kind for gap in self.health.gaps()]


# Scenarios


def the_source_is_asked_again() -> None:
    side = PutAway()
    side.quarantine_record(side.put("k", 1))
    side.give_up(side.put("m", 1))
    side.put("k", 5)
    side.delete("m")
    report = side.redrive()
    assert side.shown() == {"k": "5"}
    assert (report.written, report.deleted, report.settled, report.left) == (1, 1, 2, 0)
    assert not side.health.gaps()


def a_record_that_comes_late_does_no_harm() -> None:
    """The row is newer than the record, whether the source still has it or not."""
    side = PutAway()
    side.deliver(side.put("k", 1))
    late = [side.put("k", 2), side.put("gone", 1)]
    later = [side.put("k", 3), side.delete("gone")]
    for record in late + later:
        side.give_up(record)
    side.redrive()
    assert not side.health.gaps()
    side.deliver(*late)
    assert side.shown() == {"k": "3"}


def a_row_that_an_older_change_reaches_meanwhile_is_looked_at_again() -> None:
    side = PutAway()
    side.deliver(side.put("k", 1))
    older, newest = side.put("k", 2), side.put("k", 3)
    side.give_up(newest)
    side.before_a_write(lambda: side.deliver(older))
    side.redrive()
    assert side.shown() == {"k": "3"}
    assert not side.health.gaps()


def a_kill_leaves_the_document() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1))

    def die() -> None:
        raise Killed

    side.before_a_write(die)
    with pytest.raises(Killed):
        side.redrive()
    assert len(side.shelf.documents) == 1
    assert side.open_gaps == ["given up"]
    side.redrive()
    assert side.shown() == {"k": "1"}
    assert not side.shelf.documents
    assert not side.health.gaps()


def one_that_can_still_not_be_written_stays_with_its_gap() -> None:
    side = PutAway()
    side.quarantine_record(side.put("bad", 1, _lake_x={"S": "1"}), reason="of then")
    side.give_up(side.put("good", 1))
    report = side.redrive()
    assert side.shown() == {"good": "1"}
    assert (report.settled, report.left, report.refused) == (1, 1, 1)
    (document,) = side.shelf.documents.values()
    assert "reserved for dynalake" in document["reason"]
    assert document["record"]["dynamodb"]["Keys"] == {"pk": {"S": "bad"}}
    assert side.open_gaps == ["given up"]
    assert "could not be settled" in report.gap_stays


def what_the_stream_lost_leaves_a_gap_that_only_a_repair_closes() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1), whole=False)
    side.stream.trim(next(iter(side.stream.shards)), 1)
    report = side.redrive()
    assert (report.lost, report.settled) == (1, 1)
    assert not side.shelf.documents
    assert side.open_gaps == ["trimmed"]
    (gap,) = side.health.gaps()
    assert gap.remedy == "repair"


def what_is_put_away_meanwhile_keeps_the_gap_open() -> None:
    side = PutAway()
    side.give_up(side.put("k", 1))
    other = side.put("m", 1)

    def more() -> None:
        side.clock.sleep(1)
        side.give_up(other)

    side.before_a_write(more)
    report = side.redrive()
    assert side.open_gaps == ["given up"]
    assert "meanwhile" in report.gap_stays
    side.redrive()
    assert not side.health.gaps()
    assert side.shown() == {"k": "1", "m": "1"}


def a_pointer_means_every_record_from_its_first_to_its_last() -> None:
    side = PutAway()
    side.put("before", 1)
    records = [side.put(f"k{n}", n) for n in range(4)]
    side.put("after", 1)
    side.give_up(*records, whole=False)
    side.streams.page_size = 1
    side.streams.empty_answers = 3
    side.redrive()
    assert side.shown() == {f"k{n}": str(n) for n in range(4)}
    assert not side.health.gaps()
