"""One entry to all formats: what is checked, and how a target is replaced, is the same for each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import duckdb

from lake.errors import ExportError
from lake.export import arrow, csv, hyper, parquet
from lake.export.layout import Layout
from lake.export.target import Progress, files_of, local_target, s3_target
from lake.export.watch import watching
from lake.open import Lake, open_lake

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Format = Literal["parquet", "csv", "hyper", "arrow"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: the file or directory, or its s3:// address.
        rows: its rows.
        bytes: its size, all files together.
        files: how many files.
        format: its format.
    """

    path: Path | str
    rows: int
    bytes: int
    files: int
    format: Format


def export_table(
    snapshot: Path,
    table: str,
    format: Format,  # noqa: A002
    out: Path | str,
    *,
    layout: Layout | None = None,
    s3: S3Client | None = None,
    on_progress: Progress = lambda _done, _total: None,
) -> ExportReport:
    """Writes a snapshot's table to a file, or, for Parquet, to a directory of part files.

    What was at the target is replaced when the export is whole, and stays if it fails; see `lake.export.target`.

    Args:
        snapshot: the snapshot file.
        table: the table's name in it.
        format: "parquet" (a file if `out` ends in .parquet, else a directory), "csv", "hyper" or "arrow".
        out: where to, a path or s3://bucket/key.
        layout: partitions (Parquet), order, and whether STRUCTs are flattened (CSV, Hyper).
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
    with open_lake(snapshot) as lake:
        if table not in lake.tables():
            raise ExportError(
                f"{snapshot} has no table {table!r}; it has {', '.join(lake.tables()) or 'none'}"
            )
        rows = lake.freshness(table).rows
        with _target(out, s3, directory, on_progress) as part:
            try:
                with watching(lake.connection, on_progress):
                    _write(lake, table, format, part, layout)
            except duckdb.Error as error:
                raise ExportError(f"{table} cannot be exported to {out}: {error}") from error
            files = files_of(part)
            size = sum(file.stat().st_size for file in files)
    return ExportReport(out.absolute() if isinstance(out, Path) else out, rows, size, len(files), format)


@contextmanager
def _target(out: Path | str, s3: S3Client | None, directory: bool, on_progress: Progress) -> Iterator[Path]:
    if str(out).startswith("s3://"):
        if s3 is None:
            raise ExportError(f"{out} needs an S3 client")
        with s3_target(str(out), s3, directory=directory, on_progress=on_progress) as part:
            yield part
    else:
        with local_target(Path(out), directory=directory) as part:
            yield part


def _write(lake: Lake, table: str, format_: Format, part: Path, layout: Layout) -> None:
    match format_:
        case "parquet":
            # Two exports to one folder in S3 must not share a file's name.
            parquet.write(lake, table, part, layout, secrets.token_hex(4))
        case "csv":
            csv.write(lake, table, part, layout)
        case "hyper":
            hyper.write(lake, table, part, layout)
        case "arrow":
            arrow.write(lake, table, part, layout)


def _check_layout(format_: Format, layout: Layout) -> None:
    if layout.partition_by and format_ != "parquet":
        raise ExportError(f"only Parquet can be partitioned, not {format_}")
    if layout.flatten and format_ not in ("csv", "hyper"):
        raise ExportError(f"{format_} keeps nested values as they are: only CSV and Hyper can be flattened")
