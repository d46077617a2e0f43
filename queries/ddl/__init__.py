"""Hive DDL for a lake table: over the table itself, over its Parquet export, and the views for analysts.

    identifiers   the one place where text becomes part of a Hive statement
    history       what the comments say of an attribute
    table         what a generated table is: its statement, and what a view over it selects
    dynamodb      an external table over the lake table, through EMR's DynamoDBStorageHandler
    parquet       an external table over a Parquet export
    view          the analyst's view over either, and the one with metadata
    generated     a table and its views together; what is saved of them to compare with later
    diff          from an earlier state to the generated one, by statements that keep what is there
    partitions    the partitions that an export's folders make

Everything is generated from the schema catalogue or an Arrow schema; nothing here reads a table.
"""

from queries.ddl.diff import Diff, Impossible, difference
from queries.ddl.dynamodb import KeyAttribute, dynamodb_table
from queries.ddl.generated import Generated, SavedState, TableState
from queries.ddl.parquet import Partitions, hive_type, parquet_table
from queries.ddl.table import Ddl, Flavour, HiveTable, TableColumn, ViewColumn
from queries.ddl.view import HiveView, analyst_view, lake_views

__all__ = [
    "Ddl",
    "Diff",
    "Flavour",
    "Generated",
    "HiveTable",
    "HiveView",
    "Impossible",
    "KeyAttribute",
    "Partitions",
    "SavedState",
    "TableColumn",
    "TableState",
    "ViewColumn",
    "analyst_view",
    "difference",
    "dynamodb_table",
    "hive_type",
    "lake_views",
    "parquet_table",
]
