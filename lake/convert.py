"""From one column type to a wider one, and to DynamoDB JSON, in SQL: exactly, whatever the value."""

from __future__ import annotations

import json

from lake.errors import SnapshotError
from lake.types import (
    Blob,
    Boolean,
    Decimal38,
    Int64,
    Json,
    ListOf,
    NumberText,
    Struct,
    Text,
    Type,
    duckdb_type,
    identifier,
    literal,
)


def convert(old: Type, new: Type, value: str, depth: int = 0) -> str:
    """The SQL that gives a value of an existing column the column's new type, exactly.

    Raises:
        SnapshotError: there is no exact way.
    """
    if old == new:
        return value
    x = f"x{depth}"
    match old, new:
        case _, Json():
            return f"CASE WHEN {value} IS NOT NULL THEN ({dynamodb_json(old, value, depth)})::JSON END"
        case ((Int64() | Decimal38() | NumberText()), NumberText()):
            return number_text(old, value)
        case ((Int64() | Decimal38()), Decimal38()):
            return f"CAST({value} AS {duckdb_type(new)})"
        case ListOf(tag, inner), ListOf(other, outer) if tag == other:
            return f"list_transform({value}, lambda {x}: {convert(inner, outer, x, depth + 1)})"
        case Struct(fields), Struct(more) if {name for name, _ in fields} <= {name for name, _ in more}:
            have = dict(fields)
            packed = ", ".join(
                f"{identifier(name)} := "
                + (
                    convert(have[name], field, f"{value}.{identifier(name)}", depth)
                    if name in have
                    else f"NULL::{duckdb_type(field)}"
                )
                for name, field in more
            )
            return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({packed}) END"
    raise SnapshotError(
        f"a column of type {duckdb_type(old)} cannot become {duckdb_type(new)}", remedy="make a new snapshot"
    )


def dynamodb_json(kind: Type, value: str, depth: int = 0) -> str:
    """The SQL that writes a value which is not NULL as DynamoDB JSON text, type tag included."""
    match kind:
        case Text():
            return f"""'{{"S":' || to_json({value})::VARCHAR || '}}'"""
        case Int64() | Decimal38() | NumberText():
            return f"""'{{"N":"' || {number_text(kind, value)} || '"}}'"""
        case Blob():
            return f"""'{{"B":"' || to_base64({value}) || '"}}'"""
        case Boolean():
            return f"""'{{"BOOL":' || {value}::VARCHAR || '}}'"""
        case Json():
            return f"{value}::VARCHAR"
        case Struct(fields):
            members = ", ".join(
                _member(name, field, f"{value}.{identifier(name)}", depth) for name, field in fields
            )
            return f"""'{{"M":{{' || concat_ws(',', {members}) || '}}}}'"""
        case ListOf():
            return _list_json(kind, value, depth)


def _member(name: str, kind: Type, value: str, depth: int) -> str:
    label = literal(json.dumps(name, ensure_ascii=False) + ":")
    return f"CASE WHEN {value} IS NOT NULL THEN {label} || {dynamodb_json(kind, value, depth)} END"


def _list_json(kind: ListOf, value: str, depth: int) -> str:
    x = f"x{depth}"
    match kind.tag:
        case "L":
            inner = dynamodb_json(kind.element, x, depth + 1)
        case "BS":
            inner = f"""'"' || to_base64({x}) || '"'"""
        case "NS":
            inner = f"""'"' || {number_text(kind.element, x)} || '"'"""
        case "SS":
            inner = f"to_json({x})::VARCHAR"
    listed = f"coalesce(array_to_string(list_transform({value}, lambda {x}: {inner}), ','), '')"
    return f"""'{{"{kind.tag}":[' || {listed} || ']}}'"""


def number_text(kind: Type, value: str) -> str:
    """The SQL that writes a number canonically (`lake.contract.numbers`)."""
    match kind:
        case NumberText():
            return value
        case Int64():
            return f"{value}::VARCHAR"
        case _:
            return f"_lake_number({value}::VARCHAR)"
