"""Queries: Hive and EMR DDL generated from the catalogue, and named SQL that runs alike on every engine.

errors        what can go wrong
ddl           external Hive tables and the analyst's view
parameters    a query's typed parameters: declared in the file, checked, bound or written as literals
named         the queries: one `.sql` file each, shipped here or the reader's own
run           a query on DuckDB
transpile     a query as Hive's or Spark's text
"""
