"""Which worker reads a pipeline's stream: one at a time, so that another can stand by and take over.

The lease is an entry in the checkpoint table, `lease`, with its `owner` and a `counter` that the owner raises
again and again. Nobody compares the clocks of different hosts: a worker takes another's lease only after it has
itself watched the counter stand still for the lease's whole duration; or at once, where the owner was a process
of the same host that is no more.

The lease is for economy, and for one truthful word about the stream's state; it is not what makes replication
safe. An owner that slept through its lease may still deliver a batch while another reads on; the rule makes
that a repetition, and nothing worse.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ingest.pressure import is_back_pressure
from lake.contract.health import ENTRY, PIPELINE

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

LEASE_S: Final = 60.0
"""How long a counter must stand still before another worker takes over: what a lost host may add to the lag.
Longer than a call to AWS with all its tries, during which an owner cannot renew."""

RENEWALS: Final = 4
"""Renewals within the duration, so that one that fails does not lose the lease."""

HELD: Final = 2 / 3
"""The share of its duration after which an owner that cannot renew stops: the rest is for the batch in hand, so that
it has ended when another worker takes over."""

LOOKS: Final = 12
"""Looks at another's lease within its duration."""

_ENTRY: Final = "lease"


@dataclass(frozen=True, slots=True)
class Owner:
    """A worker's name: the host's name, the process's number, and a word that no other worker has.

    Attributes:
        host: the host's name, without a slash.
        process: the process's number on that host.
        word: anything random.
    """

    host: str
    process: int
    word: str

    def __str__(self) -> str:
        return f"{self.host}/{self.process}/{self.word}"


class Lease:
    """One worker's hold, or lack of it, on one pipeline."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        pipeline: str,
        owner: Owner,
        monotonic: Callable[[], float],
        *,
        duration_s: float = LEASE_S,
        is_alive: Callable[[int], bool] | None = None,
    ) -> None:
        """Compete for the lease in the name of `owner`.

        Args:
            dynamodb: the lake account's client.
            table: the checkpoint table.
            pipeline: the pipeline, named by its lake table.
            owner: this worker.
            monotonic: a monotonic clock, seconds.
            duration_s: the lease's duration, seconds; all workers of a pipeline share it.
            is_alive: whether a process of this host is alive; asks the operating system if None.
        """
        self._dynamodb = dynamodb
        self._table = table
        self._key: dict[str, Any] = {PIPELINE: {"S": pipeline}, ENTRY: {"S": _ENTRY}}
        self._owner = owner
        self._monotonic = monotonic
        self._duration_s = duration_s
        self._is_alive = is_alive or process_is_alive
        self._counter: int | None = None
        self._renewed_at = 0.0
        self._watched: tuple[str, int] | None = None
        self._watched_since = 0.0
        self._other_lives = False

    @property
    def look_s(self) -> float:
        """Seconds to wait between two tries of `take`."""
        return self._duration_s / LOOKS

    @property
    def other(self) -> str | None:
        """Who held the lease when this worker last looked; None where it holds the lease itself."""
        return self._watched[0] if self._watched else None

    @property
    def is_worked_by_another(self) -> bool:
        """Whether another owner was seen to renew the lease: then it lives, and waiting may take long."""
        return self._other_lives

    def take(self) -> bool:
        """Take the lease if it is free, given back, or its owner is gone; otherwise watch it.

        Raises:
            ClientError: the checkpoint table refuses.
        """
        now = self._monotonic()
        item = self._dynamodb.get_item(TableName=self._table, Key=self._key, ConsistentRead=True).get("Item")
        owner = item["owner"]["S"] if item else ""
        counter = int(item["counter"]["N"]) if item else 0
        if self._watched != (owner, counter):
            self._other_lives = self._watched is not None and self._watched[0] == owner
            self._watched, self._watched_since = (owner, counter), now
        gone = (
            now - self._watched_since >= self._duration_s
            or self._died_here(owner)
            or owner == str(self._owner)
        )
        if owner and not gone:
            return False
        if not self._write(str(self._owner), counter + 1, (owner, counter) if item else None):
            return False
        self._counter, self._renewed_at = counter + 1, now
        self._watched, self._other_lives = None, False
        return True

    def keep(self) -> bool:
        """Renew the lease when that is due.

        Returns:
            Whether this worker still holds it: False once another has it, or once it could not be renewed for
            most of its duration.

        Raises:
            ClientError: the checkpoint table refuses for another reason than pressure.
        """
        now = self._monotonic()
        if self._counter is None:
            return False
        if now - self._renewed_at < self._duration_s / RENEWALS:
            return True
        try:
            kept = self._write(str(self._owner), self._counter + 1, (str(self._owner), self._counter))
        except ClientError as error:
            if not is_back_pressure(error):
                raise
            return self._may_go_on()
        except BotoCoreError:
            return self._may_go_on()
        if kept:
            self._counter, self._renewed_at = self._counter + 1, now
        else:
            self._counter = None
        return kept

    def release(self) -> None:
        """Give the lease back, so that another worker need not wait for it to run out."""
        if self._counter is not None:
            self._write("", self._counter + 1, (str(self._owner), self._counter))
            self._counter = None

    def _may_go_on(self) -> bool:
        """Without a renewal, by the clock as it is now: the call that failed may have lasted."""
        return self._monotonic() - self._renewed_at < self._duration_s * HELD

    def _died_here(self, owner: str) -> bool:
        host, _, rest = owner.partition("/")
        process = rest.partition("/")[0]
        return host == self._owner.host and process.isdigit() and not self._is_alive(int(process))

    def _write(self, owner: str, counter: int, seen: tuple[str, int] | None) -> bool:
        """Write the lease if it is still as it was seen; `seen` None where it was absent."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Item": {**self._key, "owner": {"S": owner}, "counter": {"N": str(counter)}},
            "ConditionExpression": "attribute_not_exists(#entry)",
            "ExpressionAttributeNames": {"#entry": ENTRY},
        }
        if seen is not None:
            request |= {
                "ConditionExpression": "#owner = :owner AND #counter = :counter",
                "ExpressionAttributeNames": {"#owner": "owner", "#counter": "counter"},
                "ExpressionAttributeValues": {":owner": {"S": seen[0]}, ":counter": {"N": str(seen[1])}},
            }
        try:
            self._dynamodb.put_item(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True


def process_is_alive(process: int) -> bool:
    """Whether a process of this host is alive."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
