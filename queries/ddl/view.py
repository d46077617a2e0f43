"""The analyst's view: a lake table's rows without tombstones, metadata and Hive's tricks.

The same view can stand over the lake table itself or over its Parquet export. Its name and its columns'
names stay, so a query moves from one to the other when the view is made anew. Lists and maps are typed over
Parquet, and DynamoDB JSON over the lake table (see `queries.ddl.dynamodb`); a query that looks inside one
does not move.
"""

from __future__ import annotations

import pyarrow as pa

from queries.ddl.identifiers import comment, quoted
from queries.ddl.parquet import hive_type
from queries.ddl.table import Ddl, HiveTable, ViewColumn, qualified


def analyst_view(table: HiveTable, name: str, *, like: pa.Schema | None = None) -> Ddl:
    """The view over a generated table, in the table's database.

    Args:
        table: from `dynamodb_table` or `parquet_table`.
        name: the view's name.
        like: the Parquet export's schema. With it, a number that the table holds as a double is taken from
            the whole item, with all its digits, as the decimal that the export has; without it the view
            shows the double. A value with more digits than the decimal has becomes NULL or is rounded, as
            Hive's CAST does, so the schema should be that of a recent export.

    Raises:
        DdlError: Hive would not take the name, or the table has no column to show.
    """
    target = qualified(table.database, name, "view")
    columns = ",\n".join(
        f"  {quoted(column.name)} COMMENT {comment(column.comment)}" for column in table.view_columns
    )
    selected = ",\n".join(
        f"  {_expression(column, like)} AS {quoted(column.name)}" for column in table.view_columns
    )
    where = f"\nWHERE {table.live_rows}" if table.live_rows else ""
    about = f"Live rows of {table.database}.{table.name}, without tombstones and metadata."
    return Ddl(
        (
            f"CREATE OR REPLACE VIEW {target} (\n{columns}\n)\nCOMMENT {comment(about)}\n"
            f"AS SELECT\n{selected}\nFROM {table.qualified_name}{where}",
        ),
        table.notes,
    )


def _expression(column: ViewColumn, like: pa.Schema | None) -> str:
    if like is None or column.exact_number is None or like.get_field_index(column.attribute) < 0:
        return column.expression
    kind = like.field(column.attribute).type
    if pa.types.is_decimal(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return f"CAST({column.exact_number} AS {hive_type(kind, column.attribute)})"
    return column.expression
