"""Commands that bring rows to the lake, and tell how that goes."""

from __future__ import annotations

import dataclasses
import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynalake.cli.options import (
    DEFAULT_CONFIG,
    ConfigPath,
    DryRun,
    Json,
    LeaveOutExpired,
    Name,
    open_set_up,
)
from dynalake.cli.recover import backfill_from_export
from dynalake.errors import UserError
from dynalake.screen import Screen, when

if TYPE_CHECKING:
    from ingest.backfill import BackfillReport
    from ingest.worker import WorkerReport
    from lake.contract.health import Health


def backfill(
    name: Name,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, whatever an earlier run did.")
    ] = False,
    source_: Annotated[
        str,
        typer.Option(
            "--source",
            help="`scan`, or a DynamoDB export of the source table: `export:s3://bucket/prefix`, or `export:FOLDER` "
            "that it was copied to.",
            metavar="SOURCE",
        ),
    ] = "scan",
    leave_out_expired: LeaveOutExpired = False,
    dry_run: DryRun = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Bring to the lake what was in the source before its stream was read.

    Only absent rows are filled, so it is safe while the stream is live and may last as long as it likes. A run
    that was cut off is gone on with. An export costs the source no read capacity; an incremental one names rows
    that changed, and each is read from the source again and mended.

    Examples: `dynalake backfill orders --dry-run`, `dynalake backfill orders --source export:s3://exports/orders`
    """
    from dynalake.costs import estimate

    screen = Screen(as_json=as_json)
    kind, _, address = source_.partition(":")
    if source_ != "scan" and not (kind == "export" and address):
        raise UserError(
            f"--source {source_!r} is not a source of rows",
            remedy="write scan, export:s3://bucket/prefix or export:FOLDER",
        )
    pipeline = open_set_up(name, config, reads_source=True, leave_out_expired=leave_out_expired)
    if kind == "export":
        backfill_from_export(screen, name, pipeline, address, restart=restart, dry_run=dry_run)
        return
    source = pipeline.source_table
    cost = estimate(source.approximate_rows, source.approximate_bytes, scans=1, writes=True)
    screen.say(f"backfill of {source.name}: {cost.sentence()}")
    if dry_run:
        screen.answer({"pipeline": name, "estimate": dataclasses.asdict(cost)})
        return
    with screen.progress("backfill", source.approximate_rows or None) as bar:

        def show(report: BackfillReport) -> None:
            bar.at(report.read, max(source.approximate_rows, report.read))

        report = pipeline.backfill(restart=restart, on_progress=show)
    screen.answer(
        {"pipeline": name, "estimate": dataclasses.asdict(cost), "backfill": dataclasses.asdict(report)}
    )
    screen.say(
        f"read {report.read:,} rows: {report.filled:,} filled, {report.present:,} were there, "
        f"{report.quarantined:,} in quarantine; {report.read_units:,.0f} read units"
        + (" (an earlier run was gone on with)" if report.resumed else "")
    )
    tell_mismatches(screen, report.policy_mismatches)
    if report.left_out:
        screen.say(report.left_out.sentence)
    tell_gaps(screen, name, pipeline.health())


def run(
    name: Name,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="Stop once the stream is read to its end.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Replicate: read the source's stream and apply each change to the lake, until stopped.

    The same handler as in Lambda. Ctrl-C or SIGTERM ends it cleanly; after any other end the next run repeats a
    little, which is harmless.

    Examples: `dynalake run orders`, `dynalake run orders --until-caught-up --json`
    """
    screen = Screen(as_json=as_json)
    pipeline = open_set_up(name, config, reads_source=True)
    stop, finish = threading.Event(), threading.Event()
    if until_caught_up:
        finish.set()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stop_or_leave(stop))
    screen.say(f"replicating {pipeline.config.source.table} to {pipeline.config.lake_table}; Ctrl-C ends it")
    with screen.progress("records applied") as bar:

        def show(report: WorkerReport) -> None:
            bar.at(report.records)

        report = pipeline.run_worker(stop, finish, on_progress=show)
    screen.answer(
        {
            "pipeline": name,
            "records": report.records,
            "outcomes": dict(report.outcomes),
            "caught_up": report.caught_up,
            "newest_source_at": report.newest_source_at,
            "gaps_found": report.gaps,
            "health": health_document(pipeline.health()),
        }
    )
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in report.outcomes.items() if count)
    screen.say(f"{report.records:,} records: {counts or 'nothing to do'}")
    screen.say("caught up" if report.caught_up else "stopped before the stream's end; the next run continues")
    tell_gaps(screen, name, pipeline.health())


def _stop_or_leave(stop: threading.Event) -> None:
    """The first signal lets what is under way be settled; who sends another will not wait for that."""
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()


def health_document(health: Health) -> dict[str, Any]:
    """A pipeline's health, for scripts; times are epoch milliseconds."""
    return {
        "state": health.state,
        "complete": health.complete,
        "at": health.at,
        "newest_source_at": health.newest_source_at,
        "gaps": [{**dataclasses.asdict(gap), "remedy": gap.remedy} for gap in health.gaps],
        "reason": health.reason,
        "remedy": health.remedy,
        "checked_at": health.checked_at,
        "read_by": health.by,
    }


def tell_mismatches(screen: Screen, rows: int) -> None:
    """Say how many rows the policy could not be applied to, where there were any."""
    if rows:
        screen.say(
            f"{rows:,} rows have a value that the policy cannot be applied to; it did not reach the lake "
            "(docs/runbooks/policy.md)"
        )


def tell_gaps(screen: Screen, name: str, health: Health) -> None:
    """Say what the lake may lack, and what repairs it; and what is not known, and what to do about that."""
    for gap in health.gaps:
        screen.say(f"GAP since {when(gap.found_at)}: {gap.detail}: run `dynalake {gap.remedy} {name}`")
    if health.reason in ("", "; ".join(gap.detail for gap in health.gaps)):
        return
    remedy = f": {health.remedy}" if health.remedy else ""
    screen.say(f"{health.state.upper()}: {health.reason}{remedy}")
