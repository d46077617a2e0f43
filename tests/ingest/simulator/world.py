"""The simulated world: its accounts, its clocks and chance, its faults, and the real parts at work in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from ingest.apply import Applier
from ingest.backfill import SCAN, Backfill, Rows
from ingest.checkpoints import Checkpoints
from ingest.documents import Reader
from ingest.errors import QuarantineError, SourceError
from ingest.handler import BatchReport, Replicator
from ingest.health import HealthStore
from ingest.observe import SchemaObserver
from ingest.policy import Action, Policy
from ingest.quarantine import Quarantine
from ingest.records import Origin
from ingest.redrive import Redrive
from ingest.repair import Repair
from ingest.scan import Scan
from ingest.shards import StreamReader
from lake.contract.catalogue import OBSERVATION, TABLE
from lake.contract.evidence import Observed, TableStream
from lake.contract.exports import Export
from lake.contract.health import ENTRY, GAP_PREFIX, HEALTH_ENTRY, PIPELINE, Gap, Health
from tests.ingest.simulator.places import Place
from tests.ingest.simulator.readers import FunctionReader
from tests.stubs.dynamodb import Item, StubDynamoDB
from tests.stubs.exports import StubFiles
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
from tests.stubs.streams import StubShard, StubStream, StubStreams

if TYPE_CHECKING:
    from tests.ingest.simulator.readers import Walker

SOURCE: Final = "orders"
TABLE_ARN: Final = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders"
LAKE: Final = "dynalake.shop.orders"
CHECKPOINTS: Final = "dynalake.checkpoints"
CATALOGUE: Final = "dynalake.catalogue"

MAX_ITEM_BYTES: Final = 4096
"""What an item may have here, so that a run spends no time on DynamoDB's 400 KB."""

LATE_MS: Final = 60_000
"""For so long may a list of shards miss what is new, and may one that flaps miss anything."""

OTHERS: Final = 10
"""Steps of others during one step; more would be one long step."""

DAY_MS: Final = 24 * 3600 * 1000
EPOCH_MS: Final = 1_795_478_400_000
"""2026-11-24, the day of the first stream's label."""


class DivergedError(AssertionError):
    """A run broke a promise."""


_EFFECTS: Final[tuple[Effect, ...]] = ("none", "done", "later")
AWS_ERRORS: Final = (type(throttled()), type(read_timeout()), type(connect_timeout()))


class _RememberingPolicy(Policy):
    """A policy that computes the hash of each text once."""

    def __init__(self, actions: Mapping[str, Action], **more: Any) -> None:
        self._hashed: dict[str, str] = {}
        super().__init__(actions, **more)

    def _hash(self, value: Mapping[str, Any]) -> str:
        text = value.get("S")
        if text is None:
            return super()._hash(value)
        if text not in self._hashed:
            self._hashed[text] = super()._hash(value)
        return self._hashed[text]


class WorldBase:
    """One run's world, in which nothing acts yet."""

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
        self._chances: dict[tuple[bool, int, bool], tuple[list[str], list[float]]] = {}
        """Who may act, and how likely each or one before it is: at the top or nested, by how much is written, and by
        the stream's state."""
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
        self._walkers: list[Walker] = []
        self.by_function = self.random.random() < 0.25
        """Whether Lambda reads the stream, and no worker."""
        self._meddled = 0
        """How often somebody changed the function's event source mapping."""
        self._flaps = self.random.random() < 0.4
        """Whether lists of shards miss some now and then, old ones included."""
        self._lags = self.random.random() < 0.5
        """Whether lists of shards show what is new only a while after."""
        self._flapping_until = 0
        self._listed: set[str] = set()
        """The shards that were listed once: a list does not miss one for its whole life."""
        self._watched: list[StubShard] = []
        """Of the shards that were there at the last list, those that were new, open or closed lately."""
        self._known_shards = 0
        self._unrecorded: set[str] = set()
        """Keys of the items whose last change left no record, since the stream was off."""
        self._observed: Observed | None = None
        """The observations as they were last read; None where they were written since."""
        self._gaps: list[Gap] | None = None
        """Likewise the open gaps."""
        self._judged: tuple[int, Health] | None = None
        """What both allowed to say, and when; None where either was written since."""
        self.said: Counter[str] = Counter()
        """How often health said what, each time it was asked."""
        self._consumed: Health | None = None
        """The health that the consumers agreed on last."""
        self._touched: set[str] = set()
        """Lake keys of the items or rows that were written since both sides were last compared."""
        self._unequal: set[str] = set()
        """Lake keys of the items that differed then."""
        self._lacking_since: dict[str, int] = {}
        """Since when the lake was seen to lack an item that is not on its way, epoch milliseconds."""
        self._backfilling = False
        self._exports: list[StubFiles] = []
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
        self.policy = _RememberingPolicy(
            {"email": "hash", "secret": "drop", "name": "mask", "pk": "hash" if hashes else "keep"},
            key_attributes=("pk",),
            hash_key=b"0123456789abcdef",
        )
        self._keys_by_name = {self.policy.apply(key)["pk"]["S"]: key for key in self.keys}
        self._touched.update(self._keys_by_name)
        self.source = StubDynamoDB(validate=False, page_size=2)
        self.lake = StubDynamoDB(validate=False, page_size=3, max_item_bytes=MAX_ITEM_BYTES)
        self.streams = StubStreams(
            page_size=self.random.choice((1, 5, 20)), clock=self.monotonic, check=False
        )
        self.stream = self._new_stream()
        self.function = FunctionReader(self)
        self.source_table = self.source.create_table(SOURCE, {"pk": "S"})
        self.source_table.on_write = self._note_write
        self.lake_table = self.lake.create_table(LAKE, {"pk": "S"})
        self.lake_table.on_write = self._note_row
        self.lake.create_table(CHECKPOINTS, {PIPELINE: "S", ENTRY: "S"}).on_write = self._note_entry
        self.lake.create_table(CATALOGUE, {TABLE: "S", OBSERVATION: "S"})
        self.checkpoints = Checkpoints(self.lake.client, CHECKPOINTS, LAKE)
        self.health = HealthStore(self.lake.client, CHECKPOINTS, LAKE, self.now_ms)
        onlooker = StubDynamoDB(validate=False)
        onlooker.tables = self.lake.tables
        self.seen_health = HealthStore(onlooker.client, CHECKPOINTS, LAKE, self.now_ms)
        """What another reader of the lake sees, whose calls nothing overtakes."""
        self.place = Place(self)
        for client in (self.source, self.lake, self.streams):
            client.hook = self._on_call

    # Clocks and chance

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000

    def table_stream(self) -> TableStream:
        """What DescribeTable says of the source table's stream; Raises SourceError where it fails."""
        if self.may_fail(self._faults):
            raise SourceError("the table could not be described")
        return TableStream(self.now_ms(), self.stream.arn if self.stream.enabled else None)

    def sleep(self, seconds: float) -> None:
        self._now_ms += 1 + round(seconds * 1000)
        self._perhaps_others()

    def may_fail(self, chance: float) -> bool:
        return not self._calm and self.random.random() < chance

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
            self._zeal |= {"_a_day_passes": 2.0, "_backfill": 4.0, "_switch": 0.0}
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
        if call.operation == "describe_stream":
            self._blur_list()
        elif self._hot and call.operation == "put_item" and self._is_hot(call.request["Item"]):
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

    def _is_hot(self, item: Item) -> bool:
        """Whether an item's partition takes no writes; it may cool down after this one."""
        key = item.get("pk", {}).get("S")
        if key not in self._hot:
            return False
        if self.random.random() < 0.2:
            self._hot.discard(key)
        return True

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

    def _blur_list(self) -> None:
        """What the next page of a list of shards misses; each page anew, so that pages do not agree."""
        self.streams.unlisted, self.streams.closed_unseen = set(), set()
        flapping = self._now_ms < self._flapping_until
        if not self._flaps and not self._lags:
            return
        watched: list[StubShard] = []
        for shard in self._all_shards() if flapping else self._watched_shards():
            is_new = self._now_ms - shard.born_ms < LATE_MS
            if (is_new or (flapping and shard.id in self._listed)) and self.random.random() < 0.5:
                self.streams.unlisted.add(shard.id)
            else:
                self._listed.add(shard.id)
            late = shard.closed and (flapping or self._now_ms - shard.closed_ms < LATE_MS)
            if late and self.random.random() < 0.5:
                self.streams.closed_unseen.add(shard.id)
            if is_new or late or not shard.closed:
                watched.append(shard)
        if not flapping:
            self._watched = watched

    def _all_shards(self) -> list[StubShard]:
        return [shard for stream in self.streams.streams.values() for shard in stream.shards.values()]

    def _watched_shards(self) -> list[StubShard]:
        """The shards of which a list that does not flap may miss something: not those closed and listed long ago."""
        shards = sum(len(stream.ids) for stream in self.streams.streams.values())
        if shards == self._known_shards:
            return self._watched
        new = self._all_shards()
        seen, self._known_shards = self._known_shards, shards
        return self._watched + new[seen:]

    def _calm_down(self) -> None:
        """No more faults, and nobody acts but who is told to."""
        self._calm = True
        self.streams.unlisted, self.streams.closed_unseen = set(), set()

    def _note_entry(self, old: Item | None, new: Item | None) -> None:
        """Told of every write to the checkpoint table."""
        item = new or old or {}
        entry = item[ENTRY]["S"] if item else ""
        if entry == HEALTH_ENTRY:
            self._observed = self._judged = None
        elif entry.startswith(GAP_PREFIX):
            self._gaps = self._judged = None

    def _note_row(self, old: Item | None, new: Item | None) -> None:
        """Told of every write to the lake table."""
        self._touched.update(item["pk"]["S"] for item in (old, new) if item)
        self._check_write(old, new)

    def _note_write(self, old: Item | None, new: Item | None) -> None:
        """Told of every write to the source table, before it is recorded."""
        if old == new:
            return
        key = {"pk": cast("Item", new or old)["pk"]}
        self._touched.add(self.policy.apply(key)["pk"]["S"])
        if self.source_table.stream is None:
            self._unrecorded.add(key["pk"]["S"])
        else:
            self._unrecorded.discard(key["pk"]["S"])

    def at_shelf(self) -> None:
        """A call to the bucket, folder or queue of quarantine and failure destination."""
        self._perhaps_others()
        if self.may_fail(self._faults):
            raise Killed if self.random.random() < 0.3 else QuarantineError("the place does not answer")

    def act(self) -> None:
        """One step of one actor."""
        raise NotImplementedError

    def process(self, replicator: Replicator, event: Mapping[str, Any]) -> BatchReport:
        """A call of the handler."""
        raise NotImplementedError

    def _check_write(self, old: Item | None, new: Item | None) -> None:
        """What a write to the lake table must keep to."""
        raise NotImplementedError

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
