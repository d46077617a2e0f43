"""Wrong versions of single steps of ingest, as a careless hand might write them.

Each takes pytest's monkeypatch and breaks one thing that the design calls necessary.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import pytest

import ingest.apply
import ingest.backfill
import ingest.handler
import ingest.heartbeat
import ingest.records
import ingest.repair
import ingest.shards
import ingest.walk
from ingest.apply import Applier, Outcome
from ingest.backfill import Backfill
from ingest.handler import Replicator, _Batch
from ingest.health import HealthStore
from ingest.lakewriter import PlainWriter
from ingest.mapping import MappingFault
from ingest.records import Record, key_identity, sequence_number
from ingest.repair import Repair
from ingest.scan import Page
from ingest.shards import Listing, Shard, StreamReader
from ingest.walk import Walk
from ingest.wire import to_boto3
from ingest.worker import Worker
from lake.contract import evidence
from lake.contract.evidence import TableStream
from lake.contract.health import Gap, GapKind
from lake.contract.rows import Change, is_tombstone, version_of
from lake.contract.versions import ABSENT, Version, read_over
from tests.ingest import model

Patch = pytest.MonkeyPatch
_condition = ingest.apply.condition


def no_condition(patch: Patch) -> None:
    patch.setattr(ingest.apply, "condition", lambda _: {})


def last_write_wins_by_second(patch: Patch) -> None:
    """The guard of others: by the change's time, which has whole seconds."""

    def condition(change: Change) -> dict[str, Any]:
        if change.read_over is not None or change.source_at is None:
            return _condition(change)
        return {
            "ConditionExpression": "attribute_not_exists(#at) OR #at < :at",
            "ExpressionAttributeNames": {"#at": "_lake_source_at"},
            "ExpressionAttributeValues": {":at": {"N": str(change.source_at)}},
        }

    patch.setattr(ingest.apply, "condition", condition)


def not_older_instead_of_newer(patch: Patch) -> None:
    """`<=` for `<`: shows the same, but a redelivery writes the row again, with the same version."""

    def condition(change: Change) -> dict[str, Any]:
        made = _condition(change)
        return made | {"ConditionExpression": made["ConditionExpression"].replace(" < ", " <= ")}

    patch.setattr(ingest.apply, "condition", condition)


def real_deletes(patch: Patch) -> None:
    put = Applier._put

    def delete_or_put(self: Applier, change: Change) -> None:
        if change.image is not None:
            put(self, change)
            return
        assert isinstance(self._writer, PlainWriter)
        self._writer._dynamodb.delete_item(
            TableName=self._table, Key=to_boto3(change.key), **_condition(change)
        )

    patch.setattr(Applier, "_put", delete_or_put)


def no_tombstone_where_no_row_is(patch: Patch) -> None:
    def condition(change: Change) -> dict[str, Any]:
        made = _condition(change)
        if change.image is None and change.read_over is None:
            made["ConditionExpression"] = "#version < :version"
        return made

    patch.setattr(ingest.apply, "condition", condition)


def backfill_overwrites(patch: Patch) -> None:
    patch.setattr(
        ingest.apply, "condition", lambda change: {} if change.read_over == ABSENT else _condition(change)
    )


def backfill_that_is_newest(patch: Patch) -> None:
    patch.setattr(ingest.backfill, "FILLS_ABSENT", Version("9999"))


def backfill_checkpoint_before_its_page(patch: Patch) -> None:
    fill, save = Backfill._fill, Backfill._save

    def fill_later(self: Backfill, page: Page, totals: dict[str, int]) -> None:
        self._later = functools.partial(fill, self, page, totals)  # type: ignore[attr-defined]

    def save_first(self: Backfill, plan: Any, page: Page) -> None:
        save(self, plan, page)
        self._later()  # type: ignore[attr-defined]

    patch.setattr(Backfill, "_fill", fill_later)
    patch.setattr(Backfill, "_save", save_first)


def repair_reads_the_source_first(patch: Patch) -> None:
    def read(self: Repair, key: Mapping[str, Any], *known: Version) -> Change | None:
        item = self._get(self._source, self._source_table, key)
        lake_key = self._policy.apply(key)
        row = self._get(self._lake, self._applier.table, lake_key)
        seen = version_of(row)
        if item is None:
            if (row is None or is_tombstone(row)) and not any(version > seen for version in known):
                return None
            return Change(lake_key, None, read_over(seen, *known), read_over=seen)
        ingest.records.refuse_reserved(item)
        return Change(lake_key, self._policy.apply(item), read_over(seen, *known), read_over=seen)

    patch.setattr(Repair, "_read", read)


def repair_without_condition(patch: Patch) -> None:
    def condition(change: Change) -> dict[str, Any]:
        return {} if change.read_over not in (None, ABSENT) else _condition(change)

    patch.setattr(ingest.apply, "condition", condition)


def repair_without_revision(patch: Patch) -> None:
    def without_revision(seen: Version, *known: Version) -> Version:
        return read_over(seen, *known) if seen == ABSENT else max([seen, *known])

    patch.setattr(ingest.repair, "read_over", without_revision)


def repair_keeps_rows_gone_from_the_source(patch: Patch) -> None:
    read = Repair._read

    def no_tombstones(self: Repair, key: Mapping[str, Any], *known: Version) -> Change | None:
        change = read(self, key, *known)
        return None if change is None or change.image is None else change

    patch.setattr(Repair, "_read", no_tombstones)


def repair_trusts_the_old_image(patch: Patch) -> None:
    """Mends from the first image that was ever read of a key, as one that mends from quarantine would."""
    get = Repair._get
    remembered: dict[Any, Any] = {}

    def once(dynamodb: Any, table: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        found = get(dynamodb, table, key)
        if table.startswith("dynalake."):
            return found
        return remembered.setdefault((id(dynamodb), key_identity(key)), found)

    patch.setattr(Repair, "_get", staticmethod(once))


def highest_failed_reported(patch: Patch) -> None:
    patch.setattr(_Batch, "failed_from", property(lambda self: max(self._failed, key=int, default=None)))


def nothing_failed_reported(patch: Patch) -> None:
    patch.setattr(_Batch, "failed_from", None)


def first_change_of_a_key_wins(patch: Patch) -> None:
    def first(changes: Iterable[Change]) -> list[Change]:
        kept: dict[Any, Change] = {}
        for change in changes:
            kept.setdefault(key_identity(change.key), change)
        return list(kept.values())

    patch.setattr(ingest.handler, "last_change_per_key", first)


def throttled_is_taken_for_stale(patch: Patch) -> None:
    attempt = Applier._try

    def shrug(self: Applier, change: Change) -> tuple[Outcome, str]:
        outcome, reason = attempt(self, change)
        return (Outcome.STALE if outcome is Outcome.FAILED else outcome), reason

    patch.setattr(Applier, "_try", shrug)


def quarantine_is_best_effort(patch: Patch) -> None:
    put_away = Replicator._put_away

    def shrug(self: Replicator, batch: _Batch, record: Record, *args: Any, **more: Any) -> None:
        put_away(self, batch, record, *args, **more)
        number = sequence_number(record)
        batch._failed = [failed for failed in batch._failed if failed != number]

    patch.setattr(Replicator, "_put_away", shrug)


def quarantine_without_gap(patch: Patch) -> None:
    patch.setattr(HealthStore, "given_up", lambda *_: None)


def checkpoint_before_apply(patch: Patch) -> None:
    deliver = Worker.on_records

    def save_first(self: Worker, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        self._passed[shard_id] = records[-1]["dynamodb"]["SequenceNumber"]
        self._save(shard_id, finished=False)
        deliver(self, shard_id, records)

    patch.setattr(Worker, "on_records", save_first)


def parents_not_first(patch: Patch) -> None:
    """Children are read beside their parents, and the parents' rest is not waited for: only versions save it."""

    def readable(shards: Mapping[str, Shard], finished: frozenset[str] | set[str]) -> list[Shard]:
        return [shard for shard in shards.values() if shard.id not in finished]

    patch.setattr(ingest.walk, "readable", readable)


def parents_forgotten(patch: Patch) -> None:
    """A shard that was closed before anybody read it is passed over."""

    def readable(shards: Mapping[str, Shard], finished: frozenset[str] | set[str]) -> list[Shard]:
        return [shard for shard in shards.values() if shard.id not in finished and not shard.closed]

    patch.setattr(ingest.walk, "readable", readable)


def trimmed_in_silence(patch: Patch) -> None:
    patch.setattr(Worker, "on_trimmed", lambda *_: None)


def absence_in_silence(patch: Patch) -> None:
    patch.setattr(Worker, "_note_absence", lambda _: None)


def unread_shard_in_silence(patch: Patch) -> None:
    """A shard that never gave a record is read from what is left of it, whenever that is."""
    patch.setattr(Worker, "_note_unread", lambda *_: None)


def another_stream_in_silence(patch: Patch) -> None:
    open_gap = HealthStore.open_gap

    def unless(self: HealthStore, identity: str, kind: GapKind, detail: str) -> bool:
        return False if kind == "stream changed" else open_gap(self, identity, kind, detail)

    patch.setattr(HealthStore, "open_gap", unless)


def expired_iterator_starts_at_the_end(patch: Patch) -> None:
    iterator = StreamReader.iterator

    def latest(self: Any, shard_id: str, after: str | None, otherwise: Any = "LATEST") -> str:
        return iterator(self, shard_id, after, otherwise)

    patch.setattr(StreamReader, "iterator", latest)


def sequence_numbers_not_padded(patch: Patch) -> None:
    patch.setattr(ingest.records, "streamed", lambda label, number: Version(f"{label}/{number}"))


def versions_without_label(patch: Patch) -> None:
    patch.setattr(ingest.records, "streamed", lambda _, number: Version(f"2026T/{number.zfill(40)}"))


def gaps_closed_by_time(patch: Patch) -> None:
    """A repair closes every gap that is open at its end, those found meanwhile included."""
    close = HealthStore.close_gaps

    def all_of_them(self: HealthStore, mended_by: str, began_ms: int) -> list[Gap]:
        return close(self, mended_by, self._now_ms())

    patch.setattr(HealthStore, "close_gaps", all_of_them)


def gap_found_again_unconditionally(patch: Patch) -> None:
    """Noting again and closing race: the note goes to a gap that is closed meanwhile."""

    def open_gap(self: HealthStore, identity: str, kind: GapKind, detail: str) -> bool:
        now = self._now_ms()
        if not any(gap.id == identity for gap in self.gaps()):
            return _open_gap(self, identity, kind, detail)
        self._dynamodb.update_item(
            TableName=self._table,
            Key=self._gap_key(identity),
            UpdateExpression="SET last_found_at = :now",
            ExpressionAttributeValues={":now": {"N": str(now)}},
        )
        return False

    patch.setattr(HealthStore, "open_gap", open_gap)


_open_gap = HealthStore.open_gap


def backfill_closes_what_it_does_not_cover(patch: Patch) -> None:
    close = HealthStore.close_gaps
    patch.setattr(HealthStore, "close_gaps", lambda self, _by, began: close(self, "repair", began))


def shard_finished_at_an_empty_answer(patch: Patch) -> None:
    step = Walk._step

    def hasty(self: Walk, reading: ingest.walk.Reading) -> None:
        step(self, reading)
        reading.finished = reading.finished or reading.empties >= 2

    patch.setattr(Walk, "_step", hasty)


def closed_leaf_is_the_end(patch: Patch) -> None:
    """A closed shard that was read to its end counts as the end, whether or not its child is listed."""
    at_end = inspect.getattr_static(Walk, "at_end").fget

    def without_children(self: Walk) -> bool:
        waiting, self._childless = self._childless, set()
        try:
            return bool(at_end(self))
        finally:
            self._childless = waiting

    patch.setattr(Walk, "at_end", property(without_children))


def child_forgotten_at_restart(patch: Patch) -> None:
    """A worker does not wait for the child that its predecessor did not see."""
    resume = Walk.resume

    def forget(self: Walk, positions: Any, finished: Any, **more: Any) -> None:
        resume(self, positions, finished, **{**more, "childless": ()})

    patch.setattr(Walk, "resume", forget)


def vanished_shard_is_finished(patch: Patch) -> None:
    """A shard that one list misses is given up for good, without a probe."""

    def finish(self: Worker, shard_id: str, after: str | None) -> None:
        self._walk._gone.pop(shard_id, None)
        self._walk._finished.add(shard_id)
        Worker.on_finished(self, shard_id)

    patch.setattr(StreamReader, "exists", lambda *_: False)
    patch.setattr(Worker, "on_gone", finish)


def gone_shard_is_not_read_again(patch: Patch) -> None:
    """A shard that did not exist for a moment is not taken up when it is listed again."""
    look = Walk.look_for_shards

    def without_gone(self: Walk, busy: Any = ()) -> None:
        gone = dict(self._gone)
        look(self, busy)
        for shard_id in gone:
            self._readings.pop(shard_id, None)
            self._shards.pop(shard_id, None)
        self._gone.update(gone)

    patch.setattr(Walk, "look_for_shards", without_gone)


def old_answers_count(patch: Patch) -> None:
    """A shard that was quiet once is taken for quiet, however long ago it was asked."""
    patch.setattr(ingest.walk, "QUIET_FOR_S", 10.0**9)


def stream_status_ignored(patch: Patch) -> None:
    """Every stream is taken for one that takes records, so a closed shard of a stream that is off waits for a child."""
    listing = StreamReader.listing

    def always_enabled(self: StreamReader) -> Listing:
        return Listing(listing(self).shards, enabled=True)

    patch.setattr(StreamReader, "listing", always_enabled)


def mapping_s_stream_ignored(patch: Patch) -> None:
    """A mapping on another stream than the table's passes for one on the table's."""
    look = ingest.heartbeat.look_at_function

    def on_its_stream(table: TableStream, *given: Any, **more: Any) -> Any:
        seen = look(table, *given, **more)
        if seen is None or seen.reading is None or not seen.reading.stream:
            return seen
        return look(TableStream(table.at, seen.reading.stream), *given, **more)

    patch.setattr(ingest.heartbeat, "look_at_function", on_its_stream)


def latest_stream_ignored(patch: Patch) -> None:
    """The worker takes the stream that it reads for the table's."""

    def look(self: Worker, **_: Any) -> None:
        self._health.saw(TableStream(self._now_ms(), self._reader.arn))

    patch.setattr(Worker, "_look_at_table", look)


def stale_evidence_counts(patch: Patch) -> None:
    patch.setattr(evidence, "WORKER_SILENT_S", 10**9)
    patch.setattr(evidence, "FUNCTION_SILENT_S", 10**9)


def mapping_state_alone(patch: Patch) -> None:
    """What `status` did: a function whose mapping is enabled is caught up."""
    patch.setattr(
        ingest.heartbeat,
        "mappings_faults",
        lambda mappings, _arn, **_: [
            MappingFault("stops reading", "is disabled", "enable it")
            for mapping in mappings
            if mapping["State"] != "Enabled"
        ],
    )


def skipped_records_are_forgotten(patch: Patch) -> None:
    """Once a filter is removed, nothing says that records were skipped."""
    store = ingest.heartbeat.store

    def without_faults(health: Any, checkpoints: Any, seen: Any) -> None:
        store(health, checkpoints, dataclasses.replace(seen, faults=()))

    patch.setattr("tests.ingest.simulator.actors.store", without_faults)


def stopped_function_leaves_no_gap(patch: Patch) -> None:
    """A day in which the function did not read is no gap."""
    patch.setattr(HealthStore, "attended_until", lambda _: 0)


def foreign_record_applied(patch: Patch) -> None:
    patch.setattr(ingest.records, "table_of_stream", lambda _: model.TABLE_ARN)


CAUGHT: Final[Mapping[Callable[[Patch], None], int]] = {
    no_condition: 0,
    last_write_wins_by_second: 0,
    not_older_instead_of_newer: 0,
    real_deletes: 0,
    backfill_overwrites: 0,
    backfill_that_is_newest: 33,
    repair_reads_the_source_first: 783,
    repair_without_condition: 0,
    repair_without_revision: 0,
    repair_keeps_rows_gone_from_the_source: 51,
    repair_trusts_the_old_image: 0,
    first_change_of_a_key_wins: 2,
    throttled_is_taken_for_stale: 4,
    quarantine_without_gap: 1,
    parents_forgotten: 103,
    expired_iterator_starts_at_the_end: 9,
    sequence_numbers_not_padded: 1,
    backfill_closes_what_it_does_not_cover: 1,
    shard_finished_at_an_empty_answer: 0,
    mapping_state_alone: 61,
    skipped_records_are_forgotten: 61,
    stopped_function_leaves_no_gap: 223,
    foreign_record_applied: 5,
}
"""A seed of `tests.ingest.model` in which the mutant breaks a promise; `python -m tests.ingest.mutants` finds them."""


HARMLESS: Final = (parents_not_first,)
"""What breaks no promise: the versions hold it alone. (It shows in `test_worker`, where the order itself is tested.)"""


def all_mutants() -> list[Callable[[Patch], None]]:
    """Every mutant of this module that must be caught, in the order in which they are written."""
    return [
        found
        for name, found in globals().items()
        if callable(found)
        and getattr(found, "__module__", "") == __name__
        and not name.startswith("_")
        and next(iter(inspect.signature(found).parameters), "") == "patch"
        and found not in HARMLESS
    ]


def is_caught(mutant: Callable[[Patch], None], seed: int) -> bool:
    """Whether a run of this seed breaks a promise with the mutant at work."""
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        try:
            model.run(seed)
        except model.DivergedError:
            return True
    return False


def _first_seed(mutant: Callable[[Patch], None], most: int) -> int | None:
    logging.disable(logging.CRITICAL)
    return next((seed for seed in range(most) if is_caught(mutant, seed)), None)


def main() -> None:
    """Print the table above anew; mutants that no seed up to the limit catches are holes.

    The arguments: the limit, and the mutants, if not all.
    """
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    mutants = [mutant for mutant in all_mutants() if mutant.__name__ in sys.argv[2:] or not sys.argv[2:]]
    with ProcessPoolExecutor() as pool:
        found = pool.map(functools.partial(_first_seed, most=most), mutants)
        for mutant, seed in zip(mutants, found, strict=True):
            print(f"    {mutant.__name__}: {seed},", flush=True)


if __name__ == "__main__":
    main()
