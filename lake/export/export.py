"""One entry to all formats: what is checked, and how a target is replaced, is the same for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import duckdb

from lake.errors import ExportError
from lake.export import arrow, csv, hyper, parquet
from lake.open import Lake, open_lake

Format = Literal["parquet", "csv", "hyper", "arrow"]

_WRITERS: Final[Mapping[str, Callable[[Lake, str, Path], None]]] = {
    "parquet": parquet.write,
    "csv": csv.write,
    "hyper": hyper.write,
    "arrow": arrow.write,
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: the file or directory.
        rows: its rows.
        bytes: its size, all files together.
        format: its format.
    """

    path: Path
    rows: int
    bytes: int
    format: Format


def export_table(snapshot: Path, table: str, format: Format, out: Path) -> ExportReport:  # noqa: A002
    """Writes a snapshot's table to a file, or, for Parquet, to a directory of part files.

    The target is written beside itself under a temporary name and put in place when it is whole.

    Args:
        snapshot: the snapshot file.
        table: the table's name in it.
        format: "parquet" (a file if `out` ends in .parquet, else a directory), "csv", "hyper" or "arrow".
        out: where to.

    Raises:
        SnapshotError: the snapshot cannot be opened.
        ExportError: there is no such table or format, or the target cannot be written.
    """
    if format not in get_args(Format):
        raise ExportError(f"the format {format!r} is not one of {', '.join(get_args(Format))}")
    out = out.absolute()
    directory = format == "parquet" and out.suffix != ".parquet"
    _check(out, directory)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    with open_lake(snapshot) as lake:
        if table not in lake.tables():
            raise ExportError(
                f"{snapshot} has no table {table!r}; it has {', '.join(lake.tables()) or 'none'}"
            )
        rows = lake.freshness(table).rows
        try:
            _remove(part)
            if directory:
                part.mkdir()
            _WRITERS[format](lake, table, part)
            size = sum(file.stat().st_size for file in part.iterdir()) if directory else part.stat().st_size
            _put(part, out)
        except (OSError, duckdb.Error) as error:
            raise ExportError(f"{table} cannot be exported to {out}: {error}") from error
        finally:
            _remove(part)
    return ExportReport(out, rows, size, format)


def _check(out: Path, directory: bool) -> None:
    if not out.parent.is_dir():
        raise ExportError(f"{out.parent} is not a directory: make it, or give another path")
    if not os.access(out.parent, os.W_OK):
        raise ExportError(f"{out.parent} cannot be written")
    if not directory:
        if out.is_dir():
            raise ExportError(f"{out} is a directory: give the path of a file")
    elif out.exists():
        if not out.is_dir():
            raise ExportError(f"{out} is a file: let it end in .parquet, or give the path of a directory")
        strange = next((file.name for file in out.iterdir() if file.suffix != ".parquet"), None)
        if strange is not None:
            raise ExportError(f"{out} holds {strange}, which no export wrote: give a directory of its own")


def _put(part: Path, out: Path) -> None:
    """A directory cannot be renamed over another: the old one steps aside, and comes back if need be."""
    if not out.is_dir():
        part.replace(out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(old)
    try:
        part.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)
