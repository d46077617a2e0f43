"""How the schema catalogue stores what an attribute has been seen to hold.

One item for each (lake table, attribute, kind), written once, when the kind is first seen:

    table       S   the lake table (partition key)
    observation S   "<kind>#<attribute>" (sort key; a kind never holds a '#'; of a name that is longer than a
                    sort key may be, its SHA-256)
    attribute   S   the attribute's true name
    kind        S   see `kind_of`
    first_seen  N   epoch milliseconds
    version     S   the version of the change in which it was first seen
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lake.contract.numbers import NumberShape, number_shape
from lake.contract.versions import Version

TABLE: Final = "table"
OBSERVATION: Final = "observation"

TAGS: Final = ("S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS")
"""DynamoDB's ten type tags."""

_WIDEST: Final[tuple[NumberShape, ...]] = ("int64", "integer", "fraction")


@dataclass(frozen=True, slots=True)
class Observation:
    """An attribute was seen with a kind.

    Attributes:
        attribute: the attribute's true name.
        kind: what it held, see `kind_of`.
        first_seen: epoch milliseconds.
        version: the version of the change in which it was first seen.
    """

    attribute: str
    kind: str
    first_seen: int
    version: Version

    @property
    def tag(self) -> str:
        """The DynamoDB type tag, without the number's shape."""
        return self.kind.partition(".")[0]


def kind_of(value: Mapping[str, Any]) -> str:
    """What an attribute value is: its type tag, for numbers with the shape they need.

    "S", "B", "BOOL", "NULL", "M", "L", "SS", "BS"; "N.int64", "N.integer" (beyond 64 bits), "N.fraction",
    and "NS.…" likewise with the widest shape in the set. Hive's bigint breaks on one value of another shape
    than int64, so the shape is part of the schema.

    Raises:
        ContractError: a number is not one.
    """
    tag, content = next(iter(value.items()))
    if tag == "N":
        return f"N.{number_shape(content)}"
    if tag == "NS":
        return f"NS.{_widest(number_shape(number) for number in content)}"
    return str(tag)


MAX_NAME_IN_KEY_BYTES: Final = 900
"""A sort key has 1,024 bytes at most; an attribute's name may have 64 KB."""


def to_item(lake_table: str, observation: Observation) -> dict[str, Any]:
    """The catalogue item of an observation, as boto3's client takes it."""
    return {
        TABLE: {"S": lake_table},
        OBSERVATION: {"S": f"{observation.kind}#{_name_in_key(observation.attribute)}"},
        "attribute": {"S": observation.attribute},
        "kind": {"S": observation.kind},
        "first_seen": {"N": str(observation.first_seen)},
        "version": {"S": observation.version},
    }


def from_item(item: Mapping[str, Mapping[str, Any]]) -> Observation:
    """The observation that a catalogue item holds."""
    return Observation(
        attribute=item["attribute"]["S"],
        kind=item["kind"]["S"],
        first_seen=int(item["first_seen"]["N"]),
        version=Version(item["version"]["S"]),
    )


def _widest(shapes: Iterable[NumberShape]) -> NumberShape:
    return max(shapes, key=_WIDEST.index, default="int64")


def _name_in_key(attribute: str) -> str:
    encoded = attribute.encode()
    if len(encoded) <= MAX_NAME_IN_KEY_BYTES:
        return attribute
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"
