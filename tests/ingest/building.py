"""Small parts that the tests of ingest share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from ingest.apply import Applier
from ingest.checkpoints import Checkpoints
from ingest.errors import QuarantineError
from ingest.handler import Replicator
from ingest.health import HealthStore
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import Origin
from lake.contract.catalogue import OBSERVATION, TABLE
from lake.contract.health import ENTRY, PIPELINE
from lake.contract.rows import Change
from lake.contract.versions import streamed
from tests.stubs.dynamodb import StubDynamoDB, StubTable
from tests.stubs.faults import Call, Fault

LABEL: Final = "2026-11-24T00:00:00.000"
TABLE_ARN: Final = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders"
ARN: Final = f"{TABLE_ARN}/stream/{LABEL}"
ORIGIN: Final = Origin(TABLE_ARN, replicated_ttl="")
NOW_MS: Final = 1_795_500_000_000
LAKE: Final = "dynalake.shop.orders"
CATALOGUE: Final = "dynalake.catalogue"
CHECKPOINTS: Final = "dynalake.checkpoints"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.s = NOW_MS / 1000
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return round(self.s * 1000)

    def monotonic(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.s += seconds

    def within(self, seconds: float) -> Callable[[], float]:
        until = self.s + seconds
        return lambda: until - self.s


class FakeEvent(threading.Event):
    """An event whose waiting moves the clock; it may be set after so many waits, so that no test hangs."""

    def __init__(self, clock: Clock, set_after: int = 10_000) -> None:
        super().__init__()
        self._clock = clock
        self._left = set_after

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.sleep(timeout or 0.0)
        self._left -= 1
        if self._left <= 0:
            self.set()
        return self.is_set()


class MemoryPlace:
    """A quarantine in memory, which may be full."""

    def __init__(self) -> None:
        self.documents: dict[str, Mapping[str, Any]] = {}
        self.full = False

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        if self.full:
            raise QuarantineError("the disk is full")
        self.documents[name] = document


class Gaps:
    """Remembers what was given up."""

    def __init__(self) -> None:
        self.details: list[str] = []

    def given_up(self, detail: str) -> None:
        self.details.append(detail)


class LakeSide:
    """A lake account with its three tables, and the parts that write to them."""

    def __init__(self, policy: Policy | None = None, key: Mapping[str, str] | None = None) -> None:
        self.clock = Clock()
        self.dynamodb = StubDynamoDB()
        self.table: StubTable = self.dynamodb.create_table(LAKE, key or {"pk": "S"})
        self.dynamodb.create_table(CATALOGUE, {TABLE: "S", OBSERVATION: "S"})
        self.dynamodb.create_table(CHECKPOINTS, {PIPELINE: "S", ENTRY: "S"})
        self.place = MemoryPlace()
        self.gaps = Gaps()
        self.policy = policy or Policy()
        self.health = HealthStore(self.dynamodb.client, CHECKPOINTS, LAKE, self.clock.now_ms)
        self.checkpoints = Checkpoints(self.dynamodb.client, CHECKPOINTS, LAKE)

    def applier(self, **more: Any) -> Applier:
        settings: dict[str, Any] = {"in_flight": 1, "random": Random(1), **more}
        return Applier(
            self.dynamodb.client, LAKE, now_ms=self.clock.now_ms, sleep=self.clock.sleep, **settings
        )

    def observer(self) -> SchemaObserver:
        return SchemaObserver(self.dynamodb.client, CATALOGUE, LAKE, self.clock.now_ms)

    def quarantine(self) -> Quarantine:
        return Quarantine(self.place, "orders")

    def replicator(self, origin: Origin = ORIGIN, **more: Any) -> Replicator:
        return Replicator(
            self.applier(**more),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.gaps,
            self.clock.now_ms,
            origin=origin,
        )

    def kept(self, number: int) -> Mapping[str, Any]:
        """The one document in quarantine of the record with this sequence number."""
        (found,) = (
            document
            for name, document in self.place.documents.items()
            if name.startswith(f"orders/{LABEL}/{number}-")
        )
        return found

    def row(self, pk: str) -> dict[str, Any] | None:
        return self.table.get({"pk": {"S": pk}})

    def shown(self) -> dict[str, Any]:
        """What readers see: pk -> n of the rows that are no tombstones."""
        return {
            row["pk"]["S"]: row.get("n", {}).get("N")
            for row in self.table.items.values()
            if "_lake_deleted" not in row
        }


def item(pk: str, number: int = 0, /, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": pk}, "n": {"N": str(number)}, **more}


def put_change(pk: str, number: int, **more: Any) -> Change:
    image = item(pk, number, **more)
    return Change({"pk": {"S": pk}}, image, streamed(LABEL, str(number)), source_at=NOW_MS - 1000)


def delete_change(pk: str, number: int) -> Change:
    return Change({"pk": {"S": pk}}, None, streamed(LABEL, str(number)), source_at=NOW_MS - 1000)


def record(number: int, pk: str = "a", event: str = "MODIFY", **body: Any) -> dict[str, Any]:
    """A record as Lambda delivers it, whose image says its number; `body` replaces parts of it."""
    inside: dict[str, Any] = {
        "ApproximateCreationDateTime": NOW_MS // 1000 - 1,
        "Keys": {"pk": {"S": pk}},
        "SequenceNumber": str(number),
    }
    if event != "REMOVE":
        inside["NewImage"] = item(pk, number)
    return {
        "eventID": f"e{number}",
        "eventName": event,
        "eventSourceARN": ARN,
        "dynamodb": {**inside, **body},
    }


def event_of(*records: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {"Records": records}


def fails(
    operation: str, error: Callable[[], BaseException], times: int | None = None
) -> Callable[[Call], Fault | None]:
    """A hook: an operation fails, so many times or always."""
    left = [times]

    def hook(call: Call) -> Fault | None:
        if call.operation != operation or left[0] == 0:
            return None
        if left[0] is not None:
            left[0] -= 1
        return Fault(error())

    return hook
