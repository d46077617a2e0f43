"""Queries: Hive and EMR DDL generated from the catalogue, and named SQL that runs alike on every engine."""
