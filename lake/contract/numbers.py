"""DynamoDB numbers, exactly: their canonical text and what shape they have.

DynamoDB keeps 38 significant digits, magnitudes from 1E-130 to 9.99…E+125, positive and negative, and drops
leading and trailing zeros (Amazon DynamoDB developer guide, "Naming rules and data types", Number).
"""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from typing import Final, Literal

from lake.errors import ContractError

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

MIN_EXPONENT: Final = -130
MAX_EXPONENT: Final = 125
"""Of a number's first digit. Written out, a number of another exponent could fill the memory."""

NumberShape = Literal["int64", "integer", "fraction"]
"""What a number needs: 64 bits, an integer beyond them, or a fraction."""

_SAFE_INT64_LENGTH: Final = 18
_EXACT: Final = Context(prec=60)


def canonical_number(text: str) -> str:
    """The one text that equal numbers share: "1.10" and "1.1" give "1.1", "1E2" gives "100", "-0" gives "0".

    The result has no exponent, no leading plus, no superfluous zero.

    Raises:
        ContractError: this is not a DynamoDB number.
    """
    if text.isdigit() and text.isascii() and (text[0] != "0" or text == "0"):
        return text
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ContractError("not a number") from None
    if not value.is_finite():
        raise ContractError("not a number")
    if value.is_zero():
        return "0"
    if not MIN_EXPONENT <= value.adjusted() <= MAX_EXPONENT:
        raise ContractError("not a number that DynamoDB can hold")
    return format(value.normalize(_EXACT), "f")


def number_shape(text: str) -> NumberShape:
    """What a number needs to be held exactly.

    Raises:
        ContractError: this is not a DynamoDB number.
    """
    if (
        len(text) <= _SAFE_INT64_LENGTH
        and text.isascii()
        and (text.isdigit() or (text[1:].isdigit() and text[0] == "-"))
    ):
        return "int64"
    canonical = canonical_number(text)
    if "." in canonical:
        return "fraction"
    return "int64" if INT64_MIN <= int(canonical) <= INT64_MAX else "integer"
