"""A new version of a snapshot for the price of what changed: two files that take turns.

DuckDB lets one process write a file, and nobody read it meanwhile. So nobody ever writes the file that analysts
open. A refresh works on another file, which nobody else knows of, and renames it over the published one: whoever
opens the snapshot gets the old version or the new one, whole, and whoever has it open keeps what he opened.

To copy the file for each refresh would cost by the table's size. So the version that was published before is kept
as a spare, together with the changes that it lacks:

    lake.duckdb              the published version
    .lake.duckdb.spare/      snapshot.duckdb   the version before, the same file that was published then
                             changes, entry    what was applied since, so that it can be caught up

The next refresh applies those changes and its own to the spare, publishes it, and keeps as the new spare what was
published until then. Each change is applied twice, which costs by the changes alone.

The spare is used only if that is safe; otherwise the published file is copied (by sharing blocks, where the file
system can). It is not safe while somebody still reads that version (DuckDB's own lock on the file says so, and
/proc for this process; where there is no /proc nobody can tell, so it is always copied), or if the published file
is not the one that was published with it, because it was built anew or somebody wrote his own tables into it. A
killed run leaves the published version as it was, and no spare, or one that fits; both are mended by the next.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import duckdb

from lake.atomic import copy, replacing, spare_of
from lake.contract.catalogue import Observation
from lake.contract.expiry import Expiry
from lake.contract.files import Replacement, publish, remove
from lake.contract.positions import StreamPositions
from lake.errors import SnapshotError
from lake.foreign import refuse_code
from lake.lines import spool
from lake.refresh import Applied, apply_changes
from lake.snapshot import MEMORY_LIMIT, SnapshotAbout
from lake.stored import require_current

SPARE_SHARE: Final = 4
"""A spare is kept only if the changes that it lacks are less than this part of the file: with more of them, to
apply them again costs more than a copy."""


_SMALL_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh did.

    Attributes:
        path: the snapshot.
        table: the table's name in it.
        applied: what was done to the table.
        copied: whether the file was copied, as there was no spare that could be used.
        seconds: how long it took, the reading of changes included.
    """

    path: Path
    table: str
    applied: Applied
    copied: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class _Entry:
    """What was applied to the published version and is not in the spare."""

    table: str
    count: int
    about: SnapshotAbout
    history: tuple[Observation, ...] | None
    added: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()


def refresh_snapshot(
    out: Path,
    table: str,
    changes: Iterable[Sequence[bytes]],
    about: Callable[[], SnapshotAbout],
    history: Callable[[], Sequence[Observation] | None] = lambda: None,
    *,
    memory_limit: str = MEMORY_LIMIT,
) -> RefreshReport:
    """Applies changes to one table of a snapshot, and publishes the result in one step.

    Args:
        out: the snapshot file. Readers see the old version or the new one, never half of one.
        table: the table's name in it.
        changes: pages of changes, each line `{"NewImage": row}` (the row was written) or `{"OldImage": row}` (it
            was removed), in stream order for each key.
        about: what to tell of the table's origin from now on; called once `changes` is exhausted.
        history: the schema catalogue's observations, or None to keep what the snapshot has; called likewise.
        memory_limit: what DuckDB may use before it spills, in DuckDB's notation.

    Raises:
        SnapshotBusyError: somebody else is writing the snapshot just now.
        SnapshotError: there is no such snapshot or table, or it cannot be written.
        DecodeError: a line is not a change.
    """
    began = time.monotonic()
    turn = _Turn(out.absolute(), table, memory_limit)
    with replacing(out, turn.begin, turn.finish) as place:
        applied = turn.work(place, changes, about, history)
    return RefreshReport(out, table, applied, turn.copied, time.monotonic() - began)


class _Turn:
    """One refresh: the spare, or a copy, caught up and published."""

    def __init__(self, out: Path, table: str, memory_limit: str) -> None:
        self._out, self._table, self._memory_limit = out, table, memory_limit
        self._published: list[int] = []
        self._lacking: _Entry | None = None
        self._entry: _Entry | None = None
        self.copied = False

    def begin(self, out: Path, place: Replacement) -> None:
        """Makes the file to work on."""
        if not out.exists():
            raise SnapshotError(f"there is no snapshot {out}", remedy="make one with `dynalake snapshot`")
        self._published = _stamp(out)
        self._lacking = self._take_spare(place)
        self.copied = self._lacking is None
        if self.copied:
            copy(out, place)

    def work(
        self,
        place: Replacement,
        changes: Iterable[Sequence[bytes]],
        about: Callable[[], SnapshotAbout],
        history: Callable[[], Sequence[Observation] | None],
    ) -> Applied:
        """Applies what the spare lacks, then what is new."""
        new = place.work / "changes"
        count = spool(changes, new, f"the changes of {self._table}")
        seen = history()
        told = about()
        self._entry = _Entry(self._table, count, told, None if seen is None else tuple(seen))
        try:
            con = duckdb.connect(
                str(place.file),
                config={
                    "memory_limit": self._memory_limit,
                    "temp_directory": str(place.work / "spill"),
                    # Small statements are done before a second thread has woken up.
                    **({"threads": 1} if new.stat().st_size < _SMALL_BYTES else {}),
                },
            )
        except duckdb.Error as error:
            raise SnapshotError(f"the snapshot cannot be written: {error}") from error
        with con:
            refuse_code(con, self._out)
            require_current(con, self._out, self._table)
            source, lacking, again = new, self._lacking, 0
            if lacking is not None:
                missed = place.work / "spare" / "changes"
                if lacking.table == self._table:
                    # One pass for both, as the rule does not mind; what the older one told is out of date.
                    source, seen = place.work / "all", lacking.history if seen is None else seen
                    with source.open("wb") as joined:
                        for part in (missed, new):
                            with part.open("rb") as file:
                                while block := file.read(1 << 20):
                                    joined.write(block)
                    again = lacking.count
                else:
                    apply_changes(
                        con, lacking.table, missed, lacking.count, place.work, lacking.about, lacking.history
                    )
            applied = apply_changes(
                con, self._table, source, again + count, place.work, told, seen, again=again
            )
            con.execute("CHECKPOINT")
        if lacking is not None and lacking.table == self._table:
            applied = replace(
                applied,
                added=tuple(name for name in applied.added if name not in lacking.added),
                widened=tuple(name for name in applied.widened if name not in lacking.widened),
            )
        self._entry = replace(self._entry, added=applied.added, widened=applied.widened)
        return applied

    def finish(self, out: Path, place: Replacement) -> None:
        """Publishes the file, and keeps what was published until now as the spare."""
        if not out.exists() or _stamp(out) != self._published:
            raise SnapshotError(f"{out} was changed by somebody else meanwhile", remedy="run it again")
        following = self._prepare_spare(out, place)
        publish(out, place)
        spare = spare_of(out)
        if following is not None:
            with suppress(OSError):
                remove(spare)
                following.rename(spare)

    def _take_spare(self, place: Replacement) -> _Entry | None:
        """Puts the spare in the place to work in, if it can be used; gives what it lacks."""
        claimed = place.work / "spare"
        try:
            spare_of(self._out).rename(claimed)
        except OSError:
            return None
        file = claimed / "snapshot.duckdb"
        try:
            told = json.loads((claimed / "entry").read_text())
            if (
                told["published"] != self._published
                or told["spare"] != _stamp(file)
                or _in_use(file)
                or not (claimed / "changes").is_file()
            ):
                return None
            entry = _entry_from_json(told["entry"])
            file.rename(place.file)
        except (OSError, KeyError, TypeError, ValueError):
            return None
        return entry

    def _prepare_spare(self, out: Path, place: Replacement) -> Path | None:
        """The next spare, ready to be put in place; None where there shall be none."""
        changes = place.work / "changes"
        if self._entry is None or changes.stat().st_size * SPARE_SHARE > out.stat().st_size:
            return None
        following = place.work / "next"
        file = following / "snapshot.duckdb"
        try:
            following.mkdir(mode=0o700)
            file.hardlink_to(out)
            changes.rename(following / "changes")
            told = {
                "published": _stamp(place.file),
                "spare": _stamp(file),
                "entry": _entry_to_json(self._entry),
            }
            (following / "entry").write_text(json.dumps(told))
        except OSError:
            # A file system without hard links has no spares: each refresh copies.
            return None
        return following


def _stamp(file: Path) -> list[int]:
    """What changes when somebody writes a file."""
    found = file.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _in_use(file: Path) -> bool:
    """Whether anybody has the file open. DuckDB locks what it opens, but not against its own process."""
    try:
        import fcntl

        ours = file.stat()
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                found = os.fstat(int(descriptor.name))
                if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                    return True
        with file.open("r+b") as opened:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A reader who has opened it and not locked it yet would see what is never published if this run is
            # killed. A write lease is granted only while nobody else has the file open (fcntl(2), F_SETLEASE).
            fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (ImportError, AttributeError, OSError):
        return True
    return False


def _entry_to_json(entry: _Entry) -> dict[str, Any]:
    about = asdict(entry.about)
    if entry.about.positions is not None:
        about["positions"]["finished"] = sorted(entry.about.positions.finished)
    history = None if entry.history is None else [asdict(each) for each in entry.history]
    return {
        "table": entry.table,
        "count": entry.count,
        "about": about,
        "history": history,
        "added": entry.added,
        "widened": entry.widened,
    }


def _entry_from_json(stored: Any) -> _Entry:
    about = dict(stored["about"])
    if about["positions"] is not None:
        positions = about["positions"]
        about["positions"] = StreamPositions(**{**positions, "finished": frozenset(positions["finished"])})
    about["gaps"] = tuple(about["gaps"])
    if about.get("expiry") is not None:
        about["expiry"] = Expiry(**about["expiry"])
    history = None if stored["history"] is None else tuple(Observation(**each) for each in stored["history"])
    return _Entry(
        stored["table"],
        stored["count"],
        SnapshotAbout(**about),
        history,
        tuple(stored["added"]),
        tuple(stored["widened"]),
    )
