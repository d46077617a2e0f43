"""The function's heartbeat: how a pipeline without a worker knows that it is caught up.

Lambda reads the stream, so only the function's event source mapping tells whether anything does, and how far behind it
is. Nobody sees that from the lake. So EventBridge Scheduler invokes the function every few minutes for a heartbeat
(`ingest.measures.HEARTBEAT_EVENT`): it looks at the source table's stream and at its own mapping, and stores both in
the lake, where every reader finds them with their age (`lake.contract.evidence`). A command with credentials of the
source account looks in the same way (`dynalake.onlooker`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ingest.checkpoints import Checkpoints
from ingest.errors import SourceError
from ingest.health import HealthStore, moment, note_table_stream
from ingest.mapping import MappingFault, mappings_faults
from ingest.shards import RETENTION_S
from ingest.source import table_stream
from lake.contract.evidence import Reading, ReadingFault, TableStream

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_lambda import LambdaClient

AGE_WINDOW: Final = timedelta(minutes=10)
"""How far back the iterator age is looked for: CloudWatch has it a minute or two late."""


@dataclass(frozen=True, slots=True)
class FunctionSeen:
    """What was seen of a source table's stream and of the function that reads it.

    Attributes:
        table: which stream the table has.
        reading: how far the function has read; None where it could not be told.
        faults: everything that is wrong with the function's mapping.
    """

    table: TableStream
    reading: Reading | None
    faults: tuple[MappingFault, ...]


def look_at_function(
    table: TableStream,
    functions: LambdaClient,
    cloudwatch: CloudWatchClient,
    function: str,
    *,
    pipeline: str,
    profile: str | None = None,
) -> FunctionSeen | None:
    """Look at a function's event source mapping and its iterator age; None where there is no such function.

    Args:
        table: which stream the source table has.
        functions: a Lambda client of the source account.
        cloudwatch: a CloudWatch client of the source account.
        function: the function's name.
        pipeline: the pipeline's name, for the remedies.
        profile: the AWS profile of the source account, for the remedies.

    Raises:
        SourceError: the mapping cannot be looked at.
    """
    try:
        pages = functions.get_paginator("list_event_source_mappings").paginate(FunctionName=function)
        mappings = [mapping for page in pages for mapping in page["EventSourceMappings"]]
        if not mappings:
            functions.get_function_configuration(FunctionName=function)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ResourceNotFoundException":
            return None
        raise SourceError(f"the function {function} cannot be looked at ({code})") from error
    except BotoCoreError as error:
        raise SourceError(f"the function {function} cannot be looked at ({type(error).__name__})") from error
    faults = tuple(mappings_faults(mappings, table.arn, pipeline=pipeline, profile=profile))
    harmful = tuple(
        ReadingFault(fault.message, fault.remedy, stops=fault.effect == "stops reading")
        for fault in faults
        if fault.loses_records
    )
    own: Mapping[str, Any] = next(
        (each for each in mappings if each.get("EventSourceArn") == table.arn),
        mappings[0] if mappings else {},
    )
    behind_s: float | None = None
    try:
        behind_s = iterator_age_s(cloudwatch, function, table.at)
    except (ClientError, BotoCoreError) as error:
        if not harmful:
            # Somebody else, who may see the iterator age, has to say that all is well.
            raise SourceError(
                f"the iterator age of the function {function} cannot be read ({type(error).__name__})"
            ) from error
    reading = Reading(
        by="function",
        at=table.at,
        stream=str(own.get("EventSourceArn") or ""),
        at_end=not harmful,
        behind_s=behind_s,
        faults=harmful,
    )
    return FunctionSeen(table, reading, faults)


def iterator_age_s(cloudwatch: CloudWatchClient, function: str, now_ms: int) -> float | None:
    """How far a function was behind its stream in the newest minute that CloudWatch knows of, seconds.

    Returns:
        None where it was given no records in the last minutes.

    Raises:
        ClientError: CloudWatch refuses.
        BotoCoreError: CloudWatch cannot be reached.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    query: Any = {
        "Id": "age",
        "MetricStat": {
            "Metric": {
                "Namespace": "AWS/Lambda",
                "MetricName": "IteratorAge",
                "Dimensions": [{"Name": "FunctionName", "Value": function}],
            },
            "Period": 60,
            "Stat": "Maximum",
        },
    }
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[query], StartTime=now - AGE_WINDOW, EndTime=now, ScanBy="TimestampDescending"
    )
    values = answer["MetricDataResults"][0]["Values"]
    return values[0] / 1000 if values else None


def store(health: HealthStore, checkpoints: Checkpoints, seen: FunctionSeen) -> None:
    """Store what was seen in the lake, and open a gap where records may have been lost meanwhile.

    Raises:
        ClientError: the lake refuses.
        BotoCoreError: the lake cannot be reached.
    """
    reading = seen.reading
    stopped = reading is None or any(fault.stops for fault in reading.faults)
    is_read = reading is not None and reading.stream == seen.table.arn and not stopped
    before, noted = health.attended_until(), checkpoints.stream()
    note_table_stream(health, checkpoints, seen.table, is_read=is_read)
    if reading is None:
        return
    now = reading.attended_until or reading.at
    if before and now - before > RETENTION_S * 1000:
        health.open_gap(
            f"unattended/{before}",
            "trimmed",
            f"changes after {moment(before)} may be lost (nothing shows that the function read the stream for "
            f"{(now - before) // 3_600_000} hours, and it keeps a record for 24)",
        )
    for fault in seen.faults:
        if fault.unrecorded:
            # It stays a gap after the setting was corrected: only a comparison finds what was skipped.
            health.open_gap(
                f"skipped/{hashlib.sha256(fault.message.encode()).hexdigest()[:16]}",
                "trimmed",
                f"records may have been skipped until {moment(reading.at)} (the function's event source mapping "
                f"{fault.message})",
            )
    if reading.behind_s is not None and reading.behind_s >= RETENTION_S:
        health.open_gap(
            f"behind/{moment(reading.at)[:10]}",
            "trimmed",
            f"changes before {moment(reading.at)} may be lost (the function was {reading.behind_s / 3600:,.0f} hours "
            "behind the stream, which keeps a record for 24)",
        )
    # A first heartbeat that finds the mapping stopped does not know since when: the set-up is what is certain.
    since_setup = noted.noted_at if noted is not None and not before else None
    health.read(reading, attended_until=since_setup)


class Heartbeat:
    """One heartbeat after the other, in the function."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        functions: LambdaClient,
        cloudwatch: CloudWatchClient,
        health: HealthStore,
        checkpoints: Checkpoints,
        *,
        table: str,
        pipeline: str,
        now_ms: Callable[[], int],
    ) -> None:
        """Join the parts.

        Args:
            dynamodb: a DynamoDB client of the source account.
            functions: a Lambda client of the source account.
            cloudwatch: a CloudWatch client of the source account.
            health: where the observations are stored.
            checkpoints: which stream is noted as the one that is read.
            table: the source table's name.
            pipeline: the pipeline's name, for the remedies.
            now_ms: the time of day, epoch milliseconds.
        """
        self._dynamodb, self._functions, self._cloudwatch = dynamodb, functions, cloudwatch
        self._health, self._checkpoints = health, checkpoints
        self._table, self._pipeline, self._now_ms = table, pipeline, now_ms

    def beat(self, function: str) -> tuple[MappingFault, ...]:
        """Look, store what was seen, and give what is wrong with the function's mapping.

        Raises:
            SourceError: the table or the mapping cannot be looked at.
            ClientError: the lake refuses.
            BotoCoreError: the lake cannot be reached.
        """
        table = table_stream(self._dynamodb, self._table, self._now_ms)
        seen = look_at_function(table, self._functions, self._cloudwatch, function, pipeline=self._pipeline)
        if seen is None:
            raise SourceError(f"there is no function {function}")
        store(self._health, self._checkpoints, seen)
        return seen.faults
