from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.canonical import canonical_text, differing_attributes
from lake.contract.numbers import canonical_number


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"N": "1.10"}, {"N": "1.1"}),
        ({"N": "1E2"}, {"N": "100"}),
        ({"N": "-0"}, {"N": "0"}),
        ({"N": "+007"}, {"N": "7"}),
        ({"SS": ["a", "b"]}, {"SS": ["b", "a"]}),
        ({"NS": ["1.0", "2"]}, {"NS": ["2", "1"]}),
        ({"BS": ["AA==", "AQ=="]}, {"BS": ["AQ==", "AA=="]}),
        ({"M": {"a": {"N": "1.0"}, "b": {"S": ""}}}, {"M": {"b": {"S": ""}, "a": {"N": "1"}}}),
    ],
)
def test_equal_values_have_one_text(left: dict[str, object], right: dict[str, object]) -> None:
    assert canonical_text({"x": left}) == canonical_text({"x": right})
    assert differing_attributes({"x": left}, {"x": right}) == []


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"S": "1"}, {"N": "1"}),
        ({"N": "0.123456789012345678901234567890"}, {"N": "0.123456789012345678901234567891"}),
        ({"L": [{"N": "1"}, {"N": "2"}]}, {"L": [{"N": "2"}, {"N": "1"}]}),
        ({"SS": ["a", "b"]}, {"SS": ["a"]}),
        ({"SS": ["a"]}, {"L": [{"S": "a"}]}),
        ({"M": {"a": {"M": {"b": {"S": "x"}}}}}, {"M": {"a": {"M": {"b": {"S": "y"}}}}}),
        ({"S": ""}, {"NULL": True}),
        ({"B": ""}, {"S": ""}),
    ],
)
def test_values_that_differ_do_not(left: dict[str, object], right: dict[str, object]) -> None:
    assert canonical_text({"x": left}) != canonical_text({"x": right})
    assert differing_attributes({"x": left, "y": {"S": ""}}, {"x": right, "y": {"S": ""}}) == ["x"]


def test_an_attribute_on_one_side_only_differs() -> None:
    assert differing_attributes({"a": {"S": "x"}}, {"b": {"S": "x"}}) == ["a", "b"]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**20), max_value=10**20))
def test_numbers_keep_their_value(number: object) -> None:
    from decimal import Decimal

    canonical = canonical_number(str(number))
    assert Decimal(canonical) == number
    assert "E" not in canonical
    assert canonical_number(canonical) == canonical
