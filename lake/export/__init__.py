"""A snapshot's table as files that other tools read, on this machine or in S3.

    export_table(Path("lake.duckdb"), "orders", "parquet", Path("orders.parquet"))
    export_table(Path("lake.duckdb"), "orders", "parquet", "s3://bucket/orders/", s3=client,
                 layout=Layout(partition_by=("country",), sort_by=("day desc",)))

    export_table(Path("lake.duckdb"), "orders", "hyper", Path("orders.hyper"), incremental=True)

Parquet and Arrow carry every column and dynalake's metadata, and describe in their own metadata how the way
back to DynamoDB JSON goes (`lake.encode`). CSV and Tableau's formats are for people: attributes and companions only.
Tombstones are in none. A run that fails leaves what was there (`lake.export.target`).
"""

from lake.export.export import ExportReport, Format, export_table, format_of
from lake.export.layout import Layout
from lake.export.tableau import Increment

__all__ = ["ExportReport", "Format", "Increment", "Layout", "export_table", "format_of"]
