"""The metrics that say whether anything reads the stream, and how far behind it is.

`behind`     milliseconds. Of a batch: the age of its oldest record, published before the batch is worked on, so that
             one that fails or times out publishes it too. Of a heartbeat: `STOPPED_MS` while nothing reads the stream.
`Heartbeat`  1 where the function is set up so that it reads every record, 0 where it is not.

The alarms of `ingest/templates/source.yaml` take a missing value of either for the worst, because the function
publishes both with every heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ingest.mapping import MappingFault
from ingest.records import created_ms

BEHIND: Final = "behind"
HEARTBEAT: Final = "Heartbeat"

STOPPED_MS: Final = 24 * 3600 * 1000
"""What a heartbeat reports while nothing reads the stream: as old as a record can become there."""


HEARTBEAT_EVENT: Final[Mapping[str, str]] = {"dynalake": "heartbeat"}
"""What EventBridge Scheduler invokes the function with for a heartbeat (`ingest.heartbeat`)."""


def is_heartbeat(event: object) -> bool:
    """Whether an invocation is for a heartbeat, and not for a batch of records."""
    return event == HEARTBEAT_EVENT


def behind_ms(event: Any, now_ms: int) -> int | None:
    """The age of an event's oldest record, milliseconds; None where no record says when it was made."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    times = [
        at for record in (records if isinstance(records, list | tuple) else ()) if (at := created_ms(record))
    ]
    return max(0, now_ms - min(times)) if times else None


def heartbeat_values(faults: Sequence[MappingFault]) -> dict[str, int]:
    """What a heartbeat publishes: metric -> value.

    Args:
        faults: those of the function's event source mapping (`ingest.mapping`).
    """
    reads = all(fault.effect != "stops reading" for fault in faults)
    sound = not any(fault.loses_records for fault in faults)
    return {HEARTBEAT: int(sound), BEHIND: 0 if reads else STOPPED_MS}
