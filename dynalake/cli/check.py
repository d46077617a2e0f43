"""Commands that compare the lake with its source, and mend what differs."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, DryRun, Json, LeaveOutExpired, Name, open_set_up
from dynalake.errors import UserError
from dynalake.screen import Screen
from lake.contract.files import replacing

if TYPE_CHECKING:
    from dynalake.jobs.parity import Scope
    from dynalake.pipeline import Pipeline
    from expectations.parity import Difference, ParityResult
    from ingest.repair import RepairReport
    from lake.contract.health import State

Keys = Literal["lake", "source", "both"]
"""Which keys of a difference a file holds, where the policy hashes the key."""

SAMPLE = 10
"""Differences shown on the screen; the file has them all."""

WHERE = {"lake": "lake", "copy": "snapshot"}
"""What differs: the lake from the source, or the snapshot from the lake."""


def parity(
    name: Name,
    sample: Annotated[
        float | None,
        typer.Option(help="Compare only about this share of both tables, in percent.", metavar="P"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Compare only what changed in the source since: 90m, 6h, or a moment like 2026-01-31T08:00Z. "
            "The stream reaches back 24 hours.",
            metavar="T",
        ),
    ] = None,
    source_export: Annotated[
        str | None,
        typer.Option(
            help="A DynamoDB export of the source table, instead of a scan.", metavar="FOLDER|s3://…"
        ),
    ] = None,
    lake_export: Annotated[
        str | None,
        typer.Option(help="A DynamoDB export of the lake table, instead of a scan.", metavar="FOLDER|s3://…"),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            help="Compare a snapshot, too, with the lake table that it was made from.", metavar="FILE"
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Compare a file that `dynalake export` wrote (Parquet, CSV, Arrow, .hyper, .tdsx) with the --snapshot "
            "that it was written from. Reads no table and needs no account.",
            metavar="FILE",
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what differs, forged versions too, and compare again.")
    ] = False,
    source_keys: Annotated[
        bool,
        typer.Option(
            "--source-keys",
            help="Where the policy hashes the key, write the source's own key beside it. `repair --from` needs it; "
            "whoever reads the file can then undo the hash of these keys.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write every difference, as JSON lines; NAME.parity.jsonl if not given."),
    ] = None,
    spark_sql: Annotated[
        bool,
        typer.Option(
            "--spark-sql", help="Print the comparison of two exports as SQL for Spark, and do nothing."
        ),
    ] = False,
    leave_out_expired: LeaveOutExpired = False,
    dry_run: DryRun = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Compare source and lake row by row, by the content of whole items.

    A row that differs is looked at again before it counts, so rows in flight raise no alarm. Exit code 0 if both
    are the same, 1 if not.

    Examples: `dynalake parity orders`, then `dynalake repair orders --from orders.parity.jsonl`;
    `dynalake parity orders --since 6h --repair`
    """
    from dynalake.costs import estimate
    from dynalake.jobs.parity import Scope

    screen = Screen(as_json=as_json)
    report = out or Path(f"{name}.parity.jsonl")
    if export is not None:
        if sample or since or source_export or lake_export or repair or spark_sql:
            raise UserError(
                "--export compares a file with the snapshot that it was written from, and with nothing else",
                remedy="give --snapshot FILE --export FILE",
            )
        _compare_export(screen, name, snapshot, export, report)
        return
    pipeline = open_set_up(name, config, reads_source=True, leave_out_expired=leave_out_expired)
    _check_snapshot(snapshot, lake_export)
    if spark_sql:
        _print_spark_sql(screen, pipeline, source_export, lake_export)
        return
    scope = Scope(
        source=source_export,
        lake=str(snapshot) if snapshot else lake_export,
        percent=sample,
        since_ms=_moment(since, pipeline.now_ms()) if since else None,
    )
    scope.check(pipeline.now_ms())
    source = pipeline.source_table
    share = sample / 100 if sample else 1.0
    scans = (source_export is None) + (lake_export is None)
    cost = estimate(
        round(source.approximate_rows * share),
        round(source.approximate_bytes * share),
        scans=scans,
        writes=False,
    )
    screen.say(f"parity of {source.name} and its lake table: {cost.sentence()}")
    if dry_run:
        screen.answer({"pipeline": name, "estimate": dataclasses.asdict(cost)})
        return
    keys: Keys = "both" if source_keys else "lake"
    mended = None
    with to_repair() as asked:
        before = result = _compare_into(report, screen, pipeline, scope, keys, asked if repair else None)
        if repair and result.differences and result.differences[0].where == "lake":  # the lake's come first
            _show(screen, result)
            mended = _mend(screen, pipeline, asked)
            result = _compare_into(report, screen, pipeline, scope, keys)
    health = pipeline.health()
    screen.answer(
        {
            "pipeline": name,
            **summary(result),
            "ratio": result.ratio,
            "differences": str(report),
            "complete": health.complete,
            "gaps": list(health.lacking),
            "state": health.state,
            **({"before": summary(before), "repair": dataclasses.asdict(mended)} if mended else {}),
            **({"sample_percent": sample} if sample else {}),
            **({"at_most": _at_most(result)} if sample else {}),
        }
    )
    _show(screen, result)
    if sample and result.exact:
        screen.say(
            f"a sample of {result.source_rows:,} rows: at most {_at_most(result):.4%} of all differ (95 %)"
        )
    for why in health.lacking:
        screen.say(f"INCOMPLETE: {why}")
    if not result.exact:
        _say_what_to_do(screen, name, report, result, health.state, keys)
        raise typer.Exit(1)


def _check_snapshot(snapshot: Path | None, lake_export: str | None) -> None:
    if snapshot and lake_export:
        raise UserError(
            "--snapshot is compared with the live lake table, and --lake-export takes that table's place",
            remedy="give one of them",
        )
    if snapshot and snapshot.suffix != ".duckdb":
        raise UserError(
            f"{snapshot} is no snapshot: its name must end in .duckdb",
            remedy="compare an exported file with its snapshot by --snapshot FILE.duckdb --export FILE",
        )


def _compare_export(screen: Screen, name: str, snapshot: Path | None, export: Path, report: Path) -> None:
    """Compare an exported file with its snapshot, and end with 1 where they differ."""
    from expectations.exported import compare_export

    if snapshot is None:
        raise UserError(
            f"{export} is compared with the snapshot that it was written from",
            remedy="name it with --snapshot FILE",
        )
    with screen.waiting(f"comparing {export} with {snapshot}"), _replacing(report) as file:
        result = compare_export(
            snapshot,
            name,
            export,
            on_difference=lambda found: print(json.dumps({**_as_line(found), "where": "export"}), file=file),
        )
    screen.answer(
        {
            "pipeline": name,
            "snapshot": str(snapshot),
            "export": str(export),
            "snapshot_rows": result.source_rows,
            "export_rows": result.lake_rows,
            "parity": {"missing": result.missing, "extra": result.extra, "different": result.different},
            "duplicate": result.duplicate,
            "problems": list(result.problems),
            "differences": str(report),
        }
    )
    counts = {
        "snapshot rows": result.source_rows,
        "export rows": result.lake_rows,
        "missing": result.missing,
        "extra": result.extra,
        "different": result.different,
        "duplicate": result.duplicate,
    }
    screen.table(list(counts), [list(counts.values())])
    if result.exact:
        screen.say(f"{export} holds what {snapshot} holds")
        return
    _show_differences(screen, result, "export")
    screen.say(f"every difference is in {report}")
    screen.say(
        f"write the file anew with: dynalake export {name} --lake {snapshot} --out {export}. If the snapshot was "
        "refreshed since the file was written, they need not agree"
    )
    raise typer.Exit(1)


def _say_what_to_do(
    screen: Screen, name: str, report: Path, result: ParityResult, state: State, keys: Keys
) -> None:
    """The remedies: repair the lake, make a new snapshot."""
    where = {each.where for each in result.differences if each.reason != "refused"}
    if "lake" in where:
        _say_what_may_come(screen, name, state)
        if result.forged:
            screen.say(
                f"{result.forged:,} rows have a forged version: dynalake did not write it, and it may withstand every "
                "change. See who may write to the lake table"
            )
        hides = keys == "lake" and any(
            each.source_key is not None and each.key != each.source_key for each in result.differences
        )
        reset = " --reset-version" if result.forged else ""
        file = "" if hides else f" --from {report}"
        screen.say(f"repair the lake with: dynalake repair {name}{file}{reset}")
    if "copy" in where or result.problems:
        screen.say(f"make the snapshot anew with: dynalake snapshot {name}")
    if result.refused:
        screen.say(
            f"{result.refused:,} rows have a value that the policy cannot be applied to: change the policy or correct "
            f"the rows in the source (docs/runbooks/policy.md), then run: dynalake redrive {name}"
        )
    if where or result.refused:
        screen.say(f"every difference is in {report}")


def _say_what_may_come(screen: Screen, name: str, state: State) -> None:
    if state == "catching up":
        screen.say(
            f"what differs may still be on its way: `dynalake status {name}` tells how far behind the lake is"
        )
    elif state in ("not started", "not known", "paused"):
        screen.say(f"the pipeline's state is {state!r}: what differs may still be on its way")


def summary(result: ParityResult) -> dict[str, Any]:
    """What a comparison found, in numbers."""
    return {
        "source_rows": result.source_rows,
        "lake_rows": result.lake_rows,
        "tombstones": result.tombstones,
        "parity": {"missing": result.missing, "extra": result.extra, "different": result.different},
        "refused": result.refused,
        "in_flight": result.in_flight,
        "forged": result.forged,
        **(
            {
                "left_out": {
                    side: dataclasses.asdict(one)
                    for side, one in zip(("source", "lake"), result.left_out, strict=True)
                }
            }
            if result.left_out
            else {}
        ),
        **(
            {
                "snapshot_rows": result.copy_rows,
                "duplicate": result.duplicate,
                "problems": list(result.problems),
            }
            if result.copy_rows is not None
            else {}
        ),
    }


def _at_most(result: ParityResult) -> float:
    """The share that differs at most, with 95 % confidence, where a sample of n rows had no difference: 3 / n.

    Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249 (1983).
    """
    return min(1.0, 3 / result.source_rows) if result.source_rows and result.exact else 1.0


@contextmanager
def to_repair() -> Iterator[Path]:
    """A file, which only its owner may read, for the source's keys of the rows to repair; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="dynalake-") as folder:
        yield Path(folder) / "keys.jsonl"


def _mend(screen: Screen, pipeline: Pipeline, file: Path, keys: int | None = None) -> RepairReport:
    """Repair the rows that a file of differences names."""
    with screen.progress("repair", keys) as bar:
        return pipeline.repair(
            (line["source_key"] for line in _read(file) if line["source_key"]),
            lambda done: bar.at(done.asked),
            reset_versions_of=forged_keys(file),
        )


def forged_keys(file: Path) -> Iterator[Mapping[str, Any]]:
    """The source keys of the rows whose version is forged, from a file of differences."""
    return (line["source_key"] for line in _read(file) if line.get("forged") and line["source_key"])


def _compare_into(
    path: Path,
    screen: Screen,
    pipeline: Pipeline,
    scope: Scope | None = None,
    keys: Keys = "lake",
    asked: Path | None = None,
) -> ParityResult:
    """Compare, and write every difference to a file; its source keys to the file `asked`, for a repair."""
    with write_differences(path, keys, asked) as write:
        return _compare(screen, pipeline, scope, write)


@contextmanager
def write_differences(
    path: Path, keys: Keys = "lake", asked: Path | None = None
) -> Iterator[Callable[[Difference], None]]:
    """Gives what writes a difference to a file, and, for a repair, its source key to the file `asked`."""
    with ExitStack() as stack:
        files: list[tuple[TextIO, Keys]] = [(stack.enter_context(_replacing(path)), keys)]
        if asked is not None:
            files.append((stack.enter_context(_replacing(asked)), "source"))

        def write(difference: Difference) -> None:
            for file, which in files:
                file.write(json.dumps(_as_line(difference, which)) + "\n")

        yield write


def _moment(text: str, now_ms: int) -> int:
    """Epoch milliseconds of `6h`, or of a moment in ISO form; without a zone it is UTC."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match:
        return now_ms - int(match[1]) * 1000 * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--since {text!r} is neither like 90m or 6h nor like 2026-01-31T08:00Z") from None
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _compare(
    screen: Screen,
    pipeline: Pipeline,
    scope: Scope | None = None,
    on_difference: Callable[[Difference], None] = lambda _: None,
) -> ParityResult:
    read = {"source": 0, "lake": 0, "again": 0}
    total = 2 * pipeline.source_table.approximate_rows
    with screen.progress("rows compared", total or None) as bar:

        def show(side: str, rows: int) -> None:
            read[side] = rows
            bar.at(sum(read.values()), max(total, sum(read.values())) if total else None)

        return pipeline.parity(scope, on_progress=show, on_difference=on_difference)


def _show(screen: Screen, result: ParityResult) -> None:
    columns = {
        "source rows": result.source_rows,
        "lake rows": result.lake_rows,
        "tombstones": result.tombstones,
        **({} if result.copy_rows is None else {"snapshot rows": result.copy_rows}),
        "missing": result.missing,
        "extra": result.extra,
        "different": result.different,
        **({} if result.copy_rows is None else {"duplicate": result.duplicate}),
        **({"refused by policy": result.refused} if result.refused else {}),
        "in flight": result.in_flight,
    }
    screen.table(list(columns), [list(columns.values())])
    if result.left_out:
        screen.say(f"source: {result.left_out[0].sentence}")
        screen.say(f"lake: {result.left_out[1].sentence}")
    if result.exact:
        also = "" if result.copy_rows is None else ", and the snapshot is the lake as of its moment"
        screen.say(f"source and lake are the same{also}")
        return
    if result.wrong:
        screen.say(f"{result.ratio:.6%} of the rows do not agree")
    _show_differences(screen, result)


def _show_differences(screen: Screen, result: ParityResult, copy: str = WHERE["copy"]) -> None:
    """What does not add up, and the first rows that differ."""
    for problem in result.problems:
        screen.say(problem)
    if result.differences:
        screen.table(
            ["reason", "key", "attributes", "where"],
            [
                [
                    each.reason,
                    json.dumps(each.key, ensure_ascii=False),
                    ", ".join(each.attributes),
                    copy if each.where == "copy" else WHERE[each.where],
                ]
                for each in result.differences[:SAMPLE]
            ],
        )


def _as_line(difference: Difference, keys: Keys = "lake") -> dict[str, Any]:
    """A difference as a file holds it. A hashed key and the source's own key are paired only where asked for."""
    is_hashed = difference.source_key is not None and difference.source_key != difference.key
    return {
        "reason": difference.reason,
        "key": None if is_hashed and keys == "source" else difference.key,
        "source_key": None if is_hashed and keys == "lake" else difference.source_key,
        "attributes": list(difference.attributes),
        "where": WHERE[difference.where],
        "forged": difference.forged,
    }


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A text file that replaces `path` when it is complete; a path that cannot be written is refused at once."""
    with (
        replacing(path, error=UserError) as place,
        place.file.open("w", encoding="utf-8") as file,
    ):
        yield file


def _read(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                yield _line(text, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{path} cannot be read: {reason}") from None


def _line(text: str, where: str) -> Mapping[str, Any]:
    try:
        line = json.loads(text)
        if isinstance(line["source_key"], dict | None):
            return line  # type: ignore[no-any-return]
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise UserError(f"{where}: is not what `dynalake parity` writes")


def _print_spark_sql(
    screen: Screen, pipeline: Pipeline, source_export: str | None, lake_export: str | None
) -> None:
    from expectations.spark import parity_sql

    if source_export is None or lake_export is None:
        raise UserError("--spark-sql compares two exports", remedy="give --source-export and --lake-export")
    if not pipeline.policy.lossless:
        raise UserError(
            "--spark-sql cannot apply a policy", remedy="compare the exports without it, on one machine"
        )
    statements = parity_sql(source_export, lake_export, pipeline.source_table.key_names)
    screen.answer({"pipeline": pipeline.name, "statements": list(statements)})
    screen.say(";\n\n".join(statements) + ";")
