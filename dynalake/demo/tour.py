"""The demo's steps: the main job from end to end, each thing it says proved by looking.

Two accounts of an embedded AWS; a table that was there long before the pipeline; a stream switched on; the
pipeline set up, backfilled and kept fresh while the flights depart, arrive, are diverted, cancelled and taken
off the board; then what analysts get of it, and the proof that it is the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dynalake.config import parse_config
from dynalake.demo.flights import TABLE, Story, story
from dynalake.demo.notes import CONFIG_TEXT, next_steps
from dynalake.demo.stage import (
    IN_FLIGHT,
    PACING,
    Replication,
    configuration,
    make_source,
    write_to_source,
)
from dynalake.demo.world import SOURCE_ACCOUNT, embedded_aws
from dynalake.errors import UserError
from dynalake.pipeline import Pipeline
from dynalake.screen import Screen
from ingest.records import lambda_event
from ingest.shards import StreamReader
from lake.contract.files import shared_mode, write_text

if TYPE_CHECKING:
    from expectations.parity import ParityResult
    from ingest.worker import WorkerReport

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
            f"the demo cannot write to {folder}: {error.strerror}", remedy="name another with --out"
        ) from None
    summary = Summary()
    with ExitStack() as stack:
        screen.heading("1  Two AWS accounts, embedded in this process, kept apart by STS AssumeRole")
        stack.enter_context(embedded_aws())
        config = parse_config(configuration(folder), "the demo's configuration")
        pipeline = Pipeline.open(TABLE, config.pipelines[TABLE], in_flight=IN_FLIGHT)
        played = story()
        make_source(pipeline.source_dynamodb(), played.before)
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


def _set_up(pipeline: Pipeline, screen: Screen) -> None:
    screen.heading("2  Setting up the lake side: dynalake setup flights")
    steps, _ = pipeline.setup()
    for step in steps:
        screen.say(f"   {step.done:<5} {step.what}")


def _replicate(pipeline: Pipeline, played: Story, screen: Screen, summary: Summary) -> WorkerReport:
    screen.heading("3  Replicating what happens, while it is backfilled: dynalake run, backfill")
    source = pipeline.source_dynamodb()
    with Replication(pipeline) as replication:
        replication.wait_until_reading()
        with screen.progress("   changes written", len(played.live)) as bar:
            for number, write in enumerate(played.live, 1):
                write_to_source(source, write)
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
    write_text(ddl_file, ddl.text + ";\n", error=UserError, mode=shared_mode())
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
