from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest

from queries.errors import ParameterError
from queries.parameters import Parameter, bound, declared


def test_a_declaration_has_name_type_default_and_meaning() -> None:
    assert declared("minutes integer = 60  the least delay, minutes") == Parameter(
        "minutes", "integer", 60, "the least delay, minutes"
    )
    assert declared("day date  which day") == Parameter("day", "date", None, "which day")
    assert declared("who text = 'it''s me'") == Parameter("who", "text", "it's me", "")
    assert declared("share decimal=1.50") == Parameter("share", "decimal", Decimal("1.50"), "")


@pytest.mark.parametrize(
    "text", ["", "minutes", "minutes number", "1st integer", "x integer = sixty", "x boolean = 1", "a-b text"]
)
def test_a_bad_declaration_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        declared(text)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("integer", 5, 5),
        ("integer", "-5", -5),
        ("integer", np.int64(5), 5),
        ("integer", 2**63 - 1, 2**63 - 1),
        ("decimal", "1.50", Decimal("1.50")),
        ("decimal", 0.1, Decimal("0.1")),
        ("decimal", np.float64(0.1), Decimal("0.1")),
        ("decimal", 3, Decimal(3)),
        ("decimal", "1E+3", Decimal(1000)),
        ("decimal", "9" * 38, Decimal("9" * 38)),
        ("text", "x' OR 1=1 --", "x' OR 1=1 --"),
        ("text", "", ""),
        ("date", "2013-01-31", date(2013, 1, 31)),
        ("date", date(2013, 1, 31), date(2013, 1, 31)),
        ("timestamp", "2013-01-31T05:15:00", datetime(2013, 1, 31, 5, 15)),
        ("boolean", True, True),
        ("boolean", "false", False),
    ],
)
def test_a_value_of_the_type_is_taken(kind: str, given: object, expected: object) -> None:
    value = declared(f"x {kind}").checked(given)

    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("integer", 1.5),
        ("integer", 1.0),
        ("integer", True),
        ("integer", "60; DROP TABLE flights"),
        ("integer", "٣"),
        ("integer", 2**63),
        ("integer", None),
        ("decimal", "NaN"),
        ("decimal", float("inf")),
        ("decimal", "1e100"),
        ("decimal", "9" * 39),
        ("decimal", "1.5 OR 1=1"),
        ("text", 5),
        ("text", b"x"),
        ("text", "\ud800"),
        ("text", "nul\x00"),
        ("date", datetime(2013, 1, 31)),
        ("date", "31/01/2013"),
        ("date", "2013-02-30"),
        ("timestamp", datetime(2013, 1, 31, tzinfo=UTC)),
        ("timestamp", "2013-01-31T05:15:00+01:00"),
        ("boolean", 1),
        ("boolean", "yes"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(kind: str, given: object) -> None:
    with pytest.raises(ParameterError, match="'x' must be"):
        declared(f"x {kind}").checked(given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "needs the parameter 'day'"),
        ({"day": "2013-01-01", "dya": 1}, "no parameter dya: it has day, minutes"),
        ({"day": "soon"}, "'day' must be a date"),
    ],
)
def test_the_error_says_which_parameter_of_which_query(given: dict[str, object], says: str) -> None:
    parameters = [declared("day date"), declared("minutes integer = 60")]

    with pytest.raises(ParameterError, match=says):
        bound("q", parameters, given)


def test_a_default_stands_in() -> None:
    parameters = [declared("day date"), declared("minutes integer = 60")]

    assert bound("q", parameters, {"day": "2013-01-01"}) == {"day": date(2013, 1, 1), "minutes": 60}
    assert bound("q", [], None) == {}
