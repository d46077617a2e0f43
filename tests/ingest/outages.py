"""What an outage of the lake costs under two retry rules, calculated by a run on a simulated clock.

    scripts/outages                     # prints the table of docs/invariants.md
    scripts/outages --hours 12 --rate 50

`ingest.delivery` retries, halves and gives up as Lambda's event source mapping does, so that it stands for both. One
shard (of a mapping: one of its lanes) gets records at a steady rate. During the outage each call fails: at once, as
where the role cannot be assumed, or after the whole time-out, as where the network drops packets. AWS does not document
how long Lambda waits between two tries, nor whether a batch whose function reports its first record as failed is halved
or given up whole; so the table has both extremes of both.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from ingest.delivery import Delivery, RetryRule
from ingest.handler import BatchReport

BATCH: Final = 1000
CALL_S: Final = 0.2
"""Of a call that succeeds: some 5,000 changes a second (docs/architecture.md)."""

LIMITED: Final = RetryRule(retries=10)
"""The mapping's setting before: ten tries, then halves."""

UNLIMITED: Final = RetryRule()
"""The setting now: bounded by the record's age alone."""

FAILURES: Final = {"the role is refused, at once": 0.3, "the network, after a time-out of 110 s": 110.0}
ARN: Final = "arn:aws:dynamodb:eu-west-1:111111111111:table/orders/stream/2026-11-24T00:00:00.000"


@dataclass(frozen=True, slots=True)
class Toll:
    """What an outage cost.

    Attributes:
        records: records that were written to the source until all was delivered.
        given_up: of these, those that went to the failure destination.
        behind_s: seconds from the outage's end until the shard was read to its end.
    """

    records: int
    given_up: int
    behind_s: float


class _Clock(threading.Event):
    """Waiting moves it; `pause_s` replaces the pause that is asked for, if given."""

    def __init__(self, pause_s: float | None) -> None:
        super().__init__()
        self.s = 1_795_500_000.0
        self._pause_s = pause_s

    def wait(self, timeout: float | None = None) -> bool:
        self.s += (timeout or 0.0) if self._pause_s is None else self._pause_s
        return False


class _Failures:
    def __init__(self) -> None:
        self.records = 0

    def put(self, _name: str, document: Mapping[str, Any]) -> None:
        self.records += document["DDBStreamBatchInfo"]["batchSize"]

    def given_up(self, _detail: str) -> None:
        """The gap; nothing here asks for it."""


class _Whole:
    """A mapping that never halves a batch: it gives it up whole after so many retries."""

    def __init__(
        self, process: Callable[[Mapping[str, Any]], BatchReport], retries: int, clock: _Clock
    ) -> None:
        self._process, self._retries, self._clock = process, retries, clock
        self.given_up = 0

    def deliver(self, _shard: str, records: Sequence[Mapping[str, Any]]) -> None:
        for attempt in range(self._retries + 1):
            if self._process({"Records": records}).failed_from is None:
                return
            self._clock.wait(min(30.0, 0.2 * 2**attempt))
        self.given_up += len(records)


def toll_of(
    rule: RetryRule,
    *,
    outage_s: float,
    failing_s: float,
    rate: float = 10.0,
    pause_s: float | None = None,
    whole: bool = False,
) -> Toll:
    """Run one shard through an outage.

    Args:
        rule: when to give up.
        outage_s: how long every call fails.
        failing_s: how long such a call takes.
        rate: records a second that are written to the source.
        pause_s: between two tries; the rule's own, with jitter, if None.
        whole: give up whole batches instead of halving them; needs a rule that limits the tries.
    """
    clock, failures = _Clock(pause_s), _Failures()
    began = clock.s
    ends = began + outage_s

    def process(event: Mapping[str, Any]) -> BatchReport:
        records = event["Records"]
        if clock.s < ends:
            clock.s += failing_s
            first = records[0]["dynamodb"]["SequenceNumber"]
            return BatchReport(len(records), {}, [], [], first, "the lake could not be reached")
        clock.s += CALL_S * len(records) / BATCH
        return BatchReport(len(records), {}, [], [], None)

    halving = Delivery(
        process,
        ARN,
        failures,
        failures,
        now_ms=lambda: round(clock.s * 1000),
        stop=clock,
        random=Random(1),
        rule=rule,
    )
    giving_up = _Whole(process, rule.retries or 0, clock)
    delivery: Delivery | _Whole = giving_up if whole else halving
    read = 0
    while clock.s < ends or read < int((clock.s - began) * rate):
        written = min(int((clock.s - began) * rate), read + BATCH)
        if written == read:
            clock.s += 1 / rate
            continue
        delivery.deliver("shard", [_record(number, began + number / rate) for number in range(read, written)])
        read = written
    return Toll(read, failures.records + giving_up.given_up, max(0.0, clock.s - ends))


def _record(number: int, created_s: float) -> Mapping[str, Any]:
    return {"dynamodb": {"SequenceNumber": str(number + 1), "ApproximateCreationDateTime": created_s}}


def table(hours: float, rate: float) -> Sequence[str]:
    """The lines of the table in docs/invariants.md."""
    lines = [
        "| every call fails | pause between tries | 10 retries, batches given up whole | 10 retries, halved | by age "
        "alone | of records | then caught up after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, failing_s in FAILURES.items():
        for pause, pause_s in (("none", 0.0), ("up to 30 s", None)):
            whole, halved, by_age = (
                toll_of(
                    rule,
                    outage_s=hours * 3600,
                    failing_s=failing_s,
                    rate=rate,
                    pause_s=pause_s,
                    whole=is_whole,
                )
                for rule, is_whole in ((LIMITED, True), (LIMITED, False), (UNLIMITED, False))
            )
            lines.append(
                f"| {name} | {pause} | {whole.given_up:,} | {halved.given_up:,} | {by_age.given_up:,} | "
                f"{by_age.records:,} | {by_age.behind_s:,.0f} s |"
            )
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=1.0, help="the outage's length (1)")
    parser.add_argument("--rate", type=float, default=10.0, help="records a second and shard (10)")
    options = parser.parse_args()
    logging.disable()
    sys.stdout.write("\n".join(table(options.hours, options.rate)) + "\n")
