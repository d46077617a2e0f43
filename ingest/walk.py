"""Walking a stream: every shard from where it was left, parents before children, relations side by side.

The order and the pace are the same for whoever walks (the worker, a snapshot's roll-forward); what to do with
the records, and with records that were trimmed, is the listener's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingest.errors import ExpiredIteratorError, StoppedError, StreamBusyError, TrimmedError
from ingest.shards import Shard, StartingPoint, StreamReader, readable

log = logging.getLogger(__name__)

THREADS: Final = 8
"""Shards read side by side; more shards take turns."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How often a shard is asked, in seconds.

    Attributes:
        least_s: between two requests to a shard that had records.
        most_s: between two requests to an idle shard: the lag that idleness may add. GetRecords costs a read
            request unit even when it returns nothing, so an idle shard is asked ever more rarely.
        listing_s: between two looks at the list of shards.
        quiet_answers: this many empty answers in a row
        quiet_s: over this many seconds count as the shard's end. An open shard's GetRecords may return
            nothing while records remain behind (API reference, GetRecords), so the end is a judgement.
    """

    least_s: float = 0.05
    most_s: float = 1.0
    listing_s: float = 15.0
    quiet_answers: int = 3
    quiet_s: float = 2.0


@dataclass(slots=True)
class Reading:
    """One shard being read; only the thread whose turn it is touches it.

    Attributes:
        shard_id: the shard.
        after: the sequence number after which to go on; None for the starting point.
        iterator: the iterator to go on with, if there is one.
    """

    shard_id: str
    after: str | None = None
    iterator: str | None = None
    due: float = 0.0
    pause_s: float = 0.0
    empties: int = 0
    quiet_since: float | None = None
    finished: bool = False


class Listener(Protocol):
    """What is done with what a walk finds."""

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Settle records of one shard, in order, as boto3 gives them; when it returns they are passed.

        Raises:
            StoppedError: the walk is stopping; the records were not settled.
        """
        ...

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """The stream lists these shards; it was asked at `asked`, monotonic seconds."""
        ...

    def on_empty(self, shard_id: str, asked: float) -> None:
        """A shard that was asked at `asked`, monotonic seconds, had no record to give."""
        ...

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:
        """Records of a shard after `after` were trimmed before they were read."""
        ...

    def on_finished(self, shard_id: str) -> None:
        """A shard was closed and has been read to its end, or it is gone."""
        ...

    def on_state(self, *, caught_up: bool) -> None:
        """Called often: whether every shard is at its end."""
        ...


class Walk:
    """One walk along one stream."""

    def __init__(
        self,
        reader: StreamReader,
        listener: Listener,
        monotonic: Callable[[], float],
        pacing: Pacing | None = None,
        threads: int = THREADS,
    ) -> None:
        """Prepare to walk.

        Args:
            reader: the stream.
            listener: what to do with what is found.
            monotonic: a monotonic clock, seconds.
            pacing: how often to ask.
            threads: shards read side by side.
        """
        self._reader = reader
        self._listener = listener
        self._monotonic = monotonic
        self._pacing = pacing or Pacing()
        self._threads = threads
        self._readings: dict[str, Reading] = {}
        self._finished: set[str] = set()
        self._listed = False
        self._shards: Mapping[str, Shard] = {}

    def resume(self, positions: Mapping[str, str | None], finished: set[str]) -> None:
        """Go on from known positions: shard id -> the last sequence number passed."""
        self._readings.update({shard: Reading(shard, after) for shard, after in positions.items()})
        self._finished |= finished

    @property
    def finished(self) -> frozenset[str]:
        """The shards that need not be read any more."""
        return frozenset(self._finished)

    def children(self, shard_id: str) -> list[str]:
        """The shards that go on with a shard's items, as far as the stream listed them when it was last asked."""
        return [shard.id for shard in self._shards.values() if shard.parent == shard_id]

    def begin_at_end(self) -> None:
        """Pass over everything that is in the stream now; what comes from now on will be found.

        Raises:
            StreamError: the stream cannot be read.
        """
        latest: StartingPoint = "LATEST"
        for shard in self._reader.shards().values():
            if shard.closed:
                self._finished.add(shard.id)
            else:
                iterator = self._reader.iterator(shard.id, None, latest)
                self._readings[shard.id] = Reading(shard.id, iterator=iterator)

    def run(self, stop: threading.Event, until_caught_up: threading.Event | None = None) -> bool:
        """Walk until `stop` is set or, once `until_caught_up` is set, until every shard is at its end.

        Returns:
            Whether every shard was at its end.

        Raises:
            StreamError: the stream cannot be read.
            Exception: whatever the listener raised, but for StoppedError.
        """
        running: dict[Future[None], Reading] = {}
        listing_due = self._monotonic()
        caught_up = ending = False
        with ThreadPoolExecutor(self._threads, thread_name_prefix="shard") as pool:
            try:
                while not stop.is_set():
                    now = self._monotonic()
                    if not ending and until_caught_up is not None and until_caught_up.is_set():
                        ending = True
                        self._ask_all_anew()
                    busy = {reading.shard_id for reading in running.values()}
                    if now >= listing_due:
                        self._look_for_shards(busy)
                        listing_due = now + (self._pacing.listing_s if self._listed else self._pacing.most_s)
                    idle = [reading for reading in self._readings.values() if reading.shard_id not in busy]
                    for reading in idle:
                        if reading.due <= now:
                            running[pool.submit(self._step, reading)] = reading
                    caught_up = self._listed and all(map(self._is_quiet, self._readings.values()))
                    self._listener.on_state(caught_up=caught_up)
                    if caught_up and ending:
                        break
                    next_due = min(
                        (reading.due for reading in idle if reading.due > now), default=listing_due
                    )
                    for done in self._wait(running, min(next_due, listing_due) - now, stop):
                        reading = running.pop(done)
                        done.result()
                        if reading.finished:
                            self._settle(reading)
                            listing_due = now
            finally:
                wait(running)
        return caught_up

    def _look_for_shards(self, busy: Collection[str]) -> None:
        """Take up what can be read now, and give up what is gone; a shard being asked will find out itself."""
        asked = self._monotonic()
        try:
            shards = self._reader.shards()
        except StreamBusyError as error:
            log.warning("%s; it is tried again", error)
            return
        self._listed, self._shards = True, shards
        for shard_id in self._readings.keys() - shards.keys() - set(busy):
            reading = self._readings.pop(shard_id)
            self._listener.on_trimmed(shard_id, reading.after, "the shard is no longer listed")
            self._finish(shard_id)
        self._listener.on_listed(shards.keys() | self._readings.keys(), asked)
        for shard in readable(shards, self._finished):
            self._readings.setdefault(shard.id, Reading(shard.id))

    def _ask_all_anew(self) -> None:
        """The end is wanted as of now: what a shard answered before says nothing about it."""
        for reading in self._readings.values():
            reading.empties, reading.quiet_since, reading.due = 0, None, self._monotonic()

    def _settle(self, reading: Reading) -> None:
        """Take a shard that was read to its end out of the walk; its children are not known before the next look."""
        del self._readings[reading.shard_id]
        self._listed = False
        self._finish(reading.shard_id)

    def _finish(self, shard_id: str) -> None:
        self._finished.add(shard_id)
        self._listener.on_finished(shard_id)

    def _step(self, reading: Reading) -> None:
        """Ask one shard once, hand on what it gives, and say when it is due again."""
        try:
            if reading.iterator is None:
                reading.iterator = self._reader.iterator(reading.shard_id, reading.after)
            asked = self._monotonic()
            records, following = self._reader.records(reading.iterator)
        except ExpiredIteratorError:
            reading.iterator = None
            return
        except StreamBusyError as error:
            log.warning("%s; it is tried again", error)
            reading.empties, reading.quiet_since = 0, None
            self._pause(reading)
            return
        except TrimmedError as error:
            self._listener.on_trimmed(reading.shard_id, reading.after, str(error))
            self._go_on_with_the_rest(reading)
            return
        if records:
            try:
                self._listener.on_records(reading.shard_id, records)
            except StoppedError:
                return
            reading.after = records[-1]["dynamodb"]["SequenceNumber"]
            reading.pause_s, reading.empties, reading.quiet_since = self._pacing.least_s, 0, None
            reading.due = self._monotonic() + reading.pause_s
        else:
            self._listener.on_empty(reading.shard_id, asked)
            reading.empties += 1
            reading.quiet_since = self._monotonic() if reading.quiet_since is None else reading.quiet_since
            self._pause(reading)
        reading.iterator = following
        reading.finished = following is None

    def _pause(self, reading: Reading) -> None:
        """Ask this shard later than the last time."""
        reading.pause_s = min(self._pacing.most_s, max(self._pacing.least_s, reading.pause_s * 2))
        reading.due = self._monotonic() + reading.pause_s

    def _go_on_with_the_rest(self, reading: Reading) -> None:
        reading.after = None
        try:
            reading.iterator = self._reader.iterator(reading.shard_id, None)
        except TrimmedError:
            reading.finished = True
        except StreamBusyError:
            reading.iterator = None

    def _is_quiet(self, reading: Reading) -> bool:
        return (
            reading.quiet_since is not None
            and reading.empties >= self._pacing.quiet_answers
            and self._monotonic() - reading.quiet_since >= self._pacing.quiet_s
        )

    def _wait(
        self, running: Mapping[Future[None], Reading], pause_s: float, stop: threading.Event
    ) -> set[Future[None]]:
        """The steps that are done; returns after `pause_s` at the latest, when another shard is due."""
        pause_s = min(max(0.0, pause_s), self._pacing.most_s)
        if running:
            return wait(running, timeout=pause_s, return_when=FIRST_COMPLETED).done
        stop.wait(pause_s)
        return set()
