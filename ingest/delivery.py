"""Delivering batches to the handler as Lambda's event source mapping does: retry, bisect, give up, continue.

AWS Lambda developer guide, "Configuring partial batch response with DynamoDB and Lambda" and "Retain discarded
records": a function that reports failures is called again from the lowest of them; a batch that makes the function fail
is halved until the record that does it is alone; records that are too old go to the failure destination, so that the
shard continues. The number of tries is not limited, here or in the mapping that `deploy` makes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from random import Random
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import IngestError, LakeUnavailableError, StoppedError
from ingest.handler import BatchReport, GapKeeper
from ingest.quarantine import Place, digest
from ingest.records import created_ms, lambda_event, number_of
from lake.contract.versions import label_of_stream

log = logging.getLogger(__name__)

MAX_AGE_S: Final = 20 * 3600
"""Records older than this are given up while the failure destination can still name them: the stream keeps
them for 24 hours."""

HALVE_AFTER: Final = 10
"""Tries of a batch that makes the handler fail, before it is halved to find the record that does it."""

RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 30.0
_ATTEMPTS_TO_THE_CAP: Final = 16


@dataclass(frozen=True, slots=True)
class _Failure:
    """A call that failed.

    Attributes:
        at: the index from which the batch must come again.
        why: one sentence.
        is_defect: whether the handler raised what it should not.
    """

    at: int
    why: str
    is_defect: bool = False


@dataclass(frozen=True, slots=True)
class RetryRule:
    """When to give up.

    Attributes:
        retries: tries after the first, of the same first record; None for no limit but the age. A limit gives up in an
            outage what could have waited (docs/invariants.md, "Outages").
        max_age_s: seconds since a record's creation.
        base_s: the first pause's upper bound, seconds; it doubles with each try.
        cap_s: the longest pause's upper bound, seconds.
    """

    retries: int | None = None
    max_age_s: float = MAX_AGE_S
    base_s: float = RETRY_BASE_S
    cap_s: float = RETRY_CAP_S


class Delivery:
    """Delivers the records of shards to one handler."""

    def __init__(
        self,
        process: Callable[[Mapping[str, Any]], BatchReport],
        stream_arn: str,
        failures: Place,
        gaps: GapKeeper,
        *,
        now_ms: Callable[[], int],
        stop: threading.Event,
        random: Random,
        rule: RetryRule | None = None,
    ) -> None:
        """Deliver to `process`, which is `Replicator.process`.

        Args:
            process: applies an event and reports.
            stream_arn: the stream's ARN, which goes into the events.
            failures: the failure destination.
            gaps: where it is noted that records were given up.
            now_ms: the time of day, epoch milliseconds.
            stop: ends the waiting between tries.
            random: for jitter.
            rule: when to give up.
        """
        self._process = process
        self._stream_arn = stream_arn
        self._failures = failures
        self._gaps = gaps
        self._now_ms = now_ms
        self._stop = stop
        self._random = random
        self._rule = rule or RetryRule()

    def deliver(self, shard_id: str, records: Sequence[Mapping[str, Any]]) -> list[BatchReport]:
        """Deliver records of one shard, in order, until each is applied or given up.

        Returns:
            The report of each call.

        Raises:
            LakeUnavailableError: the lake refuses every write. Nothing is given up for that: the shard waits.
            QuarantineError: the failure destination did not take what was given up.
            StoppedError: `stop` was set before the batch was settled.
        """
        reports: list[BatchReport] = []
        self._deliver(shard_id, lambda_event(records, self._stream_arn)["Records"], reports)
        return reports

    def _deliver(self, shard_id: str, batch: Sequence[Mapping[str, Any]], reports: list[BatchReport]) -> None:
        attempts = 0
        retries = self._rule.retries
        while batch:
            failure = self._call(batch, reports)
            if failure is None:
                return
            attempts = 1 if failure.at else attempts + 1
            batch = batch[failure.at :]
            old = sum(1 for _ in takewhile(self._is_too_old, batch))
            exhausted = retries is not None and attempts > retries
            if old or (exhausted and len(batch) == 1):
                self._give_up(shard_id, batch[: old or 1], failure.why)
                batch, attempts = batch[old or 1 :], 0
            elif len(batch) > 1 and (exhausted or (failure.is_defect and attempts > HALVE_AFTER)):
                middle = len(batch) // 2
                self._deliver(shard_id, batch[:middle], reports)
                batch, attempts = batch[middle:], 0
            elif self._stop.wait(self._pause_s(attempts)):
                raise StoppedError("the worker was told to stop while a batch was being tried again")

    def _pause_s(self, attempts: int) -> float:
        longest = min(self._rule.cap_s, self._rule.base_s * 2 ** min(attempts, _ATTEMPTS_TO_THE_CAP))
        return self._random.uniform(0, longest)

    def _call(self, batch: Sequence[Mapping[str, Any]], reports: list[BatchReport]) -> _Failure | None:
        """Call the handler; how it failed, or None."""
        try:
            report = self._process({"Records": batch})
        except LakeUnavailableError:
            raise
        except (IngestError, ClientError, BotoCoreError) as error:
            log.warning("a batch failed and will be tried again: %s", error)
            return _Failure(0, type(error).__name__)
        except Exception as error:  # a defect: its place is worth knowing
            log.exception("a batch failed and will be tried again")
            return _Failure(0, type(error).__name__, is_defect=True)
        reports.append(report)
        if report.failed_from is None:
            return None
        return _Failure([number_of(record) for record in batch].index(report.failed_from), report.failure)

    def _is_too_old(self, record: Mapping[str, Any]) -> bool:
        created = created_ms(record)
        return created is not None and self._now_ms() - created > self._rule.max_age_s * 1000

    def _give_up(self, shard_id: str, batch: Sequence[Mapping[str, Any]], why: str) -> None:
        numbers = [number_of(record) for record in batch]
        first, last = numbers[0] or "0", numbers[-1] or "0"
        label = label_of_stream(self._stream_arn)
        self._failures.put(
            f"{label}/{shard_id}/{first}-{digest(list(batch))}",
            {
                "requestContext": {"condition": "RetryAttemptsExhausted", "reason": why},
                "DDBStreamBatchInfo": {
                    "shardId": shard_id,
                    "startSequenceNumber": first,
                    "endSequenceNumber": last,
                    "batchSize": len(batch),
                    "streamArn": self._stream_arn,
                },
                "payload": {"Records": list(batch)},
            },
        )
        self._gaps.given_up(f"records were given up after every try: {why}")
        log.error("records were given up", extra={"shard_id": shard_id, "first": first, "last": last})
