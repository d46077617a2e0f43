"""Commands that describe the lake to Hive, Spark, Athena and data catalogues."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, Name, open_set_up
from dynalake.errors import UserError
from dynalake.screen import Screen
from lake.contract.files import shared_mode, write_text

if TYPE_CHECKING:
    from dynalake.config import Config
    from queries.ddl import Impossible
    from queries.hive import HiveSession

NOT_IN_PLACE = 1


class Engine(StrEnum):
    """What `ddl` can write for."""

    dynamodb = "dynamodb"
    parquet = "parquet"
    athena = "athena"
    spark = "spark"


class Partitioning(StrEnum):
    """How an engine learns of an export's partitions."""

    msck = "msck"
    explicit = "explicit"


class Format(StrEnum):
    """What `dictionary` can write."""

    csv = "csv"
    alation = "alation"


ParquetPath = Annotated[
    str | None,
    typer.Option(
        help="An export, here or s3://bucket/prefix, for its schema. Needed for all engines but dynamodb; there it "
        "gives the view exact decimals.",
        metavar="PATH",
    ),
]
Database = Annotated[
    str | None, typer.Option(help="The database; else that of the configuration's part [hive], else lake.")
]


def ddl(
    name: Name,
    engine: Annotated[
        Engine,
        typer.Option(
            help="dynamodb: over the lake table, on EMR's Hive. parquet: over an export, on Hive. athena, spark: over "
            "an export, there."
        ),
    ] = Engine.dynamodb,
    parquet: ParquetPath = None,
    location: Annotated[
        str | None, typer.Option(help="Where the engine finds the export, such as s3://bucket/orders/.")
    ] = None,
    partitions: Annotated[
        Partitioning, typer.Option(help="Have partitions found (MSCK REPAIR TABLE), or name each.")
    ] = Partitioning.msck,
    database: Database = None,
    read_percent: Annotated[
        float,
        typer.Option(
            help="The part of the lake table's read capacity that a Hive query may use, 0.1 to 1.5."
        ),
    ] = 0.5,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only what has changed, as ALTER TABLE and CREATE OR REPLACE VIEW.")
    ] = False,
    since: Annotated[
        Path | None,
        typer.Option(
            help="With --diff: the state that --save wrote; else what the server of --apply shows.",
            metavar="FILE",
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write what then stands, for a later --since.", metavar="FILE")
    ] = None,
    apply: Annotated[
        str | None, typer.Option(help="Run the statements there.", metavar="hive://HOST:PORT/DATABASE")
    ] = None,
    recreate: Annotated[
        bool,
        typer.Option(
            "--recreate", help="Drop and make the table anew where needed; an external table holds no data."
        ),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Print or run the DDL of a pipeline: an external table, and the views that analysts use.

    Generated from the schema catalogue, without a scan. The views have the same names over all of them, so a query
    moves: NAME shows live rows, _lake_NAME shows them with dynalake's metadata.

    Examples: `dynalake ddl orders`, `dynalake ddl orders --engine parquet --parquet orders --location
    s3://bucket/orders/`, `dynalake ddl orders --engine spark --parquet orders --diff --apply hive://emr:10001/lake`

    Exit code 1: something cannot be changed in place; --recreate does it.
    """
    from dynalake.config import load_config
    from dynalake.tables import generated_for
    from queries.ddl import SavedState, difference

    screen = Screen(as_json=as_json)
    if since is not None and not diff:
        raise UserError("--since belongs to --diff", remedy="give --diff too")
    if diff and since is None and apply is None:
        raise UserError(
            "--diff needs a state to compare with",
            remedy="name the file of an earlier --save with --since, or a server with --apply",
        )
    before = SavedState(None) if since is None else SavedState.from_json(_read(since), str(since))
    pipeline, settings = open_set_up(name, config), load_config(config)
    database = database or _database_of(apply) or settings.hive.database
    generated, warnings = generated_for(
        pipeline,
        engine.value,
        parquet,
        location,
        database,
        read_percent,
        explicit=partitions is Partitioning.explicit,
    )
    session = None if apply is None else _session(settings, apply)
    try:
        impossible: tuple[Impossible, ...] = ()
        if diff:
            if session is not None and since is None:
                from queries.hive import standing

                before = standing(session, generated)
            found = difference(before, generated, recreate=recreate)
            statements, notes, impossible = found.statements, found.notes, found.impossible
            stands = found.stands
        else:
            whole = generated.ddl(replace=recreate)
            statements, notes, stands = whole.statements, whole.notes, generated.state
        applied = _apply(screen, session, statements) if session is not None else None
    finally:
        if session is not None:
            session.close()
    if save is not None:
        _write(save, stands.to_json() + "\n")
    refused = () if recreate else impossible
    screen.answer(
        {
            "pipeline": name,
            "engine": engine.value,
            "statements": list(statements),
            "notes": [*warnings, *notes],
            "impossible": [{"what": each.what, "safe_way": list(each.safe_way)} for each in refused],
            "applied": applied,
        }
    )
    _show(screen, statements, [*warnings, *notes], refused, applied, apply)
    if refused:
        raise typer.Exit(NOT_IN_PLACE)


def dictionary(
    name: Name,
    format_: Annotated[
        Format, typer.Option("--format", help="csv: all that is known. alation: what its upload takes.")
    ] = Format.csv,
    out: Annotated[Path | None, typer.Option(help="Write there, not to the screen.", metavar="FILE")] = None,
    parquet: ParquetPath = None,
    database: Database = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write the data dictionary of a pipeline: every column with its types, since when, and its sensitivity.

    Examples: `dynalake dictionary orders`, `dynalake dictionary orders --format alation --out orders.csv`
    """
    from dynalake.config import load_config
    from dynalake.tables import generated_for, sensitivity
    from queries.dictionary import CSV_FIELDS, rows_of, written
    from queries.dictionary import dictionary as entries_of

    screen = Screen(as_json=as_json)
    pipeline, settings = open_set_up(name, config), load_config(config)
    engine = "dynamodb" if parquet is None else "parquet"
    generated, _ = generated_for(
        pipeline, engine, parquet, None, database or settings.hive.database, 0.5, explicit=False
    )
    keys = dict(zip(pipeline.lake_table.key.names, ("HASH", "RANGE"), strict=False))
    entries = entries_of(generated, pipeline.schema_history(), keys, sensitivity(pipeline))
    text = written(entries, format_.value)
    if out is not None:
        _write(out, text)
    screen.answer(
        {
            "pipeline": name,
            "path": None if out is None else str(out),
            "columns": [dict(zip(CSV_FIELDS, row, strict=True)) for row in rows_of(entries)],
        }
    )
    screen.say(f"{out}: {len(entries):,} rows for {format_.value}" if out is not None else text.rstrip("\n"))


def _session(settings: Config, url: str) -> HiveSession:
    from dynalake.engines import hive_settings
    from queries.hive import open_session

    # The database may be what the first statement makes; every statement names it.
    return open_session(replace(hive_settings(settings, os.environ, url), database="default"))


def _database_of(url: str | None) -> str | None:
    from queries.hive.settings import from_url

    if url is None or url.count("/") < 3:
        return None
    return from_url(url, "not used").database


def _apply(screen: Screen, session: HiveSession, statements: tuple[str, ...]) -> int:
    from queries.hive import apply

    with screen.progress("statements", len(statements)) as bar:
        return apply(session, statements, lambda done, _head: bar.at(done))


def _show(
    screen: Screen,
    statements: tuple[str, ...],
    notes: list[str],
    refused: tuple[Impossible, ...],
    applied: int | None,
    where: str | None,
) -> None:
    if statements:
        screen.say(";\n".join(statements) + ";")
    elif not refused:
        screen.say("-- nothing has changed")
    for note in notes:
        screen.say(f"-- {note}")
    for each in refused:
        screen.say(f"-- NOT IN PLACE: {each.what}")
    if refused:
        screen.say("-- the safe way (--recreate takes it; the data stay where they are):")
        for statement in refused[0].safe_way:
            screen.say("\n".join(f"--   {line}" for line in f"{statement};".splitlines()))
    if applied:
        screen.say(f"-- {applied} statements have run at {where}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _write(path: Path, text: str) -> None:
    write_text(path, text, error=UserError, mode=shared_mode())
