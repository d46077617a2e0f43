"""Commands that judge pipelines, and show people what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from dynalake.cli.check import _mend, to_repair, write_differences
from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, Name, open_set_up
from dynalake.errors import UserError, error_document
from dynalake.screen import Screen
from lake.errors import ExplainedError, explained

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from expectations.history import Check

COULD_NOT_CHECK = 3
_MARKS = {"pass": "ok", "warn": "WARN", "fail": "FAIL", "error": "ERROR"}


def check(
    name: Name,
    suite: Annotated[
        str, typer.Option(help="What to check: parity, freshness, drift, or all of it.", metavar="SUITE")
    ] = "all",
    repair: Annotated[
        bool, typer.Option("--repair", help="Where parity is beyond its limit: mend it, and check again.")
    ] = False,
    accept_schema: Annotated[
        bool,
        typer.Option("--accept-schema", help="The schema is right as it is now: later changes are drift."),
    ] = False,
    docs: Annotated[
        Path | None, typer.Option(help="Write Great Expectations' Data Docs there.", metavar="FOLDER")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write every row that differs; NAME.parity.jsonl if not given.", metavar="FILE"
        ),
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics/--no-metrics", help="Tell CloudWatch, whose alarms watch it.")
    ] = True,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Check parity, freshness and drift against the pipeline's limits.

    Exit codes for schedulers: 0 passed, 1 a warning, 2 failed, 3 it could not be checked. The outcome is kept;
    `dynalake report` shows it. Needs the extra `checks`.

    Examples: `dynalake check orders`, `dynalake check orders --suite parity --repair --json`
    """
    from expectations.history import EXIT_CODES

    screen = Screen(as_json=as_json)
    try:
        pipeline = open_set_up(name, config)
        report = out or Path(f"{name}.parity.jsonl")
        before = None
        with to_repair() as asked:
            found = _checked(
                screen,
                pipeline,
                suite,
                config,
                report,
                docs,
                metrics,
                accept_schema,
                asked if repair else None,
            )
            if repair and any(
                each.suite == "parity" and each.status in ("warn", "fail") for each in found.outcomes
            ):
                _show(screen, found)
                before, mended = found, _mend(screen, pipeline, asked)
                screen.say(
                    f"\nrepaired: {mended.written:,} rows written, {mended.deleted:,} deleted; checking again\n"
                )
                found = _checked(screen, pipeline, suite, config, report, docs, metrics, False)
    except Exception as error:
        shown = explained(error)
        if shown is None:
            raise
        _could_not_check(screen, name, shown)
    screen.answer({**found.document(), **({"before": before.document()} if before else {})})
    _show(screen, found)
    if docs:
        screen.say(f"Data Docs: {docs / 'index.html'}")
    raise typer.Exit(EXIT_CODES[found.verdict])


def report(
    names: Annotated[
        list[str] | None, typer.Argument(help="The pipelines; all if none is given.", metavar="[NAME]...")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write.", metavar="FILE")] = Path(
        "dynalake-report.html"
    ),
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Write one page that shows how the pipelines are, from what `dynalake check` found over time.

    It is one file that calls nobody: mail it, or put it on any web server. Needs the extra `checks`.

    Examples: `dynalake report`, `dynalake report orders --out orders.html`
    """
    from dynalake.config import load_config
    from dynalake.jobs.reporting import write_report

    screen = Screen(as_json=as_json)
    wanted = names or sorted(load_config(config).pipelines)
    if not wanted:
        raise UserError(f"{config} has no pipeline to report of", remedy="write one with `dynalake init`")
    pipelines = [open_set_up(each, config) for each in wanted]
    with screen.waiting(f"drawing {out}"):
        verdicts = write_report(out, pipelines)
    screen.answer({"report": str(out), "verdicts": verdicts})
    for each, verdict in verdicts.items():
        screen.say(f"{each}: {verdict}")
    screen.say(f"the report is in {out}")


def _checked(
    screen: Screen,
    pipeline: Pipeline,
    suite: str,
    config: Path,
    report: Path,
    docs: Path | None,
    metrics: bool,
    accept: bool,
    asked: Path | None = None,
) -> Check:
    from dynalake.jobs.checking import own_file, suites_of

    suites = suites_of(suite)
    with screen.progress("check") as bar:

        def compare(on_difference: Any) -> Check:
            job = pipeline.check_job(
                own=own_file(pipeline.config.checks, config, pipeline.name),
                metrics=metrics,
                on_step=bar.describe,
                on_progress=lambda _side, rows: bar.at(rows),
                on_difference=on_difference,
            )
            if accept:
                job.accept_schema()
            return job.run(suites, docs)

        if "parity" not in suites:
            return compare(lambda _: None)
        with write_differences(report, asked=asked) as write:
            return compare(write)


def _show(screen: Screen, found: Check) -> None:
    screen.table(
        ["suite", "", "expectation", "found"],
        [[each.suite, _MARKS[each.status], each.says, each.observed] for each in found.outcomes],
    )
    if found.freshness:
        screen.say(found.freshness["sentence"])
    screen.say(f"{found.pipeline}: {found.verdict}")
    for command in found.mend:
        screen.say(f"to mend it: {command}")


def _could_not_check(screen: Screen, name: str, error: ExplainedError) -> NoReturn:
    screen.answer(
        {
            "pipeline": name,
            "verdict": "could not check",
            **error_document(error),
            "exit_code": COULD_NOT_CHECK,
        }
    )
    typer.echo(f"dynalake: {' '.join(str(error).split())}", err=True)
    raise typer.Exit(COULD_NOT_CHECK)
