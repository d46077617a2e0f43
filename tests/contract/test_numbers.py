"""DynamoDB's numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.contract.numbers import canonical_number, number_shape
from lake.errors import ContractError

DIGITS_38 = "12345678901234567890123456789012345678"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20))
def test_equal_numbers_have_one_text_of_the_same_value(number: Decimal) -> None:
    text = canonical_number(str(number))
    assert Decimal(text) == number
    assert text == canonical_number(f"{number:E}") == canonical_number(text)
    assert "E" not in text


@pytest.mark.parametrize(
    ("text", "canonical", "shape"),
    [
        ("0", "0", "int64"), ("-0", "0", "int64"), ("1.10", "1.1", "fraction"), ("1E2", "100", "int64"),
        ("007", "7", "int64"), ("+5", "5", "int64"), ("9223372036854775807", "9223372036854775807", "int64"),
        ("9223372036854775808", "9223372036854775808", "integer"),
        ("-9223372036854775808", "-9223372036854775808", "int64"),
        ("-9223372036854775809", "-9223372036854775809", "integer"),
        (DIGITS_38, DIGITS_38, "integer"), ("0." + DIGITS_38, "0." + DIGITS_38, "fraction"),
        ("1E-130", "0." + "0" * 129 + "1", "fraction"), ("1.0", "1", "int64"), ("1E125", "1" + "0" * 125, "integer"),
    ],
)  # fmt: skip
def test_texts_and_shapes(text: str, canonical: str, shape: str) -> None:
    assert canonical_number(text) == canonical
    assert number_shape(text) == shape


@pytest.mark.parametrize("text", ["", "x", "NaN", "Infinity", "-", "1,5", "0x1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    for function in (canonical_number, number_shape):
        with pytest.raises(ContractError, match="not a number"):
            function(text)
