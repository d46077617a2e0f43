"""Working through an outage of the lake, of its role or of the network.

Nothing is given up meanwhile: what was not settled comes again from the checkpoints. A worker that never reached the
lake has another problem, which waiting does not solve: then the error ends it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from random import Random
from typing import Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import LakeUnavailableError, QuarantineError

log = logging.getLogger(__name__)

T = TypeVar("T")

MAY_PASS: Final = (LakeUnavailableError, QuarantineError, ClientError, BotoCoreError)
"""Errors that an outage of the lake, its role, the quarantine or the network causes."""

PAUSE_BASE_S: Final = 1.0
PAUSE_CAP_S: Final = 30.0
_ATTEMPTS_TO_THE_CAP: Final = 5


class Worked:
    """What is known to have worked in this process, so that its failing is an outage and no mistake of the set-up.

    Attributes:
        attended: the lake account answered: the lease was taken.
        applied: a batch was applied.
    """

    def __init__(self) -> None:
        """Nothing has worked so far."""
        self.attended = False
        self.applied = False

    def covers(self, error: Exception) -> bool:
        """Whether what failed with this error is known to have worked."""
        return self.applied if isinstance(error, LakeUnavailableError) else self.attended


def through_outages(
    work: Callable[[], T], stop: threading.Event, random: Random, worked: Worked, *, may_wait: bool = True
) -> T | None:
    """Do the work; start it again whenever an outage ends it.

    Args:
        work: the work; it resumes from its checkpoints.
        stop: ends the waiting.
        random: for jitter.
        worked: what has worked, kept by the work.
        may_wait: whether an outage is waited out at all.

    Returns:
        What the work gave; None where `stop` was set while it was waited.

    Raises:
        Exception: whatever the work raised, if it is not an outage or never worked.
    """
    attempts = 0
    while True:
        try:
            return work()
        except MAY_PASS as error:
            if not may_wait or not worked.covers(error):
                raise
            attempts = min(attempts + 1, _ATTEMPTS_TO_THE_CAP)
            pause_s = random.uniform(0, min(PAUSE_CAP_S, PAUSE_BASE_S * 2**attempts))
            log.warning("%s; the worker starts again in %.0f s, where it stopped", error, pause_s)
        if stop.wait(pause_s):
            return None
