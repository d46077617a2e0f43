"""A query's parameters: how a file declares them, and how a given value is checked.

    -- param: minutes integer = 60  the least delay, minutes
              name    type    default   what it means

A default is optional; a text with spaces stands in single quotes. Values may be given as Python values or as
text (from a command line), and are refused rather than bent: 1.5 is no integer, and "yes" no boolean.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, get_args

from lake.contract.numbers import INT64_MAX, INT64_MIN
from queries.errors import ParameterError

ParameterType = Literal["integer", "decimal", "text", "date", "timestamp", "boolean"]
Value = int | Decimal | str | date | datetime | bool

_DECLARATION: Final = re.compile(
    r"(?P<name>[A-Za-z_]\w*)\s+(?P<type>\w+)"
    r"(?:\s*=\s*(?P<default>'(?:[^']|'')*'|\S+))?"
    r"(?:\s+(?P<what>\S.*))?",
    re.ASCII,
)
_MAX_DIGITS: Final = 38


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as its query declares it.

    Attributes:
        name: its name, `:name` in the query.
        type: what it may hold.
        default: the value where none is given; None where one must be given.
        what: what it means, for people.
    """

    name: str
    type: ParameterType
    default: Value | None
    what: str

    def checked(self, value: object) -> Value:
        """The value in the parameter's type.

        Raises:
            ParameterError: it is of another type, or out of its range.
        """
        try:
            return _CHECKS[self.type](value)
        except (TypeError, ValueError, InvalidOperation):
            raise ParameterError(
                f"the parameter {self.name!r} must be {_MEANING[self.type]}, not {value!r}"
            ) from None


def declared(declaration: str) -> Parameter:
    """The parameter that the text after `-- param:` declares.

    Raises:
        ParameterError: the text is no declaration, or its default does not have its type.
    """
    found = _DECLARATION.fullmatch(declaration.strip())
    if found is None:
        raise ParameterError(
            f"cannot read the parameter {declaration!r}", remedy="write `name type = default  what it means`"
        )
    kind = found["type"]
    if kind not in get_args(ParameterType):
        raise ParameterError(
            f"the parameter {found['name']!r} has the unknown type {kind!r}",
            remedy=f"use one of {', '.join(get_args(ParameterType))}",
        )
    parameter = Parameter(found["name"], kind, None, found["what"] or "")  # type: ignore[arg-type]
    default = found["default"]
    if default is None:
        return parameter
    if default.startswith("'"):
        default = default[1:-1].replace("''", "'")
    return Parameter(parameter.name, parameter.type, parameter.checked(default), parameter.what)


def bound(
    query: str, parameters: Sequence[Parameter], given: Mapping[str, object] | None
) -> dict[str, Value]:
    """A checked value for each parameter: the one given, else its default.

    Args:
        query: the query's name, for the errors' text.
        parameters: what the query declares.
        given: values by name.

    Raises:
        ParameterError: one is unknown, missing or ill-typed; the text names it and the query.
    """
    values = dict(given or {})
    known = {parameter.name for parameter in parameters}
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ParameterError(
            f"the query {query!r} has no parameter {', '.join(unknown)}: "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )
    result: dict[str, Value] = {}
    for parameter in parameters:
        if parameter.name in values:
            result[parameter.name] = parameter.checked(values[parameter.name])
        elif parameter.default is not None:
            result[parameter.name] = parameter.default
        else:
            raise ParameterError(
                f"the query {query!r} needs the parameter {parameter.name!r} "
                f"({parameter.type}{': ' + parameter.what if parameter.what else ''})"
            )
    return result


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError(value)
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", value):
            raise ValueError(value)
        number = int(value)
    else:
        number = operator.index(value)  # type: ignore[arg-type]  # TypeError is what tells; takes NumPy's too
    if not INT64_MIN <= number <= INT64_MAX:
        raise ValueError(value)
    return number


def _decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError(value)
    # A float's repr is what its writer typed: 0.1 is meant, not 0.1000000000000000055.
    number = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    if not number.is_finite() or abs(number.adjusted()) > _MAX_DIGITS:
        raise ValueError(value)
    plain = Decimal(format(number, "f"))
    _, digits, exponent = plain.as_tuple()
    if max(len(digits), -int(exponent)) > _MAX_DIGITS:
        raise ValueError(value)
    return plain


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    if "\x00" in value:
        raise ValueError(value)
    value.encode()  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
    return value


def _date(value: object) -> date:
    if isinstance(value, datetime):
        raise TypeError(value)
    return value if isinstance(value, date) else date.fromisoformat(_text(value))


def _timestamp(value: object) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    # Hive's and DuckDB's TIMESTAMP have no zone: shifting one silently would move the answer.
    if moment.tzinfo is not None:
        raise ValueError(value)
    return moment


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError(value)


_CHECKS: Final[Mapping[ParameterType, Callable[[Any], Value]]] = {
    "integer": _integer,
    "decimal": _decimal,
    "text": _text,
    "date": _date,
    "timestamp": _timestamp,
    "boolean": _boolean,
}
_MEANING: Final[Mapping[ParameterType, str]] = {
    "integer": "an integer of 64 bits",
    "decimal": f"a decimal number of at most {_MAX_DIGITS} digits",
    "text": "text",
    "date": "a date such as 2013-01-31",
    "timestamp": "a timestamp without a zone such as 2013-01-31T05:15:00",
    "boolean": "true or false",
}
