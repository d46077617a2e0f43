"""What rows hold, as a tree: at each place the type tags seen, and the column type that holds them all.

A place is an attribute, a field of a map, or the elements of a list. Trees of different rows merge, so that rows
may be looked at in pieces: the types of the merged tree hold the rows of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lake.contract.catalogue import TAGS
from lake.types import (
    Blob,
    Boolean,
    Int64,
    Json,
    ListOf,
    Struct,
    Text,
    Type,
    number_type,
)

MAX_FIELDS: Final = 100
"""A map with more distinct field names is a dictionary, not a structure: it is kept as JSON."""


@dataclass(slots=True)
class Seen:
    """What was found with one tag at one place.

    Attributes:
        rows: how often it was found.
        digits: the most digits that a number had before the point.
        scale: the most digits that a number had after it.
        int64: whether all its numbers are integers within 64 bits.
        plain: whether all its numbers are written canonically.
        large: whether a container was too long, or lay too deep, to be looked into.
        wide: whether a map had more than `MAX_FIELDS` names.
        node: the number of the container while it is looked into.
        places: of a container: field (or '' for a list's elements) -> tag -> what was found there.
    """

    rows: int = 0
    digits: int = 0
    scale: int = 0
    int64: bool = True
    plain: bool = True
    large: bool = False
    wide: bool = False
    node: int | None = None
    places: dict[str, dict[str, Seen]] = field(default_factory=dict)

    @property
    def number(self) -> Type:
        """The narrowest type that holds the numbers exactly."""
        return number_type(self.digits, self.scale, self.int64)


Places = dict[str, dict[str, Seen]]
"""Name -> tag -> what was found."""


@dataclass(frozen=True, slots=True)
class Empty(Json):
    """A container that was always empty, so that its shape is not known yet; once it is settled: JSON."""


def merged(one: Mapping[str, Mapping[str, Seen]], other: Mapping[str, Mapping[str, Seen]]) -> Places:
    """The tree of the rows of both."""
    return {
        name: {
            tag: _both(one.get(name, {}).get(tag), other.get(name, {}).get(tag))
            for tag in _in_order(one.get(name, {}), other.get(name, {}))
        }
        for name in _in_order(one, other)
    }


def _both(one: Seen | None, other: Seen | None) -> Seen:
    if one is None or other is None:
        return one or other or Seen()
    places = merged(one.places, other.places)
    wide = one.wide or other.wide or len(places) > MAX_FIELDS
    return Seen(
        one.rows + other.rows,
        max(one.digits, other.digits),
        max(one.scale, other.scale),
        one.int64 and other.int64,
        one.plain and other.plain,
        one.large or other.large,
        wide,
        None,
        {} if wide else places,
    )


def _in_order(one: Iterable[str], other: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*one, *other)))


def stable(container: Seen) -> bool:
    """Whether a column can have the container's shape: one type a place, no NULL, no clash of names."""
    names = [name for name in container.places if "\0" not in name]
    return len({name.casefold() for name in names}) == len(container.places) > 0 and all(
        len(kinds) == 1 and "NULL" not in kinds for kinds in container.places.values()
    )


def majority(rows: Mapping[str, int]) -> str | None:
    """The tag that most rows have, NULL apart; the order of `TAGS` decides a tie."""
    return max((tag for tag in TAGS if tag in rows and tag != "NULL"), key=lambda t: rows[t], default=None)


def main_type(kinds: Mapping[str, Seen]) -> Type:
    """The type of an attribute's main column: that of the tag which most rows have."""
    tag = majority({tag: seen.rows for tag, seen in kinds.items()})
    return Text() if tag is None else type_of(tag, kinds[tag])


_SIMPLE: Final[Mapping[str, Type]] = {
    "S": Text(),
    "B": Blob(),
    "BOOL": Boolean(),
    "SS": ListOf("SS", Text()),
    "BS": ListOf("BS", Blob()),
}


def type_of(tag: str, seen: Seen) -> Type:
    """The type that holds everything that was found with the tag."""
    if tag in _SIMPLE:
        return _SIMPLE[tag]
    if tag == "N":
        return seen.number
    if tag == "NS" and not seen.large:
        return ListOf("NS", seen.places[""]["N"].number if seen.places else Int64())
    if not seen.places and not seen.large and not seen.wide and tag in ("M", "L"):
        return Empty()
    if not stable(seen):
        return Json()
    if tag == "L":
        return ListOf("L", _only(seen.places[""]))
    if "" in seen.places:
        return Json()
    return Struct(tuple((name, _only(seen.places[name])) for name in sorted(seen.places)))


def settled(kind: Type) -> Type:
    """The type without the mark of containers that were always empty."""
    match kind:
        case Empty():
            return Json()
        case ListOf(tag, element):
            return ListOf(tag, settled(element))
        case Struct(fields):
            return Struct(tuple((name, settled(inner)) for name, inner in fields))
        case _:
            return kind


def plain(seen: Seen) -> bool:
    """Whether all numbers in it are written canonically."""
    return seen.plain and all(plain(s) for kinds in seen.places.values() for s in kinds.values())


def _only(kinds: Mapping[str, Seen]) -> Type:
    ((tag, seen),) = kinds.items()
    return type_of(tag, seen)
