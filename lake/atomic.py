"""How a snapshot is replaced: what `lake.contract.files` does for every file, and what is special about DuckDB's.

A snapshot takes long to build, so only one writer at a time may build it; the second one is refused at once.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from lake.contract import files
from lake.contract.files import Replacement
from lake.errors import SnapshotBusyError, SnapshotError

_DUCKDB_MAGIC: Final = b"DUCK"
_MAGIC_OFFSET: Final = 8
_FICLONE: Final = 0x40049409
"""Linux's request to share blocks, ioctl_ficlone(2)."""


@contextmanager
def replacing(
    out: Path,
    begin: Callable[[Path, Replacement], None] | None = None,
    finish: Callable[[Path, Replacement], None] | None = None,
) -> Iterator[Replacement]:
    """A place for a new snapshot, put in place of `out` when the block ends well and removed when not.

    The new file begins as a copy of the old one if there is one, so that its other tables stay.

    Args:
        out: the snapshot.
        begin: makes the new file in another way.
        finish: puts it in place in another way.

    Raises:
        SnapshotBusyError: `out` is being written.
        SnapshotError: `out` is not a place for a snapshot, or is something else than one.
    """
    out = out.absolute()
    _check(out)
    with files.replacing(
        out,
        error=SnapshotError,
        exclusive=SnapshotBusyError,
        finish=lambda place: (finish or _publish_anew)(out, place),
    ) as place:
        (begin or copy)(out, place)
        yield place


def _publish_anew(out: Path, place: Replacement) -> None:
    files.publish(out, place)
    files.remove(spare_of(out))


def spare_of(out: Path) -> Path:
    """Where `lake.publish` keeps the version before, which is of no use once the snapshot was built anew."""
    return out.with_name(f".{out.name}.spare")


def copy(out: Path, place: Replacement) -> None:
    """Begins with a copy of the old file, if there is one."""
    try:
        if out.exists():
            if not _clone(out, place.file):
                shutil.copyfile(out, place.file)
            _check_snapshot(out, place.file)
    except OSError as error:
        raise SnapshotError(f"{out} cannot be copied: {error.strerror or error}") from error


def _clone(source: Path, target: Path) -> bool:
    """Copies by sharing blocks, where the file system can (Btrfs, XFS); says whether it could."""
    if sys.platform != "linux":
        return False
    import fcntl

    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def _check(out: Path) -> None:
    """Refuses what can be refused before anything is read."""
    if out.is_dir():
        raise SnapshotError(
            f"{out} is a directory", remedy=f"give the path of a file, such as {out / 'lake.duckdb'}"
        )
    if not out.parent.is_dir():
        raise SnapshotError(f"{out.parent} is not a directory", remedy="make it, or give another path")
    if not out.exists():
        return
    try:
        with out.open("rb") as file:
            start = file.read(_MAGIC_OFFSET + len(_DUCKDB_MAGIC))
    except OSError as error:
        raise SnapshotError(f"{out} cannot be read: {error.strerror}") from error
    if start[_MAGIC_OFFSET:] != _DUCKDB_MAGIC:
        raise SnapshotError(
            f"{out} exists and is not a DuckDB file", remedy="move it away, or give another path"
        )
    log = out.with_name(out.name + ".wal")
    if log.exists():
        # DuckDB would apply the old file's log to the new one.
        raise SnapshotError(
            f"{log} exists, so the snapshot is open for writing", remedy="close it there first"
        )


def _check_snapshot(out: Path, copy: Path) -> None:
    try:
        with duckdb.connect(str(copy), read_only=True) as con:
            found = con.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE schema_name = '_lake' AND table_name = 'tables'"
            ).fetchall()
    except duckdb.Error as error:
        raise SnapshotError(
            f"{out} cannot be opened: {error}", remedy="move it away, or give another path"
        ) from error
    if found == [(0,)]:
        raise SnapshotError(
            f"{out} is a DuckDB file, but not a snapshot made by dynalake", remedy="give another path"
        )
