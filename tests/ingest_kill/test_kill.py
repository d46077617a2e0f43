"""kill -9 at any moment loses nothing: worker and backfill as processes, the source being written all the while.

DYNALAKE_KILL_ROUNDS=50 scripts/test tests/ingest_kill -s        # the long mode
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.end_to_end.ministack import Ministack
from tests.ingest_kill.field import Field, Hand, Running
from tests.waiting import POLL_S, until

ROUNDS: Final = int(os.environ.get("DYNALAKE_KILL_ROUNDS", "6"))
SEED: Final = int(os.environ.get("DYNALAKE_KILL_SEED", "1"))
KEYS: Final = 400


@pytest.fixture
def field(ministack: Ministack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Field]:
    name = "".join(letter for letter in request.node.name.removeprefix("test_") if letter.isalnum())[:40]
    made = Field(tmp_path, ministack, name)
    yield made
    made.close()


def at_work(field: Field, worker: Running) -> None:
    """Wait until this process owns the stream's lease."""

    def owns() -> bool:
        assert worker.lives, worker.said()
        return f"/{worker.pid}/" in field.lease_owner()

    until(owns, worker.said)


def test_nothing_is_lost_by_kills_while_the_source_is_written(field: Field) -> None:
    random = Random(SEED)
    began = time.monotonic()
    hand = Hand(field, KEYS, random)
    for _ in range(KEYS):
        hand.write_once()
    field.do("setup")
    killed = {"run": 0, "backfill": 0}
    with hand:
        for _ in range(ROUNDS):
            plan = field.entry("backfill")
            worker = field.start("run")
            backfill = field.start("backfill", *random.choice(([], ["--restart"])))
            at_work(field, worker)
            for _ in range(100):  # one that goes on makes no new plan: it is killed at any moment
                if not backfill.lives or field.entry("backfill") != plan:
                    break
                time.sleep(POLL_S)
            time.sleep(random.choice((0.2, 1.0, 1.0, 7.0)) * random.random())
            for victim in random.sample([worker, backfill], 2):
                if victim.lives:
                    victim.kill()
                    killed[victim.words[0]] += 1
                else:
                    assert victim is backfill, f"a worker ended by itself:\n{victim.said()}"
                    assert victim.end() == 0, victim.said()
                time.sleep(0.2 * random.random())
    assert killed["run"] == ROUNDS
    assert killed["backfill"] >= ROUNDS // 4
    drained = field.do("run", "--until-caught-up")
    field.do("backfill")
    assert field.shown() == field.source_items()
    assert len(field.source_items()) > KEYS / 2
    assert '"complete": true' in field.do("status", "--json")
    print(
        f"{ROUNDS} rounds (seed {SEED}), {killed['run']} workers and {killed['backfill']} backfills killed, "
        f"{hand.writes:,} writes to the source meanwhile; the lake is the source: {len(field.shown())} rows and "
        f"{len(field.lake_rows()) - len(field.shown())} tombstones; {time.monotonic() - began:.0f} s; {drained}"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_worker_cleanly(field: Field, number: signal.Signals) -> None:
    field.do("setup")
    worker = field.start("run")
    at_work(field, worker)
    with Hand(field, 20, Random(1)):
        until(lambda: len(field.lake_rows()) > 5, worker.said)
        assert worker.tell(number) == 0, worker.said()
    assert "records:" in worker.said()
    assert "Traceback" not in worker.said()
    assert field.lease_owner() == "", "the next worker need not wait"
    before = len(field.lake_rows())
    field.do("run", "--until-caught-up")
    assert len(field.lake_rows()) >= before
    assert field.shown() == field.source_items()


def test_a_second_worker_stands_by_and_takes_over(field: Field) -> None:
    field.do("setup")
    first = field.start("run")
    at_work(field, first)
    second = field.start("run")
    with Hand(field, 20, Random(2)):
        until(lambda: len(field.lake_rows()) > 5, first.said)
        until(lambda: "standing by" in second.said(), second.said)
        assert second.lives
        assert f"/{first.pid}/" in field.lease_owner()
        first.kill()
        at_work(field, second)
    until(lambda: field.shown() == field.source_items(), second.said)
    assert second.tell(signal.SIGTERM) == 0
