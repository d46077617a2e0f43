"""Two workers never both own a pipeline's stream; one that is gone is followed by another."""

from __future__ import annotations

import threading
from random import Random

import pytest
from botocore.exceptions import ClientError

from ingest.errors import WorkerBusyError
from ingest.lease import LEASE_S, Lease, Owner
from ingest.standby import work_alone
from tests.ingest.building import CHECKPOINTS, LAKE, Clock, LakeSide, fails
from tests.stubs.faults import Call, Fault, client_error, read_timeout, server_error, throttled
from tests.waiting import PATIENCE_S


class Place:
    """A checkpoint table and workers with clocks that run alike but show different times."""

    def __init__(self) -> None:
        self.side = LakeSide()
        self.dead: set[int] = set()

    def lease(self, process: int, host: str | None = None, clock: Clock | None = None) -> Lease:
        return Lease(
            self.side.dynamodb.client,
            CHECKPOINTS,
            LAKE,
            Owner(host or f"host{process}", process, f"{process:x}"),
            (clock or self.side.clock).monotonic,
            is_alive=lambda number: number not in self.dead,
        )

    def sleep(self, seconds: float) -> None:
        self.side.clock.sleep(seconds)


def test_one_takes_it_and_the_other_waits() -> None:
    place = Place()
    one, other = place.lease(1), place.lease(2)
    assert one.take()
    assert not other.take()
    assert other.other == "host1/1/1"
    for _ in range(20):
        place.sleep(LEASE_S / 8)
        assert one.keep()
        assert not other.take()
    assert other.is_worked_by_another


def test_given_back_it_is_free_at_once() -> None:
    place = Place()
    one, other = place.lease(1), place.lease(2)
    assert one.take()
    one.release()
    assert other.take()
    assert not one.keep()


def test_an_owner_of_another_host_that_is_gone_is_waited_out() -> None:
    place = Place()
    one, other = place.lease(1), place.lease(2)
    assert one.take()
    assert not other.take()
    place.sleep(LEASE_S - 1)
    assert not other.take()
    place.sleep(1)
    assert other.take()
    assert not one.keep()
    assert other.keep()


def test_an_owner_of_this_host_that_is_gone_is_followed_at_once() -> None:
    place = Place()
    one, other = place.lease(1, "here"), place.lease(2, "here")
    assert one.take()
    assert not other.take()
    place.dead.add(1)
    assert other.take()


def test_an_owner_that_cannot_renew_stops_before_another_may_begin() -> None:
    """It stops with time to spare for the batch in hand."""
    place = Place()
    one, other = place.lease(1), place.lease(2)
    assert one.take()
    assert not other.take()
    began = place.side.clock.s
    place.side.dynamodb.hook = fails("put_item", throttled)
    while one.keep():
        place.sleep(0.1)
    stopped = place.side.clock.s - began
    place.side.dynamodb.hook = lambda _: None
    while not other.take():
        place.sleep(0.1)
    taken = place.side.clock.s - began
    assert stopped <= LEASE_S * 0.7
    assert taken - stopped >= LEASE_S * 0.25


def test_what_will_not_pass_is_raised() -> None:
    place = Place()
    one = place.lease(1)
    assert one.take()
    place.sleep(LEASE_S / 2)
    place.side.dynamodb.hook = fails("put_item", lambda: client_error("PutItem", "AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        one.keep()


@pytest.mark.parametrize("seed", range(60))
def test_no_two_ever_own_it_at_the_same_time(seed: int) -> None:
    """Workers that sleep, die, come back, lose writes and answers; their clocks show different times."""
    random = Random(seed)
    place = Place()
    faults = random.choice((0.0, 0.2, 0.5))

    def hook(call: Call) -> Fault | None:
        if call.operation == "put_item" and random.random() < faults:
            error = random.choice((throttled, server_error, read_timeout))()
            return Fault(error, random.choice(("none", "done")))
        return None

    place.side.dynamodb.hook = hook
    workers: list[Lease | None] = [None, None, None]
    owns = [False, False, False]
    taken = 0
    for step in range(600):
        place.sleep(random.choice((0.1, 1.0, 5.0)))
        for index, _ in enumerate(workers):
            if owns[index] and random.random() < 0.9:  # the owner's own thread looks ten times a second
                owns[index] = kept(workers[index])
        index = random.randrange(3)
        worker = workers[index]
        if worker is None or random.random() < 0.03:
            workers[index] = place.lease(1000 * index + step, f"host{index}")
            owns[index] = False  # what was there before is dead
        elif not owns[index]:
            # One that has paused for long finds out before it does anything else.
            owns[index] = took(worker)
            taken += owns[index]
        for each, lease in enumerate(workers):
            if owns[each]:
                owns[each] = kept(lease)
        assert sum(owns) <= 1
    assert taken > 1


def kept(lease: Lease | None) -> bool:
    assert lease is not None
    return lease.keep()


def took(lease: Lease) -> bool:
    try:
        return lease.take()
    except Exception:
        return False


# Standing by


def test_a_worker_that_may_not_wait_says_who_is_at_it() -> None:
    place = Place()
    one, other = place.lease(1), place.lease(2)
    assert one.take()

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            place.sleep(timeout or 0.0)
            assert one.keep()
            return self.is_set()

    with pytest.raises(WorkerBusyError, match=r"host1/1/1.*stop it first"):
        work_alone(other, lambda _: None, Stop(), may_wait=False)


def test_a_worker_that_stands_by_takes_over_and_gives_back() -> None:
    place = Place()
    one, other = place.lease(1, "here"), place.lease(2, "here")
    assert one.take()
    waits = [0]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            place.sleep(timeout or 0.0)
            waits[0] += 1
            if waits[0] == 5:
                place.dead.add(1)
            return self.is_set()

    assert work_alone(other, lambda _: "worked", Stop(), may_wait=True) == "worked"
    assert waits[0] == 5
    assert place.lease(3).take(), "given back"


def test_a_worker_whose_lease_is_lost_stops_and_stands_by() -> None:
    place = Place()
    mine = place.lease(1)
    began: list[int] = []
    stop = threading.Event()

    def work(stop_work: threading.Event) -> int:
        began.append(1)
        if len(began) == 1:
            thief = place.lease(2)
            place.side.dynamodb.tables[CHECKPOINTS].items.clear()
            assert thief.take()
            place.sleep(LEASE_S / 2)
            assert stop_work.wait(PATIENCE_S), "told to stop"
            thief.release()
        return len(began)

    assert work_alone(mine, work, stop, may_wait=True) == 2
