"""What a pipeline is doing, as far as both accounts know, and as far as these credentials may look.

Looking changes nothing but the pipeline's stored health: what was seen of the source's stream and of the function's
mapping is stored with its time, and so is a gap where changes may be lost, such as in batches that Lambda gave up; so
no reader after this one takes the lake for complete.

What cannot be seen is None, and `unseen` says why: a status that fails because one number is missing is of no use
at night.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from dynalake.aws import Account
from dynalake.config import PipelineConfig
from dynalake.costs import CHECK_METRICS, FUNCTION_METRICS, Monthly, Usage, monthly
from dynalake.deploy.names import LAMBDA_FAILURES, alarm_prefix, function_name
from dynalake.errors import AccountError
from dynalake.metrics import NAMESPACE, Point, Wanted, points_of
from dynalake.pipeline import Pipeline
from ingest.checkpoints import Checkpoints
from ingest.errors import IngestError
from ingest.quarantine import bucket_of
from ingest.shelves import S3Shelf, shelf_of
from lake.contract.health import Health
from lake.errors import explained

RECENT_S: Final = 900
DAY_S: Final = 86_400
LAST_CHECKS: Final = 20
"""Checks looked through for the last that compared rows, and the last that judged freshness."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What `dynalake check` last found.

    Attributes:
        value: the ratio, or seconds.
        at_ms: when, epoch milliseconds.
    """

    value: float
    at_ms: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the last check ended.

    Attributes:
        verdict: "pass", "warn", "fail" or "could not check".
        failed: expectations that failed or could not be judged.
        at_ms: when, epoch milliseconds.
    """

    verdict: str
    failed: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class PutAway:
    """What waits for a redrive.

    Attributes:
        quarantine: documents of records that can never apply.
        failed: documents of records that a worker gave up.
        given_up: documents of batches that Lambda gave up.
    """

    quarantine: int
    failed: int
    given_up: int

    @property
    def all(self) -> int:
        """All of them."""
        return self.quarantine + self.failed + self.given_up


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the lake table takes, in units a second over the last minutes.

    Attributes:
        used: units a second, the mean of the last full minutes; None where CloudWatch knows none.
        provisioned: units a second; None on demand.
    """

    used: float | None
    provisioned: int | None

    @property
    def share(self) -> float | None:
        """Used of provisioned."""
        return self.used / self.provisioned if self.used is not None and self.provisioned else None


@dataclass
class Status:
    """A pipeline's status; what could not be seen is None.

    Attributes:
        pipeline: its name.
        source_table: the source table's name.
        lake_table: the lake table's name.
        by_function: whether a function replicates it, and not a worker.
        state: that of the health.
        health: what is known about the pipeline (`lake.contract.evidence`).
        attributes: how many attributes the catalogue knows.
        lag_s: (median, 99 %) seconds from the source to the lake, over the last quarter of an hour.
        iterator_age_s: how far the function is behind the stream, seconds.
        last_change_ms: the newest change applied, epoch milliseconds; of a function, to five minutes.
        rows: the lake table's rows, tombstones included, by DynamoDB's own count.
        source_rows: the source table's, likewise.
        tombstones: of the lake table, as last checked; counted now where that was asked for.
        parity: the share of rows that differed, as last checked.
        freshness: seconds, as last checked.
        verdict: how the last check ended.
        put_away: what waits for a redrive.
        alarms: name -> "OK", "ALARM" or "INSUFFICIENT_DATA".
        writes: of the lake table.
        reads: of the lake table.
        cost: a month's, an estimate.
        unseen: what could not be looked at, and why.
    """

    pipeline: str
    source_table: str
    lake_table: str
    by_function: bool
    state: str
    health: Health
    attributes: int
    lag_s: tuple[float, float] | None = None
    iterator_age_s: float | None = None
    last_change_ms: int | None = None
    rows: int | None = None
    source_rows: int | None = None
    tombstones: int | None = None
    parity: Checked | None = None
    freshness: Checked | None = None
    verdict: Verdict | None = None
    put_away: PutAway | None = None
    alarms: dict[str, str] = field(default_factory=dict)
    writes: Capacity | None = None
    reads: Capacity | None = None
    cost: Monthly | None = None
    unseen: list[str] = field(default_factory=list)


class Watch:
    """Looks at one pipeline, as often as asked."""

    def __init__(
        self, name: str, config: PipelineConfig, source: Account, lake: Account, pipeline: Pipeline
    ) -> None:
        """Look at this pipeline over these accounts."""
        self._name = name
        self._config = config
        self._source = source
        self._lake = lake
        self._pipeline = pipeline
        self._mappings: list[str] = []

    def look(self, *, counts_tombstones: bool = False) -> Status:
        """The status now.

        Args:
            counts_tombstones: whether the lake table is scanned to count them, which costs read units.
        """
        health = self._pipeline.health()
        status = Status(
            pipeline=self._name,
            source_table=self._config.source.table,
            lake_table=self._config.lake_table,
            by_function=False,
            state=health.state,
            health=health,
            attributes=len({seen.attribute for seen in self._pipeline.schema_history()}),
            last_change_ms=health.newest_source_at,
        )
        usage: dict[str, Any] = {}
        with _seeing("the lake table", status):
            self._of_lake_table(status, usage, counts_tombstones)
        with _seeing("the lake account's metrics", status):
            self._of_lake_metrics(status, usage)
        with _seeing("the checks", status):
            self._of_checks(status)
        with _seeing("the source account, and so its rows, function, metrics, quarantine and alarms", status):
            _ = self._source.session
            self._of_source(status, usage)
        status.health = self._pipeline.health()  # what was found in the source account may have opened a gap
        status.state = status.health.state
        status.cost = monthly(Usage(**usage))
        return status

    def _of_source(self, status: Status, usage: dict[str, Any]) -> None:
        with _seeing("the source table", status):
            status.source_rows = self._pipeline.source_table.approximate_rows
        with _seeing("the function", status):
            self._of_function(status, usage)
        with _seeing("the source account's metrics", status):
            self._of_source_metrics(status, usage)
        with _seeing("the quarantine", status):
            status.put_away = self._put_away()
            if status.put_away.given_up:
                # Lambda gives up without telling the function: whoever finds it out notes it.
                self._pipeline.health_store.given_up(
                    "batches that Lambda gave up are in the quarantine's bucket"
                )
        with _seeing("the alarms", status):
            self._of_alarms(status, usage)

    def _of_lake_table(self, status: Status, usage: dict[str, Any], counts_tombstones: bool) -> None:
        dynamodb = self._lake.dynamodb()
        table: Mapping[str, Any] = dynamodb.describe_table(TableName=self._config.lake_table)["Table"]
        status.rows = int(table.get("ItemCount", 0))
        usage["table_bytes"] = int(table.get("TableSizeBytes", 0))
        read, write = _provisioned(table)
        usage["provisioned"] = (read, write) if read is not None and write is not None else None
        status.writes, status.reads = Capacity(None, write), Capacity(None, read)
        if counts_tombstones:
            pages = dynamodb.get_paginator("scan").paginate(
                TableName=self._config.lake_table,
                Select="COUNT",
                FilterExpression="attribute_exists(#deleted)",
                ExpressionAttributeNames={"#deleted": "_lake_deleted"},
            )
            status.tombstones = sum(page["Count"] for page in pages)

    def _of_function(self, status: Status, usage: dict[str, Any]) -> None:
        functions = self._source.functions()
        try:
            function = functions.get_function_configuration(FunctionName=function_name(self._name))
        except functions.exceptions.ResourceNotFoundException:
            return
        status.by_function = True
        usage["memory_mb"] = function.get("MemorySize", 0)
        usage["metrics"], usage["dashboards"] = len(FUNCTION_METRICS) + len(CHECK_METRICS), 1
        mappings = functions.list_event_source_mappings(FunctionName=function["FunctionName"])
        self._mappings = [mapping["UUID"] for mapping in mappings["EventSourceMappings"]]

    def _of_source_metrics(self, status: Status, usage: dict[str, Any]) -> None:
        function = {"FunctionName": function_name(self._name)}
        service = {"service": self._name}
        memory_gb = usage.pop("memory_mb", 0) / 1024
        wanted = {
            "lag p50": Wanted(NAMESPACE, "lag", service, "p50", RECENT_S, RECENT_S),
            "lag p99": Wanted(NAMESPACE, "lag", service, "p99", RECENT_S, RECENT_S),
            "applied": Wanted(NAMESPACE, "applied", service, "Sum", DAY_S, 300),
            "age": Wanted("AWS/Lambda", "IteratorAge", function, "Maximum", 300, 60),
            "invocations": Wanted("AWS/Lambda", "Invocations", function, "Sum", DAY_S, 3600),
            "duration": Wanted("AWS/Lambda", "Duration", function, "Sum", DAY_S, 3600),
            "logs": Wanted(
                "AWS/Logs",
                "IncomingBytes",
                {"LogGroupName": f"/aws/lambda/{function_name(self._name)}"},
                "Sum",
                DAY_S,
                3600,
            ),
        }
        now = self._pipeline.now_ms()
        found = points_of(self._source.cloudwatch(), wanted, now)
        if not status.by_function:
            return
        if found["lag p50"] and found["lag p99"]:
            status.lag_s = (found["lag p50"][0].value / 1000, found["lag p99"][0].value / 1000)
        if found["age"]:
            status.iterator_age_s = found["age"][0].value / 1000
        applied = [point.at_ms for point in found["applied"] if point.value]
        status.last_change_ms = max([*applied[:1], status.last_change_ms or 0]) or None
        usage["invocations"] = _sum(found["invocations"])
        usage["gb_seconds"] = memory_gb * _sum(found["duration"]) / 1000
        usage["log_bytes"] = _sum(found["logs"])

    def _of_lake_metrics(self, status: Status, usage: dict[str, Any]) -> None:
        table = {"TableName": self._config.lake_table}
        wanted = {
            "writes": Wanted("AWS/DynamoDB", "ConsumedWriteCapacityUnits", table, "Sum", 300, 60),
            "reads": Wanted("AWS/DynamoDB", "ConsumedReadCapacityUnits", table, "Sum", 300, 60),
            "day's writes": Wanted("AWS/DynamoDB", "ConsumedWriteCapacityUnits", table, "Sum", DAY_S, 3600),
            "day's reads": Wanted("AWS/DynamoDB", "ConsumedReadCapacityUnits", table, "Sum", DAY_S, 3600),
        }
        found = points_of(self._lake.cloudwatch(), wanted, self._pipeline.now_ms())
        usage["write_units"], usage["read_units"] = _sum(found["day's writes"]), _sum(found["day's reads"])
        if status.writes and status.reads:
            status.writes = Capacity(_rate(found["writes"]), status.writes.provisioned)
            status.reads = Capacity(_rate(found["reads"]), status.reads.provisioned)

    def _of_checks(self, status: Status) -> None:
        """What the last checks found; not every check looks at both."""
        from expectations.history import PREFIX, check_from

        checkpoints = Checkpoints(
            self._lake.dynamodb(), self._config.checkpoint_table, self._config.lake_table
        )
        for check in map(check_from, checkpoints.newest(PREFIX, LAST_CHECKS)):
            if status.verdict is None:
                status.verdict = Verdict(check.verdict, check.failed, check.at)
            if check.parity and status.parity is None:
                status.parity = Checked(float(check.parity["ratio"]), check.at)
                if status.tombstones is None:
                    status.tombstones = int(check.parity["tombstones"])
            if check.freshness and check.freshness["behind_s"] is not None and status.freshness is None:
                status.freshness = Checked(float(check.freshness["behind_s"]), check.at)

    def _put_away(self) -> PutAway:
        s3, address = self._source.s3(), self._config.quarantine.rstrip("/")
        given_up = 0
        if address.startswith("s3://"):
            # Pipelines may share a bucket: each mapping has a folder of its own.
            folders = [f"{LAMBDA_FAILURES}{mapping}" for mapping in self._mappings] or [LAMBDA_FAILURES]
            given_up = sum(S3Shelf(s3, bucket_of(address)[0], folder).count() for folder in folders)
        sqs = self._source.sqs()
        return PutAway(
            shelf_of(f"{address}/quarantine/{self._name}", s3, sqs).count(),
            shelf_of(f"{address}/failed/{self._name}", s3, sqs).count(),
            given_up,
        )

    def _of_alarms(self, status: Status, usage: dict[str, Any]) -> None:
        pages = (
            self._source.cloudwatch()
            .get_paginator("describe_alarms")
            .paginate(AlarmNamePrefix=alarm_prefix(self._name))
        )
        for page in pages:
            for alarm in page["MetricAlarms"]:
                status.alarms[alarm["AlarmName"].removeprefix(alarm_prefix(self._name))] = alarm["StateValue"]
        usage["alarms"] = len(status.alarms)


@contextmanager
def _seeing(what: str, status: Status) -> Iterator[None]:
    """Note what could not be looked at, and go on."""
    try:
        yield
    except (AccountError, ClientError, BotoCoreError, IngestError) as error:
        status.unseen.append(f"{what}: {explained(error)}")


def _provisioned(table: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """(read, write) units a second; None on demand."""
    if table.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return None, None
    throughput = table.get("ProvisionedThroughput", {})
    return int(throughput.get("ReadCapacityUnits", 0)) or None, int(
        throughput.get("WriteCapacityUnits", 0)
    ) or None


def _sum(points: list[Point]) -> float:
    return sum(point.value for point in points)


def _rate(points: list[Point]) -> float | None:
    """Units a second, of sums of a minute each; the newest minute may not be over yet."""
    whole = points[1:] or points
    return _sum(whole) / (60 * len(whole)) if whole else None
