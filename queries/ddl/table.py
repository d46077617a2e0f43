"""What a generated table is: its columns, its statement in a flavour of Hive's DDL, and what a view selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from queries.ddl.identifiers import comment, object_name, quoted, string_literal

Flavour = Literal["hive", "spark", "athena"]
"""Whose DDL: Hive's own (EMR), Spark SQL's, or Athena's (Hive's for tables, Trino's for views)."""

BY_POSITION: Final = "parquet.column.index.access"
"""The property that makes Hive and Athena read Parquet columns by position and not by name."""

_PARQUET_SERDE: Final = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"


@dataclass(frozen=True, slots=True)
class Ddl:
    """Statements in the order in which they must run.

    Attributes:
        statements: each without a closing semicolon, as PyHive and JDBC want them.
        notes: what a reader should know and no statement can say, such as an attribute that has no typed
            column; one sentence each.
    """

    statements: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All statements as one script."""
        return ";\n".join(self.statements)


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table.

    Attributes:
        name: its name, as the statement quotes it.
        type: its type in Hive's notation.
        comment: what is said about it, not yet a literal.
    """

    name: str
    type: str
    comment: str

    @property
    def declared(self) -> str:
        """The column as CREATE TABLE and ADD COLUMNS take it."""
        return f"{quoted(self.name)} {self.type} COMMENT {comment(self.comment)}"


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column that the analyst sees.

    Attributes:
        name: its name, tame.
        expression: what it selects from the table, as Hive SQL.
        comment: what is said about it.
        attribute: the source attribute's true name.
        exact_number: for a number whose typed column loses digits, the expression that gives all of them as
            text; else None.
    """

    name: str
    expression: str
    comment: str
    attribute: str
    exact_number: str | None = None


@dataclass(frozen=True, slots=True)
class HiveTable:
    """A generated external table.

    Attributes:
        database: the Hive database, checked.
        name: the table, checked.
        columns: its columns, those that partition it left out.
        about: what is said about the table.
        view_columns: what a view over it selects, in order.
        metadata: dynalake's own columns that readers may want: the row's version and its times.
        live_rows: the condition that leaves the tombstones out; None where there are none.
        notes: see `Ddl.notes`.
        handler: the storage handler's class; None for a table over Parquet.
        location: the folder of the Parquet files; None for a table of a storage handler.
        partitions: the columns that partition it.
        properties: its table properties.
        partition_statements: what makes the partitions known, such as MSCK REPAIR TABLE.
        flavour: whose DDL its statement is.
    """

    database: str
    name: str
    columns: tuple[TableColumn, ...]
    about: str
    view_columns: tuple[ViewColumn, ...]
    metadata: tuple[ViewColumn, ...]
    live_rows: str | None
    notes: tuple[str, ...]
    handler: str | None = None
    location: str | None = None
    partitions: tuple[TableColumn, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    partition_statements: tuple[str, ...] = ()
    flavour: Flavour = "hive"

    @property
    def qualified_name(self) -> str:
        """The table's name with its database, quoted."""
        return qualified(self.database, self.name)

    @property
    def create(self) -> str:
        """The statement that makes the table."""
        return _create_for_spark(self) if self.flavour == "spark" else _create(self)

    @property
    def drop(self) -> str:
        """The statement that drops it: its definition alone, since an external table holds no data."""
        return f"DROP TABLE IF EXISTS {self.qualified_name}"

    def ddl(self, *, replace: bool = False) -> Ddl:
        """The statements that make the table.

        Args:
            replace: drop a table of this name first. An external table holds no data, so that is how a
                change that no ALTER can make is applied; it is no default because a table of this name that
                is *not* ours might be a managed one, whose data would go with it. Without it, CREATE fails
                where the table exists, and says so; it does not keep an old schema in silence.
        """
        drop = (self.drop,) if replace else ()
        return Ddl(
            (create_database(self.database), *drop, self.create, *self.partition_statements), self.notes
        )


def create_database(name: str) -> str:
    """The statement that makes the database where it is missing."""
    return f"CREATE DATABASE IF NOT EXISTS {object_name(name, 'database')}"


def qualified(database: str, name: str, what: str = "table") -> str:
    """A table's or view's name with its database, checked and quoted.

    Raises:
        DdlError: Hive would not take one of the names.
    """
    return f"{object_name(database, 'database')}.{object_name(name, what)}"


def properties(pairs: Mapping[str, str]) -> str:
    """The pairs as Hive's TBLPROPERTIES take them, one a line."""
    return ",\n".join(f"  {string_literal(key)} = {string_literal(value)}" for key, value in pairs.items())


def _create(table: HiveTable) -> str:
    parts = [
        f"CREATE EXTERNAL TABLE {table.qualified_name} (\n{_columns(table.columns)}\n)",
        f"COMMENT {comment(table.about)}",
    ]
    if table.partitions:
        parts.append(f"PARTITIONED BY (\n{_columns(table.partitions)}\n)")
    kept = dict(table.properties)
    if table.handler is not None:
        parts.append(f"STORED BY {string_literal(table.handler)}")
    elif table.flavour == "athena" and BY_POSITION in kept:
        # Athena takes this one as a property of the SerDe (its guide, "Handle schema updates").
        serde = properties({BY_POSITION: kept.pop(BY_POSITION)})
        parts.append(
            f"ROW FORMAT SERDE '{_PARQUET_SERDE}'\nWITH SERDEPROPERTIES (\n{serde}\n)\nSTORED AS INPUTFORMAT "
            "'org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat'\nOUTPUTFORMAT "
            "'org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat'"
        )
    else:
        parts.append("STORED AS PARQUET")
    if table.location is not None:
        parts.append(f"LOCATION {string_literal(table.location)}")
    if kept:
        parts.append(f"TBLPROPERTIES (\n{properties(kept)}\n)")
    return "\n".join(parts)


def _create_for_spark(table: HiveTable) -> str:
    """Spark's own form, which reads any column name from Parquet; a location makes the table external."""
    by = ", ".join(quoted(column.name) for column in table.partitions)
    parts = [
        f"CREATE TABLE {table.qualified_name} (\n{_columns([*table.columns, *table.partitions])}\n)",
        "USING parquet",
        *([f"PARTITIONED BY ({by})"] if by else []),
        f"LOCATION {string_literal(table.location or '')}",
        f"COMMENT {comment(table.about)}",
    ]
    if table.properties:
        parts.append(f"TBLPROPERTIES (\n{properties(table.properties)}\n)")
    return "\n".join(parts)


def _columns(columns: Sequence[TableColumn]) -> str:
    return ",\n".join(f"  {column.declared}" for column in columns)
