"""Whatever happens, the lake becomes the source: random interleavings of everything that `model` knows.

These seeds are run in CI; `scripts/interleavings` runs as many more as are wanted.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from tests.ingest.interleavings import run_chunk
from tests.ingest.model import run

SEEDS: Final = 1500
CHUNK: Final = 250


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_interleaving_ends_in_the_source_s_state(first: int) -> None:
    tally = run_chunk(range(first, first + CHUNK))
    assert not tally.failures
    assert tally.runs == CHUNK
    assert_everything_happened(tally.events)


def assert_everything_happened(events: Counter[str]) -> None:
    """A simulator in which nothing happens finds nothing."""
    for actor in (
        "write_some",
        "walk",
        "redeliver",
        "redrive",
        "backfill",
        "mend",
        "operator",
        "reshape",
        "land",
    ):
        assert events[actor] > CHUNK / 4, f"{actor}: {events}"
    for actor in (
        "replace_worker",
        "worker_dies",
        "a_day_passes",
        "switch",
        "heat_or_cool",
        "flap",
        "deliver_foreign",
        "look",
        "meddle",
        "redeploy",
    ):
        assert events[actor] > CHUNK / 20, f"{actor}: {events}"
    for fault in ("ClientError", "ReadTimeoutError", "ConnectTimeoutError", "Killed"):
        assert events[f"! {fault}"] > CHUNK / 10, f"{fault}: {events}"
    for effect in ("done", "later"):
        assert events[f"! took effect: {effect}"] > CHUNK / 10, f"{effect}: {events}"


def test_a_seed_is_the_same_run_each_time() -> None:
    assert run(11).trace == run(11).trace
    assert run(11).trace != run(12).trace
