"""The long mode of the simulator: as many seeds as are wanted, over all processors.

    scripts/interleavings --seeds 100000
    scripts/interleavings --seeds 100000 --from 40000     # goes on where an earlier run was stopped

Each seed is one run of `tests.ingest.model`. One that fails is named, so that `--from` it `--seeds 1` shows it again.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tests.ingest.model import World, run

CHUNK: Final = 100
"""Seeds that one process takes at once."""

TELL_EVERY_S: Final = 60
"""Between two lines of progress where there is no terminal to draw a bar on."""

SHOWN: Final = 10
"""Failures that are told; more of them say nothing new."""


@dataclass(slots=True)
class Tally:
    """What runs went through.

    Attributes:
        runs: how many ended as they should.
        events: steps of each actor, and "! <fault>" and "! took effect: <when>" for calls that failed.
        said: how often health said what, over every time that it was asked.
        failures: what went wrong, each with its seed.
    """

    runs: int = 0
    events: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps of all actors."""
        return sum(count for event, count in self.events.items() if not event.startswith("!"))

    @property
    def faults(self) -> int:
        """Calls that failed."""
        return sum(
            count
            for event, count in self.events.items()
            if event.startswith("!") and not event.startswith("! took")
        )

    def add(self, world: World) -> None:
        """Count one run that ended well."""
        self.runs += 1
        self.events.update(lived_through(world))
        self.said.update(world.said)

    def join(self, other: Tally) -> None:
        """Count what another process ran."""
        self.runs += other.runs
        self.events.update(other.events)
        self.said.update(other.said)
        self.failures += other.failures


def lived_through(world: World) -> Counter[str]:
    """What happened in a run, from its trace."""
    events: Counter[str] = Counter()
    for line in world.trace:
        words = line.split()
        if words[0] == "!":
            _, _, fault, effect = words
            events[f"! {fault}"] += 1
            if effect != "none":
                events[f"! took effect: {effect}"] += 1
        else:
            events[words[0].lstrip("_")] += 1
    return events


def run_chunk(seeds: range) -> Tally:
    """Run these seeds, without what ingest logs of all the troubles."""
    tally = Tally()
    logging.disable(logging.CRITICAL)
    try:
        for seed in seeds:
            try:
                world = run(seed)
            except Exception as error:
                tally.failures.append(f"seed {seed}: {type(error).__name__}: {error}")
            else:
                tally.add(world)
    finally:
        logging.disable(logging.NOTSET)
    return tally


def run_all(first: int, seeds: int, processes: int, console: Console) -> tuple[Tally, int]:
    """Run seeds over several processes; the tally, and up to which seed all were run."""
    chunks = [range(begin, min(begin + CHUNK, first + seeds)) for begin in range(first, first + seeds, CHUNK)]
    tally, reached = Tally(), first
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with (
        multiprocessing.get_context("spawn").Pool(processes, initializer=_leave_interrupts_alone) as pool,
        Progress(*columns, console=console) as progress,
    ):
        task = progress.add_task("seeds", total=seeds)
        told = began = time.monotonic()
        try:
            for chunk, done in zip(chunks, pool.imap(run_chunk, chunks), strict=True):
                tally.join(done)
                reached = chunk.stop
                progress.update(task, completed=reached - first)
                for failure in done.failures[:SHOWN]:
                    progress.console.print(failure, markup=False)
                now = time.monotonic()
                if not console.is_terminal and now - told >= TELL_EVERY_S:
                    told = now
                    console.print(
                        f"{reached - first:,} of {seeds:,} seeds, {len(tally.failures):,} failures, "
                        f"{(reached - first) / (now - began):.1f} seeds/s"
                    )
        except KeyboardInterrupt:
            pool.terminate()
    return tally, reached


def _leave_interrupts_alone() -> None:
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Run what the command line wants and say what was run."""
    parser = argparse.ArgumentParser(prog="scripts/interleavings", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100_000, help="how many (100,000 if not given)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    wanted = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    tally, reached = run_all(wanted.first, wanted.seeds, wanted.processes, console)
    took_s = time.monotonic() - began
    if wanted.json:
        print(
            json.dumps(
                {
                    "first": wanted.first,
                    "reached": reached,
                    "runs": tally.runs,
                    "failures": tally.failures,
                    "seconds": round(took_s),
                    "steps": tally.steps,
                    "faults": tally.faults,
                    "health": dict(tally.said.most_common()),
                    "events": dict(tally.events.most_common()),
                }
            )
        )
    else:
        print(
            f"seeds {wanted.first:,} to {reached - 1:,}: {tally.runs:,} interleavings ended in the source's state, "
            f"{len(tally.failures):,} did not; {took_s:,.0f} s"
        )
        said = ", ".join(f"{count:,} times {state}" for state, count in tally.said.most_common())
        print(
            f"{tally.steps:,} steps, {tally.faults:,} faults; health was asked {tally.said.total():,} times: {said}"
        )
        for event, count in tally.events.most_common():
            print(f"  {count:>12,}  {event}")
        for failure in tally.failures[:SHOWN]:
            print(failure)
    if reached < wanted.first + wanted.seeds:
        print(
            f"stopped; go on with --from {reached} --seeds {wanted.first + wanted.seeds - reached}",
            file=sys.stderr,
        )
        sys.exit(130)
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
