"""A named query as the text of another engine, its parameters written as literals.

Hive has no bound parameters, so a value becomes part of the text; it passes `queries.ddl.identifiers`, which
leaves nothing in a literal that an engine, a client or Hive's `${...}` substitution could take for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from queries.ddl.identifiers import string_literal
from queries.errors import EngineError
from queries.named import NamedQuery
from queries.parameters import Value, bound

Dialect = Literal["hive", "spark"]


def transpile(query: NamedQuery, dialect: Dialect, params: Mapping[str, object] | None = None) -> str:
    """The query as Hive's or Spark's text.

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
    if dialect not in ("hive", "spark"):
        raise EngineError(f"the dialect {dialect!r} is not known: hive or spark")
    values = bound(query.name, query.parameters, params)
    try:
        tree = sqlglot.parse_one(query.sql, read="duckdb")
        tree = tree.transform(
            lambda node: literal(values[node.name]) if isinstance(node, exp.Placeholder) else node
        )
        # Inner ones first: an outer one's text contains them.
        for ordered in reversed(list(tree.find_all(exp.Ordered))):
            direction = "DESC" if ordered.args.get("desc") else "ASC"
            nulls = "FIRST" if ordered.args.get("nulls_first") else "LAST"
            ordered.replace(exp.Var(this=f"{_text(ordered.this, dialect)} {direction} NULLS {nulls}"))
        return _text(tree, dialect)
    except SqlglotError as error:
        raise EngineError(f"the query {query.name!r} cannot be said in {dialect}: {error}") from error


def literal(value: Value) -> exp.Expression:
    """The value as a literal of Hive's and Spark's, typed where the type is not plain from the text."""
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
        return exp.Var(this=f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)")
    if isinstance(value, date):
        return exp.Var(this=f"CAST('{value.isoformat()}' AS DATE)")
    return exp.Var(this=string_literal(value))


def _text(tree: exp.Expression, dialect: Dialect) -> str:
    return tree.sql(dialect=dialect, identify=True, unsupported_level=ErrorLevel.RAISE)
