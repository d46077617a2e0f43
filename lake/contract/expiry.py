"""Rows whose time-to-live has passed, and which DynamoDB has not deleted yet.

DynamoDB deletes an expired item typically within a few days of its expiry (DynamoDB developer guide, "Using time to
live (TTL)"). The attribute must be of type Number, in epoch seconds, and DynamoDB never deletes an item whose time
lies more than five years in the past.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from lake.contract.rows import Item

FIVE_YEARS_S: Final = 5 * 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Expiry:
    """Which rows have expired, as of a moment.

    Attributes:
        attribute: the source table's time-to-live attribute.
        as_of_ms: the moment, epoch milliseconds.
    """

    attribute: str
    as_of_ms: int

    @property
    def bounds_s(self) -> tuple[float, float]:
        """A row has expired if its time is more than the first and less than the second, epoch seconds."""
        now = self.as_of_ms / 1000
        return now - FIVE_YEARS_S, now

    def has_passed(self, item: Item) -> bool:
        """Whether an item has expired."""
        value: Mapping[str, Any] = item.get(self.attribute) or {}
        return "N" in value and self.is_past(value["N"])

    def left_out(self, rows: int) -> LeftOut:
        """That so many rows were left out."""
        return LeftOut(self.attribute, self.as_of_ms, rows)

    def is_past(self, number: str) -> bool:
        """Whether the number that a time-to-live attribute holds is past."""
        first, last = self.bounds_s
        try:
            return first < float(number) < last
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was left out because it had expired.

    Attributes:
        attribute: the source table's time-to-live attribute.
        as_of: epoch milliseconds; the attribute was compared with this moment.
        rows: how many rows.
    """

    attribute: str
    as_of: int
    rows: int

    @property
    def sentence(self) -> str:
        """For people."""
        moment = datetime.fromtimestamp(self.as_of / 1000, UTC)
        rows = f"{self.rows:,} {'row was' if self.rows == 1 else 'rows were'}"
        return f"{rows} left out: {self.attribute!r} had passed as of {moment:%Y-%m-%d %H:%M:%S} UTC"
