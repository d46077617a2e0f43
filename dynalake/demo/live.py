"""The demo's world in a notebook: the two accounts live in the kernel, and the day passes when the reader says so.

    from dynalake.demo import start_world

    world = start_world(at="06:00")   # the airports' boards at six; a pipeline that is set up and caught up
    world.play("09:00")               # what happened until nine: written to the source and replicated
    world.stop()

A kernel has one world at a time: starting another stops the one before, so that cells can be run again.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dynalake.config import load_config
from dynalake.demo.flights import TABLE, Write, story
from dynalake.demo.notes import world_config
from dynalake.demo.stage import IN_FLIGHT, PACING, Replication, make_source, write_to_source
from dynalake.demo.world import embedded_aws
from dynalake.errors import UserError
from dynalake.jobs.refresh import refresh
from dynalake.pipeline import Pipeline
from dynalake.progress import progress

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

FOLDER: Final = "flights-demo"
NEW_FLIGHTS: Final = 100
"""Flights of the next day that are put on the board while the day passes."""

_open: World | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """What happened in a stretch of the day, and how long it took to reach the lake.

    Attributes:
        until: the time on the story's clock, such as "09:00".
        inserts: flights put on the board.
        updates: departures, arrivals, diversions and cancellations.
        deletes: flights taken off the board.
        replicated: changes that reached the lake; None where nothing replicated them.
        lag_p50_ms: half of them were in the lake after so many milliseconds; None where none was.
        lag_p99_ms: 99 of 100 were.
    """

    until: str
    inserts: int
    updates: int
    deletes: int
    replicated: int | None
    lag_p50_ms: int | None = None
    lag_p99_ms: int | None = None

    def __repr__(self) -> str:
        happened = f"until {self.until}: {self.inserts:,} inserts, {self.updates:,} updates, {self.deletes:,} deletes"
        if self.replicated is None:
            return f"{happened}; nothing replicates them"
        lag = (
            f", half of them within {self.lag_p50_ms:,} ms and 99 % within {self.lag_p99_ms:,} ms"
            if self.lag_p50_ms is not None
            else ""
        )
        return f"{happened}; {self.replicated:,} reached the lake{lag}"


@dataclass
class Playing:
    """A stretch of the day that passes in the background.

    Attributes:
        time: where the story's clock stands.
        result: what happened; None until it is over.
    """

    time: datetime
    result: Played | None = None
    failure: BaseException | None = field(default=None, repr=False)


class World:
    """Two AWS accounts in this process, a table of flights in the one and a lake in the other.

    Attributes:
        folder: where its files are.
        config: the configuration file of its pipeline `flights`.
        lake: its snapshot, as of the moment at which the world was started, until it is refreshed.
        time: where the story's clock stands, on 1 January 2013.
    """

    def __init__(self, folder: Path, at: str) -> None:
        """Use `start_world`."""
        self.folder = folder
        self.config, self.lake = folder / "dynalake.toml", folder / "lake.duckdb"
        self.time = _moment(at)
        self._stack = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.config.write_text(world_config(str(folder / "quarantine")), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"the demo cannot write to {folder}: {error.strerror}", remedy="name another folder"
            ) from None
        played = story(board_days=1, new_flights=NEW_FLIGHTS).from_moment(self.time)
        self._coming = played.live
        self._stack.enter_context(embedded_aws())
        try:
            self._pipeline = Pipeline.open(
                TABLE, load_config(self.config).pipelines[TABLE], in_flight=IN_FLIGHT
            )
            make_source(self.source, played.before)
            self._pipeline.setup()
            with (
                progress("backfill", total=len(played.before)) as filled,
                Replication(self._pipeline, on_row=filled.at) as replication,
            ):
                replication.wait_until_reading()
                replication.finish()
            self._pipeline.snapshot(self.lake, pacing=PACING)
            # The stream's place is known only once a record was read: later refreshes begin from here, not from its
            # beginning.
            refresh(self._pipeline, self.lake, pacing=PACING)
        except BaseException:
            self._stack.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether its accounts are there."""
        return _open is self

    @property
    def source(self) -> DynamoDBClient:
        """A DynamoDB client of the source's account, whose table is `flights`."""
        return self._pipeline.source_dynamodb()

    @property
    def lake_account(self) -> DynamoDBClient:
        """A DynamoDB client of the lake's account, with more rights than anyone should have."""
        return self._pipeline.lake_dynamodb()

    @property
    def lake_table(self) -> str:
        """What the lake table is called."""
        return self._pipeline.config.lake_table

    def play(self, until: str, *, replicate: bool = True) -> Played:
        """Write to the source what happened until then, and replicate it, unless told that nothing does.

        Args:
            until: a time of the day, such as "14:30", not before the story's clock.
            replicate: whether the pipeline runs meanwhile, until it is caught up.

        Raises:
            UserError: the time is none or is past, or the world is stopped.
        """
        writes = self._due(until)
        with progress(f"until {until}", "changes", len(writes)) as shown:
            if not replicate:
                for number, write in enumerate(writes, 1):
                    write_to_source(self.source, write)
                    shown.at(number)
                return _played(until, writes, None)
            with Replication(self._pipeline, fill=False) as replication:
                for number, write in enumerate(writes, 1):
                    write_to_source(self.source, write)
                    shown.at(number)
                    replication.wait_for_backlog(number)
                replication.finish()
        return _played(until, writes, replication)

    @contextmanager
    def playing(self, until: str, *, seconds: float) -> Iterator[Playing]:
        """Let the day pass in the background while the context lasts, and wait for the end of the stretch.

        Args:
            until: a time of the day, such as "14:30".
            seconds: how long it shall take, at least; each change comes at its time.

        Raises:
            UserError: the time is none or is past, or the world is stopped.
        """
        began_at, writes = self.time, self._due(until)
        pace = seconds / max(1.0, (self.time - began_at).total_seconds())
        stretch = Playing(began_at)
        stop = threading.Event()

        def pass_time() -> None:
            began = time.monotonic()
            try:
                with Replication(self._pipeline, fill=False) as replication:
                    for number, write in enumerate(writes, 1):
                        due = began + (write.at - began_at).total_seconds() * pace
                        if stop.wait(max(0.0, due - time.monotonic())):
                            break
                        write_to_source(self.source, write)
                        stretch.time = write.at
                        replication.wait_for_backlog(number)
                    replication.finish()
                stretch.result = _played(until, writes, replication)
            except BaseException as failure:
                stretch.failure = failure

        thread = threading.Thread(target=pass_time, daemon=True)
        thread.start()
        try:
            yield stretch
        except BaseException:
            stop.set()
            raise
        finally:
            thread.join()
        if stretch.failure is not None:
            raise stretch.failure

    def replicate(self) -> int:
        """Run the pipeline until it is caught up: how many changes reached the lake.

        Raises:
            UserError: the world is stopped.
        """
        self._must_be_open()
        with Replication(self._pipeline, fill=False) as replication:
            replication.finish()
        return replication.worker.records

    def stop(self) -> None:
        """Take the accounts away; the files stay."""
        global _open
        self._stack.close()
        atexit.unregister(self.stop)
        if _open is self:
            _open = None

    def __repr__(self) -> str:
        if not self.is_open:
            return f"World({str(self.folder)!r}, stopped)"
        return (
            f"World({str(self.folder)!r}): 1 January 2013, {self.time:%H:%M}; "
            f"{len(self._coming):,} changes are still to come"
        )

    def _repr_html_(self) -> str:
        return f"<div>{escape(repr(self))}</div>"

    def _due(self, until: str) -> list[Write]:
        self._must_be_open()
        moment = _moment(until)
        if moment < self.time:
            raise UserError(
                f"it is {self.time:%H:%M} already", remedy=f"start a new world to see {until} again"
            )
        due = [write for write in self._coming if write.at < moment]
        self._coming = self._coming[len(due) :]
        self.time = moment
        return due

    def _must_be_open(self) -> None:
        if not self.is_open:
            raise UserError("the demo's world is stopped", remedy="start another with start_world()")


def start_world(folder: str | Path = FOLDER, *, at: str = "06:00") -> World:
    """Two AWS accounts in this kernel; nothing that boto3 does reaches the real ones until the world is stopped.

    The table `flights` holds the flights of New York of 1 January 2013 as they stood at that time, its pipeline is
    set up, backfilled and caught up, and a snapshot is made.

    Args:
        folder: for the pipeline's configuration and the snapshot.
        at: the time of the day, such as "06:00".

    Raises:
        UserError: moto is not installed, the folder cannot be written, or the time is none.
    """
    global _open
    if _open is not None:
        _open.stop()
    _open = World(Path(folder), at)
    atexit.register(_open.stop)  # while moto can still be taken away
    return _open


def ready_lake(folder: str | Path = FOLDER) -> Path:
    """A snapshot to look at: made on the first call, in some seconds, from a world of its own; there afterwards.

    It shows the flights as they stood at ten in the evening; those of the last two hours came through the stream.

    Raises:
        UserError: moto is not installed, or the folder cannot be written.
    """
    path = Path(folder) / "lake.duckdb"
    if not path.exists():
        world = start_world(folder, at="20:00")
        try:
            world.play("22:00")
            refresh(world._pipeline, world.lake, pacing=PACING)
        finally:
            world.stop()
    return path


def _moment(text: str) -> datetime:
    try:
        hour, minute = map(int, text.split(":"))
        return datetime(2013, 1, 1, hour, minute)
    except ValueError:
        raise UserError(f"{text!r} is not a time of the day", remedy="write 06:00 or 14:30") from None


def _played(until: str, writes: list[Write], replication: Replication | None) -> Played:
    kinds = [write.kind for write in writes]
    counts = kinds.count("insert"), kinds.count("update"), kinds.count("delete")
    if replication is None:
        return Played(until, *counts, None)
    lags = sorted(replication.worker.lags_ms)
    p50, p99 = (lags[min(len(lags) - 1, int(share * len(lags)))] if lags else None for share in (0.5, 0.99))
    return Played(until, *counts, replication.worker.records, p50, p99)
