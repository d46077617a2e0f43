"""Outages of the lake, of its role and of the network: nothing is given up within the bound, and then full speed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from ingest.delivery import MAX_AGE_S, RetryRule
from ingest.errors import LakeUnavailableError, QuarantineError, StreamError
from ingest.lambda_function import LambdaFunction
from ingest.outages import Worked, through_outages
from ingest.shards import RETENTION_S
from tests.ingest.building import LAKE, FakeEvent, LakeSide, event_of, record
from tests.ingest.outages import BATCH, CALL_S, FAILURES, LIMITED, UNLIMITED, toll_of
from tests.ingest.test_lambda_function import Context
from tests.ingest.test_worker import Run, failed_documents, gaps
from tests.stubs.faults import (
    Call,
    Fault,
    client_error,
    connect_timeout,
    read_timeout,
    server_error,
    throttled,
)

HOUR_S = 3600.0

EVERYTHING = Worked()
EVERYTHING.attended = EVERYTHING.applied = True

OUTAGES: dict[str, Callable[[], BaseException]] = {
    "the lake throttles": throttled,
    "the lake answers 500": server_error,
    "the network: no connection": connect_timeout,
    "the network: no answer": read_timeout,
    "the role cannot be assumed": lambda: client_error("AssumeRole", "AccessDenied", status=403),
    "the role's credentials have expired": lambda: client_error("PutItem", "ExpiredTokenException"),
    "there are no credentials": NoCredentialsError,
    "the table may not be written": lambda: client_error("PutItem", "AccessDeniedException"),
}
REFUSALS = [name for name in OUTAGES if not name.startswith(("the network", "the lake"))]


def down(side: LakeSide, error: Callable[[], BaseException], seconds: float) -> None:
    """The whole lake account does not answer for so long: lake table, catalogue, checkpoints, health."""
    until = side.clock.s + seconds

    def hook(_: Call) -> Fault | None:
        side.clock.s += 0.1
        return Fault(error()) if side.clock.s < until else None

    side.dynamodb.hook = hook


# The worker


@pytest.mark.parametrize("name", OUTAGES)
def test_a_worker_waits_an_hour_for_the_lake_and_gives_nothing_up(name: str) -> None:
    run = Run(page_size=10)
    run.rule = RetryRule()
    run.put("before")
    run.drain()
    keys = [f"k{n}" for n in range(60)]
    run.put(*keys)
    began = run.side.clock.s
    down(run.side, OUTAGES[name], HOUR_S)
    stop, finish = FakeEvent(run.side.clock), threading.Event()
    finish.set()
    written: list[str] = []
    run.side.table.on_write = lambda _, new: written.append((new or {})["pk"]["S"])
    report = through_outages(
        lambda: run.worker(stop=stop).run(threading.Event(), finish),
        stop,
        Random(1),
        EVERYTHING,
    )
    assert report is not None
    assert report.caught_up
    assert run.side.clock.s - began >= HOUR_S
    assert not failed_documents(run)
    assert not gaps(run)
    assert run.side.shown() == run.expected()
    assert written == keys, "each once: the batches were not halved, and nothing was repeated"


def test_what_never_worked_is_an_error_and_no_outage() -> None:
    run = Run()
    run.put("a")
    down(run.side, OUTAGES["the table may not be written"], HOUR_S)
    stop = FakeEvent(run.side.clock)
    with pytest.raises(LakeUnavailableError):
        through_outages(
            lambda: run.side.replicator().process(event_of(record(1))),
            stop,
            Random(1),
            Worked(),
        )


def test_another_error_ends_the_work_and_a_stop_ends_the_waiting() -> None:
    def fail(error: Exception) -> Any:
        raise error

    with pytest.raises(StreamError):
        through_outages(lambda: fail(StreamError("gone")), threading.Event(), Random(1), EVERYTHING)
    stop = threading.Event()
    stop.set()
    assert through_outages(lambda: fail(NoCredentialsError()), stop, Random(1), EVERYTHING) is None


@pytest.mark.parametrize(
    ("attended", "applied", "error", "waits"),
    [
        (True, False, NoCredentialsError(), True),
        (True, False, QuarantineError("no bucket"), True),
        (True, False, client_error("PutItem", "AccessDeniedException"), True),
        (True, False, LakeUnavailableError("no such table"), False),
        (True, True, LakeUnavailableError("no such table"), True),
        (False, False, NoCredentialsError(), False),
        (True, True, StreamError("gone"), False),
    ],
)
def test_only_what_has_worked_is_waited_for(
    attended: bool, applied: bool, error: Exception, waits: bool
) -> None:
    worked = Worked()
    worked.attended, worked.applied = attended, applied
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return "done"

    def run(may_wait: bool) -> str | None:
        calls.clear()
        stop = FakeEvent(LakeSide().clock)
        return through_outages(work, stop, Random(1), worked, may_wait=may_wait)

    with pytest.raises(type(error)):
        run(may_wait=False)
    if waits:
        assert run(may_wait=True) == "done"
    else:
        with pytest.raises(type(error)):
            run(may_wait=True)


# The function


@pytest.mark.parametrize("name", OUTAGES)
def test_a_function_reports_all_as_failed_and_applies_all_when_the_lake_is_back(name: str) -> None:
    """Also the container that went through the outage; the mapping delivers the same batch again and again."""
    side = LakeSide()
    function = LambdaFunction(side.replicator(), "orders", monotonic=side.clock.monotonic)
    function(event_of(record(1, "a")), Context(60))
    batch = event_of(*(record(number, f"k{number}") for number in range(2, 30)))
    down(side, OUTAGES[name], HOUR_S)
    tries = 0
    while True:
        tries += 1
        assert tries < 100_000
        try:
            answer = function(batch, Context(60))
        except LakeUnavailableError:
            assert name in REFUSALS
            side.clock.sleep(60)
            continue
        if not answer["batchItemFailures"]:
            break
        assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    assert tries > 1
    assert not side.place.documents
    assert not side.gaps.details
    assert len(side.shown()) == 29
    assert side.dynamodb.tables[LAKE].get({"pk": {"S": "k29"}}) is not None


# The figures of docs/invariants.md


@pytest.mark.parametrize("failing_s", FAILURES.values())
@pytest.mark.parametrize("pause_s", [0.0, None])
@pytest.mark.parametrize("hours", [1, 6])
def test_by_age_alone_nothing_is_given_up_and_the_shard_catches_up_at_full_speed(
    failing_s: float, pause_s: float | None, hours: int
) -> None:
    rate = 3.0
    limited = toll_of(LIMITED, outage_s=hours * HOUR_S, failing_s=failing_s, rate=rate, pause_s=pause_s)
    toll = toll_of(UNLIMITED, outage_s=hours * HOUR_S, failing_s=failing_s, rate=rate, pause_s=pause_s)
    assert toll.given_up == 0
    assert limited.given_up > 0
    backlog_s = (hours * HOUR_S + failing_s + UNLIMITED.cap_s) * rate * CALL_S / BATCH
    slowed = 1 + 2 * rate * CALL_S / BATCH
    assert toll.behind_s <= failing_s + UNLIMITED.cap_s + backlog_s * slowed + 2 * CALL_S


def test_with_a_limit_an_hour_of_records_may_be_given_up() -> None:
    toll = toll_of(LIMITED, outage_s=HOUR_S, failing_s=0.3, pause_s=0.0, whole=True)
    assert toll.given_up > 0.95 * toll.records * HOUR_S / (HOUR_S + toll.behind_s)


def test_beyond_the_bound_only_what_is_older_than_it_is_given_up() -> None:
    rate, hours = 2.0, 22
    toll = toll_of(UNLIMITED, outage_s=hours * HOUR_S, failing_s=110.0, rate=rate)
    older = (hours * HOUR_S - MAX_AGE_S) * rate
    assert older - 300 * rate <= toll.given_up <= older + BATCH
    assert MAX_AGE_S < RETENTION_S


def test_the_pauses_grow_to_the_cap_and_no_further() -> None:
    run = Run()
    run.rule = RetryRule()
    run.put("a")
    down(run.side, throttled, 3 * HOUR_S)
    stop = FakeEvent(run.side.clock)
    run.worker(stop=stop)._delivery.deliver("shard", run.stream.open_shards()[0].records)
    assert max(run.side.clock.slept) <= run.rule.cap_s
    assert any(before > after for before, after in pairwise(run.side.clock.slept)), "with jitter"
    assert not failed_documents(run)
