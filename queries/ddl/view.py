"""The views over a generated table: the analyst's, and the same rows with dynalake's metadata.

    <name>          live rows, no metadata; what a snapshot calls `<name>`
    _lake_<name>    the same with `_lake_version`, `_lake_at` and `_lake_source_at`; a snapshot's `_lake.<name>`

The same views can stand over the lake table itself or over its Parquet export. Their names and their columns'
names stay, so a query moves from one to the other when the views are made anew. Lists and maps are typed over
Parquet, and DynamoDB JSON over the lake table (see `queries.ddl.dynamodb`); a query that looks inside one
does not move.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from queries.ddl.identifiers import comment, quoted
from queries.ddl.parquet import hive_type
from queries.ddl.table import Ddl, HiveTable, ViewColumn, properties, qualified

DIGEST: Final = "dynalake.ddl"
"""The view's property that tells one text of a view from another, whatever a server makes of the text."""

WITH_METADATA: Final = "_lake_"
"""What the name of the view with metadata begins with."""


@dataclass(frozen=True, slots=True)
class HiveView:
    """A generated view.

    Attributes:
        database: its database.
        name: its name.
        text: the statement that makes or replaces it.
        digest: of the statement without it; also the view's property `DIGEST`, where the flavour has properties.
        notes: see `Ddl.notes`.
    """

    database: str
    name: str
    text: str
    digest: str
    notes: tuple[str, ...]

    @property
    def ddl(self) -> Ddl:
        """The statement as one that runs after its table's."""
        return Ddl((self.text,), self.notes)


def lake_views(table: HiveTable, name: str, *, like: pa.Schema | None = None) -> tuple[HiveView, ...]:
    """Both views over a table; the one with metadata only where the table has the metadata.

    Raises:
        DdlError: Hive would not take a name.
    """
    plain = analyst_view(table, name, like=like)
    if not table.metadata:
        return (plain,)
    return plain, _view(table, WITH_METADATA + name, (*table.view_columns, *table.metadata), like)


def analyst_view(table: HiveTable, name: str, *, like: pa.Schema | None = None) -> HiveView:
    """The view over a generated table, in the table's database.

    Args:
        table: from `dynamodb_table` or `parquet_table`.
        name: the view's name.
        like: the Parquet export's schema. With it, a number that the table holds as a double is taken from
            the whole item, with all its digits, as the decimal that the export has; without it the view
            shows the double. A value with more digits than the decimal has becomes NULL or is rounded, as
            Hive's CAST does, so the schema should be that of a recent export.

    Raises:
        DdlError: Hive would not take the name.
    """
    return _view(table, name, table.view_columns, like)


def _view(table: HiveTable, name: str, shown: tuple[ViewColumn, ...], like: pa.Schema | None) -> HiveView:
    target = qualified(table.database, name, "view")
    if table.flavour == "athena":
        return _made(table, name, "CREATE OR REPLACE VIEW " + _trino(target), _selected(table, shown, like))
    columns = ",\n".join(f"  {quoted(column.name)} COMMENT {comment(column.comment)}" for column in shown)
    with_metadata = "with its metadata" if len(shown) > len(table.view_columns) else "and metadata"
    about = f"Live rows of {table.database}.{table.name}, without tombstones {with_metadata}."
    head = f"CREATE OR REPLACE VIEW {target} (\n{columns}\n)\nCOMMENT {comment(about)}"
    return _made(table, name, head, _selected(table, shown, like))


def _made(table: HiveTable, name: str, head: str, select: str) -> HiveView:
    digest = hashlib.sha256(f"{head}\n{select}".encode()).hexdigest()[:16]
    kept = "" if table.flavour == "athena" else f"\nTBLPROPERTIES (\n{properties({DIGEST: digest})}\n)"
    return HiveView(table.database, name, f"{head}{kept}\nAS {select}", digest, table.notes)


def _selected(table: HiveTable, shown: tuple[ViewColumn, ...], like: pa.Schema | None) -> str:
    columns = ",\n".join(f"  {_expression(column, like)} AS {quoted(column.name)}" for column in shown)
    where = f"\nWHERE {table.live_rows}" if table.live_rows else ""
    select = f"SELECT\n{columns}\nFROM {table.qualified_name}{where}"
    return _trino(select) if table.flavour == "athena" else select


def _trino(text: str) -> str:
    """Quoted names as Trino quotes them. Over Parquet an Athena view holds tame names and nothing else quoted."""
    return text.replace("`", '"')


def _expression(column: ViewColumn, like: pa.Schema | None) -> str:
    if like is None or column.exact_number is None or like.get_field_index(column.attribute) < 0:
        return column.expression
    kind = like.field(column.attribute).type
    if pa.types.is_decimal(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return f"CAST({column.exact_number} AS {hive_type(kind, column.attribute)})"
    return column.expression
