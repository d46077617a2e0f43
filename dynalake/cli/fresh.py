"""Commands that keep a snapshot fresh."""

from __future__ import annotations

import dataclasses
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, Json, LeaveOutExpired, Name, open_set_up
from dynalake.screen import Screen, when

if TYPE_CHECKING:
    from dynalake.jobs.refresh import Refresh, Source

Out = Annotated[Path, typer.Option("--out", help="The snapshot.", metavar="FILE")]
DEFAULT_SNAPSHOT = Path("lake.duckdb")


def refresh(
    name: Name,
    out: Out = DEFAULT_SNAPSHOT,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, stream, scan, or export:PATH-or-s3://… of an incremental export of the lake table; exports "
            "may be several.",
            metavar="SOURCE",
        ),
    ] = None,
    leave_out_expired: LeaveOutExpired = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Apply what changed since to a snapshot; it costs by the changes, not by the table.

    Analysts may read all the while: they see the old version or the new one. Other tables in the file stay. Where
    the stream (24 hours) does not reach back far enough, the lake table is scanned anew, and it is said why, unless
    incremental exports are given that lead to where it does.

    Examples: `dynalake refresh orders --out lake.duckdb`, `dynalake refresh orders --source stream --json`, `dynalake
    refresh orders --source export:s3://bucket/monday --source export:s3://bucket/tuesday`
    """
    from dynalake.jobs.refresh import refresh as run_refresh

    screen = Screen(as_json=as_json)
    chosen = _source(source or ["auto"])
    pipeline = open_set_up(name, config, leave_out_expired=leave_out_expired)
    with screen.progress("changes read") as bar:
        done = run_refresh(pipeline, out, chosen, on_choice=screen.note, on_progress=bar.at)
    screen.answer({"pipeline": name, "snapshot": str(out), **dataclasses.asdict(done)})
    _tell(screen, out, name, done)


def follow(
    name: Name,
    out: Out = DEFAULT_SNAPSHOT,
    every: Annotated[
        str, typer.Option(help="How often to publish, such as 5s, 1m or 0.5s.", metavar="TIME")
    ] = "5s",
    leave_out_expired: LeaveOutExpired = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Keep a snapshot some seconds behind the lake, until stopped; analysts read all the while.

    Ctrl-C or SIGTERM ends it cleanly; after any other end the next run goes on from the published version.

    Example: `dynalake follow orders --out lake.duckdb --every 5s`
    """
    from dynalake.jobs.refresh import follow as run_follow

    screen = Screen(as_json=as_json)
    every_s = seconds(every)
    pipeline = open_set_up(name, config, leave_out_expired=leave_out_expired)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    screen.say(f"following {pipeline.config.lake_table} into {out} every {every}; Ctrl-C ends it")
    published = 0
    lacking: tuple[str, ...] = ()

    def show(done: Refresh) -> None:
        nonlocal published, lacking
        published += 1
        if done.changes or done.source == "scan" or done.gaps != lacking:
            _tell(screen, out, name, done)
        lacking = done.gaps

    with screen.progress("rows read") as bar:
        applied = run_follow(
            pipeline, out, stop, every_s=every_s, on_choice=screen.note, on_progress=bar.at, on_refresh=show
        )
    screen.answer({"pipeline": name, "snapshot": str(out), "published": published, "changes": applied})
    screen.say(f"stopped: {applied:,} changes in {published:,} publications")


def _source(given: list[str]) -> Source | list[str]:
    """What `--source` asks for."""
    from dynalake.errors import UserError

    match given:
        case ["auto" | "stream" | "scan" as one]:
            return one
    exports = [each.removeprefix("export:") for each in given if each.startswith("export:")]
    if len(exports) < len(given) or not all(exports):
        raise UserError(
            f"--source {' '.join(given)!r} is not a source",
            remedy="give auto, stream, scan, or export: with an s3:// address or a folder",
        )
    return exports


def seconds(text: str) -> float:
    """The seconds that a text such as "5s", "2m" or "0.5" means.

    Raises:
        UserError: it means none.
    """
    from dynalake.errors import UserError

    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.strip()
    unit = next((unit for unit in units if number.endswith(unit)), "")
    try:
        found = float(number.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 86_400:
        raise UserError(f"--every {text!r} is not a time between 0.1s and 24h", remedy="write 5s, 1m or 2h")
    return found


def _tell(screen: Screen, out: Path, name: str, done: Refresh) -> None:
    added = f", new columns {', '.join(done.added)}" if done.added else ""
    widened = f", wider columns {', '.join(done.widened)}" if done.widened else ""
    screen.say(
        f"{out}: {name} has {done.rows:,} rows as of {when(done.as_of)}; "
        f"{done.changes:,} {'rows scanned' if done.source == 'scan' else 'changes'} in {done.seconds:.1f} s"
        f"{added}{widened}"
    )
    if done.left_out:
        screen.say(done.left_out.sentence)
    if not done.complete:
        screen.say(f"INCOMPLETE: {'; '.join(done.gaps)}")
