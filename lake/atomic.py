"""A file that is replaced in one step: whoever reads sees the old one or the new one, never half of one.

The new file is written beside the old one (`.<name>.<pid>.part`, with a folder `.<name>.<pid>.work` for what
is needed meanwhile) and then renamed over it. What dead runs left is removed by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from lake.errors import SnapshotBusyError, SnapshotError

_DUCKDB_MAGIC: Final = b"DUCK"
_MAGIC_OFFSET: Final = 8
_FICLONE: Final = 0x40049409
"""Linux's request to share blocks, ioctl_ficlone(2)."""
_LOADED_AT: Final = time.time()
"""What bears this process's number but is older was left by a dead one: in a container, that is often the
same number again."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Where a new snapshot is made: `file` becomes the snapshot, `work` is thrown away."""

    file: Path
    work: Path


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
        SnapshotError: `out` is no place for a snapshot, or is something else than one.
    """
    out = out.absolute()
    _check(out)
    place = Replacement(
        out.with_name(f".{out.name}.{os.getpid()}.part"), out.with_name(f".{out.name}.{os.getpid()}.work")
    )
    _sweep(out)
    try:
        place.work.mkdir()
    except FileExistsError:
        raise SnapshotBusyError(
            f"{out} is being written by another thread of this process", remedy="wait for it"
        ) from None
    except OSError as error:
        raise SnapshotError(f"{out.parent} cannot be written: {error.strerror}") from error
    try:
        _sweep(out)
        (begin or copy)(out, place)
        yield place
        if finish is None:
            publish(out, place)
            remove_path(spare_of(out))
        else:
            finish(out, place)
    finally:
        _remove(place)


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


def publish(out: Path, place: Replacement) -> None:
    """Puts the new file in place of the old one, in one step, once it is on the disk."""
    try:
        with place.file.open("rb") as file:
            os.fsync(file.fileno())
        if out.exists():
            # Who may read the old one may read the new one.
            shutil.copymode(out, place.file)
        place.file.replace(out)
    except OSError as error:
        raise SnapshotError(f"{out} cannot be written: {error.strerror or error}") from error


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


def _sweep(out: Path) -> None:
    """Removes what dead runs left, and refuses to run beside a living one."""
    pattern = re.compile(re.escape(f".{out.name}.") + r"(\d+)\.(?:part(?:\.wal)?|work)")
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        if int(match[1]) == os.getpid():
            if path.stat().st_mtime >= _LOADED_AT:
                continue
        elif _alive(int(match[1])):
            raise SnapshotBusyError(
                f"{out} is being written by process {match[1]}",
                remedy=f"wait for it, or, if that is something else, remove {path}",
            )
        remove_path(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(place: Replacement) -> None:
    remove_path(place.file)
    remove_path(place.file.with_name(place.file.name + ".wal"))
    remove_path(place.work)


def remove_path(path: Path) -> None:
    """Removes a file or a folder with all that is in it; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
