"""One entry to all formats: what is checked, and how a target is replaced, is the same for each."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import duckdb

from lake.errors import ExportError
from lake.export import arrow, csv, parquet, tableau
from lake.export.layout import Layout
from lake.export.tableau import Increment
from lake.export.target import Progress, files_of, local_target, s3_target
from lake.export.watch import watching
from lake.open import Lake, open_lake

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Format = Literal["parquet", "csv", "hyper", "tdsx", "arrow"]


def format_of(out: Path) -> Format:
    """The format that a path's suffix stands for; Parquet, of which there are folders, where it has none.

    Raises:
        ExportError: it stands for none.
    """
    for each in get_args(Format):
        if out.suffix in (f".{each}", ""):
            found: Format = each
            return found
    raise ExportError(
        f"{out} does not say the format", remedy=f"let it end in .{', .'.join(get_args(Format))}, or name it"
    )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: the file or directory, or its s3:// address.
        rows: its rows.
        bytes: its size, all files together.
        files: how many files.
        format: its format.
        increment: how an extract for Tableau was brought up to date; None where that was not asked for.
        complete: as in the snapshot (`lake.open.Freshness`).
        gaps: likewise.
    """

    path: Path | str
    rows: int
    bytes: int
    files: int
    format: Format
    increment: Increment | None = None
    complete: bool = True
    gaps: tuple[str, ...] = ()


def export_table(
    snapshot: Path,
    table: str,
    format: Format,  # noqa: A002
    out: Path | str,
    *,
    layout: Layout | None = None,
    incremental: bool = False,
    s3: S3Client | None = None,
    on_progress: Progress = lambda _done, _total: None,
) -> ExportReport:
    """Writes a snapshot's table to a file, or, for Parquet, to a directory of part files.

    What was at the target is replaced when the export is whole, and stays if it fails; see `lake.export.target`.

    Args:
        snapshot: the snapshot file.
        table: the table's name in it.
        format: "parquet" (a file if `out` ends in .parquet, else a directory), "csv", "arrow", or for Tableau "hyper"
            (an extract) or "tdsx" (an extract with captions, roles and number formats).
        out: where to, a path or s3://bucket/key.
        layout: partitions (Parquet), order, whether STRUCTs are flattened (CSV, Tableau), dates (Tableau).
        incremental: for Tableau, exchange only the rows that changed since the extract there was written; it is written
            in full where nothing tells that, and the report says why.
        s3: the client for an s3:// target.
        on_progress: called with what is done and the whole: percent while it is written, bytes while it is sent.

    Raises:
        SnapshotError: the snapshot cannot be opened.
        ExportError: there is no such table or format, the layout cannot be carried out, or the target cannot be
            written.
    """
    if format not in get_args(Format):
        raise ExportError(f"the format {format!r} is not one of {', '.join(get_args(Format))}")
    layout = layout or Layout()
    _check_layout(format, layout)
    directory = format == "parquet" and not str(out).endswith(".parquet")
    if incremental:
        _check_incremental(format, layout, out)
    increment = None
    with open_lake(snapshot, table, files=True) as lake:
        if table not in lake.tables():
            raise ExportError(
                f"{snapshot} has no table {table!r}; it has {', '.join(lake.tables()) or 'none'}"
            )
        fresh = lake.freshness(table)
        # Whoever may read the snapshot may read what is exported from it.
        mode = stat.S_IMODE(snapshot.stat().st_mode) & 0o666
        if incremental and (format == "hyper" or format == "tdsx"):
            part = Path(out)
            with _explained(table, out), watching(lake.connection, on_progress):
                increment = tableau.update(lake, table, part, format, layout, mode)
            files = [part]
            size = part.stat().st_size
        else:
            with _target(out, s3, directory, on_progress, mode) as part:
                with _explained(table, out), watching(lake.connection, on_progress):
                    _write(lake, table, format, part, layout)
                files = files_of(part)
                size = sum(file.stat().st_size for file in files)
            if isinstance(out, Path) and (format == "hyper" or format == "tdsx"):
                tableau.forget(out)
    return ExportReport(
        out.absolute() if isinstance(out, Path) else out,
        fresh.rows,
        size,
        len(files),
        format,
        increment,
        fresh.complete,
        fresh.gaps,
    )


@contextmanager
def _explained(table: str, out: Path | str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise ExportError(f"{table} cannot be exported to {out}: {error}") from error


@contextmanager
def _target(
    out: Path | str, s3: S3Client | None, directory: bool, on_progress: Progress, mode: int
) -> Iterator[Path]:
    if str(out).startswith("s3://"):
        if s3 is None:
            raise ExportError(f"{out} needs an S3 client")
        with s3_target(str(out), s3, directory=directory, on_progress=on_progress) as part:
            yield part
    else:
        with local_target(Path(out), directory=directory, mode=mode) as part:
            yield part


def _write(lake: Lake, table: str, format_: Format, part: Path, layout: Layout) -> None:
    match format_:
        case "parquet":
            # Two exports to one folder in S3 must not share a file's name.
            parquet.write(lake, table, part, layout, secrets.token_hex(4))
        case "csv":
            csv.write(lake, table, part, layout)
        case "hyper" | "tdsx":
            tableau.write(lake, table, part, format_, layout)
        case "arrow":
            arrow.write(lake, table, part, layout)


def _check_layout(format_: Format, layout: Layout) -> None:
    if layout.partition_by and format_ != "parquet":
        raise ExportError(f"only Parquet can be partitioned, not {format_}")
    if layout.flatten and format_ not in ("csv", "hyper", "tdsx"):
        raise ExportError(
            f"{format_} keeps nested values as they are: only CSV and Tableau's formats can be flattened"
        )
    if layout.dates and format_ not in ("hyper", "tdsx"):
        raise ExportError(f"{format_} keeps text as it is: dates are for Tableau's formats, hyper and tdsx")


def _check_incremental(format_: Format, layout: Layout, out: Path | str) -> None:
    if format_ not in ("hyper", "tdsx"):
        raise ExportError(
            f"{format_} can only be written in full: what is incremental is hyper and tdsx, for Tableau"
        )
    if str(out).startswith("s3://"):
        raise ExportError(
            "an extract in S3 can only be written in full", remedy="keep it here, and copy it there"
        )
    if layout.sort_by:
        raise ExportError(
            "an extract that is brought up to date has no order", remedy="leave the sorting out"
        )
