"""Commands that bring to the lake what it lacks: `redrive`, and `backfill` from an export."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, DryRun, Json, Name, open_set_up
from dynalake.screen import Screen, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynalake.jobs.recovery import Redriving
    from dynalake.pipeline import Pipeline
    from ingest.redrive import Problem, RedriveReport

SHOWN = 10
"""Documents that are told of on the screen; --json has more."""


def redrive(
    name: Name,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="One place to look at: s3://bucket/prefix, sqs:QUEUE_URL or a folder. All that the configuration "
            "knows of if not given.",
            metavar="ADDRESS",
        ),
    ] = None,
    dry_run: DryRun = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Settle what was put away: quarantined records, and those given up. Mend the cause first.

    Each row is read from the source again; no old image is applied. A document is taken away when its rows are
    settled, so a run that was cut off is simply run again. Safe while the stream is live. Exit code 1 if
    documents stay.

    Examples: `dynalake redrive orders --dry-run`, `dynalake redrive orders --from s3://failures/aws/lambda`
    """
    from dynalake.jobs.recovery import redriving

    screen = Screen(as_json=as_json)
    pipeline = open_set_up(name, config, reads_source=True)
    job = redriving(pipeline, from_)
    if dry_run:
        _survey(screen, name, job)
        return
    with screen.waiting("counting documents"):
        documents = job.count()
    cost = job.estimate(documents, "one for each document; a batch that was given up may hold more")
    for place in job.places:
        screen.say(f"looking in {place}")
    screen.say(f"redrive of about {documents:,} documents: {cost.sentence()}")
    with screen.progress("redrive", documents or None) as bar:

        def show(done: RedriveReport) -> None:
            bar.at(done.documents, max(documents, done.documents))

        report = job.run(show)
    health = pipeline.health()
    screen.answer(
        {
            "pipeline": name,
            "places": list(job.places),
            "estimate": dataclasses.asdict(cost),
            "redrive": {
                **dataclasses.asdict(report),
                "gaps_closed": [gap.detail for gap in report.gaps_closed],
            },
            "complete": health.complete,
            "gaps": list(health.lacking),
        }
    )
    _tell(screen, report)
    for gap in health.gaps:
        screen.say(f"GAP: {gap.detail}; mend it with: dynalake {gap.remedy} {name}")
    if report.left or report.unknown:
        raise typer.Exit(1)


def backfill_from_export(
    screen: Screen, name: str, pipeline: Pipeline, address: str, *, restart: bool, dry_run: bool
) -> None:
    """`dynalake backfill --source export:…`."""
    from dynalake.jobs.recovery import from_export

    with screen.waiting(f"looking at {address}"):
        job = from_export(pipeline, address)
    export = job.export
    about = {
        "arn": export.arn,
        "kind": export.kind,
        "shows": export.shows_ms,
        "items": export.items,
        "files": len(export.files),
    }
    answer = {"pipeline": name, "export": about, "estimate": dataclasses.asdict(job.estimate)}
    screen.say(
        f"backfill from the {export.kind} export of {when(export.shows_ms)}, {len(export.files):,} files: "
        f"{job.estimate.sentence()}"
    )
    if dry_run:
        screen.answer(answer)
        return
    with screen.progress("backfill", export.items or None) as bar:
        if export.kind == "full":
            filled = job.fill(restart=restart, on_progress=lambda done: bar.at(done.read))
            answer["backfill"] = dataclasses.asdict(filled)
            said = (
                f"read {filled.read:,} rows: {filled.filled:,} filled, {filled.present:,} were there, "
                f"{filled.quarantined:,} in quarantine"
                + _gone_on(resumed=filled.resumed)
                + (f"; {filled.left_out.sentence}" if filled.left_out else "")
            )
        else:
            mended = job.mend(restart=restart, on_progress=lambda done: bar.at(done.read))
            answer["changes"] = dataclasses.asdict(mended)
            said = (
                f"{mended.read:,} rows: {mended.written:,} written, {mended.deleted:,} deleted, {mended.same:,} right "
                f"already, {mended.absent:,} on neither side, {mended.overtaken:,} left to the stream, "
                f"{mended.refused:,} refused" + _gone_on(resumed=mended.resumed)
            )
    screen.answer(answer)
    screen.say(said)
    for gap in pipeline.health().gaps:
        screen.say(
            f"GAP since {when(gap.found_at)}: {gap.detail}; mend it with: dynalake {gap.remedy} {name}"
        )


def _gone_on(*, resumed: bool) -> str:
    return " (an earlier run was gone on with)" if resumed else ""


def _survey(screen: Screen, name: str, job: Redriving) -> None:
    with screen.waiting("looking at documents"):
        found = job.survey()
    counted = "those that the documents say"
    if found.unseen or found.pointers:
        counted += f"; {found.unseen + found.pointers:,} documents say theirs only when they are redriven"
    cost = job.estimate(found.rows, counted)
    screen.answer(
        {
            "pipeline": name,
            "places": list(job.places),
            "estimate": dataclasses.asdict(cost),
            "found": dataclasses.asdict(found),
        }
    )
    for place in job.places:
        screen.say(f"looked in {place}")
    screen.say(f"{found.documents:,} documents: {cost.sentence()}")
    if found.foreign:
        screen.say(f"{found.foreign:,} are of other pipelines")
    _show_problems(screen, found.problems)


def _tell(screen: Screen, report: RedriveReport) -> None:
    screen.say(
        f"{report.documents:,} documents: {report.settled:,} settled, {report.left:,} left, {report.unknown:,} not "
        f"understood, {report.foreign:,} of other pipelines"
    )
    screen.say(
        f"{report.rows:,} rows: {report.written:,} written, {report.deleted:,} deleted, {report.same:,} right already, "
        f"{report.absent:,} on neither side, {report.overtaken:,} overtaken by newer changes, {report.refused:,} "
        f"refused, {report.failed:,} not written now"
    )
    if report.lost:
        screen.say(
            f"{report.lost:,} documents pointed to records that the stream has no longer: only a repair finds the rows"
        )
    _show_problems(screen, report.problems)
    for gap in report.gaps_closed:
        screen.say(f"closed: {gap.detail}")
    if report.gap_stays:
        screen.say(f"the gap stays open: {report.gap_stays}")


def _show_problems(screen: Screen, problems: Sequence[Problem]) -> None:
    if not problems:
        return
    screen.table(["left", "why"], [[each.document, each.why] for each in problems[:SHOWN]])
    if len(problems) > SHOWN:
        screen.say(f"and {len(problems) - SHOWN:,} more, which --json lists")
