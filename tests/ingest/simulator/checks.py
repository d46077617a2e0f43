"""What must hold in the simulated world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dynalake.cli.replicate import health_document
from expectations.history import Check
from expectations.report.page import Subject
from expectations.suites import Outcome
from ingest.wire import from_boto3
from lake.contract import evidence
from lake.contract.evidence import FUNCTION_SILENT_S, WORKER_SILENT_S
from lake.contract.health import ENTRY, PIPELINE, Gap, Health
from lake.contract.rows import DELETED, VERSION
from tests.ingest.simulator.readers import AGE_WINDOW_MS, Walker
from tests.ingest.simulator.world import CHECKPOINTS, LAKE, DivergedError, WorldBase
from tests.stubs.dynamodb import Item
from tests.stubs.streams import StubShard, StubStream

SILENT_MS: Final = {"worker": WORKER_SILENT_S * 1000, "function": FUNCTION_SILENT_S * 1000}
QUIET_MS: Final = 61_000
"""An answer of a shard counts for a minute (`ingest.walk`), and DynamoDB tells whole seconds."""

UNLISTED_MS: Final = 181_000
"""Lists of a new stream's shards may miss one for a minute more, and a list counts for two (`ingest.worker`)."""

NEW_STREAM_MS: Final = 300_000

ROUNDS: Final = 400
"""More than any run needs until it has read everything."""

_PASSED: Final = Check(
    "orders", 0, (Outcome("parity", "both sides are the same", "pass"),), None, None, None, ()
)


def _of_report(health: Health) -> bool:
    return Subject("orders", "orders", LAKE, [_PASSED], [], health, [], []).verdict != "fail"


CONSUMERS: Final[Mapping[str, Callable[[Health], bool]]] = {
    "status, run and parity": lambda health: bool(health_document(health)["complete"]),
    "snapshot, refresh, follow, export and publish": lambda health: health.complete and not health.lacking,
    "report": _of_report,
}
"""Whether each consumer of health would take the lake for complete."""


class Checks(WorldBase):
    """A world whose promises are checked."""

    # What must hold

    def _settle_network(self) -> None:
        raise NotImplementedError

    def _switch_on(self) -> None:
        raise NotImplementedError

    def _redeploy(self) -> None:
        raise NotImplementedError

    def _look(self) -> None:
        raise NotImplementedError

    def _redrive(self) -> None:
        raise NotImplementedError

    def _check_write(self, old: Item | None, new: Item | None) -> None:
        """Every write to a row raises its version, and no row is taken away."""
        if new is None:
            self._broken.append("a row was deleted from the lake, not buried")
        elif old is not None and not new[VERSION]["S"] > old[VERSION]["S"]:
            self._broken.append(f"a version went from {old[VERSION]['S']} to {new[VERSION]['S']}")

    def _drain(self) -> None:
        """Let everything come to its end, without another fault."""
        self._settle_network()
        if not self.stream.enabled:
            self._switch_on()
        self.streams.empty_answers = self.streams.rewind = 0
        if self.by_function:
            self._redeploy()
            while self.function.step():
                pass
            self._now_ms += AGE_WINDOW_MS + 1  # until the age of the last batch says nothing any more
            self._look()
        else:
            self._read_to_end()
        if any(gap.kind == "not backfilled" for gap in self.health.gaps()):
            self._a_backfill().run()
        self._check_remembered()
        health = self.ask()
        if health.state not in ("caught up", "gap"):
            raise DivergedError(f"everything is read, and the health is {health.state}: {health.reason}")

    def _read_to_end(self) -> None:
        walker = Walker(self)
        walker.start()
        quiet = 0
        for _ in range(ROUNDS):
            quiet = 0 if walker.round(list_always=False) else quiet + 1
            self._now_ms += 1000
            if quiet >= 2 and walker.at_end:
                walker.say()
                return
        raise DivergedError("the worker never comes to the stream's end")

    # What health says

    def ask(self) -> Health:
        """Every consumer of health asks: none may take the lake for complete on evidence that does not show it.

        What the lake lacks, and is not on its way, was lost at some moment: evidence of a later one has to know it.

        Raises:
            DivergedError: one does.
        """
        now = self._now_ms
        health = self._judge()
        self.said[health.state] += 1
        differing = self._differing()
        lost = [key["pk"]["S"] for key in differing if not self._on_its_way(key)]
        self._lacking_since = {key: self._lacking_since.get(key, now) for key in lost}
        if health != self._consumed:  # each says the same of the same health
            for consumer, takes_for_complete in CONSUMERS.items():
                if takes_for_complete(health) != health.complete:
                    raise DivergedError(f"{consumer} does not go by the health, which is {health}")
            self._consumed = health
        if not health.complete:
            return health
        if health.checked_at is None or health.by is None or now - health.checked_at > SILENT_MS[health.by]:
            raise DivergedError(f"{health.state} on evidence that is too old: {health}")
        unknown = [key for key, since in self._lacking_since.items() if since < health.checked_at]
        if unknown:
            raise DivergedError(f"{health.state} and complete, and {unknown} are lost: {health}")
        if health.state == "caught up" and health.by == "worker":
            self._check_caught_up(differing, health.at or 0)
        return health

    def _judge(self) -> Health:
        """What the stored evidence allows to say now; it is read and judged again where it or the time changed."""
        gaps = self._open_gaps()
        if self._observed is None:
            self._observed = self.seen_health.observed()
        if self._judged is None or self._judged[0] != self._now_ms:
            self._judged = self._now_ms, evidence.judge(self._observed, gaps, self._now_ms, "orders")
        return self._judged[1]

    def _open_gaps(self) -> list[Gap]:
        if self._gaps is None:
            self._gaps = self.seen_health.gaps()
        return self._gaps

    def _check_caught_up(self, differing: Sequence[Mapping[str, Any]], at: int) -> None:
        """What was written a while before a worker said that it was caught up has been applied."""
        for key in differing:
            found = self._last_record(key)
            if found is None or key["pk"]["S"] in self._unrecorded:
                continue  # it lacks a change without a record, and not its last record
            stream, shard, index = found
            is_new = at - min(each.born_ms for each in stream.shards.values()) < NEW_STREAM_MS
            bound = UNLISTED_MS if is_new else QUIET_MS
            written = shard.records[index]["dynamodb"]["ApproximateCreationDateTime"].timestamp() * 1000
            if written < at - bound:
                raise DivergedError(
                    f"caught up, and {key} waits since {written:.0f}, {(at - written) / 1000:.0f} s before"
                )

    def _on_its_way(self, key: Mapping[str, Any]) -> bool:
        """Whether an item's last change is in the stream still, and whoever reads it has not passed it."""
        if key["pk"]["S"] in self._unrecorded:
            return False
        found = self._last_record(key)
        if found is None:
            return False
        stream, shard, index = found
        if index < shard.trimmed or not shard.listed:
            return False
        if self.by_function:
            return stream.arn == self.function.arn and self.function.waits_for(shard.id, index)
        number = int(shard.records[index]["dynamodb"]["SequenceNumber"])
        readers = [walker for walker in self._walkers if walker.reads(stream)]
        if any(walker.has_passed(shard.id, number) for walker in readers):
            return False
        entries = self.lake.tables[CHECKPOINTS]
        noted = entries.get({PIPELINE: {"S": LAKE}, ENTRY: {"S": "stream"}})
        if (
            noted is not None
            and noted["arn"]["S"] != stream.arn
            and stream is not self.stream
            and not readers
        ):
            return False
        saved = entries.get({PIPELINE: {"S": LAKE}, ENTRY: {"S": f"shard/{stream.label}/{shard.id}"}})
        if saved is None:
            return True
        return not saved["finished"]["BOOL"] and int(saved.get("sequence_number", {"S": "0"})["S"]) < number

    def _last_record(self, key: Mapping[str, Any]) -> tuple[StubStream, StubShard, int] | None:
        """Where an item's last change was recorded."""
        wanted = repr(key)
        for stream in reversed(self.streams.streams.values()):
            if wanted in stream.last:
                return stream, *stream.last[wanted]
        return None

    # What the lake holds

    def _redrive_and_redeliver(self) -> None:
        """What comes late, after a redrive settled it and perhaps said that nothing is missing, does no harm."""
        self._redrive()
        self._check_explained()
        replicator = self.replicator()
        for event in self.random.sample(self._failed_calls, min(10, len(self._failed_calls))):
            self.process(replicator, event)
            self._check_explained()

    def _replay_everything(self) -> None:
        """Every call that was made comes once more, to one function that stays warm."""
        replicator = self.replicator()
        for event in {id(event): event for event in (*self._settled_calls, *self._failed_calls)}.values():
            replicator.process(event)

    def _expected(self, key: Mapping[str, Any]) -> Item | None:
        item = self.source_table.get(key)
        return None if item is None else self.policy.apply(from_boto3(item))

    def _shown(self, key: Mapping[str, Any]) -> Item | None:
        row = self.lake_table.get(self.policy.apply(key))
        if row is None or DELETED in row:
            return None
        return from_boto3({name: value for name, value in row.items() if not name.startswith("_lake_")})

    def _differing(self) -> Sequence[Mapping[str, Any]]:
        """The keys of the items that the lake shows otherwise; only those that were written since are compared anew."""
        if self._touched:
            for name, key in self._keys_by_name.items():
                if name in self._touched:
                    differs = self._expected(key) != self._shown(key)
                    (self._unequal.add if differs else self._unequal.discard)(name)
            self._touched.clear()
        return (
            [key for name, key in self._keys_by_name.items() if name in self._unequal]
            if self._unequal
            else []
        )

    def _check_remembered(self) -> None:
        """What is not looked at again at every step is as it was: the comparison of both sides, and the evidence."""
        differing = self._differing()
        assert differing == [key for key in self.keys if self._expected(key) != self._shown(key)]
        assert self._observed in (None, self.health.observed())
        assert self._gaps in (None, self.health.gaps())

    def _refused(self, key: Mapping[str, Any]) -> bool:
        item = self.source_table.get(key) or {}
        return "_lake_version" in item or "large" in item

    def _check_explained(self) -> None:
        """What differs after the drain is known to be missing: never silently."""
        if self._broken and self._strict:
            raise DivergedError(self._broken[0])
        differing = self._differing()
        gaps = self._open_gaps()
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
            if "foreign/" in name:
                continue  # of another table
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
        if self._open_gaps():
            return
        for key in self.keys:
            row = self.lake_table.get(self.policy.apply(key))
            if row is not None and (DELETED in row) != (self.source_table.get(key) is None):
                raise DivergedError(f"{key}: a tombstone of an item that lives, or a row of one that is gone")
