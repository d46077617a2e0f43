"""The demo's steps: the main job from end to end, each thing it says proved by looking.

Two accounts of an embedded AWS; a table that was there long before the pipeline; a stream switched on; the
pipeline set up, backfilled and kept fresh while the flights depart, arrive, are diverted, cancelled and taken
off the board; then what analysts get of it, and the proof that it is the same.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dynalake.config import parse_config
from dynalake.demo.flights import KEY, TABLE, Story, Write, story
from dynalake.demo.notes import CONFIG_TEXT, next_steps
from dynalake.demo.world import LAKE_ACCOUNT, REGION, SOURCE_ACCOUNT, embedded_aws
from dynalake.errors import UserError
from dynalake.pipeline import Pipeline
from dynalake.screen import Screen
from ingest.records import lambda_event
from ingest.shards import StreamReader
from ingest.walk import Pacing

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from expectations.parity import ParityResult
    from ingest.backfill import BackfillReport
    from ingest.worker import WorkerReport

IN_FLIGHT: Final = 4
"""The embedded AWS runs in this process, so more writes at once would only wait for one another."""

BACKLOG: Final = 20
"""The writer waits while more changes than this are on their way: the embedded AWS serves some hundred requests
a second, writer and replicator together, and a backlog would measure that and not the pipeline."""

PACING: Final = Pacing(least_s=0.01, most_s=0.1, quiet_answers=5, quiet_s=1.0)
REDELIVERED: Final = 200
QUERY: Final = "late_flights"
QUERY_PARAMETERS: Final = {"minutes": 60, "top_n": 8}


@dataclass
class Summary:
    """What the demo did and found.

    Attributes:
        facts: the machine-readable summary.
        false_claims: what the demo says and found not to be so; empty if all is well.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    false_claims: list[str] = field(default_factory=list)

    def claim(self, what: str, holds: bool) -> None:
        """Note a claim, and whether it was found to hold."""
        if not holds:
            self.false_claims.append(what)


def run_demo(folder: Path, screen: Screen) -> Summary:
    """Run the demo and leave its files in `folder`.

    Raises:
        UserError: the embedded AWS is not installed, or the folder cannot be written.
    """
    began = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dynalake.toml").write_text(CONFIG_TEXT, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"the demo cannot write to {folder}: {error.strerror}; name another with --out"
        ) from None
    summary = Summary()
    with ExitStack() as stack:
        screen.heading("1  Two AWS accounts, embedded in this process, kept apart by STS AssumeRole")
        stack.enter_context(embedded_aws())
        config = parse_config(_configuration(folder), "the demo's configuration")
        pipeline = Pipeline.open(TABLE, config.pipelines[TABLE], in_flight=IN_FLIGHT)
        played = story()
        _make_source(pipeline.source_dynamodb(), played)
        screen.say(
            f"   account {SOURCE_ACCOUNT} has the table {TABLE!r}: {len(played.before):,} flights of New York,\n"
            "   1 to 3 January 2013, as scheduled. Its stream is switched on now."
        )
        _set_up(pipeline, screen)
        worker_report = _replicate(pipeline, played, screen, summary)
        _redeliver(pipeline, screen, summary)
        result = _prove(pipeline, screen, summary, worker_report)
        _hand_over(pipeline, folder, screen, summary, result)
        _tell_schema_history(pipeline, screen, summary)
    summary.facts["seconds"] = round(time.monotonic() - began, 1)
    summary.facts["false_claims"] = summary.false_claims
    (folder / "NEXT.md").write_text(next_steps(summary.facts), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary.facts, indent=2) + "\n", encoding="utf-8")
    _conclude(folder, screen, summary)
    return summary


def _configuration(folder: Path) -> dict[str, Any]:
    role = "arn:aws:iam::{}:role/dynalake-demo"
    source = {
        "account": SOURCE_ACCOUNT,
        "region": REGION,
        "role_arn": role.format(SOURCE_ACCOUNT),
        "table": TABLE,
    }
    lake = {
        "account": LAKE_ACCOUNT,
        "region": REGION,
        "role_arn": role.format(LAKE_ACCOUNT),
        "external_id": "demo",
    }
    quarantine = str(folder / "quarantine")
    return {"pipelines": {TABLE: {"source": source, "lake": lake, "quarantine": quarantine}}}


def _make_source(dynamodb: DynamoDBClient, played: Story) -> None:
    """A table that was there before anyone thought of replication: the stream comes after the rows."""
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[
            {"AttributeName": KEY[0][0], "KeyType": "HASH"},
            {"AttributeName": KEY[1][0], "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in KEY],
        BillingMode="PAY_PER_REQUEST",
    )
    for start in range(0, len(played.before), 25):
        requests: Sequence[Any] = [
            {"PutRequest": {"Item": item}} for item in played.before[start : start + 25]
        ]
        dynamodb.batch_write_item(RequestItems={TABLE: requests})
    dynamodb.update_table(
        TableName=TABLE, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    )


def _set_up(pipeline: Pipeline, screen: Screen) -> None:
    screen.heading("2  Setting up the lake side: dynalake setup flights")
    steps, _ = pipeline.setup()
    for step in steps:
        screen.say(f"   {step.done:<5} {step.what}")


class _Replication:
    """The worker and the backfill, side by side in threads of their own."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._stop, self._finish, self._delivered = threading.Event(), threading.Event(), threading.Event()
        self._records = 0
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=[job], daemon=True)
            for job in (self._work, self._fill)
        ]
        self.worker: WorkerReport
        self.backfill: BackfillReport

    def __enter__(self) -> _Replication:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def wait_until_reading(self) -> None:
        """Return once the worker reads the stream."""
        while self._pipeline.health().state == "not started" and self._failure is None:
            self._delivered.wait(0.05)
        self._raise()

    def wait_for_backlog(self, written: int) -> None:
        """Return once no more than BACKLOG of the changes written are still on their way."""
        while written - self._records > BACKLOG and self._failure is None:
            self._delivered.clear()
            self._delivered.wait(0.05)
        self._raise()

    def finish(self) -> None:
        """Return once both are done: all rows filled, all changes delivered."""
        self._finish.set()
        for thread in self._threads:
            thread.join()
        self._raise()

    def _work(self) -> None:
        self.worker = self._pipeline.run_worker(
            self._stop, self._finish, pacing=PACING, on_progress=self._note
        )

    def _fill(self) -> None:
        self.backfill = self._pipeline.backfill()

    def _note(self, report: WorkerReport) -> None:
        self._records = report.records
        self._delivered.set()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as failure:
            self._failure = failure
            self._stop.set()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure


def _replicate(pipeline: Pipeline, played: Story, screen: Screen, summary: Summary) -> WorkerReport:
    screen.heading("3  Replicating what happens, while it is backfilled: dynalake run, backfill")
    source = pipeline.source_dynamodb()
    with _Replication(pipeline) as replication:
        replication.wait_until_reading()
        with screen.progress("   changes written", len(played.live)) as bar:
            for number, write in enumerate(played.live, 1):
                _write(source, write)
                bar.at(number)
                replication.wait_for_backlog(number)
        replication.finish()
    report, backfill = replication.worker, replication.backfill
    kinds = {
        kind: sum(write.kind == kind for write in played.live) for kind in ("insert", "update", "delete")
    }
    screen.say(
        f"   {kinds['insert']:,} inserts, {kinds['update']:,} updates and {kinds['delete']:,} deletes were "
        f"written while {backfill.read:,} older\n   rows were backfilled: {backfill.filled:,} filled, "
        f"{backfill.present:,} had come through the stream first."
    )
    screen.say(
        f"   {report.records:,} stream records: {report.outcomes['applied']:,} applied, "
        f"{report.outcomes['superseded']:,} superseded within a batch, {report.outcomes['stale']:,} stale."
    )
    summary.facts["changes"] = {**kinds, "total": len(played.live)}
    summary.facts["backfill"] = {
        "read": backfill.read,
        "filled": backfill.filled,
        "present": backfill.present,
    }
    summary.claim("every change written was delivered", report.records == len(played.live))
    summary.claim("the worker was caught up", report.caught_up)
    return report


def _write(dynamodb: DynamoDBClient, write: Write) -> None:
    key: Any = write.key
    if write.kind == "insert":
        dynamodb.put_item(TableName=TABLE, Item=dict(write.values))
    elif write.kind == "delete":
        dynamodb.delete_item(TableName=TABLE, Key=key)
    else:
        sets = [f"#a{number} = :a{number}" for number in range(len(write.values))]
        names = {f"#a{number}": name for number, name in enumerate(write.values)}
        values: dict[str, Any] = {f":a{number}": value for number, value in enumerate(write.values.values())}
        dynamodb.update_item(
            TableName=TABLE,
            Key=key,
            UpdateExpression=f"SET {', '.join(sets)}, #h = list_append(#h, :h)",
            ExpressionAttributeNames={**names, "#h": "history"},
            ExpressionAttributeValues={**values, ":h": {"L": [write.history]}},
        )


def _redeliver(pipeline: Pipeline, screen: Screen, summary: Summary) -> None:
    screen.heading("4  Delivering old records again, as Lambda may: nothing must change")
    arn = pipeline.source_table.stream_arn
    reader = StreamReader(pipeline.source_streams(), arn)
    shard = next(iter(reader.shards()))
    records, _ = reader.records(reader.iterator(shard, None))
    report = pipeline.replicator().process(lambda_event(records[:REDELIVERED], arn))
    applied = report.outcomes.get("applied", 0)
    screen.say(f"   {report.records:,} records delivered a second time: {applied:,} applied")
    summary.facts["redelivered"] = {"records": report.records, "applied": applied}
    summary.claim("redelivered records change nothing", applied == 0)


def _prove(pipeline: Pipeline, screen: Screen, summary: Summary, worker: WorkerReport) -> ParityResult:
    screen.heading("5  Proof: every row of both sides compared by content: dynalake parity")
    with screen.progress("   rows compared") as bar:
        result = pipeline.parity(on_progress=lambda _side, rows: bar.at(rows))
    lags = sorted(worker.lags_ms)
    lag = {"p50": _percentile(lags, 0.50), "p99": _percentile(lags, 0.99)}
    screen.table(
        ["   source rows", "lake rows", "tombstones", "missing", "extra", "different"],
        [
            [
                result.source_rows,
                result.lake_rows,
                result.tombstones,
                result.missing,
                result.extra,
                result.different,
            ]
        ],
    )
    screen.say(f"   event-to-lake lag of {len(lags):,} changes: p50 {lag['p50']} ms, p99 {lag['p99']} ms")
    health = pipeline.health()
    screen.say(
        f"   the pipeline says of itself: {health.state}, {'no gap' if health.complete else 'with a gap'}"
    )
    summary.facts |= {
        "source_rows": result.source_rows,
        "lake_rows": result.lake_rows,
        "tombstones": result.tombstones,
        "parity": {"missing": result.missing, "extra": result.extra, "different": result.different},
        "lag_ms": lag,
        "health": {"state": health.state, "complete": health.complete},
    }
    summary.claim("source and lake are the same", result.exact)
    summary.claim("source and lake have as many rows", result.source_rows == result.lake_rows)
    summary.claim("the pipeline is caught up and has no gap", health.complete and health.state == "caught up")
    return result


def _hand_over(
    pipeline: Pipeline, folder: Path, screen: Screen, summary: Summary, result: ParityResult
) -> None:
    from dynalake.tables import over_lake
    from lake import open_lake
    from lake.errors import ExportError
    from lake.export import export_table
    from queries.named import load_query
    from queries.run import run_on_duckdb

    screen.heading("6  What analysts get: dynalake snapshot, export, ddl, query")
    lake_file = folder / "lake.duckdb"
    with screen.progress("   rows read", result.lake_rows) as bar:
        snapshot = pipeline.snapshot(lake_file, pacing=PACING, on_progress=bar.at)
    screen.say(f"   {lake_file}: {snapshot.rows:,} rows, {snapshot.columns} columns")
    summary.facts["snapshot"] = str(lake_file)
    summary.claim("the snapshot has every row", snapshot.rows == result.source_rows)
    for format_ in ("parquet", "hyper"):
        path = folder / f"{TABLE}.{format_}"
        try:
            export = export_table(lake_file, TABLE, format_, path)
        except ExportError as error:
            if format_ == "parquet":
                raise
            screen.say(f"   no {path.name}: {error}")
            summary.facts[format_] = None
            continue
        screen.say(f"   {path}: {export.rows:,} rows, {export.bytes:,} bytes")
        summary.facts[format_] = str(path)
        summary.claim(f"the {format_} export has every row", export.rows == result.source_rows)
    ddl = over_lake(pipeline).ddl()
    ddl_file = folder / f"{TABLE}.hive.sql"
    ddl_file.write_text(ddl.text + ";\n", encoding="utf-8")
    summary.facts["ddl"] = str(ddl_file)
    screen.say(f"\n   Hive on EMR, over the lake table itself ({ddl_file}):\n")
    screen.say(ddl.text + ";")
    with open_lake(lake_file) as lake:
        answer = run_on_duckdb(load_query(QUERY), lake.connection, QUERY_PARAMETERS)
    given = " ".join(f"--param {name}={value}" for name, value in QUERY_PARAMETERS.items())
    screen.say(f"\n   dynalake query {QUERY} {given}\n")
    screen.table(answer.column_names, [list(row.values()) for row in answer.to_pylist()])
    summary.facts["query"] = {"name": QUERY, "rows": answer.num_rows}
    summary.claim("the named query has an answer", answer.num_rows == QUERY_PARAMETERS["top_n"])


def _tell_schema_history(pipeline: Pipeline, screen: Screen, summary: Summary) -> None:
    screen.heading("7  The schema as it came: nobody told the pipeline, and it never stopped")
    history = pipeline.schema_history()
    kinds: dict[str, list[str]] = {}
    for seen in history:
        kinds.setdefault(seen.attribute, []).append(seen.kind)
    screen.table(
        ["   attribute", "kinds, in the order in which they were seen"],
        [[f"   {attribute}", ", then ".join(seen)] for attribute, seen in kinds.items()],
    )
    summary.facts["schema"] = kinds
    summary.claim("the new attribute was noticed", "speed_mph" in kinds)
    summary.claim("the change of type was noticed", set(kinds.get("sched_arr", ())) == {"N.int64", "S"})


def _conclude(folder: Path, screen: Screen, summary: Summary) -> None:
    if summary.false_claims:
        screen.heading("The demo failed")
        for claim in summary.false_claims:
            screen.say(f"   not so: {claim}")
        return
    parity: Mapping[str, int] = summary.facts["parity"]
    screen.heading(
        f"Source and lake are the same: {summary.facts['source_rows']:,} rows, {parity['missing']} missing, "
        f"{parity['extra']} extra, {parity['different']} different"
    )
    screen.say(f"   {summary.facts['seconds']} s. What to open next: {folder / 'NEXT.md'}")


def _percentile(ordered: Sequence[int], share: float) -> int | None:
    """The nearest-rank percentile of ordered values; None where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
