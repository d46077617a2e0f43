"""From lines of DynamoDB JSON to typed columns, in native code.

DuckDB reads lines as raw JSON text and never guesses a type: `lake.discover` first finds the columns, then
one SELECT extracts each attribute with the type that holds all its values. No Python object is made per row
or attribute.

DuckDB facts that this module rests on, each tried with 2.0: STRUCT fields ignore case, may not be empty, and
are cut at NUL, where JSON pointers tell names apart; an attribute that the STRUCT does not name is silently
left out (hence the discovery); extracting JSON writes it again without spaces, so a value begins with
`{"<tag>":`; the line number in DuckDB's own "Malformed JSON" message is one too high.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lake.contract.rows import SOURCE_AT, VERSION, WRITTEN_AT
from lake.discover import Found, majority
from lake.errors import DecodeError
from lake.lines import first_bad_line
from lake.types import (
    NULLS,
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

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""An item has at most 400 KB, but its JSON may be 12 times as long: {"NULL":true} counts as one byte."""

_NULL: Final = '{"NULL":true}'


def raw_lines(path: Path) -> str:
    """A spooled file as a relation with one column `json`, the raw text of each line, for use in SQL."""
    return (
        f"read_json_objects({literal(str(path))}, format = 'newline_delimited', "
        f"compression = 'uncompressed', maximum_object_size = {MAX_LINE_BYTES})"
    )


def decode_error(error: Exception, spools: Mapping[str, tuple[Path, Sequence[str]]]) -> DecodeError:
    """Says where bytes are malformed, after DuckDB found that some are.

    Args:
        error: what was found, told as it is if no line proves bad.
        spools: what to call the lines -> their file and wrappers (see `first_bad_line`), in the order in
            which to look.
    """
    for source, (path, wrappers) in spools.items():
        bad = first_bad_line(path, wrappers) if path.exists() else None
        if bad is not None:
            return DecodeError(f"line {bad[0]} of {source} is not an item in DynamoDB JSON: {bad[1]}")
    return DecodeError(f"{', '.join(spools)}: {error}")


def typed_select(found: Sequence[Found], rows: str) -> str:
    """The SELECT that turns raw lines into typed columns, ready for CREATE TABLE AS.

    The columns are those of `found` with their companions, then `_lake_version` VARCHAR, `_lake_at` BIGINT,
    `_lake_source_at` BIGINT, `_lake_nulls` VARCHAR[].

    Args:
        found: what `discover` found in the same rows.
        rows: a relation with a column `line` (JSON), as SQL.
    """
    spec: dict[str, Any] = {
        VERSION: {"S": "VARCHAR"},
        WRITTEN_AT: {"N": "BIGINT"},
        SOURCE_AT: {"N": "BIGINT"},
    }
    folded = {name.casefold() for name in spec}
    outputs: list[str] = []
    nulls: list[str] = []
    for one in found:
        column = one.column
        as_json = isinstance(column.type, Json) or column.companion is not None
        if column.attribute and "\0" not in column.attribute and column.attribute.casefold() not in folded:
            folded.add(column.attribute.casefold())
            explicit = {"NULL": "BOOLEAN"} if "NULL" in one.rows else {}
            spec[column.attribute] = "JSON" if as_json else _spec(column.type) | explicit
            value, whole = f"j.{identifier(column.attribute)}", as_json
        else:
            # A STRUCT cannot tell this name from another: a JSON pointer can.
            pointer = "/" + column.attribute.replace("~", "~0").replace("/", "~1")
            value, whole = f"json_extract(line, {literal(pointer)})", True
        outputs.append(f"{_main(one, value, whole)} AS {identifier(column.name)}")
        if column.companion is not None:
            other = f"NOT starts_with({value}, {literal(_begin(one))}) AND {value} <> '{_NULL}'"
            outputs.append(f"CASE WHEN {other} THEN {value}::JSON END AS {identifier(column.companion)}")
        if "NULL" in one.rows:
            test = f"{value} = '{_NULL}'" if whole else f'{value}."NULL"'
            nulls.append(f"CASE WHEN {test} THEN {literal(column.attribute)} END")
    listed = f"list_filter([{', '.join(nulls)}], lambda x: x IS NOT NULL)" if nulls else "NULL"
    outputs += [
        f"j.{VERSION}.S::VARCHAR AS {VERSION}",
        f"j.{WRITTEN_AT}.N::BIGINT AS {WRITTEN_AT}",
        f"j.{SOURCE_AT}.N::BIGINT AS {SOURCE_AT}",
        f"CASE WHEN len({listed}) > 0 THEN {listed} END::VARCHAR[] AS {NULLS}",
    ]
    transform = f"json_transform(line, {literal(json.dumps(spec))})"
    return f"SELECT {', '.join(outputs)} FROM (SELECT line, {transform} AS j FROM {rows})"


def _main(one: Found, value: str, whole: bool) -> str:
    """The main column of an attribute; `whole` says that `value` is its JSON text, tag included."""
    kind = one.column.type
    if isinstance(kind, Json):
        return f"CASE WHEN starts_with({value}, {literal(_begin(one))}) THEN {value}::JSON END"
    if not whole:
        return _typed(kind, value, one.plain)
    once = f"json_transform({value}, {literal(json.dumps(_spec(kind)))})"
    return f"list_transform([{once}], lambda w: {_typed(kind, 'w', one.plain)})[1]"


def _begin(one: Found) -> str:
    """How the JSON text of a value with the main type begins."""
    return '{"' + (majority(one.rows) or "S") + '":'


def _spec(kind: Type) -> Any:
    """The structure that json_transform is asked for: the tag, and beneath it the value."""
    match kind:
        case Text():
            return {"S": "VARCHAR"}
        case Int64() | Decimal38() | NumberText():
            return {"N": "VARCHAR"}
        case Blob():
            return {"B": "VARCHAR"}
        case Boolean():
            return {"BOOL": "BOOLEAN"}
        case Json():
            return "JSON"
        case ListOf("L", element):
            return {"L": [_spec(element)]}
        case ListOf(tag, _):
            return {tag: ["VARCHAR"]}
        case Struct(fields):
            return {"M": {name: _spec(inner) for name, inner in fields}}


def _typed(kind: Type, value: str, plain: bool, depth: int = 0) -> str:
    """The SQL that takes a value out of what json_transform made of it."""
    match kind:
        case Text():
            return f"{value}.S"
        case Int64() | Decimal38() | NumberText():
            return _number(kind, f"{value}.N", plain)
        case Blob():
            return f"from_base64({value}.B)"
        case Boolean():
            return f"{value}.BOOL"
        case Json():
            return f"{value}::JSON"
        case ListOf():
            return _typed_list(kind, value, plain, depth)
        case Struct(fields):
            packed = ", ".join(
                f"{identifier(name)} := {_typed(inner, f'{value}.M.{identifier(name)}', plain, depth)}"
                for name, inner in fields
            )
            return f"CASE WHEN {value}.M IS NOT NULL THEN struct_pack({packed}) END"


def _typed_list(kind: ListOf, value: str, plain: bool, depth: int) -> str:
    x = f"x{depth}"
    match kind.tag:
        case "SS":
            return f"{value}.SS"
        case "BS":
            inner = f"from_base64({x})"
        case "NS":
            inner = _number(kind.element, x, plain)
        case "L":
            inner = _typed(kind.element, x, plain, depth + 1)
    return f"list_transform({value}.{kind.tag}, lambda {x}: {inner})"


def _number(kind: Type, text: str, plain: bool) -> str:
    """A number's cast. Discovery has proved that the type holds every value, so nothing is rounded."""
    if isinstance(kind, NumberText):
        return text
    return f"CAST({text if plain else f'_lake_number({text})'} AS {duckdb_type(kind)})"
