"""In which order rows stand in an export, and which file they are in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lake.errors import ExportError
from lake.stored import ROW, column_names_of, value_of
from lake.types import Column, identifier

_DIRECTION: Final = re.compile(r"(.+?)[ :](asc|desc)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Layout:
    """How an export is laid out; the default is one table in no order.

    Attributes:
        partition_by: Parquet only: what rows are divided by into folders `name=value`, as Hive, Athena and Spark
            expect them: columns' names, or `name=expression` in DuckDB's SQL, such as `day=left(ordered_at, 10)`.
        sort_by: columns' names, or expressions, each with ` desc` or ` asc` behind it where wanted.
        flatten: CSV and Tableau only: whether a STRUCT becomes a column for each field, `map.field`, and not JSON text.
        dates: Tableau only: whether text becomes a date or a time where every row of its column is one, in ISO form.
    """

    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    flatten: bool = False
    dates: bool = False


def partitions(columns: Sequence[Column], asked: Sequence[str]) -> list[tuple[str, str]]:
    """Name and SQL expression of each partition column.

    Raises:
        ExportError: there is no such column.
    """
    known = column_names_of(columns)
    found = []
    for each in asked:
        name, equals, expression = each.partition("=")
        if each in known:
            found.append((each, identifier(each)))
        elif equals and name.strip() and expression.strip():
            found.append((name.strip(), f"({expression})"))
        else:
            raise ExportError(
                f"there is no column {each!r} to partition by",
                remedy=f"give one of {_some(known)}, or NAME=EXPRESSION",
            )
    folded = [name.casefold() for name, _ in found]
    computed = [name for name, expression in found if expression != identifier(name)]
    taken = {name.casefold() for name in known}
    for name in computed:
        if name.casefold() in taken:
            raise ExportError(
                f"there is a column {name!r} already", remedy="call the partition something else"
            )
    if len(set(folded)) < len(folded):
        raise ExportError(f"a partition is named twice in {', '.join(asked)}")
    return found


@dataclass(frozen=True, slots=True)
class Order:
    """In which order rows are written.

    Attributes:
        terms: the terms of an ORDER BY over the stored rows (`lake.stored`).
        computed: columns of ours that the terms need, each with the expression that a user wrote (`rows_of`).
    """

    terms: tuple[str, ...] = ()
    computed: tuple[tuple[str, str], ...] = ()

    @property
    def clause(self) -> str:
        """The ORDER BY clause, with a space before it; empty where no order was asked for."""
        return f" ORDER BY {', '.join(self.terms)}" if self.terms else ""


NO_ORDER: Final = Order()


def order(columns: Sequence[Column], asked: Sequence[str]) -> Order:
    """The order that was asked for.

    A term that names a column is that column; any other is an expression, which DuckDB judges.
    """
    known = column_names_of(columns)
    terms, computed = [], []
    for number, each in enumerate(asked):
        match = _DIRECTION.fullmatch(each.strip())
        name, direction = (match[1], match[2]) if match and each not in known else (each, "asc")
        if name in known:
            what = value_of(name)
        else:
            computed.append((f"_lake_sort_{number}", name))
            what = f"{ROW}._lake_sort_{number}"
        terms.append(f"{what} {direction} NULLS LAST")
    return Order(tuple(terms), tuple(computed))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
