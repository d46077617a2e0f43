"""Walking a stream: every shard from where it was left, parents before children, relations side by side.

The order and the pace are the same for whoever walks (the worker, a snapshot's roll-forward); what to do with
the records, and with records that were trimmed, is the listener's.

The list of shards is eventually consistent (`ingest.shards`), so the walk believes what it shows and doubts what it
lacks:

- A shard that is known and not listed is probed with GetShardIterator. While it exists it is read on; if it does not,
  its unread records are lost (`on_trimmed`, `on_gone`). Should it be listed again, it is read on where it was left.
- A parent that is neither listed nor known is probed likewise: it may be a shard that the listing misses.
- On an enabled stream a closed shard has a child. Until that is listed, the walk is not at the stream's end.
- The first list of shards is not enough, since nothing shows what it misses: the end takes two.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingest.errors import ExpiredIteratorError, GoneError, StoppedError, StreamBusyError, TrimmedError
from ingest.records import last_number_of
from ingest.shards import Listing, Shard, StartingPoint, StreamReader, readable
from lake.contract.positions import StreamPositions

log = logging.getLogger(__name__)

THREADS: Final = 8
"""Shards read side by side; more shards take turns."""

QUIET_FOR_S: Final = 60.0
"""An empty answer that is older says nothing of now."""

LISTINGS: Final = 2
"""Lists of shards that must have been seen before a walk is at the end of its stream."""


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
        due: when it is asked next, monotonic seconds.
        pause_s: seconds between the last two requests.
        empties: empty answers in a row.
        quiet_since: when the first of them came, monotonic seconds.
        asked: when it gave its last answer, monotonic seconds.
        finished: it was closed and has been read to its end.
        gone: when it was last asked, it did not exist.
    """

    shard_id: str
    after: str | None = None
    iterator: str | None = None
    due: float = 0.0
    pause_s: float = 0.0
    empties: int = 0
    quiet_since: float | None = None
    asked: float = 0.0
    finished: bool = False
    gone: bool = False


class Listener(Protocol):
    """What is done with what a walk finds."""

    def on_records(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Settle records of one shard, in order, as boto3 gives them; when it returns they are passed.

        Raises:
            StoppedError: the walk is stopping; the records were not settled.
        """
        ...

    def on_listed(self, shard_ids: Collection[str], asked: float) -> None:
        """These shards exist; the stream was asked for its list at `asked`, monotonic seconds."""
        ...

    def on_empty(self, shard_id: str, asked: float) -> None:
        """A shard that was asked at `asked`, monotonic seconds, had no record to give."""
        ...

    def on_trimmed(self, shard_id: str, after: str | None, why: str) -> None:
        """Records of a shard after `after` were trimmed before they were read."""
        ...

    def on_finished(self, shard_id: str) -> None:
        """A shard was closed and has been read to its end."""
        ...

    def on_gone(self, shard_id: str, after: str | None) -> None:
        """A shard that was not read to its end does not exist any more; `on_trimmed` was called before.

        Should it be listed again, it is read on after the sequence number `after`.
        """
        ...

    def on_continued(self, shard_id: str) -> None:
        """A shard that has been read to its end waits for no child any more: one is listed, or none can be."""
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
        self._gone: dict[str, str | None] = {}
        """Shards that do not exist any more, with their positions, should they be listed again."""
        self._shards: dict[str, Shard] = {}
        """The shards that exist, as they were last listed, and those that wait to be listed or probed."""
        self._parents: set[str] = set()
        """Every shard of which a child was listed."""
        self._childless: set[str] = set()
        """The closed shards of which no child was listed yet."""
        self._listings = 0
        self._enabled = True
        self._listing_due = monotonic()

    def resume(
        self,
        positions: Mapping[str, str | None],
        finished: Collection[str],
        *,
        waiting: Collection[str] = (),
        gone: Mapping[str, str | None] | None = None,
        childless: Collection[str] = (),
    ) -> None:
        """Go on from what is known.

        Args:
            positions: shard id -> the last sequence number passed.
            finished: the shards that were closed and read to their end.
            waiting: shards that were listed and not read yet.
            gone: shards that did not exist any more, and the last sequence number passed.
            childless: those of the finished shards of which no child was listed yet.
        """
        self._readings.update({shard: Reading(shard, after) for shard, after in positions.items()})
        self._shards.update({shard: Shard(shard, None, closed=False) for shard in (*positions, *waiting)})
        self._finished |= set(finished)
        self._gone.update(gone or {})
        self._childless |= set(childless)

    def resume_at(self, since: StreamPositions) -> None:
        """Go on from recorded positions.

        Raises:
            StreamError: the stream cannot be read.
        """
        listed = self._reader.shards().keys()
        # A finished shard that does not exist any more will never be listed again.
        finished = {shard for shard in since.finished if shard in listed or self._reader.exists(shard, None)}
        self.resume(since.after, finished, childless=finished - listed)

    @property
    def finished(self) -> frozenset[str]:
        """The shards that were closed and read to their end."""
        return frozenset(self._finished)

    @property
    def enabled(self) -> bool:
        """Whether the stream still took records when its shards were last listed."""
        return self._enabled

    @property
    def at_end(self) -> bool:
        """Whether everything that was in the stream has been read, as far as anybody can tell."""
        return (
            self._listings >= LISTINGS
            and not (self._enabled and self._childless)
            and all(shard in self._readings or shard in self._finished for shard in self._shards)
            and all(map(self._is_quiet, self._readings.values()))
        )

    def has_child(self, shard_id: str) -> bool:
        """Whether a shard that goes on with a shard's items was ever listed."""
        return shard_id in self._parents

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
                self._shards[shard.id] = shard
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
        self._listing_due = self._monotonic()
        at_end = ending = False
        with ThreadPoolExecutor(self._threads, thread_name_prefix="shard") as pool:
            try:
                while not stop.is_set():
                    now = self._monotonic()
                    if not ending and until_caught_up is not None and until_caught_up.is_set():
                        ending = True
                        self._ask_all_anew()
                    busy = {reading.shard_id for reading in running.values()}
                    if now >= self._listing_due:
                        self.look_for_shards(busy)
                    idle = [reading for reading in self._readings.values() if reading.shard_id not in busy]
                    for reading in idle:
                        if reading.due <= now:
                            running[pool.submit(self._step, reading)] = reading
                    at_end = self.at_end
                    self._listener.on_state(caught_up=at_end)
                    if at_end and ending:
                        break
                    next_due = min(
                        (reading.due for reading in idle if reading.due > now), default=self._listing_due
                    )
                    for done in self._wait(running, min(next_due, self._listing_due) - now, stop):
                        reading = running.pop(done)
                        done.result()
                        self._settle(reading)
            finally:
                wait(running)
        return at_end

    def look_for_shards(self, busy: Collection[str] = ()) -> None:
        """Ask for the list of shards: take up what can be read now, and probe what is not listed.

        Args:
            busy: shards that are being asked; they are not probed now.
        """
        asked = self._monotonic()
        try:
            listing = self._reader.listing()
            gone = self._missing(listing, busy)
        except StreamBusyError as error:
            log.warning("%s; it is tried again", error)
            self._listing_due = asked + self._pacing.most_s
            return
        self._enabled = listing.enabled
        self._listings += 1
        self._keep(listing, gone)
        self._listener.on_listed([shard for shard in self._shards if shard not in self._finished], asked)
        for shard in readable(self._shards, self._finished):
            self._readings.setdefault(shard.id, Reading(shard.id, self._gone.pop(shard.id, None)))
        steady = self._listings >= LISTINGS and not (self._enabled and self._childless)
        self._listing_due = asked + (self._pacing.listing_s if steady else self._pacing.most_s)

    def _missing(self, listing: Listing, busy: Collection[str]) -> set[str]:
        """The shards that are not listed and do not exist any more; those that exist are remembered.

        Raises:
            StreamBusyError: ask again.
        """
        gone = set()
        wanted = (self._shards.keys() - self._finished) | self._childless
        for shard_id in sorted(wanted - listing.shards.keys() - set(busy)):
            reading = self._readings.get(shard_id)
            if not self._reader.exists(shard_id, reading.after if reading else None):
                gone.add(shard_id)
        named = {shard.parent for shard in listing.shards.values() if shard.parent is not None}
        known = listing.shards.keys() | self._shards.keys() | self._finished | self._gone.keys()
        for parent in sorted(named - known):
            if self._reader.exists(parent, None):
                self._shards[parent] = Shard(parent, None, closed=True)
            else:
                self._gone[parent] = None  # trimmed before this walk began, or before it could be known
        return gone

    def _keep(self, listing: Listing, gone: Collection[str]) -> None:
        """Remember what is known of the shards now."""
        for shard_id in self._finished & (self._shards.keys() - listing.shards.keys()):
            del self._shards[shard_id]
        for shard in listing.shards.values():
            known = self._shards.get(shard.id)
            self._shards[shard.id] = shard if known is None else shard.joined(known)
            if shard.parent is not None and shard.parent not in self._parents:
                self._parents.add(shard.parent)
                if shard.parent in self._finished:
                    self._listener.on_continued(shard.parent)
        self._childless |= {shard.id for shard in listing.shards.values() if shard.closed}
        self._childless -= self._parents
        for shard_id in sorted(gone):
            self._shards.pop(shard_id, None)
            if shard_id in self._finished:
                if shard_id in self._childless and self._enabled:
                    self._listener.on_trimmed(shard_id, None, "the shard that continues it was never listed")
                    self._listener.on_continued(shard_id)
                self._childless.discard(shard_id)
                continue
            self._childless.discard(shard_id)
            reading = self._readings.pop(shard_id, None)
            after = self._gone[shard_id] = reading.after if reading else None
            self._listener.on_trimmed(shard_id, after, "the shard does not exist any more")
            self._listener.on_gone(shard_id, after)

    def _ask_all_anew(self) -> None:
        """The end is wanted as of now: what a shard answered before says nothing about it."""
        for reading in self._readings.values():
            reading.empties, reading.quiet_since, reading.due = 0, None, self._monotonic()

    def _settle(self, reading: Reading) -> None:
        """After a shard was asked: take one that was read to its end out of the walk."""
        if reading.finished:
            del self._readings[reading.shard_id]
            self._finished.add(reading.shard_id)
            if reading.shard_id not in self._parents:
                self._childless.add(reading.shard_id)
            self._listener.on_finished(reading.shard_id)
            self._listing_due = self._monotonic()  # its children can be read now, and may not be known yet
        elif reading.gone:
            self._listing_due = min(self._listing_due, self._monotonic())

    def _step(self, reading: Reading) -> None:
        """Ask one shard once, hand on what it gives, and say when it is due again."""
        try:
            if reading.iterator is None:
                reading.iterator = self._reader.iterator(reading.shard_id, reading.after)
            asked = self._monotonic()
            records, following = self._reader.records(reading.iterator)
            reading.asked = asked
        except ExpiredIteratorError:
            reading.iterator = None
            return
        except StreamBusyError as error:
            log.warning("%s; it is tried again", error)
            self._try_later(reading)
            return
        except GoneError:
            # The next list of shards, and a probe, tell whether it is.
            reading.iterator, reading.gone = None, True
            self._try_later(reading)
            return
        except TrimmedError as error:
            self._listener.on_trimmed(reading.shard_id, reading.after, str(error))
            reading.after = reading.iterator = None
            return
        reading.gone = False
        if records:
            try:
                self._listener.on_records(reading.shard_id, records)
            except StoppedError:
                return
            reading.after = last_number_of(records) or reading.after
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

    def _try_later(self, reading: Reading) -> None:
        reading.empties, reading.quiet_since = 0, None
        self._pause(reading)

    def _is_quiet(self, reading: Reading) -> bool:
        """Whether an open shard was asked to its end; a closed one says itself when it is."""
        return (
            not self._shards[reading.shard_id].closed
            and reading.quiet_since is not None
            and reading.empties >= self._pacing.quiet_answers
            and self._monotonic() - reading.quiet_since >= self._pacing.quiet_s
            and self._monotonic() - reading.asked <= QUIET_FOR_S
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
