"""Columns that grow: what an existing column must become so that new rows fit in, with nothing lost.

A refresh decodes new rows with `lake.discover` and `lake.decode`, as a full build does. So that the types come
out as the ones that hold old rows and new ones alike, discovery is given a witness beside the new rows: one item
made up from the existing columns' types, for which discovery would choose just these types. Where a column must
change, its values are converted in SQL, exactly: integer to decimal to text, element by element, and a container
whose shape is no longer one to DynamoDB JSON. A type never narrows; the next full build chooses anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import duckdb

from lake.contract.numbers import INT64_MAX
from lake.contract.rows import SOURCE_AT, VERSION, WRITTEN_AT
from lake.discover import Found, discover
from lake.stored import stored
from lake.types import (
    COMPANION_SUFFIX,
    DECIMAL_DIGITS,
    NULLS,
    Blob,
    Boolean,
    Column,
    Decimal38,
    Int64,
    Json,
    ListOf,
    NumberText,
    Struct,
    Text,
    Type,
    column_names,
    identifier,
    literal,
)

Path = tuple[str, ...]
"""Where in a column's type: field names, and `ELEMENT` for what a list holds."""

ELEMENT: Final = "[]"

_LEAST: Final[Mapping[str, Any]] = {
    "S": "", "N": "0", "B": "", "BOOL": True, "NULL": True, "M": {}, "L": [], "SS": ["x"], "NS": ["0"], "BS": ["AA=="],
}  # fmt: skip
"""The simplest value of each DynamoDB type."""


@dataclass(frozen=True, slots=True)
class Held:
    """A column that a snapshot has.

    Attributes:
        column: the column.
        main: the DynamoDB type of its main column's values; None while the attribute was only ever NULL.
    """

    column: Column
    main: str | None


def main_tag(kind: Type, stored: str | None) -> str | None:
    """The DynamoDB type of a main column's values: told by its type, but for JSON, where it was stored."""
    match kind:
        case Text():
            return "S"
        case Int64() | Decimal38() | NumberText():
            return "N"
        case Blob():
            return "B"
        case Boolean():
            return "BOOL"
        case ListOf(tag, _):
            return tag
        case Struct():
            return "M"
        case Json():
            return stored


def widened(
    con: duckdb.DuckDBPyConnection,
    table: str,
    held: Sequence[Held],
    lines: str,
    count: int,
    key: Sequence[str],
    first_seen: Mapping[str, int],
) -> tuple[Found, ...]:
    """The columns that hold the table's rows and new ones: the existing ones under their names, then new ones.

    Args:
        con: a prepared connection (`lake.discover.prepare`).
        table: the existing table, quoted.
        held: its columns, in order.
        lines: a relation of the new rows with one column `line`, as SQL.
        count: how many new rows there are.
        key: the key attributes.
        first_seen: attribute -> when it was first seen.

    Raises:
        DecodeError: a value is not DynamoDB JSON.
    """
    facts = _Facts(con, table)
    known = {one.column.attribute: one for one in held}
    mixed = {one.column.attribute for one in held if one.column.companion is not None and one.main}
    exact: set[str] = set()
    while True:
        item = {
            one.column.attribute: {one.main: _LEAST[one.main]}
            if isinstance(one.column.type, Json)
            else facts.witness(one.column, exact=one.column.attribute in exact)
            for one in held
            if one.main
        }
        item |= {one.column.attribute: {"NULL": True} for one in held if not one.main}
        rows = f"SELECT line FROM ({lines}) UNION ALL SELECT {literal(json.dumps(item))}::JSON"
        if mixed:
            # The main column's type stays what it is, even where the new rows mostly have another.
            ballast = {name: {known[name].main: _LEAST[known[name].main or ""]} for name in sorted(mixed)}
            rows += f" UNION ALL SELECT {literal(json.dumps(ballast))}::JSON FROM range({count + 1})"
        found = {one.column.attribute: one for one in discover(con, f"({rows})", key, first_seen)}
        more_mixed = {
            name
            for name, one in found.items()
            if one.column.companion is not None and name in known and known[name].main and name not in mixed
        }
        more_exact = {
            name
            for name, one in known.items()
            if one.main and name not in exact and _lost_decimals(one.column.type, found[name].column.type)
        }
        if not more_mixed and not more_exact:
            break
        mixed |= more_mixed
        exact |= more_exact
    return _named(found, held, first_seen)


class _Facts:
    """What the types alone do not tell of a table's values; asked for only where it matters."""

    def __init__(self, con: duckdb.DuckDBPyConnection, table: str) -> None:
        self._con, self._table = con, table

    def witness(self, column: Column, *, exact: bool) -> dict[str, Any]:
        """A value for which discovery chooses the column's type, but for what `_keep_json` sees to.

        Args:
            column: the column.
            exact: whether to look how many digits its decimals really have before the point. Otherwise they
                are taken to have as many as the type holds.
        """
        name = stored(column.name)
        facts: dict[Path, Any] = {}
        if exact:
            for path, digits in _places(column.type, name, Decimal38):
                facts[path] = self._first(f"SELECT max({digits}) FROM {self._table}") or 0
        for path, text in _places(column.type, name, Json):
            found = self._first(f"SELECT {text} FROM {self._table} WHERE {text} IS NOT NULL LIMIT 1")
            facts[path] = next(iter(json.loads(found))) if found else "M"
        return _witness(column.type, facts, ())

    def _first(self, query: str) -> Any:
        row = self._con.execute(query).fetchone()
        return row[0] if row else None


def _witness(kind: Type, facts: Mapping[Path, Any], path: Path) -> dict[str, Any]:
    match kind:
        case Int64() | Decimal38() | NumberText():
            return {"N": _number(kind, facts.get(path))}
        case Struct(fields):
            return {"M": {name: _witness(field, facts, (*path, name)) for name, field in fields}}
        case ListOf("L", element):
            return {"L": [_witness(element, facts, (*path, ELEMENT))]}
        case ListOf("NS", element):
            return {"NS": [_number(element, facts.get((*path, ELEMENT)))]}
        case _:
            tag = main_tag(kind, facts.get(path)) or "S"
            return {tag: _LEAST[tag]}


def _number(kind: Type, digits: int | None) -> str:
    """A number that needs the type; with so many digits before the point, or as many as the type holds."""
    match kind:
        case NumberText():
            return f"1{'0' * DECIMAL_DIGITS}"
        case Decimal38(scale):
            digits = DECIMAL_DIGITS - scale if digits is None else digits
            whole = "9" * digits or "0"
            return f"{whole}.{'1' * scale}" if scale else whole
        case _:
            fits = digits is not None and digits < len(str(INT64_MAX))
            return ("9" * (digits or 0) or "0") if fits else str(INT64_MAX)


def _places(
    kind: Type, value: str, wanted: type[Decimal38 | Json], path: Path = (), depth: int = 0
) -> Iterator[tuple[Path, str]]:
    """Each place of a type that holds numbers, or JSON, with SQL that tells of it for one row.

    For numbers (`wanted` is Decimal38) it gives how many digits they have before the point at most; for JSON the
    first text that is not NULL.
    """
    x = f"x{depth}"
    match kind:
        case Int64() | Decimal38() if wanted is Decimal38:
            yield path, f"length(ltrim(split_part({value}::VARCHAR, '.', 1), '-0'))"
        case Json() if wanted is Json:
            yield path, f"{value}::VARCHAR"
        case Struct(fields):
            for name, field in fields:
                inner = f"{value}.{identifier(name)}"
                yield from _places(field, inner, wanted, (*path, name), depth)
        case ListOf(_, element):
            for below, expression in _places(element, x, wanted, (*path, ELEMENT), depth + 1):
                listed = f"list_transform({value}, lambda {x}: {expression})"
                if wanted is Decimal38:
                    yield below, f"list_max({listed})"
                else:
                    yield below, f"list_filter({listed}, lambda {x}: {x} IS NOT NULL)[1]"


def _lost_decimals(old: Type, new: Type) -> bool:
    """Whether numbers would become text; perhaps they need not, if they have fewer digits than their type holds."""
    match old, new:
        case ((Int64() | Decimal38()), NumberText()):
            return True
        case ListOf(_, inner), ListOf(_, outer):
            return _lost_decimals(inner, outer)
        case Struct(fields), Struct(more):
            now = dict(more)
            return any(name in now and _lost_decimals(field, now[name]) for name, field in fields)
    return False


def _keep_json(old: Type, new: Type) -> Type:
    """What is JSON stays JSON: old values have no one shape, though the new ones may."""
    match old, new:
        case Json(), _:
            return old
        case ListOf(tag, inner), ListOf(other, outer) if tag == other:
            return ListOf(tag, _keep_json(inner, outer))
        case Struct(fields), Struct(more):
            have = dict(fields)
            return Struct(
                tuple(
                    (name, _keep_json(have[name], field) if name in have else field) for name, field in more
                )
            )
    return new


def _named(
    found: Mapping[str, Found], held: Sequence[Held], first_seen: Mapping[str, int]
) -> tuple[Found, ...]:
    """Existing columns keep their names and order; a newcomer never takes one that is in use."""
    taken = [VERSION, WRITTEN_AT, SOURCE_AT, NULLS]
    for one in held:
        taken += [name for name in (one.column.name, one.column.companion) if name is not None]
    known = {one.column.attribute: one for one in held}
    fresh = sorted((n for n in found if n not in known), key=lambda name: (first_seen.get(name, 2**63), name))
    names = {**{name: one.column.name for name, one in known.items()}, **column_names(fresh, taken)}
    taken += names.values()
    unpaired = [
        name
        for name, one in found.items()
        if one.column.companion is not None and (name not in known or known[name].column.companion is None)
    ]
    companions = column_names((names[name] + COMPANION_SUFFIX for name in unpaired), taken)
    columns = []
    for name in [*known, *fresh]:
        column = found[name].column
        old = known[name].column if name in known else None
        companion = old.companion if old is not None else None
        if name in unpaired:
            companion = companions[names[name] + COMPANION_SUFFIX]
        kind = _keep_json(old.type, column.type) if old is not None and known[name].main else column.type
        columns.append(replace(found[name], column=Column(name, names[name], kind, companion)))
    return tuple(columns)
