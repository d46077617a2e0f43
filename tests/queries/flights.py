"""A small flights table, made by hand, with the answers that the shipped queries must give."""

from __future__ import annotations

from datetime import date, datetime
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
        ("_lake_version", pa.string()),
        ("_lake_at", pa.int64()),
        ("_lake_source_at", pa.int64()),
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

# Flight 2 has left and has arrived at midnight; 6 and 8 reached the lake late, 7 just in time, 9 was backfilled.
_LATER = {
    2: [{"status": "departed", "at": "2013-01-01T06:16"}, {"status": "arrived", "at": "2013-01-01T24:00"}],
    5: [],
}
_LAGS_MS = {6: 61_000, 7: 60_000, 8: 3_600_500, 9: 10_000_000}


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
            "history": [{"status": "scheduled", "at": day}, *_LATER.get(number, [])],
            "services": ["wifi"],
            "_lake_version": f"2013-01-01T00:00:00.000/{number:040}",
            "_lake_at": 1_357_000_000_000 + _LAGS_MS.get(number, 200),
            "_lake_source_at": None if number == 9 else 1_357_000_000_000,
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

# First seen on 1 January: N1, N2, N3, N5 (the cancelled flight has no aircraft); N1 and N3 again on the 4th.
AIRCRAFT_RETENTION = [
    _row(date(2013, 1, 1), 0, 4, 4, "100.00"),
    _row(date(2013, 1, 1), 3, 4, 2, "50.00"),
    _row(date(2013, 1, 2), 0, 3, 3, "100.00"),
    _row(date(2013, 1, 3), 0, 1, 1, "100.00"),
]

# AA: 4 on the board, the cancelled one never left, the diverted one never arrived, 16 minutes are late and 15 not.
FLIGHT_FUNNEL = [
    _row("AA", 4, 3, 2, 1, "75.00", "66.67", "50.00"),
    _row("UA", 3, 3, 3, 2, "100.00", "100.00", "66.67"),
    _row("B6", 2, 2, 2, 2, "100.00", "100.00", "100.00"),
    _row("DL", 2, 1, 0, 0, "50.00", "0.00", None),
]

_LABEL = "2013-01-01T00:00:00.000"
_MADE_MS = 1_357_000_000_000
LATE_CHANGES = [
    ("DL#8", "2013-01-02T05:15#LGA", "departed", f"{_LABEL}/{8:040}", _MADE_MS, _MADE_MS + 3_600_500, 3_600_500),
    ("B6#6", "2013-01-02T05:15#JFK", "arrived", f"{_LABEL}/{6:040}", _MADE_MS, _MADE_MS + 61_000, 61_000),
]  # fmt: skip

QUALITY_PROFILE = [
    ("arr_delay", 11, 4, Decimal("36.36"), 7, "-18", "60", True),
    ("carrier", 11, 0, Decimal("0.00"), 4, "AA", "UA", False),
    ("carrier_flight", 11, 0, Decimal("0.00"), 9, "AA#3", "UA#2", False),
    ("day", 11, 0, Decimal("0.00"), 4, "2013-01-01", "2013-01-04", False),
    ("dep_delay", 11, 2, Decimal("18.18"), 8, "-5", "61", False),
    ("dest", 11, 0, Decimal("0.00"), 4, "ATL", "MIA", False),
    ("distance", 11, 0, Decimal("0.00"), 1, "1400", "1400", False),
    ("origin", 11, 1, Decimal("9.09"), 3, "EWR", "LGA", False),
    ("speed_mph", 11, 4, Decimal("36.36"), 1, "420.000", "420.000", True),
    ("status", 11, 0, Decimal("0.00"), 5, "arrived", "scheduled", False),
    ("tailnum", 11, 1, Decimal("9.09"), 8, "N1", "N9", False),
]

_FIRST, _LEFT = "2013-01-01", datetime(2013, 1, 1, 6, 16)
STATUS_HISTORY = [
    ("AA#3", "2013-01-01T05:15#JFK", 1, "scheduled", _FIRST, None, None, True),
    ("AA#4", "2013-01-01T05:15#JFK", 1, "scheduled", _FIRST, None, None, True),
    ("AA#5", "2013-01-01T05:15#JFK", 1, "scheduled", _FIRST, None, None, True),
    ("UA#1", "2013-01-01T05:15#EWR", 1, "scheduled", _FIRST, None, None, True),
    ("UA#2", "2013-01-01T05:15#EWR", 1, "scheduled", _FIRST, "2013-01-01T06:16", None, False),
    ("UA#2", "2013-01-01T05:15#EWR", 2, "departed", "2013-01-01T06:16", "2013-01-01T24:00", _LEFT, False),
    ("UA#2", "2013-01-01T05:15#EWR", 3, "arrived", "2013-01-01T24:00", None, None, True),
]  # fmt: skip

WORST_PER_ORIGIN = [
    ("EWR", 1, "UA#2", "2013-01-01T05:15#EWR", "IAH", 61),
    ("EWR", 2, "UA#1", "2013-01-01T05:15#EWR", "IAH", 2),
    ("JFK", 1, "AA#3", "2013-01-04T05:15#JFK", "MIA", 61),
    ("JFK", 2, "AA#3", "2013-01-01T05:15#JFK", "MIA", 60),
    ("JFK", 3, "AA#5", "2013-01-01T05:15#JFK", "MIA", 15),
    ("LGA", 1, "DL#8", "2013-01-02T05:15#LGA", "ATL", -4),
    (None, 1, "UA#1", "2013-01-04T05:15#None", "IAH", 16),
]

ANSWERS: dict[str, tuple[dict[str, object], list[tuple[Any, ...]]]] = {
    "aircraft_retention": ({}, AIRCRAFT_RETENTION),
    "daily_delays": ({}, DAILY_DELAYS),
    "flight_funnel": ({}, FLIGHT_FUNNEL),
    "late_changes": ({}, LATE_CHANGES),
    "late_flights": ({}, LATE_FLIGHTS),
    "quality_profile": ({"missing_above": "20.5"}, QUALITY_PROFILE),
    "route_league": ({"min_arrivals": 1}, ROUTE_LEAGUE),
    "status_history": ({}, STATUS_HISTORY),
    "worst_per_origin": ({}, WORST_PER_ORIGIN),
}
"""Query -> (parameters, the rows of its answer)."""
