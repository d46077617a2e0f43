"""Backfilling from exports: what may fill, what must be refused, and what an incremental export may do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import ingest.exported
from ingest.backfill import Backfill, BackfillReport
from ingest.errors import BackfillError
from ingest.exported import (
    ChangesReport,
    ExportedChanges,
    ExportScan,
    refuse_another_table,
    refuse_unfit,
)
from ingest.repair import Repair
from lake.contract.exports import open_export
from lake.contract.health import Gap, GapKind
from lake.contract.rows import TOMBSTONE_LIFE_S, VERSION
from lake.contract.versions import ABSENT, read_over, streamed
from tests.ingest import model
from tests.ingest.building import LABEL, LakeSide, delete_change, fails, item, put_change
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.exports import TABLE_ID, StubFiles, full_export, incremental_export
from tests.stubs.faults import Call, Fault, Killed

ARN = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders"


class Exporting(LakeSide):
    """A lake, a source, and exports of it."""

    def __init__(self, rows: int = 0) -> None:
        super().__init__()
        self.source = StubDynamoDB()
        self.orders = self.source.create_table("orders", {"pk": "S"})
        for n in range(rows):
            self.orders.put(item(f"k{n}", n))
        self.health.open_gap("before-the-stream", "not backfilled", "why")
        self.clock.sleep(1)

    def export(self) -> StubFiles:
        items = [self.orders.items[key] for key in sorted(self.orders.items)]
        return full_export(ARN, items, shows_ms=self.clock.now_ms())

    def fill(self, files: StubFiles, *, restart: bool = False) -> BackfillReport:
        export = open_export(files)
        return Backfill(
            lambda _: ExportScan(files, export, self.clock.now_ms),
            ["pk"],
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.checkpoints,
            self.health,
            self.clock.now_ms,
            source=export.arn,
            as_of_ms=export.shows_ms,
        ).run(restart=restart)

    def changes(self, *changed: tuple[str, Mapping[str, Any] | None]) -> StubFiles:
        now = self.clock.now_ms()
        lines = [({"pk": {"S": pk}}, new, None) for pk, new in changed]
        return incremental_export(ARN, lines, from_ms=now - 3_600_000, to_ms=now)

    def mend(self, files: StubFiles, *, restart: bool = False) -> ChangesReport:
        repair = Repair(
            self.source.client,
            "orders",
            self.dynamodb.client,
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.clock.now_ms,
            leave_same=True,
        )
        return ExportedChanges(files, open_export(files), repair, self.checkpoints).run(restart=restart)

    def expected(self) -> dict[str, str]:
        return {row["pk"]["S"]: row["n"]["N"] for row in self.orders.items.values()}


def test_a_full_export_fills_what_is_absent_and_closes_the_gap() -> None:
    side = Exporting(rows=10)
    report = side.fill(side.export())
    assert (report.read, report.filled, report.read_units) == (10, 10, 0)
    assert side.shown() == side.expected()
    assert side.source.calls["scan"] == 0
    assert (side.row("k0") or {})[VERSION] == {"S": read_over(ABSENT)}
    assert not side.health.gaps()


def test_a_line_of_an_export_overwrites_neither_a_row_nor_a_tombstone() -> None:
    side = Exporting(rows=3)
    files = side.export()
    side.applier().apply([put_change("k0", 77), delete_change("k1", 78)])
    report = side.fill(files)
    assert (report.filled, report.present) == (1, 2)
    assert side.shown() == {"k0": "77", "k2": "2"}


def test_a_change_that_comes_late_is_newer_than_a_line_of_an_export() -> None:
    side = Exporting(rows=2)
    side.fill(side.export())
    side.applier().apply([put_change("k0", 5), delete_change("k1", 6)])
    assert side.shown() == {"k0": "5"}


def test_a_gap_found_after_the_export_is_not_closed_by_it() -> None:
    side = Exporting(rows=1)
    files = side.export()
    side.clock.sleep(1)
    side.health.open_gap("later", "not backfilled", "why")
    side.clock.sleep(1)
    side.fill(files)
    assert [gap.id for gap in side.health.gaps()] == ["later"]


@pytest.mark.parametrize("dies_at", range(1, 14, 3))
def test_a_killed_backfill_goes_on_with_the_export(dies_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.exported, "LINES_A_PAGE", 2)
    side = Exporting(rows=12)
    files = side.export()
    left = [dies_at]

    def dies(call: Call) -> Fault | None:
        if call.operation == "put_item" and call.request["TableName"] == side.table.name:
            left[0] -= 1
            return Fault(Killed()) if left[0] <= 0 else None
        return None

    side.dynamodb.hook = dies
    if dies_at <= 12:
        with pytest.raises(Killed):
            side.fill(files)
    side.dynamodb.hook = lambda _: None
    report = side.fill(files)
    assert report.resumed is (dies_at <= 12)
    if report.resumed:
        assert report.read <= 12 - (dies_at - 2)
    assert side.shown() == side.expected()
    assert not side.health.gaps()


def test_a_run_from_another_export_or_by_scan_begins_anew() -> None:
    side = Exporting(rows=9)
    first = side.export()
    side.dynamodb.hook = fails("put_item", Killed, times=None)
    with pytest.raises(Killed):
        side.fill(first)
    side.dynamodb.hook = lambda _: None
    other = full_export(
        ARN, list(side.orders.items.values()), shows_ms=side.clock.now_ms(), exportArn=f"{ARN}/export/2"
    )
    report = side.fill(other)
    assert (report.resumed, report.read) == (False, 9)


def test_an_export_that_grows_too_old_during_the_run_is_refused() -> None:
    side = Exporting(rows=9)
    files = side.export()
    side.dynamodb.hook = lambda _: side.clock.sleep(TOMBSTONE_LIFE_S / 4)
    with pytest.raises(BackfillError, match="tombstones live for 14 days"):
        side.fill(files)
    assert side.health.gaps()


def test_a_spoilt_file_ends_the_run_and_closes_nothing() -> None:
    side = Exporting(rows=9)
    files = side.export()
    key = next(name for name in files if name.endswith("part0001.json.gz"))
    whole = files[key]
    files[key] = whole[:-1]
    with pytest.raises(BackfillError, match="does not agree with its checksum"):
        side.fill(files)
    assert side.health.gaps()
    files[key] = whole
    report = side.fill(files)
    assert (report.resumed, report.read) == (True, 6)
    assert side.shown() == side.expected()


# What is refused

NOTED = 1_795_000_000_000
HOUR = 3_600_000


def gap(kind: GapKind, found: int, closed: int | None = None) -> Gap:
    return Gap("x", kind, "the reason", found, found, closed)


@pytest.mark.parametrize(
    ("shows", "now", "gaps", "said"),
    [
        (NOTED - 1, NOTED + HOUR, [], "what was deleted between would come back"),
        (NOTED, NOTED + TOMBSTONE_LIFE_S * 1000, [], "tombstones live for 14 days"),
        (NOTED, NOTED + HOUR, [gap("trimmed", NOTED + 1)], "missed deletions since .*the reason"),
        (NOTED, NOTED + HOUR, [gap("trimmed", NOTED + 1, NOTED + 2)], "missed deletions since"),
        (NOTED, NOTED + HOUR, [gap("stream changed", NOTED + 1)], "missed deletions since"),
        (NOTED, NOTED + HOUR, [gap("given up", NOTED + 1)], "missed deletions since"),
    ],
)
def test_an_export_that_could_bring_deleted_rows_back_is_refused(
    shows: int, now: int, gaps: list[Gap], said: str
) -> None:
    export = open_export(full_export(ARN, [], shows_ms=shows))
    with pytest.raises(BackfillError, match=said):
        refuse_unfit(export, NOTED, gaps, now)


def test_an_export_that_could_not_is_not() -> None:
    export = open_export(full_export(ARN, [], shows_ms=NOTED + 5))
    gaps = [gap("not backfilled", NOTED + 9), gap("trimmed", NOTED + 5), gap("given up", NOTED - 5, NOTED)]
    refuse_unfit(export, NOTED, gaps, NOTED + TOMBSTONE_LIFE_S * 1000)


def test_without_the_refusal_a_deleted_row_would_come_back() -> None:
    """The mistake that the rule about gaps prevents: a lost deletion, a repair that finds nothing, an old export."""
    side = Exporting(rows=1)
    files = side.export()
    side.clock.sleep(1)
    side.orders.delete({"pk": {"S": "k0"}})
    side.health.open_gap("lost", "trimmed", "why")
    side.clock.sleep(1)
    side.health.close_gaps("repair", side.clock.now_ms())
    with pytest.raises(BackfillError, match="missed deletions"):
        refuse_unfit(open_export(files), 0, side.health.history(), side.clock.now_ms())
    side.fill(files)
    assert side.shown() == {"k0": "0"} != side.expected()


@pytest.mark.parametrize(
    ("table", "table_id", "said"),
    [
        (f"{ARN}s", TABLE_ID, "the export is of"),
        (ARN, "another", "earlier table of the same name"),
    ],
)
def test_an_export_of_another_table_is_refused(table: str, table_id: str, said: str) -> None:
    export = open_export(full_export(ARN, [], shows_ms=NOTED))
    with pytest.raises(BackfillError, match=said):
        refuse_another_table(export, table, table_id)
    refuse_another_table(export, ARN, TABLE_ID)
    refuse_another_table(export, ARN, "")


# Incremental exports


def test_an_incremental_export_names_rows_and_the_source_says_what_they_are() -> None:
    side = Exporting(rows=4)
    side.applier().apply([put_change("k0", 0), put_change("k1", 99), put_change("gone", 3)])
    old = item("k0", 1234)
    files = side.changes(("k0", old), ("k1", old), ("k2", None), ("gone", item("gone", 3)), ("never", None))
    report = side.mend(files)
    assert side.shown() == {"k0": "0", "k1": "1", "k2": "2"}
    assert (report.same, report.written, report.deleted, report.absent) == (1, 2, 1, 1)
    assert (side.row("k0") or {})[VERSION] == {"S": streamed(LABEL, "0")}
    assert [each.kind for each in side.health.gaps()] == ["not backfilled"]


def test_a_deleted_row_does_not_come_back_by_an_incremental_export() -> None:
    side = Exporting()
    side.applier().apply([delete_change("k", 5)])
    side.mend(side.changes(("k", item("k", 1))))
    assert side.shown() == {}


def test_a_killed_mending_goes_on_file_by_file() -> None:
    side = Exporting(rows=9)
    files = side.changes(*((f"k{n}", item(f"k{n}", n)) for n in range(9)))
    seen = [0]

    def dies(call: Call) -> Fault | None:
        seen[0] += call.operation == "get_item"
        return Fault(Killed()) if seen[0] > 5 else None

    side.source.hook = dies
    with pytest.raises(Killed):
        side.mend(files)
    side.source.hook = lambda _: None
    report = side.mend(files)
    assert (report.resumed, report.read, report.files_done) == (True, 6, 4)
    assert side.shown() == side.expected()
    again = side.mend(files)
    assert (again.resumed, again.read, again.same) == (False, 9, 9)


def test_kinds_are_not_confused() -> None:
    side = Exporting(rows=1)
    with pytest.raises(BackfillError, match="is full"):
        side.mend(side.export())
    with pytest.raises(BackfillError, match="is incremental"):
        refuse_unfit(open_export(side.changes(("k", None))), 0, [], side.clock.now_ms())


# Careless versions, each caught by a test above


def trusts_the_image(patch: pytest.MonkeyPatch) -> None:
    """The new image of an incremental export's line, applied as if it were the source's."""

    def settle(self: Repair, batch: Any) -> Any:
        images = [put_change(each.key["pk"]["S"], 9999) for each in batch]
        self._applier.apply(images)
        return []

    patch.setattr(Repair, "settle", settle)


def no_age(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ingest.exported, "refuse_expired", lambda *_: None)


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        (trusts_the_image, test_an_incremental_export_names_rows_and_the_source_says_what_they_are),
        (trusts_the_image, test_a_deleted_row_does_not_come_back_by_an_incremental_export),
        (no_age, test_an_export_that_grows_too_old_during_the_run_is_refused),
    ],
)
def test_a_careless_version_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    test: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test()


def test_the_simulator_catches_an_export_from_before_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.ingest.simulator.actors.refuse_unfit", lambda *_: None)
    assert any(diverges(seed) for seed in range(200))


def test_with_the_refusal_the_same_runs_end_well() -> None:
    assert not any(diverges(seed) for seed in range(50))


def diverges(seed: int) -> bool:
    """A run in which exports are used much, and nobody mends by chance what they broke."""
    world = model.World(seed)
    others = ("_operator", "_mend", "_redrive", "_mend_exported_changes", "_take_export")
    world._zeal |= {**dict.fromkeys(others, 0.0), "_backfill_from_export": 8.0}
    try:
        world.run(steps=20)
    except model.DivergedError:
        return True
    return False
