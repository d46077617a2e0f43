"""Holding a job to a rate of capacity units, by what the responses report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

BURST_S: Final = 1.0
"""Unused units are kept for a second: DynamoDB itself counts a provisioned second at a time."""

_LEAST_PAUSE_S: Final = 0.001
"""A debt that only rounding left would be waited for in pauses too short for a clock to notice."""


def unlimited() -> float:
    """The time left where nobody sets a limit, seconds."""
    return float("inf")


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

    def wait(self, remaining_s: Callable[[], float] = unlimited) -> bool:
        """Return once the budget is not in debt, or at once where that would take longer than there is time.

        Args:
            remaining_s: seconds left.

        Returns:
            Whether the budget is not in debt.
        """
        while (debt := self._debt()) > 0:
            pause = max(debt / self._rate, _LEAST_PAUSE_S)
            if pause >= remaining_s():
                return False
            self._sleep(pause)
        return True

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
