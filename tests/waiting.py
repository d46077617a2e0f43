"""The one way in which tests wait for something that another thread or process does.

A test waits for the fact that it asserts, never for a stretch of time, and never for a fact that may already be true
before the work has begun. The deadline only turns a hang into a failure: it is far longer than any healthy run takes,
also on a machine that does other work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 300.0
POLL_S: Final = 0.02


def until(holds: Callable[[], object], why: Callable[[], str] = lambda: "") -> None:
    """Wait until `holds()` is true.

    Args:
        holds: asked again and again; it may raise to fail at once.
        why: gives the text of the failure, such as the end of a log.

    Raises:
        AssertionError: it was not true within `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"still false after {PATIENCE_S:.0f} s; {why()}"
        time.sleep(POLL_S)
