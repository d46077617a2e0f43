"""Parquet, for Hive, Athena, Spark and everybody else: nested types kept, JSON as text, zstd."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lake.export.select import lossless_select
from lake.open import Lake
from lake.types import METADATA_KEY, columns_to_json, literal

ROW_GROUP_BYTES: Final = 128 * 1024 * 1024
"""A row group is what one reader task of Hive, Athena or Spark takes at a time, and HDFS's and their default
split is 128 MB; smaller ones cost requests, larger ones memory."""

FILE_BYTES: Final = 512 * 1024 * 1024
"""Part files of some row groups each: few enough to list, many enough to read side by side."""


def write(lake: Lake, table: str, part: Path) -> None:
    """Writes the table to `part`: into it if it is a directory, else as one file."""
    columns = lake.columns(table)
    # Row groups by size need rows in any order, which a table has anyhow.
    lake.sql("SET preserve_insertion_order = false")
    options = [
        "FORMAT parquet",
        "COMPRESSION zstd",
        f"ROW_GROUP_SIZE_BYTES {ROW_GROUP_BYTES}",
        f"KV_METADATA {{{METADATA_KEY.decode()}: {literal(columns_to_json(columns))}}}",
    ]
    if part.is_dir():
        options += [f"FILE_SIZE_BYTES {FILE_BYTES}", "FILENAME_PATTERN 'part-{i}'", "OVERWRITE_OR_IGNORE"]
    query = lossless_select(columns, table)
    lake.sql(f"COPY ({query}) TO {literal(str(part))} ({', '.join(options)})")
