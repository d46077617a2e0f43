"""A named query as the text of another engine, its parameters written as literals.

Hive has no bound parameters, so a value becomes part of the text; it passes `queries.ddl.identifiers`, which
leaves nothing in a literal that an engine, a client or Hive's `${...}` substitution could take for more. In
Athena's SQL, which is Trino's, a literal has no escapes at all: a quote is doubled, and the rest stands for itself.

A snapshot keeps the rows with dynalake's metadata as `_lake.<table>`; elsewhere that is the view `_lake_<table>`
beside the analyst's one (`queries.ddl.view`), and the translation says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal, get_args

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from queries.ddl.identifiers import string_literal
from queries.ddl.view import WITH_METADATA
from queries.errors import EngineError
from queries.named import NamedQuery
from queries.parameters import Value, bound

Dialect = Literal["hive", "spark", "athena"]

_METADATA_SCHEMA: Final = "_lake"
_COUNTING: Final = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile)


def transpile(query: NamedQuery, dialect: Dialect, params: Mapping[str, object] | None = None) -> str:
    """The query as Hive's, Spark's or Athena's text.

    Every identifier is quoted, since the engines do not reserve the same words, and every ORDER BY says
    where NULLs go, since their defaults differ, even between Hive 3 and Hive 4 (`hive.default.nulls.last`).

    Args:
        query: from `load_query`.
        dialect: whose text.
        params: values by name; what is missing takes its default.

    Raises:
        ParameterError: a parameter is missing, unknown or ill-typed.
        EngineError: the query cannot be parsed, or the dialect has no way to say it.
    """
    if dialect not in get_args(Dialect):
        raise EngineError(f"the dialect {dialect!r} is not known: {', '.join(get_args(Dialect))}")
    values = bound(query.name, query.parameters, params)
    try:
        tree = sqlglot.parse_one(query.sql, read="duckdb")
        tree = tree.transform(
            lambda node: literal(values[node.name], dialect) if isinstance(node, exp.Placeholder) else node
        )
        for table in tree.find_all(exp.Table):
            if table.db == _METADATA_SCHEMA:
                table.set("db", None)
                table.set("this", exp.to_identifier(f"{WITH_METADATA}{table.name}"))
        if dialect != "athena":
            _count_from_one(tree)
            _widen(tree)
        else:
            _divide_integers(tree)
            _keep_elements_whole(tree)
        _look_beyond(tree, dialect)
        # Inner ones first: an outer one's text contains them.
        for ordered in reversed(list(tree.find_all(exp.Ordered))):
            direction = "DESC" if ordered.args.get("desc") else "ASC"
            nulls = "FIRST" if ordered.args.get("nulls_first") else "LAST"
            ordered.replace(exp.Var(this=f"{_text(ordered.this, dialect)} {direction} NULLS {nulls}"))
        return _text(tree, dialect)
    except SqlglotError as error:
        raise EngineError(f"the query {query.name!r} cannot be said in {dialect}: {error}") from error


def literal(value: Value, dialect: Dialect = "hive") -> exp.Expression:
    """The value as a literal, typed where the type is not plain from the text."""
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, int):
        # In brackets when negative: `a - -1` would begin a comment if the blank went missing.
        return exp.Var(this=str(value) if value >= 0 else f"({value})")
    if isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        scale = max(-int(exponent), 0)
        return exp.Var(this=f"CAST('{value:f}' AS DECIMAL({max(len(digits), scale, 1)},{scale}))")
    if isinstance(value, datetime):
        # What DuckDB calls TIMESTAMP has no zone; Spark's TIMESTAMP has the session's.
        kind = "TIMESTAMP_NTZ" if dialect == "spark" else "TIMESTAMP"
        return exp.Var(this=f"CAST('{value.isoformat(sep=' ')}' AS {kind})")
    if isinstance(value, date):
        return exp.Var(this=f"CAST('{value.isoformat()}' AS DATE)")
    if dialect == "athena":
        return exp.Var(this="'" + value.replace("'", "''") + "'")
    return exp.Var(this=string_literal(value))


def _count_from_one(tree: exp.Expression) -> None:
    """Of `unnest(...) WITH ORDINALITY` the first place is 1; of Hive's POSEXPLODE it is 0."""
    for unnested in tree.find_all(exp.Unnest):
        select, alias = unnested.find_ancestor(exp.Select), unnested.args.get("alias")
        offset = unnested.args.get("offset")
        if not isinstance(offset, exp.Identifier) or select is None:
            continue
        place, called = offset.name, "" if alias is None else alias.name
        for column in list(select.find_all(exp.Column)):
            if column.name != place or column.table not in ("", called):
                continue
            if column.find_ancestor(exp.Select) is not select:
                continue
            counted = exp.Paren(this=exp.Add(this=column.copy(), expression=exp.Literal.number(1)))
            projected = column.parent is select
            column.replace(exp.alias_(counted, place) if projected else counted)


def _keep_elements_whole(tree: exp.Expression) -> None:
    """Trino's UNNEST makes a column of each field of a row; a row around each element keeps it one column."""
    for unnested in tree.find_all(exp.Unnest):
        for each in list(unnested.expressions):
            each.replace(exp.Var(this=f"TRANSFORM({_text(each, 'athena')}, element -> ROW(element))"))


def _look_beyond(tree: exp.Expression, dialect: Dialect) -> None:
    """Beyond a list's end is NULL in DuckDB and Hive; Spark and Trino have a function that says so."""
    function = {"spark": "TRY_ELEMENT_AT", "athena": "ELEMENT_AT"}.get(dialect)
    if function is None:
        return
    for bracket in reversed(list(tree.find_all(exp.Bracket))):
        index = bracket.expressions[0] if len(bracket.expressions) == 1 else None
        if isinstance(index, exp.Literal) and index.is_int:  # counted from 0 in sqlglot's tree
            place = exp.Literal.number(int(index.this) + 1)
            bracket.replace(exp.Anonymous(this=function, expressions=[bracket.this.copy(), place]))


def _widen(tree: exp.Expression) -> None:
    """What DuckDB and Trino count in 64 bits, Hive and Spark count in 32."""
    for node in list(tree.find_all(exp.Length, exp.DateDiff, exp.Window)):
        if not isinstance(node, exp.Window) or isinstance(node.this, _COUNTING):
            node.replace(exp.cast(node.copy(), "BIGINT"))


def _divide_integers(tree: exp.Expression) -> None:
    """Trino's division of two integers is one of integers; sqlglot goes through DOUBLE, which rounds."""
    for division in list(tree.find_all(exp.IntDiv)):
        sides = (exp.Paren(this=side.copy()) for side in (division.this, division.expression))
        text = " / ".join(_text(side, "athena") for side in sides)
        division.replace(exp.Paren(this=exp.Var(this=text)))


def _text(tree: exp.Expression, dialect: Dialect) -> str:
    return tree.sql(dialect=dialect, identify=True, unsupported_level=ErrorLevel.RAISE)
