"""Commands that compare the lake with its source, and mend what differs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, DryRun, Json, Name, open_set_up
from dynalake.errors import UserError
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from expectations.parity import Difference, ParityResult

SAMPLE = 10
"""Differences shown on the screen; the file has them all."""


def parity(
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write every difference, as JSON lines; NAME.parity.jsonl if not given."),
    ] = None,
    dry_run: DryRun = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Compare source and lake row by row, by the content of whole items.

    A row that differs is looked at again before it counts, so rows in flight raise no alarm. Exit code 0 if both
    are the same, 1 if not.

    Example: `dynalake parity orders`, then `dynalake repair orders --from orders.parity.jsonl`
    """
    from dynalake.costs import estimate

    screen = Screen(as_json=as_json)
    pipeline = open_set_up(name, config)
    source = pipeline.source_table
    cost = estimate(source.approximate_rows, source.approximate_bytes, scans=2, writes=False)
    screen.say(f"parity of {source.name} and its lake table: {cost.sentence()}")
    if dry_run:
        screen.answer({"pipeline": name, "estimate": dataclasses.asdict(cost)})
        return
    report = out or Path(f"{name}.parity.jsonl")
    with _replacing(report) as file:
        result = _compare(screen, pipeline)
        file.writelines(json.dumps(_as_line(each)) + "\n" for each in result.differences)
    health = pipeline.health()
    screen.answer(
        {
            "pipeline": name,
            **summary(result),
            "ratio": result.ratio,
            "differences": str(report),
            "complete": health.complete,
            "gaps": [gap.detail for gap in health.gaps],
        }
    )
    _show(screen, result)
    for gap in health.gaps:
        screen.say(f"GAP: {gap.detail}")
    if not result.exact:
        screen.say(f"every difference is in {report}; mend them with: dynalake repair {name} --from {report}")
        raise typer.Exit(1)


def repair(
    name: Name,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="What `parity` wrote; compared anew if not given.", metavar="FILE"),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Mend rows that differ, by reading them from the source again. Safe while the stream is live.

    Without --from both tables are compared before and after, and gaps that this covers are closed.

    Examples: `dynalake repair orders`, `dynalake repair orders --from orders.parity.jsonl`
    """
    screen = Screen(as_json=as_json)
    pipeline = open_set_up(name, config)
    began = pipeline.now_ms()
    differences = (
        list(_read(from_)) if from_ else [_as_line(each) for each in _compare(screen, pipeline).differences]
    )
    keys = [line["source_key"] for line in differences if line["source_key"]]
    with screen.progress("repair", len(keys)) as bar:
        report = pipeline.repair(keys, lambda done: bar.at(done.asked))
    after = None if from_ else _compare(screen, pipeline)
    closed = pipeline.health_store.close_gaps("repair", began) if after and after.exact else []
    screen.answer(
        {
            "pipeline": name,
            "repair": dataclasses.asdict(report),
            "unknown_source_key": len(differences) - len(keys),
            "after": summary(after) if after else None,
            "gaps_closed": [gap.detail for gap in closed],
        }
    )
    screen.say(
        f"{report.asked:,} rows: {report.written:,} written, {report.deleted:,} deleted, {report.overtaken:,} left to "
        f"the stream, {report.absent:,} on neither side, {report.refused:,} refused"
    )
    if len(keys) < len(differences):
        screen.say(
            f"{len(differences) - len(keys):,} rows are only in the lake and their keys are hashed, so the source "
            "cannot be asked for them"
        )
    if after:
        _show(screen, after)
        if not after.exact:
            raise typer.Exit(1)


def summary(result: ParityResult) -> dict[str, Any]:
    """What a comparison found, in numbers."""
    return {
        "source_rows": result.source_rows,
        "lake_rows": result.lake_rows,
        "tombstones": result.tombstones,
        "parity": {"missing": result.missing, "extra": result.extra, "different": result.different},
        "in_flight": result.in_flight,
    }


def _compare(screen: Screen, pipeline: Pipeline) -> ParityResult:
    read = {"source": 0, "lake": 0}
    with screen.progress("rows compared", 2 * pipeline.source_table.approximate_rows or None) as bar:

        def show(side: str, rows: int) -> None:
            read[side] = rows
            bar.at(sum(read.values()))

        return pipeline.parity(on_progress=show)


def _show(screen: Screen, result: ParityResult) -> None:
    screen.table(
        ["source rows", "lake rows", "tombstones", "missing", "extra", "different", "in flight"],
        [
            [
                result.source_rows,
                result.lake_rows,
                result.tombstones,
                result.missing,
                result.extra,
                result.different,
                result.in_flight,
            ]
        ],
    )
    if result.exact:
        screen.say("source and lake are the same")
        return
    screen.say(f"{result.ratio:.6%} of the rows do not agree")
    screen.table(
        ["reason", "key", "attributes"],
        [
            [each.reason, json.dumps(each.key, ensure_ascii=False), ", ".join(each.attributes)]
            for each in result.differences[:SAMPLE]
        ],
    )


def _as_line(difference: Difference) -> dict[str, Any]:
    return {
        "reason": difference.reason,
        "key": difference.key,
        "source_key": difference.source_key,
        "attributes": list(difference.attributes),
    }


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of `path` when it is whole; that it can be written is known at once."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise UserError(f"the differences cannot be written to {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            valid = isinstance(line["source_key"], dict | None)
        except (ValueError, TypeError, KeyError):
            valid = False
        if not valid:
            raise UserError(f"{path}, line {number}: is not what `dynalake parity` writes")
        yield line
