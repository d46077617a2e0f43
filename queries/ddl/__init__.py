"""Hive DDL for a lake table: over the table itself, over its Parquet export, and the analyst's view.

    identifiers   the one place where text becomes part of a Hive statement
    table         what a generated table is: its statement, and what a view over it selects
    dynamodb      an external table over the lake table, through EMR's DynamoDBStorageHandler
    parquet       an external table over a Parquet export
    view          the analyst's view over either

Everything is generated from the schema catalogue or an Arrow schema; nothing here reads a table.
"""

from queries.ddl.dynamodb import KeyAttribute, dynamodb_table
from queries.ddl.parquet import hive_type, parquet_table
from queries.ddl.table import Ddl, HiveTable, ViewColumn
from queries.ddl.view import analyst_view

__all__ = [
    "Ddl",
    "HiveTable",
    "KeyAttribute",
    "ViewColumn",
    "analyst_view",
    "dynamodb_table",
    "hive_type",
    "parquet_table",
]
