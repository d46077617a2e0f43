"""Tableau's .hyper: nested values flattened or as JSON text, decimals with all their digits, nothing sent to anybody.

pantab starts Hyper with `Telemetry::DoNotSendUsageDataToTableau` and with no log file, in its own code
(writer.cpp, 5.3), so there is no switch to turn; `hyper_connection` says the same to Tableau's own library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lake.errors import ExportError
from lake.export.extract import ExtractColumn, rows_query
from lake.export.layout import order
from lake.open import Lake
from lake.stored import rows_of

SCHEMA: Final = "public"
"""The schema in which an extract's table is."""

DATABASE_VERSION: Final = "4"
"""The oldest version of the file format that keeps decimals of more than 18 digits."""

BATCH_ROWS: Final = 65_536
"""Rows in memory at a time."""


def write(
    lake: Lake, table: str, part: Path, columns: Sequence[ExtractColumn], sort_by: Sequence[str] = ()
) -> None:
    """Writes the table to the file `part`, as the Hyper table of the same name in the schema `public`.

    Raises:
        ExportError: pantab is not installed, or Hyper refuses the data.
    """
    known = lake.columns(table)
    ordered = order(known, sort_by)
    query = rows_query(columns, rows_of(table, known, ordered.computed)) + ordered.clause
    write_query(lake, query, part, table)


def write_query(lake: Lake, query: str, part: Path, table: str, *, beside: bool = False) -> None:
    """Writes a query's rows to the file `part`, as the table `table`; what was there is kept if `beside`.

    Raises:
        ExportError: pantab is not installed, or Hyper refuses the data.
    """
    try:
        import pantab
    except ImportError as error:
        raise ExportError("Tableau's format needs pantab", remedy="install dynalake[tableau]") from error
    reader = lake.sql(query).to_arrow_reader(BATCH_ROWS)
    try:
        pantab.frame_to_hyper(
            reader,
            part,
            table=table,
            table_mode="a" if beside else "w",
            process_params={"default_database_version": DATABASE_VERSION},
            # The file is put in place by rename: that is atomic enough.
            atomic=False,
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"Hyper refuses {table}: {error}") from error


@contextmanager
def hyper_connection(file: Path, **more: Path) -> Iterator[Any]:
    """An open `tableauhyperapi.Connection` to an extract, under the name `extract`; to others under their names.

    Raises:
        ExportError: tableauhyperapi is not installed, or Hyper refuses what was asked of it.
    """
    try:
        from tableauhyperapi import Connection, HyperException, HyperProcess, Telemetry
    except ImportError as error:
        raise ExportError("this needs Tableau's Hyper API", remedy="install dynalake[tableau]") from error
    try:
        with (
            HyperProcess(
                Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU,
                parameters={"log_config": "", "default_database_version": DATABASE_VERSION},
            ) as process,
            Connection(process.endpoint) as connection,
        ):
            for name, path in {"extract": file, **more}.items():
                connection.catalog.attach_database(str(path), name)
            yield connection
    except HyperException as error:
        raise ExportError(f"Hyper refuses {file.name}: {str(error.main_message).splitlines()[0]}") from error
