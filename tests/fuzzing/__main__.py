"""Fuzzes the parsers of foreign bytes, each in a process of its own with bounded memory and time.

    scripts/fuzz --minutes 12                          # each parser for so long, two at a time
    scripts/fuzz records snapshots --minutes 5
    scripts/fuzz records --seed 4711 --inputs 1        # one input again

A fault is an exception that is not dynalake's, an input that takes more than 20 s or 1 GiB, or the end of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.fuzzing.parsers import PARSERS, refused

ROOT: Final = Path(__file__).parents[2]
MEMORY: Final = 1 << 30
"""Bytes that a process may take beyond what it has once its parser is made."""

INPUT_S: Final = 20
SHOWN: Final = 20


class TooSlowError(BaseException):
    """An input took too long; no `except Exception` may hide it."""


@dataclass(slots=True)
class Outcome:
    """What came of one parser's inputs.

    Attributes:
        parser: its name.
        inputs: inputs parsed.
        refused: those that it refused with an error of dynalake's.
        next_seed: the seed with which a later run continues.
        peak_mib: the largest resident memory of its processes.
        faults: seed and what happened.
    """

    parser: str
    inputs: int = 0
    refused: int = 0
    next_seed: int = 0
    peak_mib: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)


def fuzz(parser: str, seed: int, inputs: int | None, seconds: float) -> Outcome:
    """Fuzz one parser until its inputs or its time are used up; a process that ends is a fault, and another follows."""
    outcome = Outcome(parser, next_seed=seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until and (inputs is None or outcome.inputs < inputs):
        left = inputs - outcome.inputs if inputs is not None else 0
        words = [sys.executable, "-m", "tests.fuzzing", "--child", parser, "--seed", str(outcome.next_seed)]
        words += ["--inputs", str(left), "--minutes", str((until - time.monotonic()) / 60)]
        with subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                told = json.loads(line)
                if "fault" in told:
                    outcome.faults.append((told["seed"], told["fault"]))
                outcome.next_seed, outcome.peak_mib = (
                    told["seed"] + 1,
                    max(outcome.peak_mib, told["peak_mib"]),
                )
                outcome.inputs += told["inputs"]
                outcome.refused += told["refused"]
        if child.returncode:
            outcome.faults.append((outcome.next_seed, f"the process ended with {child.returncode}"))
            outcome.next_seed += 1
            outcome.inputs += 1
    return outcome


def parse_inputs(parser: str, seed: int, inputs: int, seconds: float) -> None:
    """The child: parses inputs, and tells of each before the next one begins, so that its end names the input."""
    with tempfile.TemporaryDirectory(prefix="dynalake-fuzz-") as folder:
        parse = PARSERS[parser](Path(folder))
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
        signal.signal(signal.SIGALRM, _too_slow)
        until = time.monotonic() + seconds
        last = seed + inputs if inputs else None
        while time.monotonic() < until and seed != last:
            told: dict[str, object] = {"seed": seed, "inputs": 1, "refused": 0}
            signal.alarm(INPUT_S)
            try:
                told["refused"] = int(refused(parse, seed))
            except (Exception, TooSlowError):
                told["fault"] = traceback.format_exc()[-3_000:]
            finally:
                signal.alarm(0)
            told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            seed += 1


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"an input took more than {INPUT_S} s")


def main() -> int:
    """Parse the words of the command line; gives the exit code, 1 where there are faults."""
    words = argparse.ArgumentParser(prog="scripts/fuzz", description=(__doc__ or "").split("\n\n")[0])
    words.add_argument(
        "parsers", nargs="*", metavar="PARSER", help=f"one or more of {', '.join(PARSERS)}; default: all"
    )
    words.add_argument("--minutes", type=float, default=12.0, help="for each parser; default 12")
    words.add_argument("--seed", type=int, default=0, help="the first input's seed; default 0")
    words.add_argument("--inputs", type=int, default=0, help="stop after so many inputs of each parser")
    words.add_argument("--json", action="store_true", help="print JSON")
    words.add_argument("--child", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.child:
        parse_inputs(given.child, given.seed, given.inputs, given.minutes * 60)
        return 0
    if unknown := set(given.parsers) - PARSERS.keys():
        words.error(f"unknown parser: {', '.join(sorted(unknown))}; there are {', '.join(PARSERS)}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(
            pool.map(
                lambda parser: fuzz(parser, given.seed, given.inputs or None, given.minutes * 60),
                given.parsers or list(PARSERS),
            )
        )
    if given.json:
        sys.stdout.write(json.dumps([asdict(outcome) for outcome in outcomes]) + "\n")
    for one in outcomes if not given.json else ():
        sys.stdout.write(
            f"{one.parser:14} {one.inputs:>9,} inputs, {one.refused:,} refused, {len(one.faults)} faults, "
            f"at most {one.peak_mib:,} MiB; seeds {given.seed:,} to {one.next_seed - 1:,}\n"
        )
        for seed, what in one.faults[:SHOWN]:
            sys.stdout.write(f"  seed {seed}: {what}\n")
    return int(any(one.faults for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
