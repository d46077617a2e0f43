"""What happens in the simulated world."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from ingest.checkpoints import StreamCheckpoint
from ingest.exported import ExportedChanges, ExportScan, refuse_unfit
from ingest.handler import BatchReport, Replicator
from ingest.health import note_table_stream
from ingest.heartbeat import look_at_function, store
from ingest.wire import from_boto3
from lake.contract.exports import open_export
from tests.ingest.simulator.checks import Checks
from tests.ingest.simulator.places import Shelf
from tests.ingest.simulator.readers import Walker
from tests.ingest.simulator.world import DAY_MS, MAX_ITEM_BYTES, TABLE_ARN
from tests.stubs.dynamodb import Item
from tests.stubs.exports import full_export, incremental_export

_LARGE: Final = "x" * (MAX_ITEM_BYTES - 30)
"""Of an item that fits in the source, and with the metadata does not fit in the lake."""

_NEWEST: Final = str(10**22)
"""The sequence number of a record of another table: were it applied, it would win."""


class Actors(Checks):
    """A world in which things happen."""

    # The actors

    def _set_up(self) -> None:
        """As the set-up does: the gap first, then the stream is noted."""
        self.source_table.stream = self.stream
        self.health.open_gap("before-the-stream", "not backfilled", "rows from before the stream")
        self.checkpoints.note_stream(StreamCheckpoint(self.stream.arn, self.now_ms()))
        if self.by_function:
            self.function.deploy()
            if self.random.random() < 0.8:
                self._look()

    def _write_some(self) -> None:
        for _ in range(self.random.choice((1, 1, 5))):
            self._write()

    def _write(self) -> None:
        key = self.random.choice(self.keys)
        kind = self.random.random()
        if kind < self._deletes and not self._calm:
            if self.source_table.get(key) is not None:
                self.source_table.delete(key, ttl=kind < 0.1)
            return
        item: Item = {**key, "n": {"N": str(self.random.randrange(1000))}}
        if kind < 0.6:
            item |= {"email": {"S": "a@example.org"}, "secret": {"BOOL": True}, "name": {"S": "Ada"}}
        if kind > 0.96:
            item["_lake_version"] = {"S": "9"}
        elif kind > 0.94:
            item["large"] = {"S": _LARGE}
        self.source_table.put(item)
        if 0.92 < kind <= 0.94 and self.source_table.stream is not None:
            # DynamoDB Local streams an empty map without its type.
            self.stream.shard_of(key).records[-1]["dynamodb"]["NewImage"]["map"] = {}

    def _walk(self) -> None:
        if self.by_function:
            for _ in range(self.random.randint(1, 4)):
                self.function.step()
                self._now_ms += self.random.choice((1, 500))
            return
        walker = next((each for each in self._walkers if not each.busy), None)
        if walker is None:
            if self._walkers and self.random.random() < 0.8:
                return
            walker = Walker(self)
            self._walkers.append(walker)
            self._guarded(walker, walker.start)
        for _ in range(self.random.randint(2, 8)):
            self._guarded(walker, walker.step)
            self._now_ms += self.random.choice((1, 500, 6000))  # so that checkpoints move now and then
        if self.random.random() < 0.3:  # as a worker that is not held up does
            for _ in range(4):
                self._guarded(walker, walker.round)
                self._now_ms += 1000
        self._guarded(walker, walker.say)
        if walker.moved and walker in self._walkers:
            self._walkers.remove(walker)

    def _guarded(self, walker: Walker, step: Callable[[], object]) -> None:
        """A worker that raises is gone; the next one resumes from its checkpoints."""
        walker.busy = True
        try:
            step()
        except BaseException:
            if walker in self._walkers:
                self._walkers.remove(walker)
            raise
        finally:
            walker.busy = False

    def _replace_worker(self) -> None:
        """Killed, or ended cleanly."""
        for walker in list(self._walkers):
            if self.random.random() < 0.5:
                self._guarded(walker, walker.end)
        self._walkers.clear()

    def process(self, replicator: Replicator, event: Mapping[str, Any]) -> BatchReport:
        """What a worker's or a Lambda's call is: now and then with too little time."""
        until = self.monotonic() + self.random.choice(self._budgets)
        try:
            report = replicator.process(event, lambda: until - self.monotonic())
        except BaseException:
            self._failed_calls.append(event)
            raise
        (self._failed_calls if report.failed_from else self._settled_calls).append(event)
        return report

    def _redeliver(self) -> None:
        calls = self._settled_calls + self._failed_calls
        if calls:
            self.process(self.replicator(), self.random.choice(calls))

    def _backfill(self) -> None:
        if self._backfilling:
            return
        self._backfilling = True
        try:
            self._a_backfill().run(restart=self.random.random() < 0.1)
        finally:
            self._backfilling = False

    def _take_export(self) -> None:
        """DynamoDB exports the source as it is now; that is done when somebody uses it, perhaps much later."""
        self._now_ms += 1
        items = [from_boto3(item) for _, item in sorted(self.source_table.items.items())]
        arn = f"{TABLE_ARN}/export/{len(self._exports)}"
        files = full_export(TABLE_ARN, items, shows_ms=self._now_ms, per_file=2, exportArn=arn)
        self._exports.append(files)
        self._now_ms += 1

    def _backfill_from_export(self) -> None:
        """`dynalake backfill --source export:…`, from any export that there is, and is fit."""
        if self._backfilling or not self._exports:
            return
        files = self.random.choice(self._exports)
        export = open_export(files)
        noted = self.checkpoints.stream()
        if noted is None or noted.arn != self.stream.arn:
            return
        refuse_unfit(export, noted.noted_at, self.health.history(), self.now_ms())
        self._backfilling = True
        try:
            self._a_backfill(lambda _: ExportScan(files, export, self.now_ms), export).run()
        finally:
            self._backfilling = False

    def _mend_exported_changes(self) -> None:
        """Likewise from an incremental export, whose images are as old as may be."""
        changed = self.random.sample(self.keys, self.random.randint(1, len(self.keys)))
        images = [self.random.choice(({**key, "n": {"N": "0"}}, None)) for key in changed]
        files = incremental_export(
            TABLE_ARN,
            list(zip(changed, images, images, strict=True)),
            from_ms=0,
            to_ms=self._now_ms,
            per_file=2,
        )
        repair = self._a_repair(leave_same=True)
        ExportedChanges(files, open_export(files), repair, self.checkpoints).run()

    def _mend(self) -> None:
        """Somebody mends some rows, beside everything else; closes no gap."""
        self._a_repair().mend(self.random.sample(self.keys, self.random.randint(1, len(self.keys))))

    def _redrive(self) -> None:
        """`dynalake redrive`, from everywhere."""
        self._a_redrive().run([Shelf(self)], covers_all=True)

    def _operator(self) -> None:
        """`dynalake repair`: compare, mend what differs, compare, close what that covers."""
        self._settle_network()
        began = self.now_ms()
        self._now_ms += 1
        self._a_repair().mend(self._differing())
        if not self._differing():
            self.health.close_gaps("repair", began)
            self._failed_calls.clear()

    def _land(self) -> None:
        if self.lake.landing:
            self.lake.land(self.random.randrange(len(self.lake.landing)))

    def _settle_network(self) -> None:
        """Time enough passes for whatever is under way: writes land, processes that were replaced are dead."""
        self._walkers.clear()
        while self.lake.landing:
            self._land()

    def _reshape(self) -> None:
        if not self.stream.enabled:
            return
        shard = self.random.choice(self.stream.open_shards()).id
        kind = self.random.random()
        if kind < 0.4:
            self.stream.split(shard)
        elif kind < 0.6:
            self.stream.roll(shard)
        elif kind < 0.8:
            self.streams.expire_iterators()
        elif kind < 0.9:
            self.streams.empty_answers += 1
        else:
            self.streams.rewind += 2

    def _heat_or_cool(self) -> None:
        """A partition of the lake table takes no writes for a while, whatever others do."""
        if self._hot:
            self._hot.clear()
        else:
            keys = self.random.sample(self.keys, self.random.randint(1, len(self.keys)))
            self._hot = {self.policy.apply(key)["pk"]["S"] for key in keys}

    def _pass_time(self) -> None:
        self._now_ms += self.random.choice((1, 1000, 6000, 60_000))

    def _a_day_passes(self) -> None:
        """Hours go by; what is older than a day leaves the stream."""
        self._settle_network_but_workers()
        if self.function.enabled and self.by_function:
            self._function_reads_on()
        self._now_ms += self.random.choice((6, 13, 25)) * 3_600_000
        horizon = self._now_ms - DAY_MS
        for stream in self.streams.streams.values():
            for shard in stream.shards.values():
                old = sum(_created_ms(record) < horizon for record in shard.records)
                stream.trim(shard.id, old)
                if shard.closed and shard.closed_ms < horizon and old == len(shard.records):
                    stream.forget(shard.id)
        for calls in (self._failed_calls, self._settled_calls):
            calls[:] = [call for call in calls if _event_ms(call) >= horizon]

    def _function_reads_on(self) -> None:
        """Lambda does not wait for a day."""
        calm, self._calm = self._calm, True
        try:
            while self.function.step():
                pass
        finally:
            self._calm = calm

    def _settle_network_but_workers(self) -> None:
        while self.lake.landing:
            self._land()

    def _switch(self) -> None:
        """Somebody switches the source's stream off, or on again; while it is off, changes leave no record."""
        if self.stream.enabled:
            self.stream.switch_off()
            self.source_table.stream = None
            if self.random.random() < 0.5:
                return
            for _ in range(self.random.randint(0, 2)):
                self._write()
        self._switch_on()

    def _switch_on(self) -> None:
        self._now_ms += 60_000
        self.stream = self._new_stream()
        self.source_table.stream = self.stream

    def _flap(self) -> None:
        """For up to a minute, lists of shards miss whatever they like."""
        self._flapping_until = self._now_ms + self.random.choice((1000, 10_000, 60_000))

    def _worker_dies(self) -> None:
        """And nobody notices for a while."""
        self._walkers.clear()
        self._now_ms += self.random.choice((60_000, 600_000, 36_000_000))

    def _deliver_foreign(self) -> None:
        """A record of another table, with a key that this one has, too."""
        calls = self._settled_calls + self._failed_calls
        if calls:
            record = copy.deepcopy(self.random.choice(calls)["Records"][0])
            record["eventSourceARN"] = record["eventSourceARN"].replace("table/orders/", "table/invoices/")
            record["dynamodb"]["SequenceNumber"] = _NEWEST
            self.replicator().process({"Records": [record]})

    def _look(self) -> None:
        """The function's heartbeat, or a command with credentials of the source account."""
        table = self.table_stream()
        if not self.by_function:
            note_table_stream(self.health, self.checkpoints, table, is_read=False)
            return
        client = self.function.client
        seen = look_at_function(table, client, client, "dynalake-orders", pipeline="orders")
        if seen is not None:
            store(self.health, self.checkpoints, seen)

    def _meddle(self) -> None:
        """Somebody changes the function's event source mapping."""
        self._meddled += 1
        if self.random.random() < 0.5:
            self.function.enabled = not self.function.enabled
        else:
            self.function.filters = True

    def _redeploy(self) -> None:
        """`dynalake deploy`, after a heartbeat has seen everything that was wrong."""
        seen = -1
        while seen != self._meddled:
            seen = self._meddled
            self._look()
        self.function.deploy()


def _created_ms(record: Mapping[str, Any]) -> int:
    return int(record["dynamodb"]["ApproximateCreationDateTime"].timestamp()) * 1000


def _event_ms(event: Mapping[str, Any]) -> float:
    return float(event["Records"][0]["dynamodb"]["ApproximateCreationDateTime"]) * 1000
