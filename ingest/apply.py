"""The one rule, on DynamoDB: a change is written if, and only if, its version is newer than the row's.

Why this converges, case by case (design of versions: `lake.contract.versions`):

- A batch is delivered twice, or late, or out of order: its changes are older than, or the same as, what the
  row shows; the condition fails, nothing happens. That is not an error: it is counted as stale.
- A delete arrives before the insert that a backfill is about to write: the delete leaves a tombstone with its
  version; the backfill's write demands an absent row and fails.
- A row was read from the source (backfill, repair, redrive): between the look at the row's version and the
  write, a streamed change may have been applied; then the row's version is no longer the one seen, and the
  write fails. The change that won is newer than the read, or its successors are still on their way.
- A streamed change that precedes the read arrives after the read row was written: the read row's version is
  the one seen, plus a revision, so whatever the reader had seen is older. A change between the two that was
  not yet applied may overwrite the read row for a moment; the changes after it follow in the stream's order,
  and the last one is the source's state.
- Two writers race on one row: DynamoDB evaluates the condition and writes in one atomic step.

The condition reads no row (no extra capacity) and needs no transaction.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from ingest.capacity import CapacityLimit, unlimited
from ingest.errors import LakeUnavailableError, MalformedRecordError
from ingest.lakewriter import LakeWriter, PlainWriter
from ingest.pressure import UNREACHABLE, is_back_pressure, is_no_access
from lake.contract.rows import TOMBSTONE_LIFE_S, VERSION, Change, lake_row
from lake.contract.versions import ABSENT
from lake.errors import aws_error

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

IN_FLIGHT: Final = 16
"""Writes under way at once: a DynamoDB write takes 5 to 10 ms across accounts, so 16 keep one client's CPU busy."""

BACKOFF_BASE_S: Final = 0.05
BACKOFF_CAP_S: Final = 5.0
"""Full jitter between 0 and min(cap, base * 2^attempt) (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

_ATTEMPTS_TO_THE_CAP: Final = 16
"""Doubling for longer changes nothing, and after a thousand attempts, an hour, it would overflow."""

_TOO_LARGE: Final = "item size has exceeded"
_OTHER_KEY_SCHEMA: Final = ("key element does not match", "type mismatch for key", "missing the key")
"""What DynamoDB says to an item whose key is not the table's: then no row would ever fit."""
_INDEX_REFUSALS: Final = (
    (
        re.compile(
            r"empty (?P<type>string|binary) value\. IndexName: (?P<index>[\w.-]+), IndexKey: (?P<key>.{1,255})",
            re.ASCII | re.DOTALL,
        ),
        "is empty",
    ),
    (
        re.compile(
            r"Type mismatch for Index Key (?P<key>.{1,255}) Expected: (?P<want>[A-Z]+) Actual: (?P<have>[A-Z]+) "
            r"IndexName: (?P<index>[\w.-]+)",
            re.ASCII | re.DOTALL,
        ),
        "has the type {have}, not {want}",
    ),
    (
        re.compile(
            r"Size limit exceeded for Index Key (?P<key>.{1,255}) Actual Size: \d+ bytes Max Size: (?P<most>\d+) bytes "
            r"IndexName: (?P<index>[\w.-]+)",
            re.ASCII | re.DOTALL,
        ),
        "is longer than {most} bytes",
    ),
)
"""What DynamoDB says of an item that an index cannot hold, though the table could."""

_UNITS_OF_A_REFUSED_WRITE: Final = 1.0


class Outcome(Enum):
    """What became of a change."""

    APPLIED = "applied"
    STALE = "stale"
    """The row has this version or a newer one: the rule at work."""
    REFUSED = "refused"
    """It can never apply; it belongs in quarantine."""
    FAILED = "failed"
    """It was not applied now and must be tried again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one change.

    Attributes:
        change: the change.
        outcome: what became of it.
        reason: one sentence for REFUSED and FAILED, without an item's values.
        throttled: how many times DynamoDB pushed back.
    """

    change: Change
    outcome: Outcome
    reason: str = ""
    throttled: int = 0


class Applier:
    """Writes changes to one lake table by the rule, many in flight."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        table: str,
        *,
        now_ms: Callable[[], int],
        sleep: Callable[[float], None],
        random: Random,
        in_flight: int = IN_FLIGHT,
        limit: CapacityLimit | None = None,
        tombstone_life_s: int = TOMBSTONE_LIFE_S,
        writer: LakeWriter | None = None,
    ) -> None:
        """Write to `table` with the lake's client.

        Args:
            dynamodb: the lake account's client; its own retries should be few, since this class waits out
                throttling for as long as there is time.
            table: the lake table's name.
            now_ms: the time of day, epoch milliseconds.
            sleep: waits that many seconds.
            random: for jitter.
            in_flight: writes under way at once.
            limit: caps the write units a second (`max_wcu`).
            tombstone_life_s: how long a tombstone stays, seconds.
            writer: how rows are written; by the client's `put_item` if None.
        """
        self._writer = writer or PlainWriter(dynamodb)
        self._table = table
        self._now_ms = now_ms
        self._sleep = sleep
        self._random = random
        self._limit = limit
        self._tombstone_life_s = tombstone_life_s
        self._in_flight = in_flight
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="apply") if in_flight > 1 else None
        self._refuses = False
        self._fits = False
        """Whether a row was accepted, so that the lake table's key is the source's."""

    @property
    def table(self) -> str:
        """The lake table's name."""
        return self._table

    def apply(self, changes: Sequence[Change], remaining_s: Callable[[], float] = unlimited) -> list[Result]:
        """Write changes of distinct keys, in any order.

        Args:
            changes: at most one for each key; the writes overtake one another.
            remaining_s: seconds left; what is not written by then is FAILED, not lost.

        Returns:
            One result for each change, in the same order.

        Raises:
            LakeUnavailableError: the table refuses every write (missing, forbidden, another key schema), or there
                are no valid credentials.
        """
        self._refuses = False
        if self._pool is None:
            return [self._apply(change, remaining_s) for change in changes]
        # Each thread takes the next change as long as there is one: a future for each would cost more than signing.
        pending = deque(enumerate(changes))
        results: dict[int, Result] = {}

        def work() -> None:
            while True:
                try:
                    index, change = pending.popleft()
                except IndexError:
                    return
                try:
                    results[index] = self._apply(change, remaining_s)
                except BaseException:
                    pending.clear()
                    raise

        for done in [self._pool.submit(work) for _ in range(min(self._in_flight, len(changes)))]:
            done.result()
        return [results[index] for index in range(len(changes))]

    def _apply(self, change: Change, remaining_s: Callable[[], float]) -> Result:
        """Write one change, waiting out what is temporary for as long as there is time."""
        throttled = 0
        while True:
            if self._refuses:
                return Result(change, Outcome.FAILED, "the lake table refuses every write", throttled)
            if remaining_s() <= 0 or not (self._limit is None or self._limit.wait(remaining_s)):
                return Result(change, Outcome.FAILED, "no time left in this invocation", throttled)
            outcome, reason = self._try(change)
            if outcome is not Outcome.FAILED:
                return Result(change, outcome, reason, throttled)
            throttled += 1
            pause = self._random.uniform(0, longest_pause_s(throttled))
            if pause >= remaining_s():
                return Result(change, Outcome.FAILED, reason, throttled)
            self._sleep(pause)

    def _try(self, change: Change) -> tuple[Outcome, str]:
        """Write once. FAILED means that it is worth trying again."""
        try:
            self._put(change)
        except MalformedRecordError as error:
            return Outcome.REFUSED, str(error)
        except (ParamValidationError, RecursionError, UnicodeEncodeError):
            # botocore's check of a value is recursive, and half of a surrogate pair cannot be written in UTF-8.
            return Outcome.REFUSED, "a value has not the form that DynamoDB takes"
        except UNREACHABLE as error:
            return Outcome.FAILED, f"the lake could not be reached ({type(error).__name__})"
        except (BotoCoreError, RuntimeError) as error:
            if not is_no_access(error):
                raise
            self._refuses = True
            translated = aws_error(error, side="lake")
            raise LakeUnavailableError(
                f"the lake cannot be called: {translated.message}", remedy=translated.remedy
            ) from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                self._fits = True
                return Outcome.STALE, ""
            if is_back_pressure(error):
                return Outcome.FAILED, f"the lake table pushes back ({code})"
            refusal = _refusal_of_this_item(error, table_fits=self._fits)
            if refusal:
                return Outcome.REFUSED, refusal
            self._refuses = True
            raise _explained(error, self._table) from error
        self._fits = True
        return Outcome.APPLIED, ""

    def _put(self, change: Change) -> None:
        row = lake_row(change, self._now_ms(), self._tombstone_life_s)
        if self._limit is None:
            self._writer.put(self._table, row, condition(change))
            return
        try:
            units = self._writer.put(self._table, row, condition(change), return_units=True)
        except ClientError:
            self._limit.spend(_UNITS_OF_A_REFUSED_WRITE)
            raise
        self._limit.spend(units)


def longest_pause_s(attempts: int) -> float:
    """The upper bound of the pause after so many attempts that failed, seconds."""
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(attempts, _ATTEMPTS_TO_THE_CAP))


def condition(change: Change) -> dict[str, Any]:
    """The rule as the parameters of a conditional write."""
    names = {"#version": VERSION}
    if change.replaces is not None:
        return {
            "ConditionExpression": "#version = :seen",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {":seen": change.replaces},
        }
    if change.read_over is None:
        return {
            "ConditionExpression": "attribute_not_exists(#version) OR #version < :version",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {":version": {"S": change.version}},
        }
    if change.read_over == ABSENT:
        return {"ConditionExpression": "attribute_not_exists(#version)", "ExpressionAttributeNames": names}
    return {
        "ConditionExpression": "#version = :seen",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":seen": {"S": change.read_over}},
    }


def _refusal_of_this_item(error: ClientError, *, table_fits: bool) -> str | None:
    """Why this item, and not every item, can never be written; None where it is another error.

    `table_fits` is whether the table is known to have the source's key.
    """
    details = error.response["Error"]
    message = details.get("Message", "").lower()
    if details["Code"] == "SerializationException":
        return "DynamoDB cannot read the item (SerializationException)"
    if details["Code"] == "ItemCollectionSizeLimitExceededException":
        return (
            "the lake table has a local secondary index, and items of one partition key may then have 10 GB in all: "
            "replicate to a lake table without local secondary indexes"
        )
    if details["Code"] != "ValidationException":
        return None
    if any(said in message for said in _OTHER_KEY_SCHEMA):
        return "the record's key is not that of the lake table" if table_fits else None
    if _TOO_LARGE in message:
        return (
            "with dynalake's metadata the item would be larger than DynamoDB's 400 KB: "
            "make it smaller in the source, then redrive"
        )
    return _refusal_by_an_index(details.get("Message", "")) or (
        "DynamoDB refuses the item as invalid (ValidationException)"
    )


def _refusal_by_an_index(message: str) -> str | None:
    """Which index of the lake table cannot hold the item, and why; None where the message is of something else.

    Of the message only names and types are repeated.
    """
    for pattern, why in _INDEX_REFUSALS:
        found = pattern.search(message)
        if found:
            parts = found.groupdict()
            return (
                f"the index {parts['index']!r} of the lake table takes no item whose {parts['key']!r} "
                f"{why.format(**parts)}: correct the item in the source or delete the index, then redrive"
            )
    return None


def _explained(error: ClientError, table: str) -> LakeUnavailableError:
    code = error.response["Error"]["Code"]
    match code:
        case "ResourceNotFoundException":
            return LakeUnavailableError(
                f"the lake table {table!r} does not exist", remedy="run `dynalake setup`"
            )
        case "AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException":
            return LakeUnavailableError(
                f"the lake account refuses writes to {table!r} ({code})",
                remedy="check the role and its ExternalId",
            )
        case "ValidationException":
            return LakeUnavailableError(
                f"the lake table {table!r} has another key schema than the source table",
                remedy="give the pipeline another lake table (lake.table)",
            )
    return LakeUnavailableError(
        f"the lake table {table!r} refuses writes ({code})", remedy=aws_error(error, side="lake").remedy
    )
