"""What a job will read and write, and what that costs, before it begins."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Final

READ_UNIT_BYTES: Final = 4096
WRITE_UNIT_BYTES: Final = 1024
"""A read unit covers 4 KB, half as much when eventually consistent costs half; a write unit 1 KB
(DynamoDB developer guide, "Read/write capacity mode")."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take.

    Attributes:
        rows: rows, as DescribeTable last counted them (DynamoDB renews that every six hours or so).
        read_units: read request units, eventually consistent scans.
        write_units: write request units.
        usd: US dollars at the price list's on-demand prices.
        priced: the date of the price list.
    """

    rows: int
    read_units: int
    write_units: int
    usd: float
    priced: str

    def sentence(self) -> str:
        """The estimate in words."""
        return (
            f"about {self.rows:,} rows (DynamoDB's own count, up to six hours old): reads {self.read_units:,} "
            f"and writes at most {self.write_units:,} capacity units, about ${self.usd:,.2f} on demand "
            f"(us-east-1 prices of {self.priced}; an estimate)"
        )


def estimate(rows: int, table_bytes: int, *, scans: int, writes: bool) -> Estimate:
    """What scanning a table so many times takes, and writing each of its rows once.

    Args:
        rows: the table's rows.
        table_bytes: the table's size.
        scans: how many times a table of this size is scanned.
        writes: whether each row is written.
    """
    prices = tomllib.loads(resources.files("dynalake").joinpath("prices.toml").read_text(encoding="utf-8"))
    read_units = scans * math.ceil(table_bytes / READ_UNIT_BYTES / 2)
    row_bytes = table_bytes / rows if rows else 0
    write_units = rows * max(1, math.ceil(row_bytes / WRITE_UNIT_BYTES)) if writes else 0
    usd = (
        read_units * prices["read_usd_per_million"] + write_units * prices["write_usd_per_million"]
    ) / 1_000_000
    return Estimate(rows, read_units, write_units, usd, str(prices["date"]))
