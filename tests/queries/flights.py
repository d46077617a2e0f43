"""A small flights table, made by hand, with the answers that the shipped queries must give."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("carrier_flight", pa.string()),
        ("departs", pa.string()),
        ("carrier", pa.string()),
        ("flight", pa.int64()),
        ("origin", pa.string()),
        ("dest", pa.string()),
        ("day", pa.string()),
        ("status", pa.string()),
        ("tailnum", pa.string()),
        ("distance", pa.int64()),
        ("dep_delay", pa.int64()),
        ("arr_delay", pa.int64()),
        ("air_time", pa.int64()),
        ("speed_mph", pa.decimal128(38, 3)),
        ("history", pa.list_(pa.struct([("status", pa.string()), ("at", pa.string())]))),
        ("services", pa.list_(pa.string())),
    ]
)

# carrier, number, origin, dest, day, status, dep_delay, arr_delay
_ROWS = [
    ("UA", 1, "EWR", "IAH", "2013-01-01", "arrived", 2, 11),
    ("UA", 2, "EWR", "IAH", "2013-01-01", "arrived", 61, 60),
    ("AA", 3, "JFK", "MIA", "2013-01-01", "arrived", 60, 16),
    ("AA", 4, "JFK", "MIA", "2013-01-01", "cancelled", None, None),
    ("AA", 5, "JFK", "MIA", "2013-01-01", "diverted", 15, None),
    ("B6", 6, "JFK", "BQN", "2013-01-02", "arrived", -5, -18),
    ("B6", 7, "JFK", "BQN", "2013-01-02", "arrived", -2, -15),
    ("DL", 8, "LGA", "ATL", "2013-01-02", "departed", -4, None),
    ("DL", 9, "LGA", "ATL", "2013-01-03", "scheduled", None, None),
    ("AA", 3, "JFK", "MIA", "2013-01-04", "arrived", 61, 15),
    ("UA", 1, None, "IAH", "2013-01-04", "arrived", 16, 3),
]


def table() -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "carrier_flight": f"{carrier}#{number}",
            "departs": f"{day}T05:15#{origin}",
            "carrier": carrier,
            "flight": number,
            "origin": origin,
            "dest": dest,
            "day": day,
            "status": status,
            "tailnum": None if number == 4 else f"N{number}",
            "distance": 1400,
            "dep_delay": dep_delay,
            "arr_delay": arr_delay,
            "air_time": None if arr_delay is None else 200,
            "speed_mph": None if arr_delay is None else Decimal("420.000"),
            "history": [{"status": "scheduled", "at": day}],
            "services": ["wifi"],
        }
        for carrier, number, origin, dest, day, status, dep_delay, arr_delay in _ROWS
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(*values: Any) -> tuple[Any, ...]:
    return tuple(
        Decimal(value) if isinstance(value, str) and _is_number(value) else value for value in values
    )


def _is_number(text: str) -> bool:
    return text.replace("-", "", 1).replace(".", "", 1).isdigit() and "." in text


# Late flights over 60 minutes: 61 twice (the earlier departure first), then 60.
LATE_FLIGHTS = [
    _row("UA#2", "2013-01-01T05:15#EWR", "IAH", "arrived", 61, 60),
    _row("AA#3", "2013-01-04T05:15#JFK", "MIA", "arrived", 61, 15),
    _row("AA#3", "2013-01-01T05:15#JFK", "MIA", "arrived", 60, 16),
]

# 01: delays 2 61 60 15, two of four beyond 15; EWR-IAH 63/2 = 31.50, JFK-MIA 75/2 = 37.50.
# 02: -5 -2 -4, -11/3 = -3.666...; JFK-BQN -3.50 beats LGA-ATL -4.
# 03: nothing has left. 04: 61 and 16, both late; a route without an origin is named with what it has.
DAILY_DELAYS = [
    _row("2013-01-01", 5, 1, "50.00", "34.50", "JFK-MIA", "37.50"),
    _row("2013-01-02", 3, 0, "0.00", "-3.67", "JFK-BQN", "-3.50"),
    _row("2013-01-03", 1, 0, None, None, None, None),
    _row("2013-01-04", 2, 0, "100.00", "38.50", "JFK-MIA", "61.00"),
]

# Arrivals: JFK-BQN -33/2, (none)-IAH 3, JFK-MIA 31/2 with one of two beyond 15, EWR-IAH 71/2 likewise.
ROUTE_LEAGUE = [
    _row(1, "JFK", "BQN", 1, 2, 0, "0.00", "-16.50"),
    _row(2, None, "IAH", 1, 1, 0, "0.00", "3.00"),
    _row(3, "JFK", "MIA", 1, 4, 1, "50.00", "15.50"),
    _row(4, "EWR", "IAH", 1, 2, 0, "50.00", "35.50"),
]

ANSWERS: dict[str, tuple[dict[str, object], list[tuple[Any, ...]]]] = {
    "late_flights": ({}, LATE_FLIGHTS),
    "daily_delays": ({}, DAILY_DELAYS),
    "route_league": ({"min_arrivals": 1}, ROUTE_LEAGUE),
}
"""Query -> (parameters, the rows of its answer)."""
