"""dynalake: every DynamoDB change in one lake account, and what analysts make of it.

    import dynalake

    lake = dynalake.open_lake("lake.duckdb")        # a snapshot: tables, schema, freshness, SQL
    late = dynalake.run("late_flights", minutes=90)  # a named query, as a pandas DataFrame
    late = dynalake.run("late_flights", minutes=90, engine="hive")  # the same one on EMR
    dynalake.check("orders").verdict                # parity, freshness and drift of a pipeline
    dynalake.export("orders", "orders.tdsx", incremental=True)  # files that other tools read
    dynalake.publish("orders", server="https://tableau.example", project="Finance")

What a name needs is loaded when the name is first used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynalake.shadows import refuse_shadows

if TYPE_CHECKING:
    import pandas as pd

    from dynalake.engines import Engine
    from dynalake.jobs.publishing import PublishReport
    from dynalake.tableau.server import Mode
    from expectations.history import Check
    from lake.export import ExportReport, Format
    from lake.export.tableau import TableauFormat
    from lake.open import Lake

__all__ = ["check", "export", "open_lake", "publish", "run"]

refuse_shadows(Path(__file__).parent.parent)


def open_lake(path: str | Path = "lake.duckdb") -> Lake:
    """Open a snapshot for reading.

    Raises:
        lake.errors.SnapshotError: there is no snapshot at this path.
    """
    from lake.open import open_lake as opened

    return opened(path)


def run(
    query: str | Path,
    *,
    engine: Engine = "duckdb",
    lake: str | Path = "lake.duckdb",
    config: str | Path = "dynalake.toml",
    params: Mapping[str, object] | None = None,
    **parameters: Any,
) -> pd.DataFrame:
    """Run a named query; columns keep the types that the answer has (pandas' ArrowDtype), on every engine.

    Args:
        query: a shipped query's name (`dynalake queries` lists them), or the path of a .sql file of your own.
        engine: "duckdb" (a snapshot), "hive" (HiveServer2 or Spark's Thrift server), or "athena".
        lake: the snapshot, for duckdb.
        config: the configuration file, whose parts [hive] and [athena] say where these are; read for them only.
        params: the query's parameters by name, also those called like an argument of this function.
        **parameters: the query's parameters; what is missing takes its default.

    Raises:
        queries.errors.QueryError: there is no such query, a parameter is missing, unknown or ill-typed, or the
            engine refuses it.
        lake.errors.SnapshotError: there is no snapshot at this path.
        dynalake.errors.ConfigError: the configuration says nothing of the engine.
    """
    import os

    import pandas as pd

    from dynalake.config import load_config
    from dynalake.engines import answer
    from queries.named import load_query

    with answer(
        load_query(query),
        {**(params or {}), **parameters},
        engine,
        lake=Path(lake),
        config=lambda: load_config(Path(config)),
        environment=os.environ,
    ) as reader:
        found = reader.read_all()
    # pandas' own types would turn integers with NULLs, and decimals, into something else.
    frame: pd.DataFrame = found.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def check(pipeline: str, suite: str = "all", *, config: str | Path = "dynalake.toml") -> Check:
    """Check a pipeline: parity, freshness and drift. Needs the extra `checks`.

    Args:
        pipeline: the pipeline's name in the configuration.
        suite: "parity", "freshness", "drift", or "all".
        config: the configuration file.

    Raises:
        dynalake.errors.UserError: the configuration or the credentials are not as they must be.
        expectations.errors.CheckError: there is no such suite, or Great Expectations is not installed.
    """
    from dynalake.cli.options import open_set_up
    from dynalake.jobs.checking import own_file, suites_of

    path = Path(config)
    opened = open_set_up(pipeline, path)
    return opened.check_job(own=own_file(opened.config.checks, path, pipeline)).run(suites_of(suite))


def export(
    table: str,
    out: str | Path,
    *,
    lake: str | Path = "lake.duckdb",
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
    return export_table(
        Path(lake),
        table,
        format or format_of(path),
        path,
        layout=Layout(tuple(partition_by), tuple(sort_by), flatten, dates),
        incremental=incremental,
    )


def publish(
    table: str,
    *,
    server: str,
    project: str,
    site: str = "",
    name: str | None = None,
    lake: str | Path = "lake.duckdb",
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
    import os

    from dynalake.jobs.publishing import Destination, publish_table
    from dynalake.tableau.token import token_from
    from lake.export import Layout

    return publish_table(
        Path(lake),
        table,
        Destination(server, project, site, name),
        token_from(os.environ),
        mode=mode,
        format=format,
        incremental=incremental,
        layout=Layout(flatten=flatten, dates=dates),
    )
