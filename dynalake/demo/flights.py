"""The flights of New York, January 2013, and what happened to each of them, as writes to a DynamoDB table.

Everything is the data's own: a flight is on the board as scheduled, it departs late or is cancelled, it
arrives or is diverted, and a cancelled flight is taken off the board. At noon of the first day the airlines'
program is released anew, as programs are: from then on an arrival has an attribute that did not exist before
(`speed_mph`), and `sched_arr`, a number so far, is written as text.
"""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import Any, Final, Literal

TABLE: Final = "flights"
KEY: Final = (("carrier_flight", "S"), ("departs", "S"))

_DATA: Final = "flights-2013-01.csv.xz"
_MISSING: Final = ("", "NA")
NEW_RELEASE: Final = datetime(2013, 1, 1, 12, 0)
_OFF_THE_BOARD_AFTER: Final = timedelta(hours=1)

Kind = Literal["insert", "update", "delete"]


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight as published.

    Attributes:
        carrier: two letters.
        number: the flight's number.
        origin: the airport it leaves.
        dest: the airport it is bound for.
        tailnum: the aircraft; None where unknown.
        scheduled: local time of the scheduled departure.
        sched_arr: local time of the scheduled arrival, HHMM as a number.
        dep_delay: minutes; None where it never left.
        arr_time: local time of arrival, HHMM as a number; None where it never arrived.
        arr_delay: minutes; None where it never arrived at its destination as planned.
        air_time: minutes in the air; likewise.
        distance: miles.
    """

    carrier: str
    number: int
    origin: str
    dest: str
    tailnum: str | None
    scheduled: datetime
    sched_arr: int
    dep_delay: int | None
    arr_time: int | None
    arr_delay: int | None
    air_time: int | None
    distance: int

    @property
    def key(self) -> dict[str, Any]:
        """The item's key."""
        return {
            "carrier_flight": {"S": f"{self.carrier}{self.number}"},
            "departs": {"S": f"{self.scheduled:%Y-%m-%dT%H:%M}#{self.origin}"},
        }

    def on_the_board(self) -> dict[str, Any]:
        """The item when the flight is scheduled and nothing has happened yet."""
        item = {
            **self.key,
            "carrier": {"S": self.carrier},
            "flight": {"N": str(self.number)},
            "origin": {"S": self.origin},
            "dest": {"S": self.dest},
            "day": {"S": f"{self.scheduled:%Y-%m-%d}"},
            "sched_arr": {"N": str(self.sched_arr)},
            "distance": {"N": str(self.distance)},
            "status": {"S": "scheduled"},
            "history": {"L": []},
        }
        if self.tailnum:
            item["tailnum"] = {"S": self.tailnum}
        return item


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the source table.

    Attributes:
        at: local time at which it happened.
        kind: insert, update or delete.
        key: the item's key.
        values: for an insert the item, for an update the attributes to set.
        history: for an update, the entry to append to the flight's history.
    """

    at: datetime
    kind: Kind
    key: Mapping[str, Any]
    values: Mapping[str, Any]
    history: Mapping[str, Any] | None = None


def flights() -> Iterator[Flight]:
    """The month's flights, in order of day, as published."""
    packed = resources.files(__package__).joinpath("data", _DATA).read_bytes()
    for row in csv.DictReader(io.StringIO(lzma.decompress(packed).decode())):
        hour, minute = divmod(int(row["sched_dep_time"]), 100)
        midnight = datetime(int(row["year"]), int(row["month"]), int(row["day"]))
        yield Flight(
            carrier=row["carrier"],
            number=int(row["flight"]),
            origin=row["origin"],
            dest=row["dest"],
            tailnum=None if row["tailnum"] in _MISSING else row["tailnum"],
            scheduled=midnight + timedelta(hours=hour, minutes=minute),
            sched_arr=int(row["sched_arr_time"]),
            dep_delay=_number(row["dep_delay"]),
            arr_time=_number(row["arr_time"]),
            arr_delay=_number(row["arr_delay"]),
            air_time=_number(row["air_time"]),
            distance=int(row["distance"]),
        )


def life_of(flight: Flight) -> Iterator[Write]:
    """What happens to a flight after it was put on the board."""
    if flight.dep_delay is None:
        yield _update(flight, flight.scheduled, "cancelled", f"{flight.scheduled:%Y-%m-%dT%H:%M}", {})
        yield Write(flight.scheduled + _OFF_THE_BOARD_AFTER, "delete", flight.key, {})
        return
    left = flight.scheduled + timedelta(minutes=flight.dep_delay)
    departure = {"dep_delay": {"N": str(flight.dep_delay)}}
    yield _update(flight, left, "departed", f"{left:%Y-%m-%dT%H:%M}", departure)
    if flight.air_time is None:
        yield _update(flight, left + timedelta(hours=6), "diverted", f"{left:%Y-%m-%d}", {})
        return
    landed = left + timedelta(minutes=flight.air_time)
    hour, minute = divmod(flight.arr_time or 0, 100)
    arrival = {"arr_delay": {"N": str(flight.arr_delay)}, "air_time": {"N": str(flight.air_time)}}
    if landed >= NEW_RELEASE:
        speed = (Decimal(flight.distance * 60) / flight.air_time).quantize(Decimal("0.01"))
        arrival["speed_mph"] = {"N": str(speed)}
    yield _update(flight, landed, "arrived", f"{landed:%Y-%m-%d}T{hour:02}:{minute:02}", arrival)


def _update(flight: Flight, at: datetime, status: str, when: str, values: Mapping[str, Any]) -> Write:
    after = {"status": {"S": status}, **values}
    if at >= NEW_RELEASE:
        hour, minute = divmod(flight.sched_arr, 100)
        after["sched_arr"] = {"S": f"{hour:02}:{minute:02}"}
    entry = {"M": {"status": {"S": status}, "at": {"S": when}}}
    return Write(at, "update", flight.key, after, entry)


def _number(text: str) -> int | None:
    return None if text in _MISSING else int(float(text))


@dataclass(frozen=True, slots=True)
class Story:
    """What the demo plays.

    Attributes:
        before: items that are in the table before the pipeline exists.
        live: the writes while it runs, in order of time.
    """

    before: list[dict[str, Any]]
    live: list[Write]

    def from_moment(self, moment: datetime) -> Story:
        """The same story joined later: what was written before then is in the table already."""
        items = {_identity(item): dict(item) for item in self.before}
        for write in self.live:
            if write.at >= moment:
                continue
            if write.kind == "delete":
                items.pop(_identity(write.key), None)
                continue
            item = items.setdefault(_identity(write.key), {})
            item |= write.values
            if write.history is not None:
                item["history"] = {"L": [*item["history"]["L"], {**write.history}]}
        return Story(list(items.values()), [write for write in self.live if write.at >= moment])


def _identity(key: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(key[name]["S"] for name, _ in KEY)


BOARD_DAYS: Final = 3
"""The flights of 1 to 3 January are on the board when the pipeline is set up."""

NEW_FLIGHTS: Final = 400
"""Flights of 4 January that are put on the board while the pipeline runs."""


EVENING: Final = datetime(2013, 1, 1, 22, 0)
"""The story ends while some of the day's flights are still in the air."""


def story(board_days: int = BOARD_DAYS, new_flights: int = NEW_FLIGHTS) -> Story:
    """1 January until ten in the evening: 2,699 flights on the board, 400 new ones, and what happened to them.

    Cancellations of all three days are known, and taken off the board, on the first.

    Args:
        board_days: the first days of January whose flights are on the board.
        new_flights: flights of the day after that are put on the board meanwhile.
    """
    everything = list(flights())
    board = [flight for flight in everything if flight.scheduled.day <= board_days]
    coming = [flight for flight in everything if flight.scheduled.day == board_days + 1][:new_flights]
    live: list[Write] = []
    for flight in board:
        early = timedelta(days=flight.scheduled.day - 1)
        if not early or flight.dep_delay is None:
            live.extend(replace(write, at=write.at - early) for write in life_of(flight))
    live = [write for write in live if write.at < EVENING]
    first = min(write.at for write in live)
    step = (EVENING - first) / max(1, new_flights)
    live.extend(
        Write(first + step * number, "insert", flight.key, flight.on_the_board())
        for number, flight in enumerate(coming)
    )
    live.sort(key=lambda write: write.at)
    return Story([flight.on_the_board() for flight in board], live)
