"""The Lambda function: its environment, read once a container, and its entry point `handler`.

DYNALAKE_PIPELINE          the pipeline's name: the service in logs and metrics
DYNALAKE_STREAM_ARN        a stream of the source table; records of another table are refused
DYNALAKE_REPLICATED_TTL    see `ingest.records.Origin`; optional
DYNALAKE_LAKE_TABLE        the lake table's name
DYNALAKE_CATALOGUE_TABLE   the schema catalogue's table name
DYNALAKE_CHECKPOINT_TABLE  the checkpoint table's name
DYNALAKE_LAKE_REGION       the lake's region
DYNALAKE_LAKE_ROLE_ARN     the role to assume in the lake account
DYNALAKE_EXTERNAL_ID       that role's ExternalId
DYNALAKE_QUARANTINE        s3://bucket/prefix or sqs:<queue URL>, in the source account
DYNALAKE_KEY_ATTRIBUTES    JSON list of the source table's key attributes
DYNALAKE_KEY_TYPES         their DynamoDB types in the same order, such as SN; optional
DYNALAKE_POLICY            JSON object, path -> rule, see `ingest.policy`; optional
DYNALAKE_POLICY_MISMATCH   "quarantine" or "drop": what becomes of a value that a path cannot follow; optional
DYNALAKE_HASH_KEY          the secret of the keyed hash; needed by a policy that hashes
DYNALAKE_MAX_WCU           cap of write units a second, of this invocation; optional
DYNALAKE_WRITER            "plain" writes through boto3's client; optional, see `ingest.lakewriter`
"""

from __future__ import annotations

import functools
import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from botocore.config import Config

from ingest.apply import Applier
from ingest.buckets import s3_client
from ingest.capacity import CapacityLimit
from ingest.checkpoints import Checkpoints
from ingest.errors import QuarantineError
from ingest.handler import BatchReport, Replicator
from ingest.hashkey import DEFAULT_REFERENCE, KeyRegister, open_hash_key
from ingest.health import HealthStore
from ingest.lakewriter import writer_for
from ingest.measures import BEHIND, HEARTBEAT, behind_ms, heartbeat_values, is_heartbeat
from ingest.observe import SchemaObserver
from ingest.policy import Policy, actions_from, hashes
from ingest.quarantine import Place, Quarantine, S3Place, SqsPlace, bucket_of, is_queue, queue_of
from ingest.records import Origin
from ingest.sessions import assumed_session, client_config
from lake.contract.versions import table_of_stream

if TYPE_CHECKING:
    from ingest.heartbeat import Heartbeat
    from ingest.policy import Mismatch

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 3.0
ATTEMPTS: Final = 2
"""Of one call: shorter than a job's, so that the last one that was begun ends before the invocation does."""

TIME_GUARD_S: Final = ATTEMPTS * (CONNECT_TIMEOUT_S + READ_TIMEOUT_S)
"""Kept back from the invocation's time to report what is left: a Lambda that times out reports nothing, and the
whole batch is tried again. A call that is begun in the last moment may take so long."""

MAX_GUARDED: Final = 1 / 3
"""Of the invocation's time: where there is little of it, most must still be left for the work."""

METRICS_NAMESPACE: Final = "dynalake"
MAX_LAG_SAMPLES: Final = 99
"""The embedded metric format takes 100 values of a metric (CloudWatch user guide, EMF specification)."""


def now_ms() -> int:
    """The time of day, epoch milliseconds."""
    return time.time_ns() // 1_000_000


class LambdaFunction:
    """A replicator made once a container; its batches are logged and measured."""

    def __init__(
        self,
        replicator: Replicator,
        pipeline: str,
        guard_s: float = TIME_GUARD_S,
        monotonic: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = now_ms,
        heartbeat: Callable[[], Heartbeat] | None = None,
    ) -> None:
        """Serve `replicator`.

        Args:
            replicator: applies the events.
            pipeline: the service of its logs and metrics.
            guard_s: kept back from each invocation's time, seconds.
            monotonic: a monotonic clock, seconds.
            now_ms: the time of day, epoch milliseconds.
            heartbeat: makes what a heartbeat needs, once it is wanted.
        """
        self._heartbeat = heartbeat
        self._replicator = replicator
        self._guard_s = guard_s
        self._monotonic = monotonic
        self._now_ms = now_ms
        self._metrics = EphemeralMetrics(namespace=METRICS_NAMESPACE, service=pipeline)
        self._logger = Logger(service=pipeline)

    def take_logs(self) -> None:
        """Write what the ingest package logs as JSON too, with its details.

        The runtime's own handler, which would write bare sentences, no longer sees it.
        """
        package = logging.getLogger("ingest")
        package.handlers = [self._logger.registered_handler]
        package.propagate = False

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Apply one event and answer which records must come again; or beat.

        Raises:
            ForeignEventError: the event did not come from a DynamoDB stream.
            LakeUnavailableError: the lake refuses every write; Lambda retries the batch.
        """
        if self._heartbeat is not None and is_heartbeat(event):
            return self._beat(self._heartbeat(), context.function_name)
        left_s = context.get_remaining_time_in_millis() / 1000
        until = self._monotonic() + left_s - min(self._guard_s, left_s * MAX_GUARDED)
        self._measure_age(event)
        report = self._replicator.process(event, lambda: until - self._monotonic())
        self._measure(report)
        self._logger.info(
            "batch",
            records=report.records,
            outcomes=report.outcomes,
            observed=[f"{seen.attribute} {seen.kind}" for seen in report.observed],
            failed_from=report.failed_from,
            failure=report.failure,
        )
        return report.response()

    def _beat(self, heartbeat: Heartbeat, function: str) -> dict[str, Any]:
        """Look at the stream and the mapping; a heartbeat that fails publishes nothing, which raises an alarm, too."""
        faults = heartbeat.beat(function)
        values = heartbeat_values(faults)
        self._metrics.add_metric(HEARTBEAT, MetricUnit.Count, values[HEARTBEAT])
        self._metrics.add_metric(BEHIND, MetricUnit.Milliseconds, values[BEHIND])
        self._metrics.flush_metrics()
        self._logger.info("heartbeat", faults=[f"{fault.effect}: {fault.message}" for fault in faults])
        return {"faults": [fault.message for fault in faults]}

    def _measure_age(self, event: Any) -> None:
        behind = behind_ms(event, self._now_ms())
        if behind is not None:
            self._metrics.add_metric(BEHIND, MetricUnit.Milliseconds, behind)
            self._metrics.flush_metrics()  # at once: a batch that times out flushes nothing

    def _measure(self, report: BatchReport) -> None:
        for name in (
            "applied", "stale", "deleted", "quarantined", "policy_mismatches", "throttled", "failed"
        ):  # fmt: skip
            self._metrics.add_metric(name, MetricUnit.Count, report.outcomes.get(name, 0))
        self._metrics.add_metric("batch_size", MetricUnit.Count, report.records)
        for lag in sampled(report.lags_ms, MAX_LAG_SAMPLES):
            self._metrics.add_metric("lag", MetricUnit.Milliseconds, lag)
        self._metrics.flush_metrics()


def sampled(values: Sequence[int], most: int) -> list[int]:
    """So many of the values, at even distances by rank: the least and the greatest are among them."""
    ranked = sorted(values)
    if len(ranked) <= most:
        return ranked
    return [ranked[round(rank * (len(ranked) - 1) / (most - 1))] for rank in range(most)]


def build(environment: Mapping[str, str], source: boto3.Session) -> LambdaFunction:
    """The function that an environment describes.

    Args:
        environment: the variables above.
        source: the session of the source account, which may assume the lake's role.

    Raises:
        KeyError: a variable that is needed is missing.
        PolicyError: the policy cannot be carried out.
        HashKeyChangedError: the lake table's rows are hashed with another key.
        QuarantineError: the quarantine is neither a bucket nor a queue.
    """
    lake = assumed_session(
        source,
        environment["DYNALAKE_LAKE_ROLE_ARN"],
        environment["DYNALAKE_EXTERNAL_ID"],
        pipeline=environment["DYNALAKE_PIPELINE"],
        region=environment["DYNALAKE_LAKE_REGION"],
    )
    config = client_config(
        connect_timeout_s=CONNECT_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S, attempts=ATTEMPTS
    )
    dynamodb = lake.client("dynamodb", config=config)
    table = environment["DYNALAKE_LAKE_TABLE"]
    max_wcu = environment.get("DYNALAKE_MAX_WCU")
    rules = actions_from(json.loads(environment.get("DYNALAKE_POLICY", "{}")))
    hash_key = None
    if hashes(rules.values()):
        # Once a container: what it reads stays its key, whatever happens to the secret meanwhile.
        register = KeyRegister(dynamodb, environment["DYNALAKE_CHECKPOINT_TABLE"], table)
        hash_key = open_hash_key(
            environment.get("DYNALAKE_HASH_KEY_FROM", DEFAULT_REFERENCE),
            environment,
            lambda: source.client("secretsmanager"),
            register,
        )
        if hash_key is not None:
            register.claim(hash_key)
    key_attributes: list[str] = json.loads(environment["DYNALAKE_KEY_ATTRIBUTES"])
    replicator = Replicator(
        applier=Applier(
            dynamodb,
            table,
            now_ms=now_ms,
            sleep=time.sleep,
            random=random.Random(),  # noqa: S311 - jitter, not cryptography
            limit=CapacityLimit(float(max_wcu), time.monotonic, time.sleep) if max_wcu else None,
            writer=writer_for(dynamodb, environment),
        ),
        policy=Policy(
            rules,
            key_attributes=key_attributes,
            hash_key=hash_key.secret if hash_key else None,
            mismatch=cast("Mismatch", environment.get("DYNALAKE_POLICY_MISMATCH", "quarantine")),
        ),
        quarantine=Quarantine(
            _quarantine_place(
                environment["DYNALAKE_QUARANTINE"],
                source,
                config,
                environment["DYNALAKE_STREAM_ARN"].split(":")[4],
            ),
            environment["DYNALAKE_PIPELINE"],
        ),
        observer=SchemaObserver(dynamodb, environment["DYNALAKE_CATALOGUE_TABLE"], table, now_ms),
        gaps=HealthStore(dynamodb, environment["DYNALAKE_CHECKPOINT_TABLE"], table, now_ms),
        now_ms=now_ms,
        origin=Origin(
            table_of_stream(environment["DYNALAKE_STREAM_ARN"]),
            environment.get("DYNALAKE_REPLICATED_TTL"),
            dict(zip_longest(key_attributes, environment.get("DYNALAKE_KEY_TYPES", ""), fillvalue="")),
        ),
        note_label=Checkpoints(dynamodb, environment["DYNALAKE_CHECKPOINT_TABLE"], table).note_label,
    )

    def heartbeat() -> Heartbeat:
        from ingest.heartbeat import Heartbeat

        checkpoint_table = environment["DYNALAKE_CHECKPOINT_TABLE"]
        return Heartbeat(
            source.client("dynamodb", config=config),
            source.client("lambda", config=config),
            source.client("cloudwatch", config=config),
            HealthStore(dynamodb, checkpoint_table, table, now_ms),
            Checkpoints(dynamodb, checkpoint_table, table),
            table=table_of_stream(environment["DYNALAKE_STREAM_ARN"]).rpartition("/")[2],
            pipeline=environment["DYNALAKE_PIPELINE"],
            now_ms=now_ms,
        )

    return LambdaFunction(replicator, environment["DYNALAKE_PIPELINE"], heartbeat=functools.cache(heartbeat))


def _quarantine_place(address: str, source: boto3.Session, config: Config, account: str) -> Place:
    """The place that outlives the container; only the client that it needs is made, since each costs a cold start.

    A bucket must belong to `account`.
    """
    if is_queue(address):
        url, prefix = queue_of(address)
        return SqsPlace(source.client("sqs", config=config), url, prefix)
    if not address.startswith("s3://"):
        raise QuarantineError(
            f"DYNALAKE_QUARANTINE is {address!r}, and a function keeps no folder",
            remedy="name s3://bucket/prefix or sqs:<queue URL>",
        )
    s3 = s3_client(source, lambda _bucket: account, config=config)
    return S3Place(s3, *bucket_of(address))


@functools.cache
def _function() -> LambdaFunction:
    function = build(os.environ, boto3.Session())
    function.take_logs()
    return function


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """What the event source mapping calls."""
    return _function()(event, context)
