"""How fresh a lake table is: the source's stream asked for what is new, the lake's rows for their versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from expectations.bulk import Policy
from expectations.freshness import Freshness
from expectations.parity import Reader
from ingest.errors import StreamBusyError, TrimmedError
from ingest.shards import Shard, StreamReader
from ingest.wire import from_boto3
from lake.contract.rows import version_of
from lake.contract.versions import is_newer, streamed

CALLS: Final = 300
"""GetRecords of one look: a stream of a day's changes may need thousands, and the newest tell enough."""

EMPTY_ANSWERS: Final = 3
"""In a row, of one shard: its end. An open shard may return nothing while records remain behind."""

ROWS_AT_ONCE: Final = 100

SECOND_LOOK: Final = 100
"""If no more than this many records wait, they are looked at once more before they count."""


@dataclass(slots=True)
class _Seen:
    """What was seen of all shards.

    Attributes:
        waiting: records that the lake lacks, and after which no record of their shard was applied.
        since: epoch milliseconds of the oldest of them.
        some: the first of them, to be looked at once more.
    """

    waiting: int = 0
    since: int | None = None
    newest_at: int | None = None
    calls: int = 0
    to_end: bool = True
    some: list[Mapping[str, Any]] = field(default_factory=list)


def look_at_stream(
    reader: StreamReader,
    positions: Mapping[str, str | None],
    finished: set[str],
    lake: Reader,
    policy: Policy,
    *,
    now_ms: Callable[[], int],
    sleep: Callable[[float], None],
    lake_newest_at: int | None,
    limit_s: float,
) -> Freshness:
    """Find the changes that the lake does not have.

    Each shard is read from where a worker's checkpoint is, else from its beginning. Of its records, those wait whose
    lake row is older than they are and after which no record of the shard was applied: a shard is worked off in
    order, so what is passed over does not wait, it was given up (a gap). A change that was made a moment ago gets
    a second.

    Args:
        reader: the source's stream.
        positions: shard id -> the last sequence number known to be applied.
        finished: shards known to be applied to their end.
        lake: reads lake rows by key.
        policy: what the lake may see of a key or an item; None where it refuses it.
        now_ms: the time of day, epoch milliseconds.
        sleep: waits that many seconds.
        lake_newest_at: epoch milliseconds of the newest change known to be in the lake.
        limit_s: seconds that a change may wait.

    Raises:
        StreamError: the stream cannot be read.
        SourceError: the lake cannot be read.
    """
    seen = _Seen()
    listing = reader.listing()
    shards = dict(listing.shards)
    for name in positions.keys() - shards.keys() - finished:
        if reader.exists(name, positions[name]):  # a list of shards may miss some
            shards[name] = Shard(name, None, closed=False)
    parents = {shard.parent for shard in shards.values()}
    if listing.enabled and any(shard.closed and shard.id not in parents for shard in shards.values()):
        seen.to_end = False  # its child is not listed yet
    for shard in sorted(shards.values(), key=lambda shard: shard.closed):
        if shard.id not in finished:
            _look_at_shard(reader, shard, positions.get(shard.id), lake, policy, seen)
    if 0 < seen.waiting <= SECOND_LOOK:
        sleep(1.0)
        late = _applied(seen.some, reader.label, lake, policy)
        still = [record for record, is_applied in zip(seen.some, late, strict=True) if is_applied is False]
        seen.waiting, seen.since = len(still), min(map(_created, still), default=None)
    return Freshness(
        at=now_ms(),
        source_newest_at=seen.newest_at,
        lake_newest_at=lake_newest_at,
        waiting=seen.waiting,
        waiting_since=seen.since,
        read_to_end=seen.to_end,
        limit_s=limit_s,
    )


def _look_at_shard(
    reader: StreamReader,
    shard: Shard,
    after: str | None,
    lake: Reader,
    policy: Policy,
    seen: _Seen,
) -> None:
    empties = waiting = 0
    since: int | None = None
    some: list[Mapping[str, Any]] = []
    try:
        iterator: str | None = reader.iterator(shard.id, after)
        while iterator is not None and empties < EMPTY_ANSWERS:
            if seen.calls >= CALLS:
                seen.to_end = False
                return
            seen.calls += 1
            records, iterator = reader.records(iterator)
            empties = 0 if records else empties + 1
            for record, is_applied in zip(
                records, _applied(records, reader.label, lake, policy), strict=True
            ):
                seen.newest_at = max(seen.newest_at or 0, _created(record))
                if is_applied is None:
                    continue
                if is_applied:
                    waiting, since, some = 0, None, []
                    continue
                waiting, since = waiting + 1, since or _created(record)
                if waiting <= SECOND_LOOK:
                    some.append(record)
    except StreamBusyError:
        seen.to_end = False
    except TrimmedError:
        pass  # the worker notes the gap; what is gone does not wait
    if since is not None:
        seen.waiting, seen.since = seen.waiting + waiting, min(since, seen.since or since)
        seen.some += some


def _applied(
    records: Sequence[Mapping[str, Any]], label: str, lake: Reader, policy: Policy
) -> list[bool | None]:
    """Of each record, whether its lake row is of its version or a newer one.

    None for a record that the policy refuses: it goes to quarantine and does not wait.
    """
    found: list[bool | None] = []
    for start in range(0, len(records), ROWS_AT_ONCE):
        some = records[start : start + ROWS_AT_ONCE]
        keys = [policy(from_boto3(record["dynamodb"]["Keys"])) for record in some]
        rows = iter(lake([key for key in keys if key is not None]))
        for record, key in zip(some, keys, strict=True):
            if key is None:
                found.append(None)
                continue
            version = streamed(label, record["dynamodb"]["SequenceNumber"])
            is_applied = not is_newer(version, version_of(next(rows)))
            image = record["dynamodb"].get("NewImage")
            refused = not is_applied and image is not None and policy(from_boto3(image)) is None
            found.append(None if refused else is_applied)
    return found


def _created(record: Mapping[str, Any]) -> int:
    created: datetime = record["dynamodb"]["ApproximateCreationDateTime"]
    return round(created.timestamp() * 1000)
