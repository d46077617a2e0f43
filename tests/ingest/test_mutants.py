"""The tests bite: each careless version of a step of ingest breaks a promise, in a known run or a test of its danger.

When the simulator changes, its runs do; `python -m tests.ingest.mutants` finds the seeds anew.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from lake.contract.health import Gap
from tests.contract import test_evidence
from tests.ingest import (
    model,
    mutants,
    test_handler,
    test_health_backfill_repair,
    test_heartbeat,
    test_worker,
)
from tests.ingest.building import ARN, LakeSide, delete_change, event_of, put_change, record
from tests.ingest.mutants import CAUGHT, HARMLESS, all_mutants, is_caught
from tests.stubs.faults import Call

Mutant = Callable[[pytest.MonkeyPatch], None]

ROOT: Final = Path(__file__).parents[2]
SEEDS_OF_THE_HARMLESS: Final = 60


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("mutant", CAUGHT, ids=lambda mutant: mutant.__name__)
def test_a_run_of_the_simulator_catches_it(mutant: Mutant) -> None:
    model.run(CAUGHT[mutant])  # it is the mutant that fails, not the run
    assert is_caught(mutant, CAUGHT[mutant])


# The dangers that need several things to happen together come in one run of hundreds or thousands: here are they alone


def deleted_before_it_is_inserted() -> None:
    side = LakeSide()
    side.applier().apply([delete_change("a", 5)])
    side.applier().apply([put_change("a", 3)])
    assert side.shown() == {}


def of_a_later_stream() -> None:
    """Whose numbers begin anew."""
    side = LakeSide()
    side.replicator().process(event_of(record(900)))
    later = {**record(5), "eventSourceARN": ARN.replace("2026-11-24", "2026-11-25")}
    side.replicator().process(event_of(later))
    assert side.shown() == {"a": "5"}


def found_again_during_the_repair() -> None:
    side = LakeSide()
    side.health.open_gap("g", "trimmed", "why")
    began = side.clock.now_ms()
    side.clock.sleep(1)
    side.health.open_gap("g", "trimmed", "why")
    side.health.close_gaps("repair", began)
    assert side.health.gaps()


def found_again_while_it_is_closed() -> None:
    side = LakeSide()
    side.health.open_gap("g", "trimmed", "why")
    side.clock.sleep(1)
    closed: list[Gap] = []

    def closes_first(call: Call) -> None:
        if call.operation == "update_item" and not closed:
            side.dynamodb.hook = lambda _: None
            closed.extend(side.health.close_gaps("repair", side.clock.now_ms()))

    side.dynamodb.hook = closes_first
    side.health.open_gap("g", "trimmed", "why")
    assert closed
    assert side.health.gaps()


ALONE: Final[Mapping[Mutant, Callable[[], None]]] = {
    mutants.no_tombstone_where_no_row_is: deleted_before_it_is_inserted,
    mutants.versions_without_label: of_a_later_stream,
    mutants.gaps_closed_by_time: found_again_during_the_repair,
    mutants.gap_found_again_unconditionally: found_again_while_it_is_closed,
    mutants.trimmed_in_silence: test_worker.test_records_that_were_trimmed_are_a_gap_between_two_moments,
    mutants.checkpoint_before_apply: test_worker.test_a_checkpoint_never_passes_what_was_not_settled,
    mutants.expired_iterator_starts_at_the_end: (
        test_worker.test_an_expired_iterator_is_asked_for_anew_where_it_stood
    ),
    mutants.parents_not_first: test_worker.test_parents_are_read_to_their_end_before_their_children,
    mutants.quarantine_is_best_effort: test_handler.test_a_record_that_could_not_be_put_away_comes_again,
    mutants.nothing_failed_reported: partial(
        test_handler.test_the_lowest_record_that_failed_is_reported, ("a",)
    ),
    mutants.throttled_is_taken_for_stale: partial(
        test_handler.test_the_lowest_record_that_failed_is_reported, ("c", "b")
    ),
    mutants.first_change_of_a_key_wins: test_handler.test_a_batch_is_applied_and_counted,
    mutants.absence_in_silence: test_worker.test_a_stream_that_nobody_read_for_a_day_is_a_gap,
    mutants.unread_shard_in_silence: functools.partial(
        test_worker.test_a_shard_that_nobody_asked_for_a_day_is_a_gap_though_others_were_read, False
    ),
    mutants.another_stream_in_silence: test_worker.test_a_stream_that_was_switched_off_and_on_is_a_gap,
    mutants.highest_failed_reported: partial(
        test_handler.test_the_lowest_record_that_failed_is_reported, ("a", "c")
    ),
    mutants.parents_forgotten: test_worker.test_parents_are_read_to_their_end_before_their_children,
    mutants.closed_leaf_is_the_end: partial(
        test_worker.test_a_closed_shard_without_a_child_is_not_the_end_of_an_enabled_stream, True
    ),
    mutants.child_forgotten_at_restart: (
        test_worker.test_a_later_worker_waits_for_a_child_that_an_earlier_one_did_not_see
    ),
    mutants.vanished_shard_is_finished: test_worker.test_a_shard_that_one_list_misses_is_probed_and_read_on,
    mutants.gone_shard_is_not_read_again: (
        test_worker.test_a_shard_that_is_misjudged_gone_is_read_on_when_it_is_listed_again
    ),
    mutants.old_answers_count: (
        test_worker.test_an_empty_answer_that_is_more_than_a_minute_old_says_nothing_of_now
    ),
    mutants.latest_stream_ignored: (
        test_worker.test_a_switch_while_the_worker_runs_is_a_gap_and_the_new_stream_is_read_on
    ),
    mutants.stream_status_ignored: test_worker.test_a_stream_that_is_off_is_a_gap_and_never_caught_up,
    mutants.mapping_s_stream_ignored: test_heartbeat.test_a_mapping_on_another_stream_is_a_gap_at_once,
    mutants.stale_evidence_counts: partial(
        test_evidence.test_fresh_evidence_of_everything_is_caught_up_until_it_is_too_old, "worker"
    ),
    mutants.backfill_checkpoint_before_its_page: partial(
        test_health_backfill_repair.test_a_backfill_goes_on_after_a_kill_at_any_call, 6, "none"
    ),
}


@pytest.mark.parametrize("mutant", ALONE, ids=lambda mutant: mutant.__name__)
def test_a_test_of_its_danger_catches_it(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    ALONE[mutant]()
    mutant(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):  # a gap that is missing cannot be unpacked
        ALONE[mutant]()


def test_every_mutant_is_caught_by_something() -> None:
    assert set(CAUGHT) | set(ALONE) == {*all_mutants(), *HARMLESS}
    assert len(CAUGHT) >= 20


@pytest.mark.parametrize("mutant", HARMLESS, ids=lambda mutant: mutant.__name__)
def test_what_is_called_harmless_is(mutant: Mutant) -> None:
    assert not any(is_caught(mutant, seed) for seed in range(SEEDS_OF_THE_HARMLESS))


def test_every_mutant_is_in_the_document() -> None:
    text = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
    for mutant in (*all_mutants(), *HARMLESS):
        assert f"`{mutant.__name__}`" in text
