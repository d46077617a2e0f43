"""DynamoDB's condition, key condition and SET expressions: parsed and evaluated.

The grammar is that of the developer guide ("Condition and filter expressions, operators, and functions"), as
far as AND, OR, NOT, parentheses, the six comparisons and attribute_exists, attribute_not_exists, begins_with.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

Item = Mapping[str, Any]
Test = Callable[[Item, Mapping[str, str], Mapping[str, Any]], bool]
"""(item, names, values) -> whether the condition holds."""
Operand = Callable[[Item, Mapping[str, str], Mapping[str, Any]], Any]

_TOKEN: Final = re.compile(r"\s*(<=|>=|<>|[<>=(),]|[#:]?[A-Za-z_][A-Za-z0-9_]*)")


class ExpressionError(Exception):
    """The expression is not one, or uses a name or value that was not given."""


def holds(expression: str, item: Item | None, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    """Whether a condition holds for an item; an absent item has no attributes."""
    check_placeholders(expression, tuple(names), tuple(values))
    return _condition(expression)(item or {}, names, values)


def assignments(expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What an update expression of the form `SET a = :a, #b = :b` assigns."""
    check_placeholders(expression, tuple(names), tuple(values))
    verb, _, rest = expression.strip().partition(" ")
    if verb != "SET":
        raise ExpressionError(f"unknown clause {verb!r}")
    found = {}
    for part in rest.split(","):
        target, equals, value = (text.strip() for text in part.partition("="))
        if not equals or value not in values:
            raise ExpressionError(f"no assignment: {part!r}")
        found[_name(target, names)] = values[value]
    return found


@functools.cache
def check_placeholders(expression: str, names: tuple[str, ...], values: tuple[str, ...]) -> None:
    """Raises ExpressionError where a name or value was given that the expression does not use."""
    for given in (names, values):
        for placeholder in given:
            if not re.search(re.escape(placeholder) + r"\b", expression):
                raise ExpressionError(f"{placeholder} is unused in the expression")


def _name(token: str, names: Mapping[str, str]) -> str:
    if not token.startswith("#"):
        return token
    if token not in names:
        raise ExpressionError(f"the name {token} is not defined")
    return names[token]


@functools.cache
def _condition(expression: str) -> Test:
    tokens, at = [], 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"syntax error at {text[at:]!r}")
        tokens.append(match[1])
        at = match.end()
    parser = _Parser(iter([*tokens, ""]))
    test = parser.disjunction()
    if parser.token:
        raise ExpressionError(f"syntax error at {parser.token!r}")
    return test


class _Parser:
    """Recursive descent: OR binds loosest, then AND, then NOT."""

    def __init__(self, tokens: Iterator[str]) -> None:
        self._tokens = tokens
        self.token = next(tokens)

    def disjunction(self) -> Test:
        tests = [self._conjunction()]
        while self._accept("OR"):
            tests.append(self._conjunction())
        if len(tests) == 2:
            first, second = tests
            return lambda *given: first(*given) or second(*given)
        return tests[0] if len(tests) == 1 else lambda *given: any(test(*given) for test in tests)

    def _conjunction(self) -> Test:
        tests = [self._negation()]
        while self._accept("AND"):
            tests.append(self._negation())
        if len(tests) == 2:
            first, second = tests
            return lambda *given: first(*given) and second(*given)
        return tests[0] if len(tests) == 1 else lambda *given: all(test(*given) for test in tests)

    def _negation(self) -> Test:
        if self._accept("NOT"):
            test = self._negation()
            return lambda *given: not test(*given)
        if self._accept("("):
            test = self.disjunction()
            self._expect(")")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        word = self._take()
        if word in _FUNCTIONS and self.token == "(":
            return self._function(word)
        left, operator, right = _operand(word), self._take(), self._take()
        if operator not in _COMPARISONS:
            raise ExpressionError(f"syntax error at {operator!r}")
        compare, other = _COMPARISONS[operator], _operand(right)
        return lambda *given: _compared(compare, left(*given), other(*given))

    def _function(self, name: str) -> Test:
        self._expect("(")
        operands = [_operand(self._take())]
        while self._accept(","):
            operands.append(_operand(self._take()))
        self._expect(")")
        function = _FUNCTIONS[name]
        if len(operands) == 1:
            (only,) = operands
            return lambda *given: function(only(*given))
        return lambda *given: function(*(operand(*given) for operand in operands))

    def _take(self) -> str:
        token = self.token
        if not token:
            raise ExpressionError("the expression ends too early")
        self.token = next(self._tokens)
        return token

    def _accept(self, token: str) -> bool:
        if self.token.upper() != token:
            return False
        self._take()
        return True

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise ExpressionError(f"{token!r} is missing")


def _operand(token: str) -> Operand:
    if token.startswith(":"):

        def value(_item: Item, _names: Mapping[str, str], values: Mapping[str, Any]) -> Any:
            if token not in values:
                raise ExpressionError(f"the value {token} is not defined")
            return values[token]

        return value
    return lambda item, names, _values: item.get(_name(token, names))


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """A comparison with a missing attribute, or of two types, does not hold."""
    if left is None or right is None:
        return False
    ((left_tag, left_content),), ((right_tag, right_content),) = left.items(), right.items()
    if left_tag != right_tag:
        return False
    if left_tag == "N":
        return compare(Decimal(left_content), Decimal(right_content))
    if left_tag == "S":
        return compare(left_content.encode(), right_content.encode())
    return compare(left_content, right_content)


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_FUNCTIONS: Final[Mapping[str, Callable[..., bool]]] = {
    "attribute_exists": lambda value: value is not None,
    "attribute_not_exists": lambda value: value is None,
    "begins_with": lambda value, prefix: value is not None and value["S"].startswith(prefix["S"]),
}
