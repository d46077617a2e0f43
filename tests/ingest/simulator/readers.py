"""Who reads the simulated stream: workers, one step at a time, or Lambda's event source mapping."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from ingest.delivery import Delivery, RetryRule
from ingest.errors import GoneError, SourceError
from ingest.records import lambda_event
from ingest.shards import StreamReader
from ingest.walk import Reading
from ingest.worker import Worker
from tests.ingest.simulator.places import Failures
from tests.stubs.streams import StubStream

if TYPE_CHECKING:
    from tests.ingest.simulator.world import WorldBase

AGE_WINDOW_MS: Final = 600_000
"""How far back the heartbeat looks for an iterator age."""


class Stop(threading.Event):
    """Waiting passes the world's time, and lets others act."""

    def __init__(self, world: WorldBase) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        self._world.sleep(timeout or 0.0)
        return self.is_set()


class Walker:
    """One worker process, taking the steps that `Worker.run` and `Walk.run` take, one at a time."""

    def __init__(self, world: WorldBase) -> None:
        """Raises SourceError where the table's stream is off, as the command does."""
        arn = world.table_stream().arn
        if arn is None:
            raise SourceError("the stream is off")
        self.busy = False
        self.moved = False
        """Whether the table has another stream, and this one has been read to its end."""
        self._world = world
        replicator = world.replicator()
        self._worker = Worker(
            StreamReader(world.streams.client, arn),
            Delivery(
                lambda event: world.process(replicator, event),
                arn,
                Failures(world, world.place),
                world.health,
                now_ms=world.now_ms,
                stop=Stop(world),
                random=world.random,
                rule=RetryRule(retries=world.retries),
            ),
            world.checkpoints,
            world.health,
            world.table_stream,
            now_ms=world.now_ms,
            monotonic=world.monotonic,
        )
        self._walk = self._worker._walk

    def start(self) -> None:
        self._worker._attend()
        self._worker._resume()

    @property
    def at_end(self) -> bool:
        return self._walk.at_end

    def step(self) -> bool:
        """Look for shards or ask one shard once; whether there was anything to do."""
        readings = self._walk._readings
        if self._walk._listing_due <= self._world.monotonic() or self._world.random.random() < 0.1:
            before = len(readings)
            self._look_for_shards()
            return len(readings) != before
        if not readings:
            return False
        names = sorted(readings)
        if self._world.random.random() < self._world.neglect:
            return self._ask(readings[names[0]])
        return self._ask(readings[self._world.random.choice(names)])

    def round(self, *, list_always: bool = True) -> bool:
        """Look for shards, always or where it is due, and ask each once; whether there was anything to do."""
        readings = self._walk._readings
        before = set(readings)
        if list_always or self._walk._listing_due <= self._world.monotonic():
            self._look_for_shards()
        found = set(readings) != before
        went_on = [self._ask(reading) for reading in list(readings.values())]
        return found or any(went_on)

    def _look_for_shards(self) -> None:
        try:
            self._walk.look_for_shards()
        except GoneError:
            self._worker._look_at_table(now=True)
            if self._worker._moved_to is None:
                raise
            self._leave()

    def _ask(self, reading: Reading) -> bool:
        passed = reading.after, reading.iterator is None
        self._walk._step(reading)
        self._walk._settle(reading)
        return reading.finished or (reading.after, reading.iterator is None) != passed

    def end(self) -> None:
        for shard_id in list(self._worker._passed):
            self._worker._save(shard_id, finished=False)

    def say(self) -> None:
        self._worker.on_state(caught_up=self.at_end)
        if self._worker._finish.is_set() and self.at_end:
            self._leave()

    def _leave(self) -> None:
        self.end()
        self._worker._leave(at_end=True, may_move=True)
        self.moved = self._worker._report.next_stream is not None

    def has_passed(self, shard_id: str, number: int) -> bool:
        """Whether it has delivered the record of this number, or will not read the shard any more."""
        return shard_id in self._walk._finished or int(self._worker._passed.get(shard_id, "0")) >= number

    def reads(self, stream: StubStream) -> bool:
        return self._worker._reader.arn == stream.arn


class FunctionReader:
    """Lambda's event source mapping, and the clients through which a heartbeat sees it.

    It reads the true list of shards, parents first, and keeps its positions to itself. What was trimmed before it was
    read it passes over without a word.
    """

    def __init__(self, world: WorldBase) -> None:
        self._world = world
        self.arn = ""
        self.enabled = True
        self.filters = False
        self._positions: dict[str, int] = {}
        self._ages: list[tuple[int, float]] = []

    def deploy(self) -> None:
        """Make the mapping what it should be, on the table's stream."""
        if self.arn != self._world.stream.arn:
            self.arn, self._positions = self._world.stream.arn, {}
        self.enabled, self.filters = True, False

    def waits_for(self, shard_id: str, index: int) -> bool:
        """Whether a record is still to be delivered."""
        return index >= self._positions.get(shard_id, 0) and not self.filters

    def step(self) -> bool:
        """Deliver one batch of one shard; whether there was any."""
        if not self.enabled or not self.arn:
            return False
        shards = self._world.streams.streams[self.arn].shards
        ready = []
        for shard in shards.values():
            parent = shards.get(shard.parent or "")
            done = parent is None or not parent.listed or self._left(parent.id) == 0
            if shard.listed and done and self._left(shard.id):
                ready.append(shard)
        if not ready:
            return False
        shard = self._world.random.choice(sorted(ready, key=lambda each: each.id))
        begin = max(self._positions.get(shard.id, 0), shard.trimmed)
        records = shard.records[begin : begin + 5]
        self._positions[shard.id] = begin
        age = self._world.now_ms() - records[0]["dynamodb"]["ApproximateCreationDateTime"].timestamp() * 1000
        if not self.filters:
            report = self._world.process(self._world.replicator(), lambda_event(records, self.arn))
            if report.failed_from is not None:
                numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
                self._positions[shard.id] = begin + numbers.index(report.failed_from)
                return True
        self._ages.append((self._world.now_ms(), age))
        self._positions[shard.id] = begin + len(records)
        return True

    def _left(self, shard_id: str) -> int:
        shard = self._world.streams.streams[self.arn].shards[shard_id]
        return len(shard.records) - max(self._positions.get(shard_id, 0), shard.trimmed)

    # What a heartbeat asks

    @property
    def client(self) -> Any:
        return cast("Any", self)

    def get_paginator(self, _: str) -> FunctionReader:
        return self

    def paginate(self, **_: Any) -> list[Mapping[str, Any]]:
        mapping = {
            "UUID": "mapping",
            "State": "Enabled" if self.enabled else "Disabled",
            "EventSourceArn": self.arn,
            "StartingPosition": "TRIM_HORIZON",
            "BisectBatchOnFunctionError": True,
            "MaximumRetryAttempts": -1,
            "MaximumRecordAgeInSeconds": 72000,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::bucket"}},
            "FilterCriteria": {"Filters": [{"Pattern": "{}"}]} if self.filters else None,
            "LastProcessingResult": "OK",
        }
        return [{"EventSourceMappings": [mapping]}]

    def get_metric_data(self, **_: Any) -> dict[str, Any]:
        since = self._world.now_ms() - AGE_WINDOW_MS
        ages = [age for at, age in reversed(self._ages) if at >= since]
        return {"MetricDataResults": [{"Values": ages[:1]}]}
