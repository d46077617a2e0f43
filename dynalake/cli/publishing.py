"""The command that hands the lake to Tableau Server and Tableau Cloud."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dynalake.cli.analyse import FromSnapshot, increment_line, make_snapshot
from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, Name, open_set_up
from dynalake.errors import UserError
from dynalake.screen import Screen


class PublishFormat(StrEnum):
    """What `publish` can send."""

    tdsx = "tdsx"
    hyper = "hyper"


class PublishMode(StrEnum):
    """What `publish` does with what is there."""

    overwrite = "overwrite"
    create = "create"
    append = "append"


def publish(
    name: Name,
    server: Annotated[
        str,
        typer.Option(help="Tableau's address, https://host.", metavar="URL", envvar="TABLEAU_SERVER"),
    ],
    project: Annotated[
        str, typer.Option(help="The project's name, or its path: Finance/Orders.", metavar="PROJECT")
    ],
    site: Annotated[
        str,
        typer.Option(
            help="The site, as its address has it; the default site if left out.",
            metavar="SITE",
            envvar="TABLEAU_SITE",
        ),
    ] = "",
    data_source: Annotated[
        str | None, typer.Option("--as", help="The data source's name; NAME if left out.", metavar="NAME")
    ] = None,
    mode: Annotated[
        PublishMode,
        typer.Option(help="What to do with what is there; `append` takes the bare extract, --format hyper."),
    ] = PublishMode.overwrite,
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="Exchange only the rows that changed since the last time."),
    ] = False,
    format_: Annotated[
        PublishFormat,
        typer.Option("--format", help="With captions, roles and number formats (tdsx), or bare (hyper)."),
    ] = PublishFormat.tdsx,
    lake: FromSnapshot = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="A column for each field of a map.")] = False,
    dates: Annotated[
        bool, typer.Option("--dates", help="Text is a date or a time where every row of its column is one.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Publish a table to Tableau Server or Tableau Cloud as a data source, from a snapshot or straight from the lake.

    It signs in with a personal access token, whose name and value it takes from the environment: TABLEAU_TOKEN_NAME
    and TABLEAU_TOKEN_VALUE. The file is sent in parts; what fails on the way is sent again. With `--incremental` the
    server exchanges the rows that changed since this snapshot's table was published there last (Tableau 2021.3 or
    newer); all is published where that cannot be told, and it says why.

    Examples: `dynalake publish orders --from lake.duckdb --server https://tableau.example --project Finance`,
    `dynalake publish orders --from lake.duckdb --server https://eu-west-1a.online.tableau.com --site shop --project
    Finance/Orders --dates --incremental`
    """
    from dynalake.jobs.publishing import Destination, Steps, publish_table
    from dynalake.tableau.token import token_from
    from lake.export import Layout

    screen = Screen(as_json=as_json)
    token = token_from(os.environ)
    if incremental and lake is None:
        raise UserError(
            "what was published last is remembered beside the snapshot",
            remedy="make one with `dynalake snapshot`, and name it with --from",
        )
    with tempfile.TemporaryDirectory(prefix="dynalake-") as folder:
        if lake is None:
            lake = Path(folder) / "lake.duckdb"
            make_snapshot(screen, open_set_up(name, config), lake)
        with screen.progress(f"publishing {name}") as bar:

            def sending(done: int, total: int) -> None:
                bar.describe(f"sending {name}, kB" if done < total else "Tableau takes it in")
                bar.at(done // 1_000, total // 1_000)

            report = publish_table(
                lake,
                name,
                Destination(server, project, site, data_source),
                token,
                mode=mode.value,
                format=format_.value,
                incremental=incremental,
                layout=Layout(flatten=flatten, dates=dates),
                steps=Steps(bar.at, sending),
            )
    screen.answer(
        {
            **{key: value for key, value in asdict(report).items() if key != "increment"},
            "seconds": round(report.seconds, 3),
            **({"increment": asdict(report.increment)} if report.increment else {}),
        }
    )
    screen.say(
        f"{report.project}/{report.name}: {report.rows:,} rows, {report.bytes:,} bytes sent, {report.seconds:.1f} s"
    )
    if report.increment:
        screen.say(increment_line(report.increment, "published"))
    if report.url:
        screen.say(report.url)
    if not report.complete:
        for gap in report.gaps or ("something may be missing",):
            screen.say(f"GAP: {gap}; the data source's description says so too")
