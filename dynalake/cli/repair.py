"""`dynalake repair`: mending rows that differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynalake.cli.check import SAMPLE, _compare, _compare_into, _read, _show, forged_keys, summary
from dynalake.cli.options import DEFAULT_CONFIG, ConfigPath, DryRun, Json, Name, open_set_up
from dynalake.cli.replicate import tell_mismatches
from dynalake.errors import UserError
from dynalake.screen import Screen

if TYPE_CHECKING:
    from dynalake.costs import Estimate
    from dynalake.pipeline import Pipeline
    from ingest.repair import Refusal, RepairReport

KEPT = 1_000
"""Refused rows that `--json` lists; `repair.refused` counts all of them."""


def repair(
    name: Name,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="What `parity` wrote; compared anew if not given.", metavar="FILE"),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Compare anew, whatever an earlier run found.")
    ] = False,
    reset_version: Annotated[
        bool,
        typer.Option(
            "--reset-version",
            help="Write rows anew whose version is forged, that is, was not written by dynalake; they are refused "
            "without this.",
        ),
    ] = False,
    dry_run: DryRun = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Mend rows that differ, by reading them from the source again. Safe while the stream is live.

    Without --from both tables are compared before and after, and gaps that this covers are closed; what differs
    is kept in NAME.repair.jsonl meanwhile, so that a run that was cut off is gone on with from the same folder.

    Examples: `dynalake repair orders`, `dynalake repair orders --from orders.parity.jsonl`
    """
    from dynalake.jobs.repairing import fingerprint_of, mend_file, progress_of

    screen = Screen(as_json=as_json)
    pipeline = open_set_up(name, config, reads_source=True)
    began = pipeline.now_ms()
    file = from_ or Path(f"{name}.repair.jsonl")
    earlier = None if restart else progress_of(pipeline)
    found = file.exists() and (from_ is not None or (earlier and earlier.fingerprint == fingerprint_of(file)))
    if from_ is not None and not found:
        raise UserError(f"{file} cannot be read: there is no such file")
    estimates = _estimates(pipeline, file if found else None, compares=from_ is None)
    for what, cost in estimates.items():
        screen.say(f"repair of {pipeline.config.source.table}, {what}: {cost.sentence()}")
    answer: dict[str, Any] = {
        "pipeline": name,
        "estimate": {what: dataclasses.asdict(cost) for what, cost in estimates.items()},
    }
    if dry_run:
        if not found:
            screen.say(
                "how many rows differ is known once both tables were compared; each is then read and written"
            )
        screen.answer(answer)
        return
    if not found:
        _compare_into(file, screen, pipeline, keys="source")
    differences = sum(1 for _ in _read(file))
    keys = sum(line["source_key"] is not None for line in _read(file))
    refused: list[Refusal] = []
    with screen.progress("repair", keys) as bar:
        report, before = mend_file(
            pipeline,
            fingerprint_of(file),
            (line["source_key"] for line in _read(file) if line["source_key"]),
            lambda done: bar.at(done.asked),
            on_refused=lambda each: refused.append(each) if len(refused) < KEPT else None,
            reset_versions_of=forged_keys(file) if reset_version else None,
        )
    after = None if from_ else _compare(screen, pipeline)
    if from_ is None:
        file.unlink(missing_ok=True)
    closed = pipeline.health_store.close_gaps("repair", began) if after and after.exact else []
    screen.answer(
        {
            **answer,
            "repair": dataclasses.asdict(report),
            "refused": [dataclasses.asdict(each) for each in refused],
            "done_by_an_earlier_run": before,
            "unknown_source_key": differences - keys,
            "after": summary(after) if after else None,
            "gaps_closed": [gap.detail for gap in closed],
        }
    )
    _tell(screen, report, before, differences - keys, refused)
    for gap in closed:
        screen.say(f"closed: {gap.detail}")
    if after:
        _show(screen, after)
    if report.refused or (after and not after.exact):
        raise typer.Exit(1)


def _estimates(pipeline: Pipeline, file: Path | None, *, compares: bool) -> dict[str, Estimate]:
    """What the parts of a repair take; `file` is None where it is not known yet what differs."""
    from dynalake.costs import estimate, estimate_mending

    source = pipeline.source_table
    costs = {}
    if compares:
        scans = 2 if file else 4
        costs["comparing both tables" + ("" if file else " before and after")] = estimate(
            source.approximate_rows, source.approximate_bytes, scans=scans, writes=False
        )
    if file:
        rows = sum(line["source_key"] is not None for line in _read(file))
        row_bytes = source.approximate_bytes / source.approximate_rows if source.approximate_rows else 0.0
        costs["mending"] = estimate_mending(rows, row_bytes, f"those in {file}")
    return costs


def _tell(
    screen: Screen, report: RepairReport, before: int, unknown: int, refused: Sequence[Refusal]
) -> None:
    screen.say(
        f"{report.asked:,} rows: {report.written:,} written, {report.deleted:,} deleted, {report.same:,} right "
        f"already, {report.overtaken:,} left to the stream, {report.absent:,} on neither side, "
        f"{report.refused:,} refused" + (f" (an earlier run had done {before:,})" if before else "")
    )
    if refused:
        screen.table(
            ["refused", "why"],
            [[json.dumps(each.key, ensure_ascii=False), each.reason] for each in refused[:SAMPLE]],
        )
    tell_mismatches(screen, report.policy_mismatches)
    if unknown:
        screen.say(
            f"{unknown:,} rows have hashed keys, and the file does not hold their keys in the source: rows that are "
            "only in the lake, or a file that `dynalake parity` wrote without --source-keys"
        )
