"""Working alone on a pipeline: wait for the lease, keep it while the work lasts, stop the work if it is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import WorkerBusyError
from ingest.lease import Lease

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S: Final = 0.1
"""How soon a stop, or the lease's loss, reaches the work."""


def work_alone(
    lease: Lease, work: Callable[[threading.Event], T], stop: threading.Event, *, may_wait: bool
) -> T | None:
    """Do the work while no other worker does; where the lease is lost meanwhile, stand by and begin again.

    Args:
        lease: the pipeline's lease.
        work: the work; it must end soon after the event that it is given is set.
        stop: ends everything.
        may_wait: whether to stand by for as long as another worker lives.

    Returns:
        What the work gave; None where `stop` was set before the lease was free.

    Raises:
        WorkerBusyError: another worker is at it, and this one may not wait.
        ClientError: the checkpoint table refuses.
    """
    while _stand_by(lease, stop, may_wait):
        with _Attending(lease, stop) as attending:
            result = work(attending.stop_work)
        if stop.is_set() or not attending.lost:
            return result
        log.warning("another worker took over; standing by")
    return None


def _stand_by(lease: Lease, stop: threading.Event, may_wait: bool) -> bool:
    """Whether the lease was taken; False where `stop` was set first."""
    told = False
    while not lease.take():
        if lease.is_worked_by_another:
            if not may_wait:
                raise WorkerBusyError(
                    f"another worker ({lease.other}) reads this pipeline's stream",
                    remedy="leave it to that one, or stop it first",
                )
            if not told:
                log.warning("standing by: %s reads the stream", lease.other)
                told = True
        if stop.wait(lease.look_s):
            return False
    return not stop.is_set()


class _Attending:
    """Renews a lease in a thread of its own while the work lasts."""

    def __init__(self, lease: Lease, stop: threading.Event) -> None:
        self.stop_work = threading.Event()
        self.lost = False
        self._lease = lease
        self._stop = stop
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._attend, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Stop renewing, and give the lease back."""
        self._ended.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure
        with suppress(ClientError, BotoCoreError):  # in an outage it runs out by itself
            self._lease.release()

    def _attend(self) -> None:
        while not self._ended.wait(TICK_S):
            try:
                kept = self._lease.keep()
            except Exception as failure:  # raised again at the work's end
                self._failure, kept = failure, False
            self.lost = not kept
            if self.lost or self._stop.is_set():
                self.stop_work.set()
                return
