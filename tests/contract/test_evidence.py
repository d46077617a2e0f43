"""What a pipeline's observations allow to say about it: each row of the table in docs/invariants.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from lake.contract.evidence import (
    BEHIND_S,
    CLOCK_SKEW_S,
    FUNCTION_SILENT_S,
    WORKER_SILENT_S,
    Observed,
    ReadBy,
    Reading,
    ReadingFault,
    TableStream,
    Waiting,
    judge,
)
from lake.contract.health import Gap, State

NOW: Final = 1_795_500_000_000
OLD: Final = "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026-11-24T00:00:00.000"
NEW: Final = "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026-11-25T00:00:00.000"
GAP: Final = Gap("g", "trimmed", "changes may be lost", NOW, NOW)
READINGS: Final = {
    "worker": Reading("worker", NOW, OLD, at_end=True, newest_source_at=5),
    "function": Reading("function", NOW, OLD, at_end=True),
}
SILENT_S: Final = {"worker": WORKER_SILENT_S, "function": FUNCTION_SILENT_S}
READERS: Final[tuple[ReadBy, ...]] = ("worker", "function")


def state(observed: Observed, *gaps: Gap, now_ms: int = NOW) -> State:
    health = judge(observed, gaps, now_ms, "orders")
    assert health.complete == (health.state in ("caught up", "catching up"))
    assert bool(health.reason) == (health.state != "caught up")
    assert bool(health.lacking) == (not health.complete)
    if health.state not in ("caught up", "catching up"):
        assert health.remedy
    return health.state


@pytest.mark.parametrize("by", READERS)
def test_fresh_evidence_of_everything_is_caught_up_until_it_is_too_old(by: ReadBy) -> None:
    observed = Observed(READINGS[by], TableStream(NOW, OLD))
    silent_ms = SILENT_S[by] * 1000
    assert state(observed) == "caught up"
    assert state(observed, now_ms=NOW + silent_ms) == "caught up"
    assert state(observed, now_ms=NOW + silent_ms + 1) == "not known"
    health = judge(observed, (), NOW + 10 * 3_600_000, "orders")
    assert health.reason.startswith("not known since 2026-11-24 06:00:00 UTC")
    assert health.checked_at == NOW


@pytest.mark.parametrize("by", READERS)
def test_each_observation_has_an_age_of_its_own(by: ReadBy) -> None:
    late = NOW + SILENT_S[by] * 1000 + 1
    reading = READINGS[by]
    assert state(Observed(reading, TableStream(late, OLD)), now_ms=late) == "not known"
    assert state(Observed(replace(reading, at=late), TableStream(NOW, OLD)), now_ms=late) == "not known"
    assert state(Observed(replace(reading, at=late), TableStream(late, OLD)), now_ms=late) == "caught up"
    assert state(Observed(reading, None)) == "not known"
    assert state(Observed(None, TableStream(NOW, OLD))) == "not started"
    assert state(Observed()) == "not started"


@pytest.mark.parametrize("by", READERS)
def test_another_stream_or_none_is_a_gap_whether_or_not_one_is_stored(by: ReadBy) -> None:
    assert state(Observed(READINGS[by], TableStream(NOW, NEW))) == "gap"
    assert state(Observed(READINGS[by], TableStream(NOW, None))) == "gap"
    assert state(Observed(None, TableStream(NOW, None))) == "gap"


def test_observations_from_the_future_have_no_age() -> None:
    ahead = NOW + CLOCK_SKEW_S * 1000 + 1
    reading = replace(READINGS["worker"], at=ahead)
    assert state(Observed(reading, TableStream(NOW, OLD))) == "not known"
    assert state(Observed(replace(reading, at=ahead - 1), TableStream(NOW, OLD))) == "caught up"


def test_faults_of_the_mapping() -> None:
    stopped = ReadingFault("is Disabled", "enable it", stops=True)
    skips = ReadingFault("has FilterCriteria", "remove them")
    table = TableStream(NOW, OLD)
    reading = replace(READINGS["function"], at_end=False, faults=(skips,))
    assert state(Observed(reading, table)) == "not known"
    assert state(Observed(replace(reading, faults=(skips, stopped)), table)) == "paused"
    health = judge(Observed(replace(reading, faults=(skips, stopped)), table), (), NOW)
    assert health.remedy == "enable it"
    assert "has FilterCriteria" in health.reason


def test_an_open_gap_is_a_gap_and_its_job_the_remedy() -> None:
    observed = Observed(READINGS["worker"], TableStream(NOW, OLD))
    assert state(observed, GAP) == "gap"
    health = judge(observed, (GAP,), NOW, "orders")
    assert (health.reason, health.remedy) == (GAP.detail, "dynalake repair orders")
    assert health.lacking == (GAP.detail,)
    late = judge(observed, (GAP,), NOW + 10 * 3_600_000, "orders")
    assert late.state == "not known"
    assert late.lacking == (GAP.detail, late.reason)


def test_what_is_behind_is_catching_up() -> None:
    table = TableStream(NOW, OLD)
    assert state(Observed(replace(READINGS["worker"], at_end=False), table)) == "catching up"
    for behind_s, expected in ((BEHIND_S, "caught up"), (BEHIND_S + 1, "catching up")):
        assert state(Observed(replace(READINGS["function"], behind_s=behind_s), table)) == expected


def test_what_a_check_found_waiting_counts_until_a_later_reading_refutes_it() -> None:
    table = TableStream(NOW, OLD)
    waiting = Waiting(NOW - 1000, NOW - 900_000)
    before, after = NOW - 2000, NOW
    for by, reading, expected in (
        ("worker", replace(READINGS["worker"], at=before), "catching up"),
        ("worker", replace(READINGS["worker"], at=after), "caught up"),
        ("function", replace(READINGS["function"], at=after), "catching up"),
        ("function", replace(READINGS["function"], at=after, behind_s=0.5), "caught up"),
    ):
        assert reading.by == by
        assert state(Observed(reading, table, waiting)) == expected
    assert state(Observed(READINGS["function"], table, Waiting(NOW, None))) == "caught up"


def test_the_ages_are_those_of_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "invariants.md").read_text(encoding="utf-8")
    assert f"{WORKER_SILENT_S // 60} minutes (worker)" in text
    assert f"{FUNCTION_SILENT_S // 60} minutes (function)" in text
    assert f"{BEHIND_S:.0f} seconds" in text
    assert f"{CLOCK_SKEW_S // 60} minutes in the future" in text
