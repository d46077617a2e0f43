"""Commands that hand the lake to analysts."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.cli.options import (
    DEFAULT_CONFIG,
    ConfigPath,
    Json,
    LeaveOutExpired,
    Name,
    open_pipeline,
    open_set_up,
)
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from lake.export import Increment
    from lake.snapshot import SnapshotReport


class Format(StrEnum):
    """What `export` can write."""

    parquet = "parquet"
    csv = "csv"
    hyper = "hyper"
    tdsx = "tdsx"
    arrow = "arrow"


Out = Annotated[Path, typer.Option("--out", help="The file to write.", metavar="FILE")]
FromSnapshot = Annotated[
    Path | None,
    typer.Option(
        "--from", "--lake", help="Take the rows from this snapshot, not from the lake table.", metavar="FILE"
    ),
]
DEFAULT_SNAPSHOT = Path("lake.duckdb")


def snapshot(
    name: Name,
    out: Out = DEFAULT_SNAPSHOT,
    source: Annotated[
        str,
        typer.Option(
            help="Where the rows come from: scan, or a full export of the lake table (export:s3://bucket/prefix, "
            "export:FOLDER), which uses no read capacity.",
            metavar="SOURCE",
        ),
    ] = "scan",
    leave_out_expired: LeaveOutExpired = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write the lake table into a DuckDB file, as of one moment; other tables in the file stay.

    Any client of DuckDB 2.0 or newer opens it: the table is a view named after the pipeline, and the schema `_lake`
    says how fresh and how complete it is. A run that fails or is killed leaves the old file.

    Example: `dynalake snapshot orders --out lake.duckdb`, then `duckdb lake.duckdb "SELECT count(*) FROM orders"`
    """
    screen = Screen(as_json=as_json)
    pipeline = open_set_up(name, config, leave_out_expired=leave_out_expired)
    report = make_snapshot(screen, pipeline, out, source)
    screen.answer(
        {
            "pipeline": name,
            "snapshot": str(out),
            "table": report.table,
            "rows": report.rows,
            "tombstones": report.tombstones,
            "columns": report.columns,
            "seconds": round(report.seconds, 3),
            "made_by": report.made_by,
            "left_out": asdict(report.left_out) if report.left_out else None,
            "complete": report.complete,
            "gaps": list(report.gaps),
        }
    )
    screen.say(
        f"{out}: table {report.table} with {report.rows:,} rows and {report.columns} columns "
        f"({report.tombstones:,} tombstones left out), {report.seconds:.1f} s"
    )
    screen.say(f"made by: {report.made_by}")
    if report.left_out:
        screen.say(report.left_out.sentence)
    for why in report.gaps:
        screen.say(f"INCOMPLETE: {why}; the snapshot says so too (_lake.tables)")


def export(
    name: Name,
    out: Annotated[
        str,
        typer.Option(
            "--out", help="The file, or for Parquet a folder; here, or s3://bucket/key.", metavar="PATH"
        ),
    ],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.parquet,
    lake: FromSnapshot = None,
    partition_by: Annotated[
        list[str] | None,
        typer.Option(help="Parquet: folders by a column, or by NAME=SQL; repeatable.", metavar="COLUMN"),
    ] = None,
    sort_by: Annotated[
        list[str] | None,
        typer.Option(help="Order of rows: a column, with ' desc' behind it; repeatable.", metavar="COLUMN"),
    ] = None,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="CSV and Tableau: a column for each field of a map.")
    ] = False,
    dates: Annotated[
        bool,
        typer.Option(
            "--dates", help="Tableau: text is a date or a time where every row of its column is one."
        ),
    ] = False,
    incremental: Annotated[
        bool,
        typer.Option(
            "--incremental", help="Tableau: exchange only the rows that changed since the last time."
        ),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write a table as Parquet, CSV, Arrow or for Tableau (.hyper, .tdsx), from a snapshot or straight from the lake.

    What was at the target is replaced when the export is whole, and stays if it fails; in S3 too, where the lake
    side's credentials and endpoint are used. A .tdsx is a .hyper with captions, roles and number formats. With
    `--incremental` an extract is brought up to date by its rows' versions, and in full where that cannot be.

    Examples: `dynalake export orders --out orders.parquet --from lake.duckdb`, `dynalake export orders --out
    s3://bucket/orders/ --partition-by country --partition-by "day=left(ordered_at, 10)" --sort-by "total desc"`,
    `dynalake export orders --format tdsx --dates --incremental --from lake.duckdb --out orders.tdsx`
    """
    from lake.export import Layout, export_table

    screen = Screen(as_json=as_json)
    to_s3 = out.startswith("s3://")
    layout = Layout(tuple(partition_by or ()), tuple(sort_by or ()), flatten, dates)
    with tempfile.TemporaryDirectory(prefix="dynalake-") as folder:
        s3 = open_pipeline(name, config).lake_s3() if to_s3 else None
        if lake is None:
            lake = Path(folder) / "lake.duckdb"
            make_snapshot(screen, open_set_up(name, config), lake)
        with screen.progress(f"exporting {name}") as bar:
            target = out if to_s3 else Path(out)
            report = export_table(
                lake,
                name,
                format_.value,
                target,
                layout=layout,
                incremental=incremental,
                s3=s3,
                on_progress=bar.at,
            )
    screen.answer(
        {
            "table": name,
            "complete": report.complete,
            "gaps": list(report.gaps),
            "format": report.format,
            "path": str(report.path),
            "rows": report.rows,
            "bytes": report.bytes,
            "files": report.files,
            **({"increment": asdict(report.increment)} if report.increment else {}),
        }
    )
    files = "" if report.files == 1 else f" in {report.files:,} files"
    screen.say(f"{report.path}: {report.rows:,} rows, {report.bytes:,} bytes of {report.format}{files}")
    if report.increment:
        screen.say(increment_line(report.increment))
    for why in report.gaps:
        screen.say(f"INCOMPLETE: {why}")


def increment_line(increment: Increment, done: str = "written") -> str:
    """How an extract was brought up to date, for people."""
    if increment.full is not None:
        return f"{done} in full: {increment.full}"
    if not increment.deleted and not increment.inserted:
        return "nothing has changed since the last time"
    return f"only what changed: {increment.deleted:,} rows deleted, {increment.inserted:,} inserted"


def make_snapshot(screen: Screen, pipeline: Pipeline, out: Path, source: str = "scan") -> SnapshotReport:
    """Write the lake table into a snapshot, with a progress bar."""
    with screen.progress("rows read", pipeline.lake_table.approximate_rows or None) as bar:
        return pipeline.snapshot(out, source, on_progress=bar.at)
