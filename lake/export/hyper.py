"""Tableau's .hyper: nested values flattened or as JSON text, decimals with all their digits, nothing sent to anybody.

pantab starts Hyper with `Telemetry::DoNotSendUsageDataToTableau` and with no log file, in its own code
(writer.cpp, 5.3), so there is no switch to turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lake.errors import ExportError
from lake.export.layout import Layout, order
from lake.export.select import flat_select
from lake.open import Lake
from lake.types import Json, Type

DATABASE_VERSION: Final = "4"
"""The oldest version of the file format that keeps decimals of more than 18 digits."""

BATCH_ROWS: Final = 65_536
"""Rows in memory at a time."""


def write(lake: Lake, table: str, part: Path, layout: Layout) -> None:
    """Writes the table to the file `part`, as the Hyper table of the same name in the schema `public`.

    Raises:
        ExportError: pantab is not installed, or Hyper refuses the data.
    """
    try:
        import pantab
    except ImportError as error:
        raise ExportError("Tableau's format needs pantab: install dynalake[tableau]") from error
    columns = lake.columns(table)
    query = flat_select(columns, table, _cell, str, flatten=layout.flatten)
    terms = order(columns, layout.sort_by)
    if terms:
        query += f" ORDER BY {', '.join(terms)}"
    reader = lake.sql(query).to_arrow_reader(BATCH_ROWS)
    try:
        pantab.frame_to_hyper(
            reader,
            part,
            table=table,
            process_params={"default_database_version": DATABASE_VERSION},
            # The file is put in place by rename: that is atomic enough.
            atomic=False,
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"Hyper refuses {table}: {error}") from error


def _cell(kind: Type, value: str) -> str:
    return f"{value}::VARCHAR" if isinstance(kind, Json) else value
