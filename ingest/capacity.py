"""Holding a job to a rate of capacity units, by what the responses report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

BURST_S: Final = 1.0
"""Unused units are kept for a second: DynamoDB itself counts a provisioned second at a time."""


class CapacityLimit:
    """A budget of capacity units a second, shared by the threads of a job.

    What a request costs is known only from its response, so the budget may go into debt: `wait` lets nobody
    start while it is in debt, `spend` books what was reported. The mean rate stays at the limit.
    """

    def __init__(
        self, units_per_second: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        """Begin with a full second's budget.

        Args:
            units_per_second: read or write capacity units a second, more than 0.
            clock: a monotonic clock, seconds.
            sleep: waits that many seconds.
        """
        self._rate = units_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._budget = units_per_second * BURST_S
        self._at = clock()

    def wait(self) -> None:
        """Return once the budget is not in debt."""
        while (debt := self._debt()) > 0:
            self._sleep(debt / self._rate)

    def spend(self, units: float) -> None:
        """Book what a response reported, in capacity units."""
        with self._lock:
            self._budget -= units

    def _debt(self) -> float:
        with self._lock:
            now = self._clock()
            self._budget = min(self._rate * BURST_S, self._budget + (now - self._at) * self._rate)
            self._at = now
            return -self._budget
