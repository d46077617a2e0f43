"""A snapshot's table as a file that other tools read.

    export_table(Path("lake.duckdb"), "orders", "parquet", Path("orders.parquet"))

Parquet and Arrow carry every column and dynalake's metadata, and describe in their own metadata how the way
back to DynamoDB JSON goes (`lake.encode`). CSV and Hyper are for people: attributes and companions only.
Tombstones are in none.
"""

from lake.export.export import ExportReport, Format, export_table

__all__ = ["ExportReport", "Format", "export_table"]
