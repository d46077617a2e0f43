"""What people import: the functions of `import dynalake`. What a function needs is loaded when it is called.

In a notebook each shows how far it has come, and an error of AWS reads as an error of ours: what is wrong, in a line.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dynalake.progress import Progress, progress

if TYPE_CHECKING:
    import pandas as pd

    from dynalake.engines import Engine
    from dynalake.jobs.publishing import PublishReport
    from dynalake.jobs.refresh import Refresh
    from dynalake.pipeline import Pipeline
    from dynalake.tableau.server import Mode
    from dynalake.tables import Written
    from expectations.history import Check
    from expectations.parity import ParityResult
    from ingest.repair import RepairReport
    from lake.export import ExportReport, Format
    from lake.export.tableau import TableauFormat
    from lake.open import Lake
    from lake.snapshot import SnapshotReport
    from queries.ddl import Ddl

PathLike = str | Path
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _explained(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Raise botocore's errors (no route, no credentials) as the command line explains them."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            from lake.errors import explained

            shown = explained(error)
            if shown is None or shown is error:
                raise
            raise shown from error

    return call


def open_lake(path: PathLike = "lake.duckdb", *, trusted: bool = False) -> Lake:
    """Open a snapshot for reading.

    Args:
        path: the snapshot.
        trusted: whether the file may run code here. Otherwise SQL can read nothing but the snapshot, DuckDB's settings
            are locked, and a file with macros, or with views that dynalake did not create, is refused.

    Raises:
        lake.errors.SnapshotError: there is no snapshot at this path, or it contains what dynalake did not create.
    """
    from lake.open import open_lake as opened

    return opened(path, trusted=trusted)


@_explained
def run(
    query: PathLike,
    *,
    engine: Engine = "duckdb",
    lake: PathLike = "lake.duckdb",
    url: str | None = None,
    config: PathLike = "dynalake.toml",
    params: Mapping[str, object] | None = None,
    **parameters: Any,
) -> pd.DataFrame:
    """Run a named query; columns keep the types that the answer has (pandas' ArrowDtype), on every engine.

    Args:
        query: a shipped query's name (`dynalake queries` lists them), or the path of a .sql file of your own.
        engine: "duckdb" (a snapshot), "hive" (HiveServer2 or Spark's Thrift server), or "athena".
        lake: the snapshot, for duckdb.
        url: for hive: where the server is, such as hive://me@emr-master:10000/lake, instead of what the configuration
            says; then no configuration is needed.
        config: the configuration file, whose parts [hive] and [athena] say where these are; read for them only.
        params: the query's parameters by name, also those called like an argument of this function.
        **parameters: the query's parameters; what is missing takes its default.

    Raises:
        queries.errors.QueryError: there is no such query, a parameter is missing, unknown or ill-typed, or the
            engine refuses it.
        lake.errors.SnapshotError: there is no snapshot at this path.
        dynalake.errors.ConfigError: the configuration says nothing of the engine.
    """
    import pandas as pd

    from dynalake.config import Config, load_config
    from dynalake.engines import answer
    from queries.named import load_query

    def settings() -> Config:
        return Config() if url is not None and not Path(config).exists() else load_config(Path(config))

    shows = contextlib.nullcontext(Progress()) if engine == "duckdb" else progress(f"{query} on {engine}")
    with (
        shows as shown,
        answer(
            load_query(query),
            {**(params or {}), **parameters},
            engine,
            lake=Path(lake),
            config=settings,
            environment=os.environ,
            url=url,
            on_progress=shown.step,
        ) as reader,
    ):
        found = reader.read_all()
    # pandas' own types would turn integers with NULLs, and decimals, into something else.
    frame: pd.DataFrame = found.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


@_explained
def open_pipeline(name: str, *, config: PathLike = "dynalake.toml") -> Pipeline:
    """A pipeline that is set up, with both accounts open: for what the functions below do not do.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be, or the pipeline is
            not set up.
    """
    from dynalake.cli.options import open_set_up

    return open_set_up(name, Path(config))


@_explained
def check(pipeline: str, suite: str = "all", *, config: PathLike = "dynalake.toml") -> Check:
    """Check a pipeline: parity, freshness and drift. Needs the extra `checks`.

    Args:
        pipeline: the pipeline's name in the configuration.
        suite: "parity", "freshness", "drift", or "all".
        config: the configuration file.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be.
        expectations.errors.CheckError: there is no such suite, or Great Expectations is not installed.
    """
    from dynalake.jobs.checking import own_file, suites_of

    suites, path = suites_of(suite), Path(config)
    opened = open_pipeline(pipeline, config=path)
    own = own_file(opened.config.checks, path, pipeline)
    with progress(f"check of {pipeline}") as shown:
        return opened.check_job(own=own, on_step=shown.step, on_progress=_both_sides(shown)).run(suites)


@_explained
def parity(
    pipeline: str,
    *,
    snapshot: PathLike | None = None,
    pause_s: float | None = None,
    config: PathLike = "dynalake.toml",
) -> ParityResult:
    """Compare source and lake, every row by its content; what is in flight is looked at again before it counts.

    Args:
        pipeline: the pipeline's name in the configuration.
        snapshot: a snapshot, `*.duckdb`, that is compared with the lake, too.
        pause_s: seconds between two looks at a row that differs, the stream's time to deliver; two if None.
        config: the configuration file.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be.
        expectations.errors.ParityError: the sides cannot be compared.
    """
    from dynalake.jobs.parity import Scope

    opened = open_pipeline(pipeline, config=config)
    scope = Scope(lake=None if snapshot is None else str(snapshot))
    with progress(f"parity of {pipeline}") as shown:
        return opened.parity(scope, pause_s=pause_s, on_progress=_both_sides(shown))


@_explained
def repair(
    pipeline: str,
    found: ParityResult | None = None,
    *,
    reset_version: bool = False,
    config: PathLike = "dynalake.toml",
) -> RepairReport:
    """Make the lake's rows that differ what the source's are, by reading these again.

    Args:
        pipeline: the pipeline's name in the configuration.
        found: what `parity` found; compared anew if None.
        reset_version: write rows anew whose version is forged; they are refused otherwise.
        config: the configuration file.

    Raises:
        dynalake.errors.UserError: as for `parity`, or more rows differ than a result names.
    """
    from dynalake.errors import UserError

    found = parity(pipeline, config=config) if found is None else found
    keys = [each.source_key for each in found.differences if each.source_key is not None]
    if found.wrong > len(found.differences):
        raise UserError(
            f"{found.wrong:,} rows differ, too many to repair from here",
            remedy=f"run `dynalake repair {pipeline}`, which states its cost first and can be resumed",
        )
    with progress(f"repair of {pipeline}", total=len(keys)) as shown:
        return open_pipeline(pipeline, config=config).repair(
            keys,
            lambda report: shown.at(report.asked),
            reset_versions_of=[
                each.source_key for each in found.differences if each.forged and each.source_key
            ]
            if reset_version
            else None,
        )


@_explained
def snapshot(
    pipeline: str, lake: PathLike = "lake.duckdb", *, config: PathLike = "dynalake.toml"
) -> SnapshotReport:
    """Write the lake table into a DuckDB file, as of one moment; other tables in the file stay.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be.
        lake.errors.SnapshotError: the file cannot be written.
    """
    opened = open_pipeline(pipeline, config=config)
    with progress(f"snapshot of {pipeline}", total=opened.lake_table.approximate_rows or None) as shown:
        return opened.snapshot(Path(lake), on_progress=shown.at)


@_explained
def refresh(pipeline: str, lake: PathLike = "lake.duckdb", *, config: PathLike = "dynalake.toml") -> Refresh:
    """Apply to a snapshot what changed since; where the lake's stream does not reach back, its table is read anew.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be.
        lake.errors.SnapshotError: there is no snapshot, or it cannot be written.
    """
    from dynalake.jobs.refresh import refresh as run_refresh

    with progress(f"refresh of {pipeline}", "changes") as shown:
        opened = open_pipeline(pipeline, config=config)
        return run_refresh(opened, Path(lake), on_choice=shown.step, on_progress=shown.at)


def follow(
    pipeline: str,
    lake: PathLike = "lake.duckdb",
    *,
    every_s: float = 5.0,
    for_s: float | None = None,
    config: PathLike = "dynalake.toml",
) -> Iterator[Refresh]:
    """Keep a snapshot some seconds behind the lake, and tell of each version as it is published.

    It goes on in a thread of its own while the iteration lasts, and ends with it:

        for version in dynalake.follow("orders", for_s=60):
            print(version.rows, version.changes)

    Where nothing changes, a version is published every 15 seconds, to say that it is still fresh.

    Args:
        pipeline: the pipeline's name in the configuration.
        lake: the snapshot.
        every_s: seconds between two publications.
        for_s: seconds after which it ends; never if None.
        config: the configuration file.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be.
        lake.errors.SnapshotError: there is no snapshot, or it cannot be written.
    """
    from dynalake.jobs.refresh import follow as run_follow

    opened = open_pipeline(pipeline, config=config)
    stop = threading.Event()
    published: queue.SimpleQueue[Refresh | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            run_follow(opened, Path(lake), stop, every_s=every_s, on_refresh=published.put)
            published.put(None)
        except BaseException as failure:
            published.put(failure)

    thread = threading.Thread(target=work, name="dynalake-follow", daemon=True)
    thread.start()
    until = None if for_s is None else time.monotonic() + for_s
    try:
        while True:
            try:
                version = published.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(version, BaseException):
                raise version
            if version is None:
                return
            yield version
    finally:
        stop.set()
        thread.join()


@_explained
def export(
    table: str,
    out: PathLike,
    *,
    lake: PathLike = "lake.duckdb",
    format: Format | None = None,  # noqa: A002
    incremental: bool = False,
    flatten: bool = False,
    dates: bool = False,
    sort_by: Sequence[str] = (),
    partition_by: Sequence[str] = (),
) -> ExportReport:
    """Write a table of a snapshot to a file, or for Parquet to a folder. Tableau's formats need the extra `tableau`.

    Args:
        table: the table's name in the snapshot.
        out: where to; what was there is replaced when the export is whole, and stays if it fails.
        lake: the snapshot.
        format: "parquet", "csv", "arrow", "hyper" or "tdsx"; taken from `out`'s suffix if not given, Parquet if it
            has none.
        incremental: "hyper" and "tdsx": exchange only the rows that changed since the extract there was written;
            `.increment` of the report says what was done, and why it was all, if it was.
        flatten: "csv", "hyper" and "tdsx": a column for each field of a map.
        dates: "hyper" and "tdsx": text is a date or a time where every row of its column is one, in ISO form.
        sort_by: columns, with " desc" behind them where wanted.
        partition_by: "parquet": folders by a column, or by NAME=SQL.

    Raises:
        lake.errors.SnapshotError: there is no snapshot at this path.
        lake.errors.ExportError: there is no such table or format, or the target cannot be written.
    """
    from lake.export import Layout, export_table, format_of

    path = Path(out)
    with progress(f"export of {table}", "percent") as shown:
        return export_table(
            Path(lake),
            table,
            format or format_of(path),
            path,
            layout=Layout(tuple(partition_by), tuple(sort_by), flatten, dates),
            incremental=incremental,
            on_progress=shown.at,
        )


@_explained
def publish(
    table: str,
    *,
    server: str,
    project: str,
    site: str = "",
    name: str | None = None,
    lake: PathLike = "lake.duckdb",
    mode: Mode = "overwrite",
    format: TableauFormat = "tdsx",  # noqa: A002
    incremental: bool = False,
    flatten: bool = False,
    dates: bool = False,
) -> PublishReport:
    """Publish a table of a snapshot to Tableau Server or Tableau Cloud. Needs the extra `tableau`.

    The personal access token comes from the environment: TABLEAU_TOKEN_NAME and TABLEAU_TOKEN_VALUE.

    Args:
        table: the table's name in the snapshot.
        server: the server's address, https.
        project: the project's name, or its path from the top (`Finance/Orders`).
        site: the site's name as its address has it; "" is the default site of a server.
        name: the data source's name; the table's if not given.
        lake: the snapshot.
        mode: "overwrite" what is there (or make it), "create" it where there is none, or "append" the rows to it
            ("hyper" only).
        format: "tdsx", with captions, roles and number formats, or the bare "hyper".
        incremental: exchange only the rows that changed since this was published there from this snapshot;
            `.increment` of the report says what was done, and why it was all, if it was.
        flatten: a column for each field of a map.
        dates: text is a date or a time where every row of its column is one, in ISO form.

    Raises:
        dynalake.errors.PublishError: there is no token, the server cannot be reached or trusted, refuses, or has no
            such project.
        lake.errors.SnapshotError: there is no snapshot at this path.
        lake.errors.ExportError: there is no such table, or its extract cannot be made.
    """
    from dynalake.jobs.publishing import Destination, Steps, publish_table
    from dynalake.tableau.token import token_from
    from lake.export import Layout

    with progress(f"publishing {table}", "bytes") as shown:
        return publish_table(
            Path(lake),
            table,
            Destination(server, project, site, name),
            token_from(os.environ),
            mode=mode,
            format=format,
            incremental=incremental,
            layout=Layout(flatten=flatten, dates=dates),
            steps=Steps(sending=shown.at),
        )


@_explained
def ddl(
    pipeline: str,
    engine: Written = "dynamodb",
    *,
    parquet: PathLike | None = None,
    location: str | None = None,
    database: str | None = None,
    url: str | None = None,
    config: PathLike = "dynalake.toml",
) -> Ddl:
    """The DDL of a pipeline: an external table and the views that analysts use, from the catalogue, without a scan.

    Args:
        pipeline: the pipeline's name in the configuration.
        engine: "dynamodb" (over the lake table, on EMR's Hive), or over an export: "parquet" (on Hive), "athena",
            "spark".
        parquet: the export, here or s3://bucket/prefix; needed for all engines but dynamodb.
        location: where the engine finds the export, if elsewhere.
        database: the database; else the one that the configuration's part [hive] names.
        url: run the statements there, such as hive://me@emr-master:10000.
        config: the configuration file.

    Raises:
        dynalake.errors.UserError: the configuration is not as it must be, or the engine needs an export.
        queries.errors.DdlError: a name or type cannot be used there.
        queries.errors.EngineError: the server refuses a statement.
    """
    from dataclasses import replace

    from dynalake.config import load_config
    from dynalake.engines import hive_settings
    from dynalake.tables import generated_for

    opened, settings = open_pipeline(pipeline, config=config), load_config(Path(config))
    place = None if parquet is None else str(parquet)
    generated, warnings = generated_for(opened, engine, place, location, database or settings.hive.database)
    whole = generated.ddl()
    whole = replace(whole, notes=(*warnings, *whole.notes))
    if url is not None:
        from queries.hive import apply, open_session

        # The database may be what the first statement makes; every statement names it.
        there = replace(hive_settings(settings, os.environ, url), database="default")
        with (
            progress(f"DDL of {pipeline}", "statements", len(whole.statements)) as shown,
            open_session(there) as session,
        ):
            shown.at(apply(session, whole.statements, lambda done, _head: shown.at(done)))
    return whole


def _both_sides(shown: Progress) -> Callable[[str, int], None]:
    """Counts the rows of both sides, and those that are looked at again, together."""
    read: dict[str, int] = {}

    def count(side: str, rows: int) -> None:
        read[side] = rows
        shown.at(sum(read.values()))

    return count
