"""A simulator of everything that can happen to a pipeline, with the real classes at work.

One run is one seed. A source table is written (few keys, so that writes collide), its stream splits, rolls, ages
and is switched off and on; workers, Lambda-like redeliveries, backfills by scan and from exports, repairs, redrives
and an operator work on the lake; and any call to AWS may be throttled, fail, time out, kill its process, or take
effect later.

How operations interleave: every call to a stub is a point where other actors may take steps before the call is
done, so an operation can be overtaken between any two of its calls. Nesting gives no
interleaving in which two paused operations take turns; a write whose answer was lost and that lands later
(after any number of other steps) covers what that could add on the lake table.

What the simulator takes for granted, because the world does:
- An item's changes reach a stream's shards in order, parents before children.
- A write under way lands within minutes: before a day passes, and before an operator, who has first looked at
  both tables twice, declares a gap closed. A process that was replaced is dead by then, too.
- What is delivered again is a whole call that was made before. One that failed is not made again after an
  operator's repair closed the gap that it left; a worker that resumes repeats from its checkpoint to the end.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

from ingest.apply import Applier
from ingest.backfill import SCAN, Backfill, Rows
from ingest.checkpoints import Checkpoints, StreamCheckpoint
from ingest.delivery import Delivery, RetryRule
from ingest.documents import Reader
from ingest.errors import IngestError, QuarantineError
from ingest.exported import ExportedChanges, ExportScan, refuse_unfit
from ingest.handler import BatchReport, Replicator
from ingest.health import HealthStore
from ingest.observe import SchemaObserver
from ingest.policy import Policy
from ingest.quarantine import Quarantine
from ingest.records import Origin
from ingest.redrive import Redrive
from ingest.repair import Repair
from ingest.scan import Scan
from ingest.shards import StreamReader
from ingest.shelves import Stored
from ingest.walk import Reading
from ingest.wire import from_boto3
from ingest.worker import Worker
from lake.contract.catalogue import OBSERVATION, TABLE
from lake.contract.evidence import TableStream
from lake.contract.exports import Export, open_export
from lake.contract.health import ENTRY, PIPELINE
from lake.contract.rows import DELETED, VERSION
from tests.stubs.dynamodb import Item, StubDynamoDB
from tests.stubs.exports import StubFiles, full_export, incremental_export
from tests.stubs.faults import (
    Call,
    Effect,
    Fault,
    Killed,
    connect_timeout,
    read_timeout,
    server_error,
    throttled,
)
from tests.stubs.streams import StubStream, StubStreams

SOURCE: Final = "orders"
TABLE_ARN: Final = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders"
LAKE: Final = "dynalake.shop.orders"
CHECKPOINTS: Final = "dynalake.checkpoints"
CATALOGUE: Final = "dynalake.catalogue"

OTHERS: Final = 10
"""Steps of others during one step; more would be one long step."""

DAY_MS: Final = 24 * 3600 * 1000
EPOCH_MS: Final = 1_795_478_400_000
"""2026-11-24, the day of the first stream's label."""

MAX_ATTRIBUTE: Final = 400 * 1024 - 30
"""Of an item that fits in the source, and with the metadata does not fit in the lake."""

_LARGE: Final = "x" * MAX_ATTRIBUTE


class DivergedError(AssertionError):
    """A run broke a promise."""


class _Place:
    """Documents in memory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.documents: dict[str, Mapping[str, Any]] = {}

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        if self._world.may_fail(0.2):
            raise QuarantineError("the disk is full")
        json.dumps(document, default=str)
        self.documents[name] = document


class _Failures:
    """The failure destination: whole documents as in a bucket, or pointers as in a queue."""

    def __init__(self, world: World, place: _Place) -> None:
        self._world = world
        self._place = place

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        self._place.put(name, document)
        self._world.pointed.pop(name, None)
        if self._world.pointers:
            kept = dict(self._place.documents[name])
            self._world.pointed[name] = kept.pop("payload")
            self._place.documents[name] = kept


class _Shelf:
    """The documents in memory, as `ingest.shelves` shows a place; each step may be overtaken, fail or kill."""

    keeps_s: int | None = None
    looking_is_touching = False

    def __init__(self, world: World) -> None:
        self._world = world

    def count(self) -> int:
        return len(self._world.place.documents)

    def stored(self) -> Iterator[Stored]:
        for name in sorted(self._world.place.documents):
            self._world.at_shelf()
            document = self._world.place.documents.get(name)
            if document is not None:
                yield Stored(name, name, json.dumps(document, default=str).encode())

    def replace(self, stored: Stored, document: Mapping[str, Any]) -> None:
        self._world.at_shelf()
        self._world.place.documents[stored.handle] = document

    def take_away(self, stored: Stored) -> None:
        self._world.at_shelf()
        self._world.place.documents.pop(stored.handle, None)

    def close(self) -> None:
        pass


class _Stop(threading.Event):
    """Waiting passes the world's time, and lets others act."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        self._world.sleep(timeout or 0.0)
        return self.is_set()


class _Walker:
    """One worker process, taking the steps that `Walk.run` takes, one at a time."""

    def __init__(self, world: World) -> None:
        self.busy = False
        self._world = world
        replicator = world.replicator()
        self._worker = Worker(
            StreamReader(world.streams.client, world.stream.arn),
            Delivery(
                lambda event: world.process(replicator, event),
                world.stream.arn,
                _Failures(world, world.place),
                world.health,
                now_ms=world.now_ms,
                stop=_Stop(world),
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

    def step(self) -> bool:
        """Look for shards or ask one shard once; whether there was anything to do."""
        readings = self._walk._readings
        if self._walk._listing_due <= self._world.monotonic() or self._world.random.random() < 0.1:
            before = len(readings)
            self._walk.look_for_shards()
            return len(readings) != before
        if not readings:
            return False
        names = sorted(readings)
        if self._world.random.random() < self._world.neglect:
            return self._ask(readings[names[0]])
        return self._ask(readings[self._world.random.choice(names)])

    def round(self) -> bool:
        """Look for shards and ask each shard once; whether there was anything to do."""
        readings = self._walk._readings
        before = set(readings)
        self._walk.look_for_shards()
        found = set(readings) != before
        went_on = [self._ask(reading) for reading in list(readings.values())]
        return found or any(went_on)

    def _ask(self, reading: Reading) -> bool:
        passed = reading.after, reading.iterator is None
        self._walk._step(reading)
        self._walk._settle(reading)
        if reading.finished:
            return True
        return (reading.after, reading.iterator is None) != passed

    def end(self) -> None:
        for shard_id in list(self._worker._passed):
            self._worker._save(shard_id, finished=False)

    def say(self) -> None:
        self._worker.on_state(caught_up=self._walk.at_end)


class World:
    """One run."""

    def __init__(self, seed: int, *, strict: bool = True) -> None:
        """`strict`: every write must raise its row's version, too, and no row may be taken away."""
        self.random = Random(seed)
        self._strict = strict
        self._interleave = self.random.choice((0.0, 0.1, 0.2, 0.4))
        self._faults = self.random.choice((0.0, 0.03, 0.2))
        self._budgets = self.random.choice(((60.0,), (0.05, 0.3, 60.0), (0.3,)))
        self._zeal: dict[str, float] = {}
        """How eager each actor is in this run, if it acts at all: runs differ, so that what is rare in one is common
        in another, and what one actor breaks no other mends."""
        self._hot: set[str] = set()
        """Lake rows whose partition takes no writes at the moment."""
        self.trace: list[str] = []
        self._now_ms = EPOCH_MS
        self._depth = 0
        self._calm = True
        self._labels = 0
        self._others_left = 0
        self._writing = 0
        """How much the source is written: less in the second half, so that others have the last word."""
        self._broken: list[str] = []
        self._failed_calls: list[Mapping[str, Any]] = []
        self._settled_calls: list[Mapping[str, Any]] = []
        self._walkers: list[_Walker] = []
        self._backfilling = False
        self._exports: list[tuple[StubFiles, Export]] = []
        self._ageing = self.random.random() < 0.25
        self.neglect = self.random.choice((0.0, 0.0, 0.9, 1.0))
        """How often a worker asks its first shard, and lets the others wait."""
        self._deletes = 0.35
        """The share of deletes among the source's writes."""
        self._specialise()
        self.retries = self.random.choice((0, 2))
        self.pointers = self.random.random() < 0.3
        """Whether the failure destination is a queue, which gets pointers into the stream alone."""
        self.pointed: dict[str, Any] = {}
        """What the pointers point to, for the checks; nobody else knows it."""
        self.keys = [{"pk": {"S": f"k{n}"}} for n in range(self.random.randint(1, 5))]
        hashes = self.random.random() < 0.2
        self.policy = Policy(
            {"email": "hash", "secret": "drop", "name": "mask", "pk": "hash" if hashes else "keep"},
            key_attributes=("pk",),
            hash_key=b"0123456789abcdef",
        )
        self.source = StubDynamoDB(validate=False, page_size=2)
        self.lake = StubDynamoDB(validate=False, page_size=3)
        self.streams = StubStreams(
            page_size=self.random.choice((1, 5, 20)), clock=self.monotonic, check=False
        )
        self.stream = self._new_stream()
        self.source_table = self.source.create_table(SOURCE, {"pk": "S"})
        self.lake_table = self.lake.create_table(LAKE, {"pk": "S"})
        self.lake_table.on_write = self._check_write
        self.lake.create_table(CHECKPOINTS, {PIPELINE: "S", ENTRY: "S"})
        self.lake.create_table(CATALOGUE, {TABLE: "S", OBSERVATION: "S"})
        self.checkpoints = Checkpoints(self.lake.client, CHECKPOINTS, LAKE)
        self.health = HealthStore(self.lake.client, CHECKPOINTS, LAKE, self.now_ms)
        self.place = _Place(self)
        for client in (self.source, self.lake, self.streams):
            client.hook = self._on_call

    # Clocks and chance

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000

    def table_stream(self) -> TableStream:
        return TableStream(self.now_ms(), self.stream.arn if self.stream.enabled else None)

    def sleep(self, seconds: float) -> None:
        self._now_ms += 1 + round(seconds * 1000)
        self._perhaps_others()

    def may_fail(self, chance: float) -> bool:
        return not self._calm and self.random.random() < chance

    # The run

    def run(self, steps: int) -> None:
        """Live through `steps` steps, then drain and check."""
        for _ in range(self.random.randint(0, 8)):
            self._write()
        if self.random.random() < 0.3:  # an export from before the stream was read: it must not be used
            self._take_export()
        for _ in range(self.random.randint(0, 3)):
            self._write()
        self._set_up()
        self._calm = False
        for step in range(steps):
            self._writing = 30 if step < steps // 2 else 4
            self._others_left = OTHERS
            self.act()
        self._calm = True
        for walker in self._walkers if self.random.random() < 0.7 else ():
            walker.end()
        self._drain()
        self._check_explained()
        self._redrive_and_redeliver()
        self._replay_everything()
        self._drain()
        self._check_explained()
        self._redrive_and_redeliver()
        self._operator()
        self._drain()
        self._check_equal()

    def act(self) -> None:
        """One step of one actor."""
        actors: list[tuple[int, Callable[[], None]]] = [
            (self._writing, self._write_some),
            (20, self._walk),
            (5, self._redeliver),
            (4, self._backfill),
            (5, self._mend),
            (4, self._redrive),
            (2, self._take_export),
            (3, self._backfill_from_export),
            (1, self._mend_exported_changes),
            (5, self._land),
            (3, self._reshape),
            (5, self._pass_time),
            (4, self._heat_or_cool),
        ]
        if self._depth == 0:
            actors += [(2, self._operator), (2, self._replace_worker)]
            if self._ageing:
                actors += [(4, self._a_day_passes), (3, self._switch_off_and_on)]
        steps = [step for _, step in actors]
        weights = [weight * self._zeal_of(step.__name__) for weight, step in actors]
        (step,) = self.random.choices(steps, weights)
        self.trace.append(f"{'  ' * self._depth}{step.__name__}")
        with suppress(Killed, IngestError, *_AWS_ERRORS):
            step()

    def _specialise(self) -> None:
        """Some runs are about one danger, and have nobody who would mend by chance what it broke."""
        kind = self.random.random()
        if kind > 0.2:
            return
        self._faults, self._interleave = 0.0, 0.4
        self._zeal = dict.fromkeys(
            ("_operator", "_mend", "_redrive", "_redeliver", "_replace_worker", "_heat_or_cool", "_land"), 0.0
        )
        self._zeal |= {"_walk": 4.0, "_write_some": 1.0}
        if kind < 0.1:  # one shard is read, and the others wait until they are trimmed
            self._ageing, self.neglect = True, 1.0
            self._zeal |= {"_a_day_passes": 2.0, "_backfill": 4.0, "_switch_off_and_on": 0.0}
        else:  # rows from before the stream are deleted while they are backfilled
            self._ageing, self.neglect, self._deletes = False, 0.0, 0.9
            self._zeal |= {"_backfill": 8.0}

    def _zeal_of(self, actor: str) -> float:
        if actor not in self._zeal:
            least = 0.3 if actor in ("_write_some", "_walk") else 0.0
            self._zeal[actor] = self.random.choice((least, 0.3, 1.0, 1.0, 4.0))
        return self._zeal[actor]

    def _on_call(self, call: Call) -> Fault | None:
        if self._calm:
            return None
        self._perhaps_others()
        key = call.request["Item"].get("pk", {}).get("S") if call.operation == "put_item" else None
        if key in self._hot:
            if self.random.random() < 0.2:
                self._hot.discard(key)
            return Fault(throttled())
        if self.random.random() >= self._faults:
            return None
        writes = call.service == "dynamodb" and call.operation in ("put_item", "update_item", "delete_item")
        effect: Effect = self.random.choice(_EFFECTS) if writes else "none"
        error: BaseException
        match self.random.randrange(6):
            case 0 | 1:
                error, effect = throttled(), "none"
            case 2:
                error = server_error()
            case 3:
                error = read_timeout()
            case 4:
                error, effect = connect_timeout(), "none"
            case _:
                error = Killed()
        self.trace.append(f"{'  ' * self._depth}! {call.operation} {type(error).__name__} {effect}")
        return Fault(error, effect)

    def _perhaps_others(self) -> None:
        if self._calm or not self._others_left or self.random.random() >= self._interleave / 2**self._depth:
            return
        self._depth += 1
        try:
            for _ in range(self.random.randint(1, 6)):
                self._others_left = max(0, self._others_left - 1)
                self.act()
        finally:
            self._depth -= 1

    # The actors

    def _set_up(self) -> None:
        """As the set-up does: the gap first, then the stream is noted."""
        self.source_table.stream = self.stream
        self.health.open_gap("before-the-stream", "not backfilled", "rows from before the stream")
        self.checkpoints.note_stream(StreamCheckpoint(self.stream.arn, self.now_ms()))

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

    def _walk(self) -> None:
        walker = next((each for each in self._walkers if not each.busy), None)
        if walker is None:
            if self._walkers and self.random.random() < 0.8:
                return
            walker = _Walker(self)
            self._walkers.append(walker)
            self._guarded(walker, walker.start)
        for _ in range(self.random.randint(2, 8)):
            self._guarded(walker, walker.step)
            self._now_ms += self.random.choice((1, 500, 6000))  # so that checkpoints move now and then
        self._guarded(walker, walker.say)

    def _guarded(self, walker: _Walker, step: Callable[[], object]) -> None:
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
        self._exports.append((files, open_export(files)))
        self._now_ms += 1

    def _backfill_from_export(self) -> None:
        """`dynalake backfill --source export:…`, from any export that there is, and is fit."""
        if self._backfilling or not self._exports:
            return
        files, export = self.random.choice(self._exports)
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
        self._a_redrive().run([_Shelf(self)], covers_all=True)

    def at_shelf(self) -> None:
        """A call to the bucket, folder or queue of quarantine and failure destination."""
        self._perhaps_others()
        if self.may_fail(self._faults):
            raise Killed if self.random.random() < 0.3 else QuarantineError("the place does not answer")

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
        self._now_ms += self.random.choice((6, 13, 25)) * 3_600_000
        horizon = self._now_ms - DAY_MS
        for stream in self.streams.streams.values():
            for shard in stream.shards.values():
                old = sum(_created_ms(record) < horizon for record in shard.records)
                stream.trim(shard.id, old)
                if shard.closed and old == len(shard.records):
                    stream.forget(shard.id)
        for calls in (self._failed_calls, self._settled_calls):
            calls[:] = [call for call in calls if _event_ms(call) >= horizon]

    def _settle_network_but_workers(self) -> None:
        while self.lake.landing:
            self._land()

    def _switch_off_and_on(self) -> None:
        """While it is off, changes leave no record."""
        self.stream.switch_off()
        self.source_table.stream = None
        for _ in range(self.random.randint(0, 2)):
            self._write()
        self._now_ms += 60_000
        self.stream = self._new_stream()
        self.source_table.stream = self.stream
        self._walkers.clear()

    # The parts

    def _new_stream(self) -> StubStream:
        self._labels += 1
        seconds, minutes = self._labels % 60, self._labels // 60
        stream = StubStream(
            SOURCE,
            label=f"2026-11-24T00:{minutes:02d}:{seconds:02d}.000",
            shards=self.random.randint(1, 3),
            now_ms=self.now_ms,
            first=self.random.randrange(10**21 - 40, 10**21),
        )
        self.streams.add(stream)
        return stream

    def _applier(self) -> Applier:
        return Applier(
            self.lake.client, LAKE, now_ms=self.now_ms, sleep=self.sleep, random=self.random, in_flight=1
        )

    def _observer(self) -> SchemaObserver:
        return SchemaObserver(self.lake.client, CATALOGUE, LAKE, self.now_ms)

    def replicator(self) -> Replicator:
        return Replicator(
            self._applier(),
            self.policy,
            Quarantine(self.place, "orders"),
            self._observer(),
            self.health,
            self.now_ms,
            origin=Origin(TABLE_ARN, replicated_ttl=""),
        )

    def _a_backfill(
        self, rows: Callable[[int | None], Rows] | None = None, export: Export | None = None
    ) -> Backfill:
        segments = self.random.randint(1, 2)
        return Backfill(
            rows or (lambda n: Scan(self.source.client, SOURCE, segments=n or segments, threads=1)),
            ("pk",),
            self._applier(),
            self.policy,
            Quarantine(self.place, "orders"),
            self._observer(),
            self.checkpoints,
            self.health,
            self.now_ms,
            source=SCAN if export is None else export.arn,
            as_of_ms=None if export is None else export.shows_ms,
        )

    def _a_repair(self, *, leave_same: bool = False) -> Repair:
        return Repair(
            self.source.client,
            SOURCE,
            self.lake.client,
            self._applier(),
            self.policy,
            Quarantine(self.place, "orders"),
            self._observer(),
            self.now_ms,
            leave_same=leave_same,
        )

    def _a_redrive(self) -> Redrive:
        return Redrive(
            self._a_repair(leave_same=True),
            Reader("orders", TABLE_ARN, ("pk",)),
            lambda arn: StreamReader(self.streams.client, arn),
            self.health,
            now_ms=self.now_ms,
            sleep=self.sleep,
        )

    # What must hold

    def _check_write(self, old: Item | None, new: Item | None) -> None:
        """Every write to a row raises its version, and no row is taken away."""
        if new is None:
            self._broken.append("a row was deleted from the lake, not buried")
        elif old is not None and not new[VERSION]["S"] > old[VERSION]["S"]:
            self._broken.append(f"a version went from {old[VERSION]['S']} to {new[VERSION]['S']}")

    def _drain(self) -> None:
        """Let everything come to its end, without another fault."""
        self._settle_network()
        walker = _Walker(self)
        walker.start()
        self.streams.empty_answers = self.streams.rewind = 0
        quiet = 0
        while quiet < 2:
            quiet = 0 if walker.round() else quiet + 1
            self._now_ms += 10_000
        if any(gap.kind == "not backfilled" for gap in self.health.gaps()):
            self._a_backfill().run()

    def _redrive_and_redeliver(self) -> None:
        """What comes late, after a redrive settled it and perhaps said that nothing is missing, does no harm."""
        self._redrive()
        self._check_explained()
        for event in self.random.sample(self._failed_calls, min(10, len(self._failed_calls))):
            self.process(self.replicator(), event)
            self._check_explained()

    def _replay_everything(self) -> None:
        for event in [*self._settled_calls, *self._failed_calls]:
            self.replicator().process(event)

    def _expected(self, key: Mapping[str, Any]) -> Item | None:
        item = self.source_table.get(key)
        return None if item is None else self.policy.apply(from_boto3(item))

    def _shown(self, key: Mapping[str, Any]) -> Item | None:
        row = self.lake_table.get(self.policy.apply(key))
        if row is None or DELETED in row:
            return None
        return from_boto3({name: value for name, value in row.items() if not name.startswith("_lake_")})

    def _differing(self) -> Sequence[Mapping[str, Any]]:
        return [key for key in self.keys if self._expected(key) != self._shown(key)]

    def _refused(self, key: Mapping[str, Any]) -> bool:
        item = self.source_table.get(key) or {}
        return "_lake_version" in item or "large" in item

    def _check_explained(self) -> None:
        """What differs after the drain is known to be missing: never silently."""
        if self._broken and self._strict:
            raise DivergedError(self._broken[0])
        differing = self._differing()
        gaps = self.health.gaps()
        if differing and not gaps:
            raise DivergedError(f"{differing} differ, and no gap is open")
        if {gap.kind for gap in gaps} <= {"given up"}:
            silent = [key for key in differing if key not in self._put_away()]
            if silent:
                raise DivergedError(f"{silent} differ, and were not put away")
        self._check_deletes()

    def _put_away(self) -> list[Any]:
        """The keys of everything that quarantine and failure destination hold."""
        keys: list[Any] = []
        for name, document in self.place.documents.items():
            payload = document.get("payload", self.pointed.get(name))
            records = payload["Records"] if payload else [document.get("record")]
            keys += [record["dynamodb"]["Keys"] for record in records if record]
            if "item" in document:
                keys.append({"pk": document["item"]["pk"]})
        return keys

    def _check_equal(self) -> None:
        """After a repair the lake is the source, but for what no lake row can hold."""
        wrong = [key for key in self._differing() if not self._refused(key)]
        if any(map(self._refused, self.keys)) and not self.health.gaps():
            raise DivergedError("an item that no lake row can hold, and no gap says so")
        if wrong:
            raise DivergedError(
                f"{wrong}: the source has {list(map(self._expected, wrong))}, the lake {list(map(self._shown, wrong))}"
            )
        self._check_deletes()

    def _check_deletes(self) -> None:
        """What is deleted in the source shows in the lake only as long as a gap says so."""
        if self.health.gaps():
            return
        for key in self.keys:
            row = self.lake_table.get(self.policy.apply(key))
            if row is not None and (DELETED in row) != (self.source_table.get(key) is None):
                raise DivergedError(f"{key}: a tombstone of an item that lives, or a row of one that is gone")


_EFFECTS: Final[tuple[Effect, ...]] = ("none", "done", "later")
_AWS_ERRORS: Final = (type(throttled()), type(read_timeout()), type(connect_timeout()))


def _created_ms(record: Mapping[str, Any]) -> int:
    return int(record["dynamodb"]["ApproximateCreationDateTime"].timestamp()) * 1000


def _event_ms(event: Mapping[str, Any]) -> float:
    return float(event["Records"][0]["dynamodb"]["ApproximateCreationDateTime"]) * 1000


def run(seed: int, *, strict: bool = True) -> World:
    """One run; raises DivergedError, whose text says how to see it again."""
    world = World(seed, strict=strict)
    try:
        world.run(steps=world.random.randint(5, 40))
    except DivergedError as error:
        raise DivergedError(
            f"seed {seed}: {error}; see it again with run({seed}) of tests.ingest.model"
        ) from None
    return world
