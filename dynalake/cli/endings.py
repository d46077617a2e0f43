"""How a command ends: exit codes, and what is said where it was ended from outside.

| exit code | what it means |
| --- | --- |
| 0 | done |
| 1 | done, and the answer is no: see the command |
| 2 | a mistake that you can mend, said in one line; of `check`: failed |
| 3 | `check` alone: it could not be checked |
| 70 | a defect of dynalake: it shows a traceback; never mistaken for an answer |
| 130 | ended by Ctrl-C (SIGINT) |
| 143 | ended by SIGTERM, as a scheduler or a container sends it |
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

DONE: Final = 0
NO: Final = 1
MISTAKE: Final = 2
DEFECT: Final = 70
"""EX_SOFTWARE of sysexits.h. Python's own would be 1, which a scheduler takes for an answer."""

INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM

ANSWERS_NO: Final[Mapping[str, str]] = {
    "demo": "something that it claims was false",
    "doctor": "a prerequisite fails",
    "parity": "source and lake differ",
    "repair": "they still differ",
    "redrive": "documents stay",
    "check": "a warning; 2: failed; 3: it could not be checked",
    "ddl": "something cannot be changed in place",
}
"""What exit code 1 means, for each command that has it."""

STAYS: Final[Mapping[str, str]] = {
    "demo": "run it again: it begins anew",
    "init": "the configuration is as it was, or has all of the pipeline",
    "setup": "what was made stays; run it again for the rest",
    "deploy": "what CloudFormation has begun it ends by itself; run it again for the rest",
    "remove": "what CloudFormation has begun it ends by itself; run it again for the rest",
    "doctor": "nothing was changed",
    "backfill": "what was filled stays; run it again and it goes on from there",
    "run": "the next run goes on from the last checkpoint",
    "status": "nothing was changed",
    "parity": "no verdict; the file of differences is that of the last whole comparison",
    "repair": "what was mended stays; run it again and it goes on from there",
    "redrive": "what was settled stays settled; run it again for the rest",
    "check": "no verdict; run it again",
    "report": "the page is whole, the old one or the new one",
    "snapshot": "the file is whole, the old one or the new one",
    "refresh": "the snapshot is whole, the old version or the new one; run it again",
    "follow": "the snapshot is of the last publication; the next run goes on from there",
    "export": "each file there is whole, of the old or the new; run it again",
    "publish": "the server shows the old or the new; run it again (after --mode append, look first)",
    "ddl": "statements that have run stay; run it again",
    "dictionary": "the file is whole, the old one or the new one",
    "query": "the query was cancelled",
    "queries": "nothing was changed",
    "notebooks": "copies that were made stay, and are yours",
}
"""What a command leaves that was ended from outside, and what to do then."""


class Ended(KeyboardInterrupt):
    """A signal asked for the end.

    Of a plain KeyboardInterrupt that passed through a library's own way into Python, the interpreter remembers that
    nobody handled it, and dies of the signal whatever exit code was chosen.
    """


@dataclass(slots=True)
class Told:
    """The signal that asked for the end, if one did."""

    number: signal.Signals | None = None


@contextmanager
def told_to_end() -> Iterator[Told]:
    """While this lasts, SIGTERM ends a command as Ctrl-C does: what must be tidied up is.

    A command that knows a better end than that sets handlers of its own. Signals that are ignored stay so.
    """
    told = Told()

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        told.number = signal.Signals(number)
        raise Ended

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, end)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_words(command: str | None, number: signal.Signals | None) -> tuple[str, int]:
    """The line for a command that was ended from outside, and its exit code."""
    how, code = ("ended by SIGTERM", TERMINATED) if number == signal.SIGTERM else ("interrupted", INTERRUPTED)
    stays = STAYS.get(command or "")
    return f"{how}: {stays}" if stays else how, code
