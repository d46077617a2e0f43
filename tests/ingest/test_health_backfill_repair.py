"""Health and its gaps; backfill and repair beside a live stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ingest.backfill import FILLS_ABSENT, Backfill, BackfillReport
from ingest.errors import LakeUnavailableError, SourceError
from ingest.policy import Policy
from ingest.repair import Repair
from ingest.scan import Scan, segments_for
from lake.contract.evidence import Observed, Reading, ReadingFault, TableStream
from lake.contract.rows import VERSION
from lake.contract.versions import read_over, streamed
from tests.ingest.building import ARN, LABEL, LAKE, LakeSide, delete_change, fails, item, put_change
from tests.stubs.dynamodb import StubDynamoDB
from tests.stubs.faults import Call, Fault, Killed, client_error

SOURCE = "orders"
KEY = b"0123456789abcdef"


class Sides(LakeSide):
    """Both accounts, with rows in the source."""

    def __init__(self, rows: int = 0, policy: Policy | None = None) -> None:
        super().__init__(policy)
        self.source = StubDynamoDB(page_size=3)
        self.orders = self.source.create_table(SOURCE, {"pk": "S"})
        for n in range(rows):
            self.orders.put(item(f"k{n}", n))

    def scan(self, segments: int | None) -> Scan:
        return Scan(self.source.client, SOURCE, segments=segments or 2, threads=1)

    def backfill(self, *, restart: bool = False) -> BackfillReport:
        return Backfill(
            self.scan,
            ["pk"],
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.checkpoints,
            self.health,
            self.clock.now_ms,
        ).run(restart=restart)

    def repair(self, *keys: str) -> dict[str, int]:
        report = Repair(
            self.source.client,
            SOURCE,
            self.dynamodb.client,
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.clock.now_ms,
        ).mend([{"pk": {"S": key}} for key in keys])
        counts = {name: getattr(report, name) for name in report.__slots__}
        return {name: count for name, count in counts.items() if count and name != "asked"}

    def expected(self) -> dict[str, str]:
        return {row["pk"]["S"]: row["n"]["N"] for row in self.orders.items.values()}


def at_call(operation: str, act: Callable[[], object], nth: int = 1) -> Callable[[Call], Fault | None]:
    """A hook: something happens just before the nth call of an operation."""
    seen = [0]

    def hook(call: Call) -> Fault | None:
        if call.operation == operation:
            seen[0] += 1
            if seen[0] == nth:
                act()
        return None

    return hook


# Health


def test_observations_are_stored_and_an_older_one_never_replaces_a_newer() -> None:
    side = Sides()
    assert side.health.health().state == "not started"
    now = side.clock.now_ms()
    fault = ReadingFault("is Disabled", "enable it", stops=True)
    reading = Reading("function", now, ARN, at_end=False, newest_source_at=5, behind_s=1.5, faults=(fault,))
    side.health.read(reading)
    side.health.saw(TableStream(now, None))
    assert side.health.observed() == Observed(reading, TableStream(now, None))
    side.health.read(Reading("worker", now - 1, ARN, at_end=True))
    side.health.saw(TableStream(now - 1, ARN))
    assert side.health.observed() == Observed(reading, TableStream(now, None))
    later = Reading("worker", now + 1, ARN, at_end=True)
    side.health.read(later)
    side.health.saw(TableStream(now + 1, ARN))
    stored, table = side.health.observed().reading, side.health.observed().table
    assert stored is not None
    assert (stored.by, stored.at_end, stored.behind_s, stored.faults) == ("worker", True, None, ())
    assert table == TableStream(now + 1, ARN)
    assert side.health.health().complete


def test_what_an_older_version_stored_allows_no_claim() -> None:
    side = Sides()
    now = {"N": str(side.clock.now_ms())}
    side.checkpoints.put("health", {"state": {"S": "caught up"}, "at": now})
    health = side.health.health()
    assert (health.state, health.complete) == ("not known", False)
    assert health.reason


def test_a_gap_is_opened_once_and_closed_by_what_covers_it() -> None:
    side = Sides()
    assert side.health.open_gap("x", "trimmed", "why")
    assert not side.health.open_gap("x", "trimmed", "why")
    side.health.open_gap("y", "not backfilled", "why")
    side.clock.sleep(1)
    assert [gap.id for gap in side.health.close_gaps("backfill", side.clock.now_ms())] == ["y"]
    assert side.health.gaps()
    assert [gap.id for gap in side.health.close_gaps("repair", side.clock.now_ms())] == ["x"]
    assert not side.health.gaps()
    assert side.health.close_gaps("repair", side.clock.now_ms()) == []
    assert side.health.open_gap("x", "trimmed", "again"), "a closed gap can be opened again"


@pytest.mark.parametrize("known", [True, False])
def test_a_gap_found_while_a_repair_runs_stays_open(known: bool) -> None:
    side = Sides()
    if known:
        side.health.open_gap("x", "given up", "why")
        side.clock.sleep(1)
    began = side.clock.now_ms()
    side.clock.sleep(1)
    side.health.open_gap("x", "given up", "why")
    assert side.health.close_gaps("repair", began) == []
    assert [gap.id for gap in side.health.gaps()] == ["x"]


def test_a_gap_found_again_at_the_moment_of_its_closing_stays_open() -> None:
    side = Sides()
    side.health.open_gap("x", "given up", "why")
    began = side.clock.now_ms()
    side.clock.sleep(1)

    def close() -> None:
        side.dynamodb.hook = lambda _: None
        assert side.health.close_gaps("repair", began)

    side.dynamodb.hook = at_call("update_item", close)
    assert side.health.open_gap("x", "given up", "again"), "it was closed meanwhile, so it is opened anew"
    assert [gap.detail for gap in side.health.gaps()] == ["again"]


def test_other_failures_of_the_store_are_not_hidden() -> None:
    side = Sides()
    side.dynamodb.hook = fails("put_item", lambda: client_error("PutItem", "AccessDeniedException"))
    with pytest.raises(ClientError):
        side.health.open_gap("x", "trimmed", "why")


# Backfill


def test_a_backfill_fills_what_is_absent_and_closes_its_gap() -> None:
    side = Sides(rows=10)
    side.health.open_gap("before", "not backfilled", "why")
    side.clock.sleep(1)
    report = side.backfill()
    assert side.shown() == side.expected()
    assert {row[VERSION]["S"] for row in side.table.items.values()} == {FILLS_ABSENT}
    assert (report.read, report.filled, report.present, report.segments_done, report.segments) == (
        10,
        10,
        0,
        2,
        2,
    )
    assert report.read_units > 0
    assert not side.health.gaps()


def test_a_backfill_never_overwrites_and_tombstones_block_it() -> None:
    side = Sides(rows=4)
    side.applier().apply([put_change("k0", 99), delete_change("k1", 1)])
    report = side.backfill()
    assert side.shown() == {"k0": "99", "k2": "2", "k3": "3"}
    assert (report.filled, report.present) == (2, 2)


@pytest.mark.parametrize("n", range(1, 7))
def test_a_change_between_the_page_and_its_write_wins(n: int) -> None:
    side = Sides(rows=6)
    changed = [put_change(f"k{k}", 50 + k) for k in range(3)] + [
        delete_change(f"k{k}", 50) for k in range(3, 6)
    ]

    def stream() -> None:
        side.dynamodb.hook = lambda _: None
        side.applier().apply(changed)

    side.dynamodb.hook = at_call("put_item", stream, nth=n)
    side.backfill()
    assert side.shown() == {"k0": "50", "k1": "51", "k2": "52"}


def crash_points(rows: int) -> int:
    side = Sides(rows)
    side.backfill()
    return sum(count for name, count in side.dynamodb.calls.items())


CRASHES = crash_points(5)


@pytest.mark.parametrize("effect", ["none", "done", "later"])
@pytest.mark.parametrize("nth", range(1, CRASHES + 1))
def test_a_backfill_goes_on_after_a_kill_at_any_call(nth: int, effect: Any) -> None:
    side = Sides(rows=5)
    side.health.open_gap("before", "not backfilled", "why")
    side.clock.sleep(1)
    seen = [0]

    def hook(_: Call) -> Fault | None:
        seen[0] += 1
        return Fault(Killed(), effect) if seen[0] == nth else None

    side.dynamodb.hook = hook
    with pytest.raises(Killed):
        side.backfill()
    side.dynamodb.hook = lambda _: None
    report = side.backfill()
    while side.dynamodb.landing:
        side.dynamodb.land()
    assert side.shown() == side.expected()
    assert not side.health.gaps()
    assert report.segments_done == report.segments == 2


def test_a_killed_backfills_checkpoint_that_lands_late_is_not_another_ones() -> None:
    """It would pass over a segment, or name one that the other has not."""
    side = Sides(rows=5)

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and "last_key" in call.request["Item"]:
            return None
        if call.operation == "put_item" and call.request["Item"].get("entry", {}).get("S", "").endswith("/0"):
            return Fault(Killed(), "later")
        return None

    side.dynamodb.hook = hook
    with pytest.raises(Killed):
        side.backfill()
    side.dynamodb.hook = lambda _: None
    side.clock.sleep(1)
    for key in list(side.table.items):
        del side.table.items[key]

    def lands_after_the_new_plan_which_is_killed(_: Call) -> Fault | None:
        side.dynamodb.land()
        return Fault(Killed())

    side.source.hook = lands_after_the_new_plan_which_is_killed
    with pytest.raises(Killed):
        side.backfill(restart=True)
    side.source.hook = lambda _: None
    assert side.backfill().resumed
    assert side.shown() == side.expected()


def test_a_backfill_that_goes_on_reads_no_finished_page_again() -> None:
    side = Sides(rows=12)
    whole = Sides(rows=12).backfill().read
    side.source.hook = fails_after("scan", 3)
    with pytest.raises(Killed):
        side.backfill()
    side.source.hook = lambda _: None
    report = side.backfill()
    assert report.resumed
    assert 0 < report.read < whole
    assert side.shown() == side.expected()


def fails_after(operation: str, calls: int) -> Callable[[Call], Fault | None]:
    left = [calls]

    def hook(call: Call) -> Fault | None:
        if call.operation != operation:
            return None
        left[0] -= 1
        return Fault(Killed()) if left[0] < 0 else None

    return hook


def test_a_finished_backfill_begins_anew_and_so_does_a_restarted_one() -> None:
    side = Sides(rows=5)
    side.backfill()
    again = side.backfill()
    assert (again.read, again.filled, again.resumed) == (5, 0, False)
    side.source.hook = fails_after("scan", 2)
    with pytest.raises(Killed):
        side.backfill()
    side.source.hook = lambda _: None
    anew = side.backfill(restart=True)
    assert (anew.read, anew.resumed) == (5, False)


def test_a_gap_found_after_a_backfill_began_is_not_closed_by_it() -> None:
    side = Sides(rows=2)

    def find() -> None:
        side.clock.sleep(1)
        side.health.open_gap("again", "not backfilled", "why")

    side.source.hook = at_call("scan", find)
    side.backfill()
    assert [gap.id for gap in side.health.gaps()] == ["again"]


def test_rows_that_no_lake_row_can_hold_are_put_away_and_said() -> None:
    side = Sides(rows=1)
    side.orders.put(item("bad", 1, _lake_x={"S": "1"}))
    side.orders.put(item("large", 1, x={"S": "x" * (400 * 1024 - 30)}))
    report = side.backfill()
    assert (report.read, report.filled, report.quarantined) == (3, 1, 2)
    kept = [document["item"]["pk"]["S"] for document in side.place.documents.values()]
    assert sorted(kept) == ["bad", "large"]
    assert [gap.kind for gap in side.health.gaps()] == ["given up"]


def test_a_backfill_waits_out_throttling_and_says_when_the_lake_or_the_source_refuses() -> None:
    side = Sides(rows=3)
    side.dynamodb.hook = lake_only("ThrottlingException", times=4)
    side.backfill()
    assert side.shown() == side.expected()
    side.dynamodb.hook = lake_only("AccessDeniedException")
    with pytest.raises(LakeUnavailableError):
        side.backfill()
    side.dynamodb.hook = lambda _: None
    side.source.hook = fails("scan", lambda: client_error("Scan", "AccessDeniedException"))
    with pytest.raises(SourceError, match="cannot be scanned"):
        side.backfill()


def lake_only(code: str, times: int = 1000) -> Callable[[Call], Fault | None]:
    left = [times]

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and call.request["TableName"] == LAKE and left[0]:
            left[0] -= 1
            return Fault(client_error("PutItem", code))
        return None

    return hook


@pytest.mark.parametrize(("segments", "threads"), [(1, 1), (3, 2), (7, 4)])
def test_a_scan_reads_every_row_once(segments: int, threads: int) -> None:
    side = Sides(rows=40)
    pages = list(Scan(side.source.client, SOURCE, segments=segments, threads=threads).pages())
    assert sorted(row["pk"]["S"] for page in pages for row in page.items) == sorted(side.expected())
    assert sum(page.last_key is None for page in pages) == segments


def test_segments_suit_the_table() -> None:
    assert segments_for(0) == 4
    assert segments_for(10 << 30) == 40
    assert segments_for(1 << 50) == 1024


# Repair


def test_a_repair_makes_rows_what_the_source_has() -> None:
    side = Sides()
    side.applier().apply([put_change("old", 1), put_change("gone", 2), delete_change("back", 3)])
    side.orders.put(item("old", 10))
    side.orders.put(item("back", 11))
    side.orders.put(item("missing", 12))
    assert side.repair("old", "gone", "back", "missing", "nowhere") == {
        "written": 3,
        "deleted": 1,
        "absent": 1,
    }
    assert side.shown() == side.expected()
    version = streamed(LABEL, "2")
    assert (side.row("gone") or {})[VERSION] == {"S": read_over(version)}
    assert (side.row("gone") or {})["_lake_deleted"] == {"S": "unknown"}
    assert side.repair("gone", "nowhere") == {"absent": 2}


def test_a_repair_looks_at_the_lake_first_and_at_the_source_consistently() -> None:
    side = Sides(rows=1)
    order: list[str] = []

    def note(account: str) -> Callable[[Call], None]:
        def hook(call: Call) -> None:
            if call.operation in ("get_item", "put_item"):
                order.append(f"{account} {call.operation}")
                assert call.operation == "put_item" or call.request["ConsistentRead"] is True

        return hook

    side.dynamodb.hook, side.source.hook = note("lake"), note("source")
    side.repair("k0")
    assert order[:3] == ["lake get_item", "source get_item", "lake put_item"]


@pytest.mark.parametrize("when", ["get_item", "put_item"])
@pytest.mark.parametrize("change", [put_change("k0", 9), delete_change("k0", 9)])
def test_a_repair_loses_against_the_stream(when: str, change: Any) -> None:
    """`when`: the stream writes after the lake was looked at, or after the source was read as well."""
    side = Sides(rows=1)
    side.applier().apply([put_change("k0", 5)])

    def stream() -> None:
        side.dynamodb.hook = side.source.hook = lambda _: None
        side.applier().apply([change])

    if when == "get_item":
        side.source.hook = at_call("get_item", stream)
    else:
        side.dynamodb.hook = at_call("put_item", stream)
    assert side.repair("k0") == {"overtaken": 1}
    assert side.shown() == ({"k0": "9"} if change.image else {})


def test_two_repairs_do_not_overwrite_one_another() -> None:
    side = Sides(rows=1)

    def other() -> None:
        side.dynamodb.hook = lambda _: None
        side.orders.put(item("k0", 77))
        assert side.repair("k0") == {"written": 1}

    side.dynamodb.hook = at_call("put_item", other)
    assert side.repair("k0") == {"overtaken": 1}
    assert side.shown() == {"k0": "77"}


def test_a_repair_under_a_policy_finds_rows_by_their_hashed_keys() -> None:
    side = Sides(rows=2, policy=Policy({"pk": "hash", "n": "mask"}, key_attributes=["pk"], hash_key=KEY))
    assert side.repair("k0", "k1") == {"written": 2}
    assert len(side.table.items) == 2
    assert all(row["n"] == {"S": "***"} for row in side.table.items.values())


def test_rows_that_cannot_be_mended_are_counted() -> None:
    side = Sides()
    side.orders.put(item("bad", 1, _lake_x={"S": "1"}))
    side.orders.put(item("large", 1, x={"S": "x" * (400 * 1024 - 30)}))
    assert side.repair("bad", "large") == {"refused": 2}


def test_a_source_that_cannot_be_read_is_an_error() -> None:
    side = Sides(rows=1)
    side.source.hook = fails("get_item", lambda: client_error("GetItem", "AccessDeniedException"))
    with pytest.raises(SourceError, match="cannot be read"):
        side.repair("k0")


def test_progress_is_told_a_hundred_at_a_time() -> None:
    side = Sides(rows=1)
    asked: list[int] = []
    keys: list[Mapping[str, Any]] = [{"pk": {"S": json.dumps(n)}} for n in range(250)]
    Repair(
        side.source.client, SOURCE, side.dynamodb.client, side.applier(), side.policy, side.quarantine(),
        side.observer(), side.clock.now_ms,
    ).mend(keys, lambda report: asked.append(report.asked))  # fmt: skip
    assert asked == [100, 200, 250]
