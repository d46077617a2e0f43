"""Rows of a lake table as a shop's would be: nested, ragged, and never quite clean.

About 750 bytes of DynamoDB JSON a row: 18 attributes of all ten types, two maps, a list of maps, three sets,
binary and numbers of more digits than a float has. Of the attributes that may be absent 5 % are, 1 % of `zip`
and `discount` have a second type, and one attribute is first seen in the very last row.

Rows are made from a few thousand shapes, drawn once from a seed, into which each row's own numbers are written,
so that millions of them cost little.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

KEY: Final = ("customer", "order")
SHAPES: Final = 4096
_LABEL: Final = "2026-01-01T00:00:00.000"
_MARK: Final = "987654321"
"""Stands in a shape where each row writes its own nine digits."""

_WORDS: Final = tuple(
    word
    for line in (
        "Grüße express gift fragile return priority bulk signed insured cool frozen dry night day Straße",
        "depot harbour airport 東京 naïve façade parcel letter pallet crate drum box tube roll sheet",
    )
    for word in line.split()
)


def shapes(seed: int = 20261124, *, wrangled: bool = False) -> Sequence[Sequence[bytes]]:
    """The shapes: lines in pieces, between which a row's own digits come.

    Args:
        seed: for other shapes.
        wrangled: whether to leave out what awswrangler refuses: second types, sets of binaries.
    """
    chance = random.Random(seed)
    return [_line(_row(chance, wrangled)).split(_MARK.encode()) for _ in range(SHAPES)]


def lines(
    count: int, first: int = 0, late: bool = True, ready: Sequence[Sequence[bytes]] | None = None
) -> Iterator[bytes]:
    """Rows as lines of DynamoDB JSON, one after another.

    Args:
        count: how many.
        first: the number of the first; a row's number is part of its key.
        late: whether the last one has an attribute that no other has.
        ready: the shapes, if they are at hand.
    """
    made = ready or shapes()
    last = first + count - 1
    for number in range(first, first + count):
        line = (b"%09d" % number).join(made[number * 2654435761 % SHAPES])
        if late and number == last:
            line = line[:-1] + b',"first seen in the last row":{"M":{"deep":{"N":"1.5"}}}}'
        yield line


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def _row(chance: random.Random, wrangled: bool) -> dict[str, Any]:
    def words(count: int) -> str:
        return " ".join(chance.choices(_WORDS, k=count))

    def number(digits: int, scale: int) -> str:
        whole = str(chance.randrange(10 ** (digits - 1), 10**digits))
        return (whole[:-scale] + "." + whole[-scale:]).rstrip("0").rstrip(".") if scale else whole

    def product() -> dict[str, Any]:
        return {
            "M": {
                "sku": {"S": f"SKU-{chance.randrange(99999):05d}"},
                "count": {"N": str(chance.randrange(1, 20))},
                "price": {"N": number(5, 2)},
            }
        }

    row: dict[str, Any] = {
        "customer": {"S": f"CUSTOMER#{chance.randrange(10**6):07d}"},
        "order": {"S": f"ORDER#{_MARK}"},
        "status": {"S": chance.choice(["NEW", "PAID", "SHIPPED", "RETURNED"])},
        "total": {"N": number(7, 2)},
        "lines": {"L": [product() for _ in range(chance.choice([1, 1, 2]))]},
        "address": {
            "M": {
                "street": {"S": words(2)},
                "city": {"S": words(1)},
                "country": {"S": chance.choice(["DE", "FR", "JP"])},
            }
        },
        "zip": {"S": f"{chance.randrange(99999):05d}"},
        "tags": {"SS": sorted(set(chance.choices(_WORDS, k=2)))},
        "ratings": {"NS": sorted({str(chance.randrange(50) / 10).removesuffix(".0") for _ in range(2)})},
        "paid": {"BOOL": chance.random() < 0.8},
        "picture": {"B": base64.b64encode(chance.randbytes(12)).decode()},
        "thumbnails": {"SS" if wrangled else "BS": [base64.b64encode(chance.randbytes(6)).decode()]},
        "exact": {"N": number(34, 12)},
        "discount": {"N": str(chance.randrange(50))},
        "note": {"S": words(3)} if chance.random() < 0.9 else {"NULL": True},
        "created": {"N": f"1767{_MARK}"},
    }
    for name in [*row][2:]:
        if chance.random() < 0.05:
            del row[name]
    if not wrangled and "zip" in row and chance.random() < 0.01:
        row["zip"] = {"N": "50667"}
    if not wrangled and "discount" in row and chance.random() < 0.01:
        row["discount"] = {"S": "10 %"}
    row["_lake_version"] = {"S": f"{_LABEL}/{'4421584500000':0>31}{_MARK}"}
    row["_lake_at"] = {"N": "1767225600123"}
    row["_lake_source_at"] = {"N": "1767225600000"}
    return row
