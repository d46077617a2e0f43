"""One pipeline put together: the configuration and the two accounts on one side, the jobs on the other.

This is the one place that knows both `ingest` and the rest; each job is a few lines that join their parts.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dynalake.aws import Account
from dynalake.config import PipelineConfig
from dynalake.errors import AccountError
from dynalake.metrics import put_count
from dynalake.onlooker import Onlooker
from ingest.apply import IN_FLIGHT, Applier
from ingest.backfill import SCAN, Backfill, BackfillReport, Rows
from ingest.capacity import CapacityLimit
from ingest.checkpoints import Checkpoints, StreamCheckpoint
from ingest.delivery import Delivery
from ingest.facts import FactsStore, facts_of
from ingest.handler import BatchReport, Replicator
from ingest.hashkey import HashKey, KeyRegister, open_hash_key
from ingest.health import HealthStore
from ingest.lakewriter import writer_for
from ingest.lease import Lease, Owner
from ingest.observe import SchemaObserver
from ingest.outages import Worked, through_outages
from ingest.policy import Policy, actions_from, hashes
from ingest.quarantine import Place, Quarantine, is_queue, place_of
from ingest.records import Origin
from ingest.repair import Refusal, Repair, RepairReport
from ingest.scan import Scan, segments_for
from ingest.shards import StreamReader
from ingest.shelves import Shelf, shelf_of
from ingest.source import SourceTable, describe_source, replicated_ttl, table_stream, ttl_attribute
from ingest.standby import work_alone
from ingest.walk import Pacing
from ingest.worker import Worker, WorkerReport, replicate
from lake.catalogue import schema_history
from lake.contract.catalogue import Observation
from lake.contract.evidence import TableStream
from lake.contract.expiry import Expiry
from lake.contract.facts import Facts
from lake.contract.health import Health
from lake.contract.positions import StreamPositions
from lake.contract.versions import KnownLabels, Version, label_of_stream
from lake.tables import (
    LakeTable,
    Step,
    TableKey,
    describe_lake_table,
    lake_stream,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient
    from types_boto3_s3 import S3Client

    from dynalake.jobs.checking import CheckJob
    from dynalake.jobs.parity import Scope, Table
    from expectations.parity import Difference, ParityResult
    from lake.snapshot import SnapshotAbout, SnapshotReport

SPOOL_BATCH_BYTES: Final = 4 << 20
"""Read back from the spool of changes at once."""

CALL_BUDGET_S: Final = 60.0
"""What one call of the handler may take in a worker, so that a throttled batch is reported now and then."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks and the chance that jobs use.

    Attributes:
        now_ms: the time of day, epoch milliseconds.
        monotonic: seconds.
        sleep: waits that many seconds.
        random: for jitter.
    """

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: random.Random = field(default_factory=random.Random)


class Pipeline:
    """One pipeline, ready for work."""

    def __init__(
        self,
        name: str,
        config: PipelineConfig,
        source: Account,
        lake: Account,
        *,
        environment: Mapping[str, str],
        clocks: Clocks | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Join a configuration and its two accounts.

        Args:
            name: the pipeline's name in the configuration.
            config: the pipeline's configuration.
            source: the source account.
            lake: the lake account.
            environment: the process's environment, where the policy's hash key may be.
            clocks: the clocks and the chance to use.
            in_flight: writes to the lake under way at once.
        """
        self.name = name
        self.config = config
        self.leave_out_expired = config.leave_out_expired
        """Whether expired rows are left out of backfills, comparisons and snapshots."""
        self._source = source
        self._lake = lake
        self._environment = environment
        self._clocks = clocks or Clocks()
        self._in_flight = in_flight

    @classmethod
    def open(cls, name: str, config: PipelineConfig, *, in_flight: int = IN_FLIGHT) -> Pipeline:
        """A pipeline over the accounts of its configuration.

        Each account is opened by the first call that needs it, which raises AccountError where its credentials are
        missing, refused, or of another account. So a job that reads the lake alone needs no credentials of the source.

        Args:
            name: the pipeline's name in the configuration.
            config: the pipeline's configuration.
            in_flight: writes to the lake under way at once.
        """
        return cls(
            name,
            config,
            Account("source", config.source, name),
            Account("lake", config.lake, name),
            environment=os.environ,
            in_flight=in_flight,
        )

    def open_accounts(self) -> None:
        """Open both accounts now, so that a job that needs both fails before it does anything.

        Raises:
            AccountError: a side's credentials are missing, refused, or of another account.
        """
        for account in (self._source, self._lake):
            _ = account.session

    # What the jobs are made of

    @cached_property
    def described_source(self) -> SourceTable:
        """The source table as it is, whether or not the pipeline was set up for it; for setting up and diagnosis.

        Raises:
            SourceError: it cannot be replicated.
        """
        return describe_source(self._source.dynamodb(), self.config.source.table)

    @cached_property
    def source_table(self) -> SourceTable:
        """The source table, once it is known to be the one that the pipeline was set up for.

        Everything that replicates or compares begins here.

        Raises:
            SourceChangedError: it is another table; a gap is noted.
            SourceError: it cannot be replicated.
        """
        self.open_accounts()
        self.check_source()
        return self.described_source

    def check_source(self, *, accepts_recreated: bool = False) -> None:
        """Look at the source table, and refuse one that the pipeline was not set up for.

        A pipeline that was set up by version 0.1 has no facts; they are stored now.

        Args:
            accepts_recreated: whether a table of the same name and key may take the place of the earlier one.

        Raises:
            SourceChangedError: it is another table, or has another key; a gap is noted.
        """
        from dynalake.jobs.setting_up import check_source

        check_source(self, accepts_recreated=accepts_recreated)

    @cached_property
    def facts(self) -> Facts | None:
        """What is known of the source since the set-up, from the lake alone; None where version 0.1 set it up."""
        return self.facts_store().read()

    @cached_property
    def lake_table(self) -> LakeTable:
        """The lake table, from the lake alone. Raises LakeTableError where it is missing."""
        return describe_lake_table(self._lake.dynamodb(), self.config.lake_table)

    def facts_store(self) -> FactsStore:
        """Where the facts are kept."""
        return FactsStore(self._lake.dynamodb(), self.config.checkpoint_table, self.config.lake_table)

    def facts_now(self) -> Facts:
        """The facts as the source table and the configuration are now."""
        source = self.described_source
        return facts_of(
            source,
            self.policy.key_type,
            self.config.policy_document(),
            ttl_attribute(self._source.dynamodb(), source.name) or "",
            self._clocks.now_ms(),
        )

    def forget(self) -> None:
        """Let what was looked up be looked up again."""
        for name in ("described_source", "source_table", "facts", "lake_table"):
            self.__dict__.pop(name, None)

    def noted_stream(self) -> StreamCheckpoint | None:
        """The stream that was noted at the set-up; None before the set-up."""
        dynamodb = self._lake.dynamodb()
        try:
            return self.checkpoints().stream()
        except dynamodb.exceptions.ResourceNotFoundException:
            return None

    @cached_property
    def hash_key(self) -> HashKey | None:
        """The secret of the keyed hash; None where the policy hashes nothing, or there is no key.

        Raises:
            PolicyError: the secret cannot be read, or is weak.
            HashKeyChangedError: the lake table's rows are hashed with another key.
        """
        if not hashes(actions_from(self.config.policy_document()).values()):
            return None
        try:
            register = self.key_register()
        except AccountError:
            register = None  # a deployment of the source side alone
        return open_hash_key(self.config.hash_key, self._environment, self._source.secrets, register)

    def key_register(self) -> KeyRegister:
        """Which hash key the lake table's rows are hashed with."""
        return KeyRegister(self._lake.dynamodb(), self.config.checkpoint_table, self.config.lake_table)

    @cached_property
    def policy(self) -> Policy:
        """The policy. Raises PolicyError where it cannot be carried out."""
        return Policy(
            actions_from(self.config.policy_document()),
            key_attributes=self.described_source.key_names,
            hash_key=self.hash_key.secret if self.hash_key else None,
            mismatch=self.config.policy_mismatch,
        )

    @cached_property
    def health_store(self) -> HealthStore:
        """Where the pipeline's health is kept."""
        return HealthStore(
            self._lake.dynamodb(), self.config.checkpoint_table, self.config.lake_table, self._clocks.now_ms
        )

    @cached_property
    def origin(self) -> Origin:
        """The table whose records are applied."""
        table = self.described_source
        key = {part.name: part.type for part in table.key}
        return Origin(table.arn, replicated_ttl(self._source.dynamodb(), table), key)

    @property
    def lake_key(self) -> TableKey:
        """The key that the lake table must have: the source's, with type S where the policy hashes."""
        return TableKey(
            tuple(
                (attribute.name, self.policy.key_type(attribute.name, attribute.type))
                for attribute in self.described_source.key
            )
        )

    def checkpoints(self) -> Checkpoints:
        """How far jobs have come."""
        return Checkpoints(self._lake.dynamodb(), self.config.checkpoint_table, self.config.lake_table)

    def known_labels(self) -> KnownLabels:
        """The labels of the streams that the pipeline has read, the source's present one included."""
        label = label_of_stream(self.source_table.stream_arn)
        return self.checkpoints().known_labels(self._clocks.now_ms(), label)

    def expiry(self, *, in_lake: bool = False) -> Expiry | None:
        """Which rows are left out, because they have expired as of now; None where none are.

        Args:
            in_lake: whether the rows are judged as the lake has them, by someone who may read nothing else.

        Raises:
            UserError: the source table has no time-to-live, or the policy hides it from the lake.
        """
        from dynalake.jobs.expiring import expiry_of

        return expiry_of(self, in_lake=in_lake) if self.leave_out_expired else None

    def limit(self, units: float | None) -> CapacityLimit | None:
        """A cap of so many capacity units a second; None for none."""
        return CapacityLimit(units, self._clocks.monotonic, self._clocks.sleep) if units else None

    def applier(self) -> Applier:
        """The lake table's writer."""
        dynamodb = self._lake.dynamodb()
        return Applier(
            dynamodb,
            self.config.lake_table,
            now_ms=self._clocks.now_ms,
            sleep=self._clocks.sleep,
            random=self._clocks.random,
            in_flight=self._in_flight,
            limit=self.limit(self.config.max_wcu),
            writer=writer_for(dynamodb, self._environment),
        )

    def observer(self) -> SchemaObserver:
        """The catalogue's writer."""
        return SchemaObserver(
            self._lake.dynamodb(), self.config.catalogue_table, self.config.lake_table, self._clocks.now_ms
        )

    def mender(
        self,
        *,
        leave_same: bool = False,
        reset: Callable[[Mapping[str, Any]], Version | None] | None = None,
    ) -> Repair:
        """What mends single rows; see `ingest.repair`."""
        _ = self.source_table  # refuses a table that was recreated
        return Repair(
            self._source.dynamodb(),
            self.config.source.table,
            self._lake.dynamodb(),
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self._clocks.now_ms,
            self.limit(self.config.max_rcu),
            threads=self._in_flight,
            leave_same=leave_same,
            labels=self.known_labels(),
            reset=reset,
            note_label=self.checkpoints().note_label,
            on_mismatches=self._count_mismatches,
        )

    def place(self, kind: str) -> Place:
        """Where records are put away: "quarantine", or "failed/<pipeline>"."""
        address = f"{self.config.quarantine.rstrip('/')}/{kind}"
        return place_of(address, self._source.s3(), self._source.sqs() if is_queue(address) else None)

    def shelf(self, address: str) -> Shelf:
        """What a place of the source account holds."""
        return shelf_of(address, self._source.s3(), self._source.sqs() if is_queue(address) else None)

    def quarantine(self) -> Quarantine:
        """Where records and rows go that can never apply."""
        return Quarantine(self.place("quarantine"), self.name)

    def _source_scan(self, segments: int | None = None) -> Scan:
        return self._scan(self._source, self.config.source.table, segments)

    def _scan(self, account: Account, table: str, segments: int | None = None) -> Scan:
        segments = segments or segments_for(self._bytes_of(account))
        limit = self.limit(self.config.max_rcu)
        return Scan(account.dynamodb(), table, segments=segments, limit=limit)

    def _bytes_of(self, account: Account) -> int:
        return (
            self.lake_table.approximate_bytes
            if account is self._lake
            else self.source_table.approximate_bytes
        )

    def source_dynamodb(self) -> DynamoDBClient:
        """A DynamoDB client of the source account."""
        return self._source.dynamodb()

    def source_streams(self) -> DynamoDBStreamsClient:
        """A DynamoDB Streams client of the source account."""
        return self._source.streams()

    def source_s3(self) -> S3Client:
        """An S3 client of the source account, for exports, which may be in another account's bucket."""
        return self._source.s3_of_any_owner()

    def table_stream(self) -> TableStream:
        """Which stream the source table has now. Raises SourceError where it cannot be asked."""
        return table_stream(self._source.dynamodb(), self.config.source.table, self._clocks.now_ms)

    def lake_dynamodb(self) -> DynamoDBClient:
        """A DynamoDB client of the lake account."""
        return self._lake.dynamodb()

    def lake_scanner(self) -> DynamoDBClient:
        """A DynamoDB client of the lake account for one raw scan; see `Account.scanner`."""
        return self._lake.scanner()

    def lake_s3(self) -> S3Client:
        """An S3 client of the lake account, for exports, which may be in another account's bucket."""
        return self._lake.s3_of_any_owner()

    def lake_streams(self) -> DynamoDBStreamsClient:
        """A DynamoDB Streams client of the lake account."""
        return self._lake.streams()

    @property
    def clocks(self) -> Clocks:
        """The clocks and the chance that jobs use."""
        return self._clocks

    def now_ms(self) -> int:
        """The time of day, epoch milliseconds."""
        return self._clocks.now_ms()

    # The jobs

    def setup(self, *, accepts_recreated: bool = False) -> tuple[list[Step], str | None]:
        """Make what the lake side needs and store the pipeline's facts; all of it is looked at before anything is made.

        Args:
            accepts_recreated: whether a source table that was recreated with the same key takes the place of the
                earlier one. A gap is noted, which a repair closes.

        Returns:
            The steps, and a warning where the account is near its quota of tables.

        Raises:
            SourceChangedError: the source table is not the one that the pipeline was set up for.
            SourceError: the source table cannot be replicated.
            PolicyError: the policy cannot be carried out.
            LakeTableError: a table cannot be made, or is there and belongs to something else.
        """
        from dynalake.jobs.setting_up import set_up

        return set_up(self, accepts_recreated=accepts_recreated)

    def is_set_up(self) -> bool:
        """Whether `setup` has been run to its end."""
        return self.noted_stream() is not None

    def backfill(
        self, *, restart: bool = False, on_progress: Callable[[BackfillReport], None] = lambda _: None
    ) -> BackfillReport:
        """Fill the lake with what the source holds; see `ingest.backfill`."""
        return self.a_backfill(self._source_scan).run(restart=restart, on_progress=on_progress)

    def a_backfill(
        self, rows: Callable[[int | None], Rows], *, source: str = SCAN, as_of_ms: int | None = None
    ) -> Backfill:
        """A backfill that reads these rows; see `ingest.backfill`."""
        return Backfill(
            rows,
            self.source_table.key_names,
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.checkpoints(),
            self.health_store,
            self._clocks.now_ms,
            source=source,
            as_of_ms=as_of_ms,
            on_mismatches=self._count_mismatches,
            expiry=self.expiry(),
        )

    def _count_mismatches(self, rows: int) -> None:
        """Tell CloudWatch, for the alarm, of rows that the policy could not be applied to."""
        put_count(self._source.cloudwatch, "policy_mismatches", {"service": self.name}, rows)

    def replicator(self) -> Replicator:
        """The handler that Lambda runs, over this pipeline's accounts."""
        _ = self.source_table  # refuses a table that was recreated
        return Replicator(
            self.applier(),
            self.policy,
            self.quarantine(),
            self.observer(),
            self.health_store,
            self._clocks.now_ms,
            origin=self.origin,
            note_label=self.checkpoints().note_label,
        )

    def run_worker(
        self,
        stop: threading.Event,
        until_caught_up: threading.Event | None = None,
        *,
        pacing: Pacing | None = None,
        on_progress: Callable[[WorkerReport], None] = lambda _: None,
    ) -> WorkerReport:
        """Replicate until told to stop; see `ingest.worker`. One worker at a time: others stand by.

        An outage of the lake, its role or the network is waited out, unless the worker shall stop once it is caught up.

        Raises:
            WorkerBusyError: another worker is at it, and this one shall stop once it is caught up.
        """
        replicator = self.replicator()

        worked = Worked()

        def process(event: Mapping[str, Any]) -> BatchReport:
            until = self._clocks.monotonic() + CALL_BUDGET_S
            report = replicator.process(event, lambda: until - self._clocks.monotonic())
            if mismatches := report.outcomes.get("policy_mismatches"):
                self._count_mismatches(mismatches)
            worked.applied |= report.failed_from is None
            return report

        _ = self.source_table  # another table is refused before anything waits for a lease

        def stream_now() -> str:
            # A worker that stood by may have done so for days, and a new stream may be that of a recreated table.
            self.forget()
            return self.source_table.stream_arn

        def worker(arn: str, report: WorkerReport, stop_work: threading.Event) -> Worker:
            if report.next_stream is not None:
                arn = stream_now()
            delivery = Delivery(
                process,
                arn,
                self.place(f"failed/{self.name}"),
                self.health_store,
                now_ms=self._clocks.now_ms,
                stop=stop_work,
                random=self._clocks.random,
            )
            return Worker(
                StreamReader(self._source.streams(), arn),
                delivery,
                self.checkpoints(),
                self.health_store,
                self.table_stream,
                now_ms=self._clocks.now_ms,
                monotonic=self._clocks.monotonic,
                pacing=pacing,
                on_progress=on_progress,
                report=report,
            )

        def work(stop_work: threading.Event) -> WorkerReport:
            worked.attended = True
            return replicate(partial(worker, stop_work=stop_work), stream_now(), stop_work, until_caught_up)

        owner = Owner(socket.gethostname().replace("/", "-"), os.getpid(), secrets.token_hex(4))
        lease = Lease(
            self._lake.dynamodb(),
            self.config.checkpoint_table,
            self.config.lake_table,
            owner,
            self._clocks.monotonic,
        )
        may_wait = until_caught_up is None or not until_caught_up.is_set()

        done = through_outages(
            lambda: work_alone(lease, work, stop, may_wait=may_wait),
            stop,
            self._clocks.random,
            worked,
            may_wait=may_wait,
        )
        return done or WorkerReport()

    def parity(
        self,
        scope: Scope | None = None,
        *,
        looks: int | None = None,
        pause_s: float | None = None,
        pacing: Pacing | None = None,
        on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
        on_difference: Callable[[Difference], None] = lambda _: None,
    ) -> ParityResult:
        """Compare both sides row by row; see `dynalake.jobs.parity` and `expectations.parity`.

        What a comparison of both whole live tables finds is part of the pipeline's health from then on.
        """
        from dynalake.jobs.parity import ParityJob, Scope
        from expectations.parity import Looks

        usual = Looks()
        began, was_caught_up = self._clocks.now_ms(), self.health().state == "caught up"
        result = ParityJob(
            self.name,
            self._table(self._source, self.config.source.table),
            self._table(self._lake, self.config.lake_table),
            self.source_table.key_names,
            None if self.policy.lossless else self.policy.admit,
            lambda: StreamReader(self._source.streams(), self.source_table.stream_arn),
            self.limit(self.config.max_rcu),
            self._clocks.now_ms,
            self._clocks.sleep,
            self._clocks.monotonic,
            self._clocks.random,
            pacing or Pacing(),
            lambda: StreamReader(
                self._lake.streams(), lake_stream(self._lake.dynamodb(), self.config.lake_table)
            ),
            self.known_labels(),
            self.expiry(),
        ).run(
            scope or Scope(),
            looks=Looks(
                usual.most if looks is None else looks, usual.pause_s if pause_s is None else pause_s
            ),
            on_progress=on_progress,
            on_difference=on_difference,
        )
        if scope is None or scope == Scope():
            differing = result.missing + result.extra + result.different
            self._onlooker.compared(differing, began, was_caught_up=was_caught_up)
        return result

    def _table(self, account: Account, name: str) -> Table:
        """A live table as parity and checks read it."""
        from dynalake.jobs.parity import Table, raw_lines

        limit = self.limit(self.config.max_rcu)
        return Table(
            account.dynamodb(),
            name,
            account.s3_of_any_owner(),
            lambda segments: self._scan(account, name, segments),
            lambda: raw_lines(
                account.scanner(), name, segments=segments_for(self._bytes_of(account)), limit=limit
            ),
        )

    def check_job(
        self,
        *,
        own: Path | None = None,
        metrics: bool = True,
        looks: int | None = None,
        pause_s: float | None = None,
        on_step: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[str, int], None] = lambda _side, _rows: None,
        on_difference: Callable[[Difference], None] = lambda _: None,
    ) -> CheckJob:
        """What checks this pipeline; see `dynalake.jobs.checking`. Needs the extra `checks`.

        Metrics go to the source's account, where the stack's alarms watch them.
        """
        from dynalake.jobs.checking import CheckJob

        lake = self._table(self._lake, self.config.lake_table)
        return CheckJob(
            pipeline=self.name,
            config=self.config.checks,
            key=self.lake_table.key.names,
            lake=lake,
            lake_rows=self.lake_table.approximate_rows,
            stream=lambda: StreamReader(self._source.streams(), self.source_table.stream_arn),
            policy=lambda item: self.policy.admit(item),
            checkpoints=self.checkpoints(),
            health=self.health,
            observations=self.health_store,
            schema=self.schema_history,
            parity=lambda: self.parity(
                looks=looks, pause_s=pause_s, on_progress=on_progress, on_difference=on_difference
            ),
            cloudwatch=self._source.cloudwatch if metrics else None,
            now_ms=self._clocks.now_ms,
            sleep=self._clocks.sleep,
            random=self._clocks.random,
            own=own,
            on_step=on_step,
        )

    def repair(
        self,
        keys: Iterable[Mapping[str, Any]],
        on_progress: Callable[[RepairReport], None] = lambda _: None,
        *,
        on_refused: Callable[[Refusal], None] = lambda _: None,
        reset_versions_of: Iterable[Mapping[str, Any]] | None = None,
        pacing: Pacing | None = None,
    ) -> RepairReport:
        """Read these source keys again and make the lake's rows what they are; see `ingest.repair`.

        Args:
            keys: the source's keys.
            on_progress: called now and then.
            on_refused: called with each row that is refused; the others are repaired.
            reset_versions_of: those of the keys whose rows are known to have a forged version. If this is given, forged
                versions are reset; if it is None, such rows are refused.
            pacing: how often the source's stream is asked.
        """
        from dynalake.jobs.repairing import newest_versions

        reset = None
        if reset_versions_of is not None:
            reset = newest_versions(self, reset_versions_of, pacing or Pacing())
        return self.mender(leave_same=True, reset=reset).mend(keys, on_progress, on_refused)

    def snapshot(
        self,
        out: Path,
        source: str = "scan",
        *,
        pacing: Pacing | None = None,
        on_progress: Callable[[int], None] = lambda _rows: None,
    ) -> SnapshotReport:
        """Write the lake table into a DuckDB file, as of one moment; see `dynalake.jobs.full`."""
        from dynalake.jobs.full import take_snapshot

        return take_snapshot(self, out, source, pacing=pacing, on_progress=on_progress)

    def snapshot_about(
        self, positions: StreamPositions | None, made_by: str, started_at: int
    ) -> SnapshotAbout:
        """What a snapshot of this pipeline tells of its origin, as things are now."""
        from lake.snapshot import SnapshotAbout

        health = self.health()
        return SnapshotAbout(
            lake_table=self.config.lake_table,
            source_table=self.config.source.table,
            watermark=positions.watermark if positions else "",
            complete=health.complete,
            gaps=health.lacking,
            made_by=made_by,
            started_at=started_at,
            positions=positions,
            expiry=self.expiry(in_lake=True),
        )

    @cached_property
    def _onlooker(self) -> Onlooker:
        from dynalake.deploy.names import function_name

        return Onlooker(
            self.name,
            self.config.source.table,
            function_name(self.name),
            lambda: self._source,
            self.health_store,
            self.checkpoints(),
            profile=self.config.source.profile,
            now_ms=self._clocks.now_ms,
            monotonic=self._clocks.monotonic,
        )

    def health(self) -> Health:
        """What is known about the pipeline now; the source account is looked at, if these credentials may."""
        return self._onlooker.health()

    def schema_history(self) -> list[Observation]:
        """What the catalogue knows of the pipeline's attributes."""
        return schema_history(self._lake.dynamodb(), self.config.catalogue_table, self.config.lake_table)
