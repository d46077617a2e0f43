"""`dynalake report`: what is known of each pipeline, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynalake.errors import UserError
from dynalake.pipeline import Pipeline
from expectations.report.page import Subject, render
from lake.contract.files import write_text


def write_report(out: Path, pipelines: Sequence[Pipeline]) -> dict[str, str]:
    """Write the page, and give each pipeline's verdict.

    Raises:
        UserError: the file cannot be written.
        CheckError: a package of the extra `checks` is missing.
    """
    subjects = [_subject(pipeline) for pipeline in pipelines]
    page = render(subjects, max(pipeline.now_ms() for pipeline in pipelines))
    write_text(out, page, error=UserError)
    return {subject.name: subject.verdict for subject in subjects}


def _subject(pipeline: Pipeline) -> Subject:
    limits = pipeline.config.checks
    return Subject(
        name=pipeline.name,
        source_table=pipeline.config.source.table,
        lake_table=pipeline.config.lake_table,
        checks=pipeline.check_job(metrics=False).history(),
        schema=pipeline.schema_history(),
        health=pipeline.health(),
        parity_limits=[
            (limits.parity_warn_percent / 100, "warn"),
            (limits.parity_fail_percent / 100, "fail"),
        ],
        fresh_limits=[(limits.fresh_warn_s, "warn"), (limits.fresh_fail_s, "fail")],
    )
