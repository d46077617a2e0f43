"""An Arrow IPC file: the types of `lake.types`, and the columns' description in the schema's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lake.contract.rows import SOURCE_AT, VERSION, WRITTEN_AT
from lake.export.layout import Layout, order
from lake.export.select import lossless_select, with_companions
from lake.open import Lake
from lake.types import METADATA_KEY, NULLS, arrow_type, columns_to_json

BATCH_ROWS: Final = 122_880
"""DuckDB's own row group: a batch never spans two."""


def write(lake: Lake, table: str, part: Path, layout: Layout) -> None:
    """Writes the table to the file `part`."""
    import pyarrow as pa

    columns = lake.columns(table)
    fields: list[tuple[str, Any]] = [(name, arrow_type(kind)) for name, kind in with_companions(columns)]
    fields += [
        (VERSION, pa.string()),
        (WRITTEN_AT, pa.int64()),
        (SOURCE_AT, pa.int64()),
        (NULLS, pa.list_(pa.string())),
    ]
    schema = pa.schema(fields, metadata={METADATA_KEY: columns_to_json(columns).encode()})
    query = lossless_select(columns, table, order(columns, layout.sort_by))
    reader = lake.sql(query).to_arrow_reader(BATCH_ROWS)
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in reader:
            writer.write_batch(batch.cast(schema))
