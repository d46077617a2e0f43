"""Parquet, for Hive, Athena, Spark and everybody else: nested types kept, JSON as text, zstd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from lake.errors import ExportError
from lake.export.layout import Layout, order, partitions
from lake.export.select import lossless_select
from lake.open import Lake
from lake.stored import ROW, rows_table
from lake.types import METADATA_KEY, columns_to_json, identifier, literal

ROW_GROUP_BYTES: Final = 128 * 1024 * 1024
"""A row group is what one reader task of Hive, Athena or Spark takes at a time, and HDFS's and their default
split is 128 MB; smaller ones cost requests, larger ones memory."""

FILE_BYTES: Final = 512 * 1024 * 1024
"""Part files of some row groups each: few enough to list, many enough to read side by side."""

MAX_PARTITIONS: Final = 10_000
"""More folders than this make every engine slow, and are nearly always a mistake."""

NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
"""Hive's folder for rows whose partition value is NULL."""

BATCH_ROWS: Final = 8_192


def write(lake: Lake, table: str, part: Path, layout: Layout, run: str) -> None:
    """Writes the table to `part`: into it if it is a directory, else as one file.

    Args:
        lake: the snapshot.
        table: the table's name in it.
        part: where to.
        layout: partitions and order.
        run: a name for this run, part of the names of files in a directory, so that they meet no others'.

    Raises:
        ExportError: the layout cannot be carried out.
    """
    columns = lake.columns(table)
    if layout.partition_by:
        if not part.is_dir():
            raise ExportError(
                "a partitioned export is a folder", remedy="do not let its name end in .parquet"
            )
        _write_partitions(lake, table, part, layout, run)
        return
    ordered = order(columns, layout.sort_by)
    query = lossless_select(columns, table, ordered)
    options = [
        "FORMAT parquet",
        "COMPRESSION zstd",
        f"KV_METADATA {{{METADATA_KEY.decode()}: {literal(columns_to_json(columns))}}}",
    ]
    if ordered.terms:
        options.append(f"ROW_GROUP_SIZE {_group_rows(lake, table)}")
    else:
        # Row groups by size need rows in any order, which a table has anyhow.
        lake.sql("SET preserve_insertion_order = false")
        options.append(f"ROW_GROUP_SIZE_BYTES {ROW_GROUP_BYTES}")
    if part.is_dir():
        options += [
            f"FILE_SIZE_BYTES {FILE_BYTES}",
            f"FILENAME_PATTERN 'part-{run}-{{i}}'",
            "OVERWRITE_OR_IGNORE",
        ]
    try:
        lake.sql(f"COPY ({query}) TO {literal(str(part))} ({', '.join(options)})")
    finally:
        lake.sql("RESET preserve_insertion_order")


def _group_rows(lake: Lake, table: str) -> int:
    """Rows that make a row group of about the right size, from the size of some rows as text."""
    (row,) = lake.sql(
        f"SELECT avg(strlen({ROW}::VARCHAR)) FROM (FROM {rows_table(table)} LIMIT 2048) AS {ROW}"
    ).fetchall()
    return max(2_048, min(1_000_000, int(ROW_GROUP_BYTES / max(row[0] or 1, 1))))


def _write_partitions(lake: Lake, table: str, part: Path, layout: Layout, run: str) -> None:
    """One pass over the rows in order of partition, so that one file is open at a time and rows stay sorted.

    DuckDB's own PARTITION_BY does not keep an order within partitions, nor limit the size of files.
    """
    import pyarrow as pa

    columns = lake.columns(table)
    keys = partitions(columns, layout.partition_by)
    names = [name for name, _ in keys]
    _check_values(lake, table, keys)
    own = {name for name, expression in keys if expression == identifier(name)}
    computed = [(f"_lake_part_{n}", f"({expression})::VARCHAR") for n, (_, expression) in enumerate(keys)]
    query = lossless_select(columns, table, order(columns, layout.sort_by), computed)
    reader = lake.sql(query).to_arrow_reader(BATCH_ROWS)
    fields = [field for field in list(reader.schema)[len(keys) :] if field.name not in own]
    schema = pa.schema(fields, metadata={METADATA_KEY: columns_to_json(columns).encode()})
    writer = _PartitionWriter(part, names, schema, run)
    try:
        for batch in reader:
            for values, rows in _runs(batch, len(keys)):
                writer.write(values, rows)
    finally:
        writer.close()


def _check_values(lake: Lake, table: str, keys: Sequence[tuple[str, str]]) -> None:
    """Refuses what Hive's folders cannot tell apart, and too many of them."""
    expressions = ", ".join(expression for _, expression in keys)
    (count,) = lake.sql(
        f"SELECT count(*) FROM (SELECT DISTINCT {expressions} FROM _lake.{identifier(table)})"
    ).fetchall()
    if count[0] > MAX_PARTITIONS:
        raise ExportError(
            f"{', '.join(name for name, _ in keys)} would make {count[0]:,} folders, and {MAX_PARTITIONS:,} is the "
            "most",
            remedy="partition by something coarser, such as month=left(day, 7)",
        )
    for name, expression in keys:
        (found,) = lake.sql(
            f"SELECT typeof(any_value({expression})), count(*) FILTER ({expression}::VARCHAR = '') "
            f"FROM _lake.{identifier(table)}"
        ).fetchall()
        kind, empty = found
        if "[" in kind or "(" in kind.removeprefix("DECIMAL(") or kind in ("BLOB", "JSON"):
            raise ExportError(f"the partition {name!r} is {kind}: only plain values can name a folder")
        if empty:
            raise ExportError(
                f"the partition {name!r} is an empty text in {empty:,} rows, which Hive cannot tell from NULL",
                remedy=f"partition by an expression, such as {name}_or_none=coalesce(nullif({name}, ''), 'none')",
            )


def _runs(batch: Any, keys: int) -> Iterator[tuple[tuple[str | None, ...], Any]]:
    """The stretches of a batch that are of one partition, each with the partition's values."""
    values = list(zip(*(batch.column(number).to_pylist() for number in range(keys)), strict=True))
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            yield values[start], batch.slice(start, at - start)
            start = at


class _PartitionWriter:
    """Writes one partition after the other: row groups and files of the right size."""

    def __init__(self, folder: Path, names: Sequence[str], schema: Any, run: str) -> None:
        self._folder, self._names, self._schema, self._run = folder, names, schema, run
        self._values: tuple[str | None, ...] | None = None
        self._pending: list[Any] = []
        self._pending_bytes = self._file_bytes = self._files = 0
        self._writer: Any = None

    def write(self, values: tuple[str | None, ...], rows: Any) -> None:
        import pyarrow as pa

        if values != self._values:
            self._end_file()
            self._values, self._files = values, 0
        batch = pa.RecordBatch.from_arrays(
            [rows.column(field.name) for field in self._schema], schema=self._schema
        )
        self._pending.append(batch)
        self._pending_bytes += batch.nbytes
        if self._pending_bytes >= ROW_GROUP_BYTES:
            self._end_group()
            if self._file_bytes >= FILE_BYTES:
                self._end_file()

    def close(self) -> None:
        self._end_file()

    def _end_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._pending:
            return
        if self._writer is None:
            folder = self._folder.joinpath(
                *(
                    f"{quote(name, safe='')}={NO_VALUE if value is None else quote(value, safe='')}"
                    for name, value in zip(self._names, self._values or (), strict=True)
                )
            )
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"part-{self._run}-{self._files}.parquet"
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
            self._files += 1
        rows = pa.Table.from_batches(self._pending)
        self._writer.write_table(rows, row_group_size=rows.num_rows or 1)
        self._file_bytes += self._pending_bytes
        self._pending, self._pending_bytes = [], 0

    def _end_file(self) -> None:
        self._end_group()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._file_bytes = None, 0
