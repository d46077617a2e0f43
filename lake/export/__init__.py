"""A snapshot's table as files that other tools read, on this machine or in S3.

    export_table(Path("lake.duckdb"), "orders", "parquet", Path("orders.parquet"))
    export_table(Path("lake.duckdb"), "orders", "parquet", "s3://bucket/orders/", s3=client,
                 layout=Layout(partition_by=("country",), sort_by=("day desc",)))

Parquet and Arrow carry every column and dynalake's metadata, and describe in their own metadata how the way
back to DynamoDB JSON goes (`lake.encode`). CSV and Hyper are for people: attributes and companions only.
Tombstones are in none. A run that fails leaves what was there (`lake.export.target`).
"""

from lake.export.export import ExportReport, Format, export_table
from lake.export.layout import Layout

__all__ = ["ExportReport", "Format", "Layout", "export_table"]
