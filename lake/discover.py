"""Which attributes rows have, of which types, and which column holds them all.

It looks at every attribute of every row, so a late or rare one is never missed; containers are looked into
level by level, as far as their shape stays stable. Everything is counted in DuckDB; Python sees one object
for each distinct attribute and type.

DuckDB facts that this module rests on, each tried with 2.0: a duplicate key turns a whole MAP to NULL;
extracting JSON writes it again without spaces, so a value begins with `{"<tag>":`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb

from lake.contract.catalogue import TAGS
from lake.contract.rows import RESERVED_PREFIX, SOURCE_AT, VERSION, WRITTEN_AT
from lake.errors import DecodeError
from lake.shape import MAX_FIELDS, Places, Seen, main_type, majority, plain, settled, stable
from lake.types import COMPANION_SUFFIX, NULLS, Column, column_names

__all__ = ["Found", "discover", "look", "majority", "prepare", "settle"]

MAX_DEPTH: Final = 8
"""Containers within containers up to here are typed, deeper ones are JSON: at 31 levels DuckDB needs seconds
to bind one expression, and nobody writes such a path."""

_PLAIN_NUMBER: Final = r"-?(0|[1-9][0-9]*)([.][0-9]*[1-9])?"
NUMBER: Final = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?"
_NUMBER_PARTS: Final = r"^[+-]?([0-9]*)[.]?([0-9]*)(?:[eE]([+-]?[0-9]+))?$"

_MACROS: Final = (
    """CREATE OR REPLACE TEMP MACRO _lake_placed(digits, e) AS
       CASE WHEN e >= 0 THEN digits || repeat('0', e)
            WHEN -e < length(digits) THEN left(digits, length(digits) + e) || '.' || right(digits, -e)
            ELSE '0.' || repeat('0', -e - length(digits)) || digits END""",
    """CREATE OR REPLACE TEMP MACRO _lake_significant(sign, digits, e) AS
       CASE WHEN digits = '' THEN '0'
            ELSE sign || _lake_placed(rtrim(digits, '0'), e + length(digits) - length(rtrim(digits, '0')))
            END""",
    f"""CREATE OR REPLACE TEMP MACRO _lake_number(t) AS
       CASE WHEN regexp_full_match(t, '{_PLAIN_NUMBER}') AND t <> '-0' THEN t
            ELSE list_transform(
                [regexp_extract(t, '{_NUMBER_PARTS}', ['i', 'f', 'e'])],
                lambda m: _lake_significant(
                    CASE WHEN starts_with(t, '-') THEN '-' ELSE '' END,
                    ltrim(m.i || m.f, '0'),
                    coalesce(try_cast(m.e AS INTEGER), 0) - length(m.f)))[1] END""",
)
"""`lake.contract.numbers.canonical_number` in DuckDB's SQL; a test compares the two."""

# The tag of an attribute value `v`, NULL where it is not one: JSON text without spaces, exactly one key.
_TAG: Final = """CASE WHEN len(json_keys(v)) IS DISTINCT FROM 1 THEN NULL
    WHEN starts_with(v, '{"S":"') THEN 'S' WHEN starts_with(v, '{"N":"') THEN 'N'
    WHEN starts_with(v, '{"M":{') THEN 'M' WHEN starts_with(v, '{"L":[') THEN 'L'
    WHEN v IN ('{"BOOL":true}', '{"BOOL":false}') THEN 'BOOL' WHEN v = '{"NULL":true}' THEN 'NULL'
    WHEN starts_with(v, '{"B":"') THEN 'B'
    ELSE CASE json_structure(v) WHEN '{"SS":["VARCHAR"]}' THEN 'SS' WHEN '{"SS":["NULL"]}' THEN 'SS'
        WHEN '{"NS":["VARCHAR"]}' THEN 'NS' WHEN '{"NS":["NULL"]}' THEN 'NS'
        WHEN '{"BS":["VARCHAR"]}' THEN 'BS' WHEN '{"BS":["NULL"]}' THEN 'BS' END END"""

# A JSON object's members; a duplicate key makes the map NULL, which must not pass for an empty object.
_MEMBERS: Final = "unnest(coalesce(map_entries({map}), [{{'key': NULL, 'value': NULL}}]))"

MAX_OPENED_BYTES: Final = 64 * 1024
"""A container with a longer JSON text is not looked into, and its column is JSON: DuckDB takes 2,048 values of
a table at a time, which at 400 KB each would not fit the memory limit."""

# What later looks need of a value: a number's text, a container's JSON, nothing else.
_KEPT: Final = f"""CASE WHEN tag = 'N' THEN json_extract_string(v, '/N')
    WHEN tag IN ('M', 'L', 'NS') AND strlen(v) <= {MAX_OPENED_BYTES} THEN v::VARCHAR END"""


@dataclass(frozen=True, slots=True)
class Found:
    """An attribute as found in the rows, and the column it gets.

    Attributes:
        column: where it lives.
        rows: type tag -> number of rows that have it.
        plain: whether all its numbers are written canonically, so that they can be cast as they are.
    """

    column: Column
    rows: Mapping[str, int]
    plain: bool


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Gives a connection what `discover` and the SELECT of `lake.decode` need."""
    for macro in _MACROS:
        con.execute(macro)


def discover(
    con: duckdb.DuckDBPyConnection,
    rows: str,
    key: Sequence[str],
    first_seen: Mapping[str, int] | None = None,
    key_types: Mapping[str, str] | None = None,
) -> tuple[Found, ...]:
    """Looks at every attribute of every row, and gives each the column that holds all its values.

    Args:
        con: a prepared connection.
        rows: a relation with a column `line` (JSON), as SQL.
        key: the key attributes; their columns come first.
        first_seen: attribute -> when it was first seen; among names that clash by case the oldest keeps its
            own, so that a newcomer never renames a column.
        key_types: key attribute -> S, N or B, for a table without rows.

    Raises:
        DecodeError: a value is not DynamoDB JSON.
    """
    return tuple(
        Found(
            Column(one.column.attribute, one.column.name, settled(one.column.type), one.column.companion),
            one.rows,
            one.plain,
        )
        for one in settle(look(con, rows), key, first_seen, key_types)
    )


def settle(
    places: Places,
    key: Sequence[str],
    first_seen: Mapping[str, int] | None = None,
    key_types: Mapping[str, str] | None = None,
) -> tuple[Found, ...]:
    """Gives each attribute of a tree the column that holds all its values; see `discover`.

    Containers that were always empty are marked so in the columns' types (`lake.shape.Empty`).
    """
    for name in key:
        if name not in places:
            places[name] = {(key_types or {}).get(name, "S"): Seen()}
    ordered = [*key, *sorted(name for name in places if name not in key)]
    age = first_seen or {}
    by_age = sorted(places, key=lambda name: (name not in key, age.get(name, 2**63), name))
    names = column_names(by_age, (VERSION, WRITTEN_AT, SOURCE_AT, NULLS))
    mixed = [name for name in by_age if len(places[name].keys() - {"NULL"}) > 1]
    taken = (VERSION, WRITTEN_AT, SOURCE_AT, NULLS, *names.values())
    companions = column_names((names[name] + COMPANION_SUFFIX for name in mixed), taken)
    found = []
    for name in ordered:
        kinds = places[name]
        companion = companions[names[name] + COMPANION_SUFFIX] if name in mixed else None
        column = Column(name, names[name], main_type(kinds), companion)
        counts: dict[str, int] = {tag: kinds[tag].rows for tag in TAGS if tag in kinds}
        found.append(Found(column, counts, all(plain(seen) for seen in kinds.values())))
    return tuple(found)


def look(con: duckdb.DuckDBPyConnection, rows: str) -> Places:
    """Looks at every attribute of every row, one level of containers at a time.

    Args:
        con: a prepared connection.
        rows: a relation with a column `line` (JSON), as SQL.

    Raises:
        DecodeError: a value is not DynamoDB JSON.
    """
    members = _MEMBERS.format(map="""json_transform(line, '"MAP(VARCHAR, JSON)"')""")
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE _lake_level AS
            SELECT 0 AS parent, name, tag, {_KEPT} AS value FROM (
                SELECT e.key AS name, e.value AS v, {_TAG} AS tag FROM (SELECT {members} AS e FROM {rows})
                WHERE name IS NULL OR NOT starts_with(name, '{RESERVED_PREFIX}'))"""
    )
    root = Seen(node=0)
    opened = {0: root}
    for depth in range(MAX_DEPTH + 2):
        _read_level(con, opened)
        places = [
            (parent.node, name, tag, seen)
            for parent in opened.values()
            if parent is root or stable(parent)
            for name, kinds in parent.places.items()
            for tag, seen in kinds.items()
        ]
        for _, _, tag, seen in places:
            seen.large = seen.large or (tag in ("M", "L") and depth >= MAX_DEPTH)
        children = [place for place in places if place[2] in ("M", "L", "NS") and not place[3].large]
        if not children:
            break
        opened = {}
        for node, (_, _, _, seen) in enumerate(children, 1):
            seen.node = node
            opened[node] = seen
        _descend(con, [(parent, name, tag, seen.node) for parent, name, tag, seen in children])
    con.execute("DROP TABLE IF EXISTS _lake_level")
    return root.places


def _read_level(con: duckdb.DuckDBPyConnection, opened: Mapping[int, Seen]) -> None:
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE _lake_seen AS
        SELECT parent, name, tag, count(*) AS rows,
            coalesce(bool_and(plain), true) AS plain,
            bool_or(tag IN ('M', 'L', 'NS') AND value IS NULL) AS large,
            coalesce(max(CASE WHEN number IS NULL THEN 0
                ELSE length(ltrim(split_part(number, '.', 1), '-0')) END), 0) AS digits,
            coalesce(max(length(split_part(number, '.', 2))), 0) AS scale,
            coalesce(bool_and(NOT contains(number, '.') AND try_cast(number AS BIGINT) IS NOT NULL), true)
                AS int64,
            coalesce(bool_and(regexp_full_match(value, '{NUMBER}')) FILTER (tag = 'N'), true) AS valid
        FROM (SELECT *, CASE WHEN tag = 'N' THEN _lake_number(value) END AS number,
                  CASE WHEN tag = 'N' THEN number = value END AS plain FROM _lake_level)
        GROUP BY parent, name, tag"""
    )
    bad = con.execute(
        "SELECT name FROM _lake_seen WHERE tag IS NULL OR name IS NULL OR NOT valid LIMIT 1"
    ).fetchall()
    if bad:
        raise DecodeError(
            f"the attribute {bad[0][0]!r} has a value that is not a DynamoDB value, or occurs twice"
        )
    wide = con.execute(
        f"SELECT parent FROM _lake_seen GROUP BY parent HAVING parent > 0 AND count(DISTINCT name) > {MAX_FIELDS}"
    ).fetchall()
    for (parent,) in wide:
        opened[parent].wide = True
    seen = con.execute(
        """SELECT parent, name, tag, rows, digits, scale, int64, plain, large FROM _lake_seen
        WHERE parent NOT IN (SELECT unnest($1::INTEGER[])) ORDER BY parent, name, tag""",
        [[parent for (parent,) in wide]],
    ).fetchall()
    for parent, name, tag, *facts in seen:
        opened[parent].places.setdefault(name, {})[tag] = Seen(*facts)


def _descend(
    con: duckdb.DuckDBPyConnection, children: Sequence[tuple[int | None, str, str, int | None]]
) -> None:
    """Replaces the level by the members of its containers that are to be opened."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE _lake_open (parent INTEGER, name VARCHAR, tag VARCHAR, node INTEGER)"
    )
    con.executemany("INSERT INTO _lake_open VALUES (?, ?, ?, ?)", children)
    fields = _MEMBERS.format(map="""json_transform(value, '{"M":"MAP(VARCHAR, JSON)"}').M""")
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE _lake_next AS
        WITH opening AS (
            SELECT node, tag, value FROM _lake_level JOIN _lake_open USING (parent, name, tag)),
        members AS (
            SELECT node, e.key AS name, e.value AS v FROM (
                SELECT node, {fields} AS e FROM opening WHERE tag = 'M')
            UNION ALL
            SELECT node, '' AS name, unnest(json_transform(value, '{{"L":["JSON"]}}').L) AS v
            FROM opening WHERE tag = 'L')
        SELECT node AS parent, name, tag, {_KEPT} AS value FROM (SELECT *, {_TAG} AS tag FROM members)
        UNION ALL
        SELECT node, '', 'N', unnest(json_transform(value, '{{"NS":["VARCHAR"]}}').NS)
        FROM opening WHERE tag = 'NS'"""
    )
    con.execute("DROP TABLE _lake_level")
    con.execute("ALTER TABLE _lake_next RENAME TO _lake_level")
