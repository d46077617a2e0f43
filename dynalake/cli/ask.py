"""Commands that ask the lake: the named queries, on any engine."""

from __future__ import annotations

import os
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json
from dynalake.errors import UserError
from dynalake.screen import Screen
from lake.contract.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_ROWS = 500
"""Rows that a person gets to see at most; --out and --json have them all."""

SUFFIXES = (".parquet", ".csv", ".arrow")


class Engine(StrEnum):
    """Where a query can run."""

    duckdb = "duckdb"
    hive = "hive"
    athena = "athena"


def query(
    query: Annotated[
        str, typer.Argument(help="A shipped query's name, or your own .sql file.", metavar="QUERY")
    ],
    param: Annotated[
        list[str] | None, typer.Option("--param", help="A parameter's value.", metavar="NAME=VALUE")
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="duckdb: a snapshot. hive: the configuration's [hive], Hive or Spark. athena: its [athena]."
        ),
    ] = Engine.duckdb,
    lake: Annotated[Path, typer.Option("--lake", help="The snapshot, for duckdb.", metavar="FILE")] = Path(
        "lake.duckdb"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the answer there, as its suffix says: .parquet, .csv or .arrow.", metavar="FILE"
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Run a named query and print its answer; the same text and the same answer on every engine.

    Ctrl-C cancels it on the server too.

    Examples: `dynalake query late_flights --param minutes=60`, `dynalake query ./mine.sql --lake lake.duckdb --json`,
    `dynalake query daily_delays --engine hive --out delays.parquet`
    """
    from dynalake.config import load_config
    from dynalake.engines import answer
    from queries.named import load_query

    screen = Screen(as_json=as_json)
    if out is not None and out.suffix not in SUFFIXES:
        raise UserError(
            f"--out {out} has no suffix of a known format",
            remedy=f"let it end in one of {', '.join(SUFFIXES)}",
        )
    asked, parameters = load_query(query), _parameters(param or [])
    with (
        screen.waiting(asked.name) as waiting,
        answer(
            asked,
            parameters,
            engine.value,
            lake=lake,
            config=lambda: load_config(config),
            environment=os.environ,
            on_progress=waiting,
        ) as reader,
    ):
        columns = reader.schema.names
        if out is not None:
            rows = _write(reader, out)
            shown: list[tuple[Any, ...]] = []
        elif as_json:
            shown = [row for batch in reader for row in _rows(batch)]
        else:
            every = (row for batch in reader for row in _rows(batch))
            shown = list(islice(every, SHOWN_ROWS + 1))
    if out is not None:
        screen.answer(
            {"query": query, "engine": engine.value, "columns": columns, "path": str(out), "count": rows}
        )
        screen.say(f"{out}: {rows:,} rows")
        return
    documents = [dict(zip(columns, row, strict=True)) for row in shown] if as_json else []
    screen.answer({"query": query, "engine": engine.value, "columns": columns, "rows": documents})
    screen.table(columns, shown[:SHOWN_ROWS])
    if len(shown) > SHOWN_ROWS:
        screen.say(f"more than {SHOWN_ROWS} rows: --out FILE writes them all")


def queries(as_json: Json = False) -> None:
    """List the queries that dynalake ships: what each answers, a row's meaning, and its parameters.

    Example: `dynalake queries`
    """
    from queries.named import named_queries

    screen = Screen(as_json=as_json)
    shipped = named_queries()
    screen.answer(
        {
            "queries": [
                {
                    "name": each.name,
                    "what": each.what,
                    "grain": each.grain,
                    "parameters": [
                        {
                            "name": one.name,
                            "type": one.type,
                            "default": one.default,
                            "what": one.what,
                        }
                        for one in each.parameters
                    ],
                }
                for each in shipped
            ]
        }
    )
    screen.table(
        ["query", "what", "grain", "parameters"],
        [
            [
                each.name,
                each.what,
                each.grain,
                ", ".join(
                    one.name if one.default is None else f"{one.name}={one.default}"
                    for one in each.parameters
                ),
            ]
            for each in shipped
        ],
    )


def _rows(batch: pa.RecordBatch) -> zip[tuple[Any, ...]]:
    """Rows as tuples: two columns of one name stay two."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write(reader: pa.RecordBatchReader, out: Path) -> int:
    """The answer as a file, batch by batch, put in place when it is whole."""
    import pyarrow as pa
    from pyarrow import csv
    from pyarrow import parquet as pq

    rows = 0
    with replacing(out, error=UserError) as place:
        try:
            if out.suffix == ".parquet":
                writer: Any = pq.ParquetWriter(place.file, reader.schema, compression="zstd")
            elif out.suffix == ".csv":
                writer = csv.CSVWriter(place.file, reader.schema)
            else:
                writer = pa.ipc.new_file(str(place.file), reader.schema)
            with writer:
                for batch in reader:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        except pa.ArrowException as error:
            raise UserError(f"{out} cannot be written: {error}") from None
    return rows


def _parameters(given: list[str]) -> dict[str, str]:
    parameters = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise UserError(f"--param {each!r} is not of the form NAME=VALUE")
        parameters[name] = value
    return parameters
