"""Faults at known places are found, named rightly and mended; and writes that go on raise no false alarm."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, cast

import pytest

from dynalake.jobs.parity import ParityJob, Scope, Table, scanned_lines
from expectations.parity import Looks, ParityResult
from ingest.policy import Policy
from ingest.repair import Repair
from ingest.scan import Scan
from ingest.shards import StreamReader
from ingest.walk import Pacing
from tests.ingest.building import CATALOGUE, LAKE, LakeSide
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.faults import Call
from tests.stubs.streams import StubStream, StubStreams

ROUNDS = 200
EXACT = "0.12345678901234567890123456789012345678"


class Estate(LakeSide):
    """A source that is replicated, and its parity."""

    def __init__(self, policy: Policy | None = None, page_size: int = 7) -> None:
        super().__init__(policy)
        self.dynamodb.page_size = page_size
        self.source = StubDynamoDB(page_size=page_size, validate=False)
        self.dynamodb._validate = False
        self.stream = StubStream("orders", shards=2, now_ms=self.clock.now_ms)
        self.streams = StubStreams(self.stream)
        self.orders = self.source.create_table("orders", {"pk": "S"}, self.stream)
        self.delivered: dict[str, int] = {}

    def deliver(self, most: int = 10**6) -> None:
        """Let the handler apply what is in the stream, shard by shard; at most so many records of each."""
        from ingest.records import lambda_event

        for shard in self.stream.shards.values():
            start = self.delivered.get(shard.id, 0)
            records = shard.records[start : start + most]
            if records:
                self.replicator().process(lambda_event(records, self.stream.arn))
                self.delivered[shard.id] = start + len(records)

    def job(self) -> ParityJob:
        def table(account: StubDynamoDB, name: str) -> Table:
            def scan(segments: int = 2) -> Scan:
                return Scan(account.client, name, segments=segments, threads=1)

            return Table(account.client, name, cast("Any", None), scan, lambda: scanned_lines(scan()))

        return ParityJob(
            "orders",
            table(self.source, "orders"),
            table(self.dynamodb, LAKE),
            ["pk"],
            None if self.policy.lossless else self.policy.apply,
            lambda: StreamReader(self.streams.client, self.stream.arn),
            None,
            self.clock.now_ms,
            self.clock.sleep,
            self.clock.monotonic,
            random.Random(1),
            Pacing(least_s=0.0, most_s=0.0, quiet_answers=1, quiet_s=0.0),
        )

    def parity(self, scope: Scope | None = None, looks: int = 5) -> ParityResult:
        return self.job().run(scope or Scope(), looks=Looks(looks))

    def mend(self, result: ParityResult) -> None:
        Repair(
            self.source.client, "orders", self.dynamodb.client, self.applier(), self.policy, self.quarantine(),
            self.observer(), self.clock.now_ms,
        ).mend([each.source_key for each in result.differences if each.source_key])  # fmt: skip

    def spoil(self, pk: str, /, **changed: Any) -> None:
        """Change a lake row behind dynalake's back; None takes an attribute away."""
        row = {**(self.row(pk) or {}), **changed}
        self.table.put({name: value for name, value in row.items() if value is not None})


def order(number: int) -> dict[str, Any]:
    return {
        "pk": {"S": f"k{number}"},
        "exact": {"N": EXACT},
        "code": {"N": "4711"},
        "tags": {"SS": ["a", "b", "c"]},
        "address": {"M": {"street": {"S": "x"}, "geo": {"M": {"lat": {"N": "52.5"}}}}},
        "card": {"S": "4111-1111"},
        "secret": {"S": "s"},
    }


def test_each_seeded_fault_is_found_named_and_mended() -> None:
    estate = Estate(Policy({"card": "mask", "secret": "drop"}, key_attributes=["pk"]))
    for number in range(60):
        estate.orders.put(order(number))
    estate.orders.delete({"pk": {"S": "k59"}})
    estate.deliver()
    assert estate.parity().exact

    digit = EXACT[:31] + ("1" if EXACT[31] != "1" else "2") + EXACT[32:]
    assert sum(a != b for a, b in zip(EXACT, digit, strict=True)) == 1
    faults: dict[str, tuple[str, tuple[str, ...]]] = {}
    for number in (3, 4):  # dropped records
        estate.table.delete({"pk": {"S": f"k{number}"}})
        faults[f"k{number}"] = ("missing", ())
    estate.spoil("stranger", pk={"S": "stranger"}, n={"N": "1"})  # an extra row
    faults["stranger"] = ("extra", ())
    estate.spoil("k10", exact={"N": digit})
    faults["k10"] = ("different", ("exact",))
    estate.spoil("k11", tags={"SS": ["a", "c"]})
    faults["k11"] = ("different", ("tags",))
    estate.spoil("k12", address={"M": {"street": {"S": "x"}, "geo": {"M": {"lat": {"N": "52.6"}}}}})
    faults["k12"] = ("different", ("address",))
    estate.spoil("k13", code={"S": "4711"})
    faults["k13"] = ("different", ("code",))
    estate.spoil("k59", _lake_deleted=None, _lake_expires=None)  # a tombstone shown as a row
    faults["k59"] = ("extra", ())
    estate.spoil("k14", _lake_deleted={"S": "user"})  # a row shown as a tombstone
    faults["k14"] = ("missing", ())
    estate.spoil("k15", card={"S": "4111-1111"})  # a column that should be masked
    faults["k15"] = ("different", ("card",))
    estate.spoil("k16", secret={"S": "s"})  # one that should never have come
    faults["k16"] = ("different", ("secret",))
    estate.spoil("k17", tags=None)  # an attribute lost
    faults["k17"] = ("different", ("tags",))

    result = estate.parity()
    assert {each.key["pk"]["S"]: (each.reason, each.attributes) for each in result.differences} == faults
    assert result.wrong == len(faults)
    assert estate.parity(Scope(percent=100)).wrong == len(faults)
    assert estate.parity(Scope(since_ms=estate.clock.now_ms() - 3_600_000)).wrong == len(faults) - 1, (
        "the stranger was never in the stream"
    )

    estate.mend(result)
    after = estate.parity()
    assert after.exact
    assert (after.source_rows, after.lake_rows) == (59, 59)


@pytest.mark.parametrize("seed", range(4))
def test_writes_that_go_on_raise_no_false_alarm(seed: int) -> None:
    """Every call of a client may meet a write, a delete or a delivery; the stream is late, but within its time."""
    estate = Estate(Policy({"card": "mask"}, key_attributes=["pk"]), page_size=5)
    rng = random.Random(seed)
    for number in range(25):
        estate.orders.put(order(number))
    estate.deliver()
    moved = [0]

    def life(_: Call) -> None:
        if rng.random() < 0.6:
            number = rng.randrange(30)
            moved[0] += 1
            if rng.random() < 0.25:
                estate.orders.delete({"pk": {"S": f"k{number}"}})
            else:
                estate.orders.put({**order(number), "n": {"N": str(moved[0])}})
        if rng.random() < 0.3:
            busy, estate.dynamodb.hook = estate.dynamodb.hook, lambda _: None
            estate.deliver(rng.choice([1, 2, 10**6]))
            estate.dynamodb.hook = busy

    plain_sleep = estate.clock.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        estate.dynamodb.hook = lambda _: None
        estate.deliver()
        estate.dynamodb.hook = life

    estate.clock.sleep = sleep  # type: ignore[method-assign]
    flying = 0
    for round_ in range(ROUNDS // 4):
        estate.source.hook = estate.dynamodb.hook = life
        scope = Scope(since_ms=estate.clock.now_ms() - 5_000) if round_ % 5 == 4 else None
        result = estate.parity(scope)
        flying += result.in_flight
        assert result.exact, (seed, round_, result.differences)
    assert flying > ROUNDS // 4, "the rounds met rows in flight"
    assert moved[0] > ROUNDS


def test_a_row_that_is_wrong_is_found_while_others_are_written() -> None:
    estate = Estate(page_size=5)
    for number in range(25):
        estate.orders.put(order(number))
    estate.deliver()
    estate.spoil("k7", code={"N": "1"})
    rng = random.Random(9)

    def life(_: Call) -> None:
        if rng.random() < 0.5:
            estate.orders.put({**order(rng.randrange(8, 25)), "n": {"N": str(rng.randrange(10**6))}})

    estate.source.hook = life
    plain_sleep = estate.clock.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        estate.deliver()

    estate.clock.sleep = sleep  # type: ignore[method-assign]
    result = estate.parity()
    assert [(each.key, each.attributes) for each in result.differences] == [({"pk": {"S": "k7"}}, ("code",))]
    assert CATALOGUE in estate.dynamodb.tables


def test_very_many_differing_rows_are_looked_at_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from expectations import parity, recheck

    monkeypatch.setattr(recheck, "AT_ONCE", 50)
    monkeypatch.setattr(parity, "KEPT", 10)
    monkeypatch.setattr(parity, "PASS_ROWS", 100)
    estate = Estate(page_size=100)
    for number in range(500):
        estate.orders.put(order(number))
    told: list[Mapping[str, Any]] = []
    result = estate.job().run(Scope(), looks=Looks(2), on_difference=lambda each: told.append(each.key))
    assert (result.missing, len(result.differences), len(told)) == (500, 10, 500)
    assert [each["pk"]["S"] for each in told] == sorted(f"k{number}" for number in range(500))
