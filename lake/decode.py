"""From DynamoDB JSON to typed columns, in native code.

DuckDB reads the JSON and never guesses a type: `lake.discover` finds the columns, then one SELECT extracts each
attribute with the type that holds its values. No Python object is made per row or attribute.

Two ways in: `typed_select` for lines whose every row was discovered, and `typed_read` for files of which only some
rows were looked at. The second is twice as fast, as nothing is parsed twice, and gives NULL for whatever does not
fit its column exactly; `lake.account` then tells whether anything was left behind. Only an integer that does not fit
is an error there: DuckDB's reader makes integers of texts itself, which is cheapest, and refuses all others.

DuckDB facts that this module rests on, each tried with 2.0: STRUCT fields and columns ignore case among themselves,
may not be empty, and are cut at NUL, but match JSON names exactly; an attribute that they do not name is silently
left out; a cast to BIGINT or DECIMAL rounds, but the reader refuses to make a BIGINT of "1.7", "1e3", "007" or "+5";
extracting JSON writes it again without spaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lake.contract.rows import DELETED, EXPIRES, SOURCE_AT, VERSION, WRITTEN_AT
from lake.discover import NUMBER, Found, majority
from lake.errors import DecodeError
from lake.lines import first_bad_line
from lake.parts import Part
from lake.shape import Empty
from lake.stored import stored
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

METADATA: Final[Mapping[str, tuple[str, str]]] = {
    VERSION: ("S", "VARCHAR"),
    WRITTEN_AT: ("N", "BIGINT"),
    SOURCE_AT: ("N", "BIGINT"),
}
"""dynalake's own attributes of a row -> type tag, column type."""

MARKS: Final[Mapping[str, tuple[str, str]]] = {DELETED: ("S", "VARCHAR"), EXPIRES: ("N", "BIGINT")}
"""Those of a tombstone, which a table has only while it is built."""

BLOCK: Final = "_lake_block"
"""The column that tells which block a row came from, while a table is built."""

_BEGINS: Final[Mapping[str, str]] = dict.fromkeys(("S", "N", "B"), '"') | {"M": "{"}


def raw_lines(path: Path) -> str:
    """A spooled file as a relation with one column `json`, the raw text of each line, for use in SQL."""
    return _objects([path], "newline_delimited")


def raw_rows(part: Part) -> str:
    """A part's rows as a relation with columns `line`, the JSON of each item, and `_lake_block`, for use in SQL."""
    line = "json" if part.wrapper is None else f"json_extract(json, {literal('/' + part.wrapper)})"
    return f"(SELECT {line} AS line, {_block(part)} FROM {_objects(part.files, part.format)})"


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


def typed_select(found: Sequence[Found], rows: str, more: str = "") -> str:
    """The SELECT that turns raw lines into typed columns, ready for CREATE TABLE AS.

    The columns are those of `found` with their companions, under their stored names (`lake.stored`), then
    `_lake_version` VARCHAR, `_lake_at` BIGINT, `_lake_source_at` BIGINT, `_lake_nulls` VARCHAR[].

    Args:
        found: what `discover` found in the same rows.
        rows: a relation with a column `line` (JSON), as SQL.
        more: further columns, as SQL.
    """
    values, source = _from_lines(found, rows, METADATA)
    outputs = [*_outputs(found, values, METADATA, exact=True), *([more] if more else [])]
    return f"SELECT {', '.join(outputs)} FROM {source}"


def typed_lines(found: Sequence[Found], rows: str) -> str:
    """Like `typed_read`, with the item's JSON as the column `_lake_line`; slower, as everything is parsed twice.

    An integer that does not fit is NULL.

    Args:
        found: the columns.
        rows: a relation with a column `line` (JSON), as SQL.
    """
    own = {**METADATA, **MARKS}
    values, source = _from_lines(found, rows, own)
    outputs = _outputs(found, values, own, exact=False)
    return f"SELECT _lake_j.line AS _lake_line, {', '.join(outputs)} FROM {source}"


def typed_read(found: Sequence[Found], part: Part) -> str:
    """The SELECT that reads a part into the columns of `typed_select`, `_lake_deleted`, `_lake_expires`, `_lake_block`.

    What does not fit exactly is NULL, and what `found` does not name is left out; but an integer that does not fit
    is an error of DuckDB (InvalidInputException).
    """
    own = {**METADATA, **MARKS}
    names = {name.casefold() for name in _named(found)}
    if len(names) < len(found) + len(own) or _FILE_INDEX in names:
        values, source = _from_lines(found, raw_rows(part), own)
        outputs = _outputs(found, values, own, exact=False)
    else:
        values, source = _from_columns(found, part, own)
        outputs = _outputs(found, values, own, exact=False, direct=True)
    return f"SELECT {', '.join(outputs)}, _lake_j.{BLOCK} FROM {source}"


_FILE_INDEX: Final = "file_index"
"""DuckDB's own column of files that are read together: a file's place in the list, from 0."""


def _block(part: Part, prefix: str = "") -> str:
    numbers = ", ".join(str(block.number) for block in part.blocks)
    return f"[{numbers}][{prefix}{_FILE_INDEX}::INTEGER + 1] AS {BLOCK}"


def _objects(files: Sequence[Path], format_: str) -> str:
    listed = ", ".join(literal(str(file)) for file in files)
    return (
        f"read_json_objects([{listed}], format = '{format_}', compression = 'uncompressed', "
        f"maximum_object_size = {MAX_LINE_BYTES})"
    )


def _named(found: Sequence[Found]) -> list[str]:
    """The names that a STRUCT or a column can have, dynalake's own included."""
    names = [
        one.column.attribute for one in found if one.column.attribute and "\0" not in one.column.attribute
    ]
    return [*names, *METADATA, *MARKS]


def _from_lines(
    found: Sequence[Found], rows: str, own: Mapping[str, tuple[str, str]]
) -> tuple[Mapping[str, str], str]:
    """The attributes' values, and the relation that they are columns of; lines are parsed for it."""
    spec: dict[str, Any] = {name: {tag: "VARCHAR"} for name, (tag, _) in own.items()}
    values = {name: f"_lake_j.j.{identifier(name)}" for name in own}
    folded = {name.casefold() for name in (*METADATA, *MARKS)}
    apart = []
    for number, one in enumerate(found):
        name = one.column.attribute
        if name and "\0" not in name and name.casefold() not in folded:
            folded.add(name.casefold())
            spec[name] = _tags(one)
            values[name] = f"_lake_j.j.{identifier(name)}"
        else:
            # A STRUCT cannot tell this name from another: a JSON pointer can.
            pointer = "/" + name.replace("~", "~0").replace("/", "~1")
            found_there = f"json_extract(line, {literal(pointer)})"
            apart.append(f"json_transform({found_there}, {literal(json.dumps(_tags(one)))}) AS v{number}")
            values[name] = f"_lake_j.v{number}"
    transformed = f"json_transform(line, {literal(json.dumps(spec))}) AS j"
    return values, f"(SELECT *, {', '.join([transformed, *apart])} FROM {rows}) AS _lake_j"


def _from_columns(
    found: Sequence[Found], part: Part, own: Mapping[str, tuple[str, str]], *, direct: bool = True
) -> tuple[Mapping[str, str], str]:
    """The attributes' values, and the relation that they are columns of; DuckDB's reader makes them at once."""
    specs: dict[str, Any] = {one.column.attribute: _tags(one, direct=direct) for one in found}
    names = {name: stored(name) for name in specs} | {name: name for name in own}
    specs |= {name: {tag: kind} for name, (tag, kind) in own.items()}
    prefix = "_lake_file."
    columns = specs
    if part.wrapper is not None:
        prefix += f"{identifier(part.wrapper)}."
        columns = {part.wrapper: specs}
    listed = ", ".join(f"{literal(name)}: {literal(_sql_type(spec))}" for name, spec in columns.items())
    files = ", ".join(literal(str(file)) for file in part.files)
    # The reader's columns have the attributes' own names, which would shadow the parameters of our lambdas.
    renamed = ", ".join(f"{prefix}{identifier(name)} AS {own_name}" for name, own_name in names.items())
    source = (
        f"(SELECT {renamed}, {_block(part, '_lake_file.')} FROM "
        f"read_json([{files}], format = '{part.format}', records = 'true', compression = 'uncompressed', "
        f"maximum_object_size = {MAX_LINE_BYTES}, columns = {{{listed}}}) AS _lake_file) AS _lake_j"
    )
    return {name: f"_lake_j.{own_name}" for name, own_name in names.items()}, source


def _sql_type(spec: Any) -> str:
    match spec:
        case str():
            return spec
        case [element]:
            return f"{_sql_type(element)}[]"
        case _:
            fields = ", ".join(f"{identifier(name)} {_sql_type(inner)}" for name, inner in spec.items())
            return f"STRUCT({fields})"


def _outputs(
    found: Sequence[Found],
    values: Mapping[str, str],
    own: Mapping[str, tuple[str, str]],
    *,
    exact: bool,
    direct: bool = False,
) -> list[str]:
    """The columns' expressions.

    Args:
        found: the attributes.
        values: where their values are.
        own: dynalake's own attributes.
        exact: whether it is proved that every value fits its column, so that none needs to be looked at.
        direct: whether integers were extracted as such, see `_tags`.
    """
    outputs: list[str] = []
    nulls: list[str] = []
    for one in found:
        column, value = one.column, values[one.column.attribute]
        tag = majority(one.rows) or "S"
        main = (
            _whole(tag, value, empty=isinstance(column.type, Empty))
            if isinstance(column.type, Json)
            else _typed(column.type, value, _How(one.plain, exact, direct and one.plain))
        )
        outputs.append(f"{main} AS {stored(column.name)}")
        if column.companion is not None:
            others = [_whole(other, value) for other in one.rows if other not in (tag, "NULL")]
            outputs.append(f"coalesce({', '.join(others or ['NULL::JSON'])}) AS {stored(column.companion)}")
        if "NULL" in one.rows:
            nulls.append(f"""CASE WHEN {value}."NULL" = 'true' THEN {literal(column.attribute)} END""")
    for name, (tag, kind) in own.items():
        text = f"{values[name]}.{identifier(tag)}"
        how = _How(plain=True, exact=exact, direct=direct)
        outputs.append(f"{text if kind == 'VARCHAR' else _number(Int64(), text, how)} AS {name}")
    outputs.insert(len(outputs) - len(own) + len(METADATA), f"{_null_names(nulls)} AS {NULLS}")
    return outputs


def _null_names(nulls: Sequence[str]) -> str:
    """The names of a row's explicit NULLs, NULL where there are none."""
    if not nulls:
        return "NULL::VARCHAR[]"
    if len(nulls) == 1:
        return f"CASE WHEN {nulls[0]} IS NOT NULL THEN [{nulls[0]}] END"
    listed = f"list_filter([{', '.join(nulls)}], lambda x: x IS NOT NULL)"
    return f"CASE WHEN coalesce({', '.join(nulls)}) IS NOT NULL THEN {listed} END"


def _tags(one: Found, *, direct: bool = False) -> dict[str, Any]:
    """What to extract of an attribute: the tag of its main type as that, others as JSON.

    Args:
        one: the attribute.
        direct: whether integers are to be extracted as such and not as texts, if all of them seen were canonical.
    """
    kind, tag = one.column.type, majority(one.rows) or "S"
    direct = direct and one.plain
    spec: dict[str, Any] = {tag: "JSON"} if isinstance(kind, Json) else dict(_spec(kind, direct))
    spec |= {other: "JSON" for other in one.rows if other not in (tag, "NULL")}
    return spec | ({"NULL": "VARCHAR"} if "NULL" in one.rows else {})


def _whole(tag: str, value: str, *, empty: bool = False) -> str:
    """A value as DynamoDB JSON, if it has this tag and what is beneath it looks like it."""
    text = f"{value}.{identifier(tag)}"
    if empty:
        fits = f"{text} IN ('{{}}', '[]')"
    elif tag == "BOOL":
        fits = f"{text} IN ('true', 'false')"
    else:
        fits = f"starts_with({text}, '{_BEGINS.get(tag, '[')}')"
    return f"""CASE WHEN {fits} THEN ('{{"{tag}":' || {text}::VARCHAR || '}}')::JSON END"""


def _spec(kind: Type, direct: bool) -> Any:
    """The structure to extract: the tag, and beneath it the value."""
    match kind:
        case Text():
            return {"S": "VARCHAR"}
        case Int64() | Decimal38() | NumberText():
            return {"N": _number_spec(kind, direct)}
        case Blob():
            return {"B": "VARCHAR"}
        case Boolean():
            return {"BOOL": "VARCHAR"}
        case Json():
            return "JSON"
        case ListOf("L", element):
            return {"L": [_spec(element, direct)]}
        case ListOf("NS", element):
            return {"NS": [_number_spec(element, direct)]}
        case ListOf(tag, _):
            return {tag: ["VARCHAR"]}
        case Struct(fields):
            return {"M": {name: _spec(inner, direct) for name, inner in fields}}


def _number_spec(kind: Type, direct: bool) -> str:
    return "BIGINT" if direct and isinstance(kind, Int64) else "VARCHAR"


@dataclass(frozen=True, slots=True)
class _How:
    """How numbers are taken out of what was extracted.

    Attributes:
        plain: whether all that were seen are canonical texts.
        exact: whether it is proved that the type holds each exactly; if not, what it does not hold becomes NULL.
        direct: whether integers were extracted as such.
    """

    plain: bool
    exact: bool
    direct: bool


def _typed(kind: Type, value: str, how: _How, depth: int = 0) -> str:
    """The SQL that takes a value out of what was extracted."""
    match kind:
        case Text():
            return f"{value}.S"
        case Int64() | Decimal38() | NumberText():
            return _number(kind, f"{value}.N", how)
        case Blob():
            return f"from_base64({value}.B)"
        case Boolean():
            return f"CASE {value}.BOOL WHEN 'true' THEN true WHEN 'false' THEN false END"
        case Empty():
            return f"""CASE WHEN {value} IN ('{{"M":{{}}}}', '{{"L":[]}}') THEN {value}::JSON END"""
        case Json():
            return f"{value}::JSON"
        case ListOf():
            return _typed_list(kind, value, how, depth)
        case Struct(fields):
            packed = ", ".join(
                f"{identifier(name)} := {_typed(inner, f'{value}.M.{identifier(name)}', how, depth)}"
                for name, inner in fields
            )
            return f"CASE WHEN {value}.M IS NOT NULL THEN struct_pack({packed}) END"


def _typed_list(kind: ListOf, value: str, how: _How, depth: int) -> str:
    x = f"x{depth}"
    match kind.tag:
        case "SS":
            inner = x
        case "BS":
            inner = f"from_base64({x})"
        case "NS":
            inner = _number(kind.element, x, how)
        case "L":
            inner = _typed(kind.element, x, how, depth + 1)
    if inner == x:
        return f"{value}.{kind.tag}"
    return f"list_transform({value}.{kind.tag}, lambda {x}: {inner})"


def _number(kind: Type, text: str, how: _How) -> str:
    """A number's cast; where it is not proved that the type holds it exactly, NULL for what it does not hold."""
    if how.direct and isinstance(kind, Int64):
        return text
    canonical = text if how.plain else f"_lake_number({text})"
    if how.exact:
        return text if isinstance(kind, NumberText) else f"CAST({canonical} AS {duckdb_type(kind)})"
    match kind:
        case NumberText():
            fits, number = f"regexp_full_match({text}, '{NUMBER}')", text
        case Int64():
            number = f"TRY_CAST({canonical} AS BIGINT)"
            fits = f"{number}::VARCHAR = {canonical}"
        case Decimal38(scale):
            number = f"TRY_CAST({canonical} AS {duckdb_type(kind)})"
            decimals = f"([.][0-9]{{1,{scale}}})?" if scale else ""
            fits = f"regexp_full_match({canonical}, '-?[0-9]+{decimals}')"
        case _:
            raise AssertionError(kind)
    if not how.plain:
        fits = f"regexp_full_match({text}, '{NUMBER}') AND {fits}"
    return f"CASE WHEN {fits} THEN {number} END"
