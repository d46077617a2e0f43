"""Setting a pipeline up, and refusing a source table that it was not set up for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ingest import facts as identity
from ingest.checkpoints import StreamCheckpoint
from ingest.errors import SourceChangedError
from lake.errors import DENIED
from lake.tables import Step, ensure_lake_table, ensure_shared_tables, quota_warning

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline
    from ingest.source import SourceTable


def set_up(pipeline: Pipeline, *, accepts_recreated: bool = False) -> tuple[list[Step], str | None]:
    """Make what the lake side needs, and store the pipeline's facts; see `Pipeline.setup`."""
    pipeline.open_accounts()
    noted = pipeline.noted_stream()
    source, key, facts = pipeline.described_source, pipeline.lake_key, pipeline.facts_now()
    recreated = False
    if noted is not None:
        before = pipeline.facts
        if before is not None:
            identity.check_source(before, source, pipeline.name, accepts_recreated=accepts_recreated)
            recreated = identity.is_recreated(before, source)
            facts = facts if recreated else replace(facts, noted_at=before.noted_at)
        else:
            recreated = identity.is_younger_than_stream(source, noted.arn)
            if not (recreated and accepts_recreated):
                _check_without_facts(pipeline, noted.arn, source)
    dynamodb, config = pipeline.lake_dynamodb(), pipeline.config
    warning = quota_warning(dynamodb)
    steps = ensure_shared_tables(dynamodb, config.catalogue_table, config.checkpoint_table)
    steps += ensure_lake_table(dynamodb, config.lake_table, key)
    checkpoints, stream = pipeline.checkpoints(), StreamCheckpoint(source.stream_arn, pipeline.now_ms())
    if noted is None:
        pipeline.health_store.open_gap(
            "before-the-stream",
            "not backfilled",
            "the rows that were in the source before its stream was read are not in the lake yet",
        )
        checkpoints.note_stream(stream)
        steps.append(Step(f"pipeline {pipeline.name}", "made"))
    else:
        steps.append(Step(f"pipeline {pipeline.name}", "there"))
    if recreated:
        pipeline.health_store.open_gap(
            _gap_of(source),
            "stream changed",
            "the source table was recreated: until a repair, the lake has rows of the earlier one",
        )
        checkpoints.note_stream(stream)
        steps.append(Step("the recreated source table in place of the earlier one", "accepted"))
    if pipeline.hash_key is not None:
        pipeline.key_register().claim(pipeline.hash_key)
    pipeline.facts_store().write(facts)
    pipeline.forget()
    return steps, warning


def check_source(pipeline: Pipeline, *, accepts_recreated: bool = False) -> None:
    """Refuse a source table that the pipeline was not set up for; see `Pipeline.check_source`."""
    noted = pipeline.noted_stream()
    if noted is None:
        return
    facts, source = pipeline.facts, pipeline.described_source
    try:
        if facts is not None:
            identity.check_source(facts, source, pipeline.name, accepts_recreated=accepts_recreated)
            _claim_hash_key(pipeline)
            return
        if accepts_recreated and identity.is_younger_than_stream(source, noted.arn):
            return  # `set_up` stores the facts, and notes the gap
        _check_without_facts(pipeline, noted.arn, source)
    except SourceChangedError as error:
        with _unless_denied():
            pipeline.health_store.open_gap(
                _gap_of(source), "stream changed", f"nothing is replicated any more: {error.message}"
            )
        raise
    _claim_hash_key(pipeline)
    with _unless_denied():
        pipeline.facts_store().write(pipeline.facts_now())
        pipeline.__dict__.pop("facts", None)  # it was looked up when there were none


def _claim_hash_key(pipeline: Pipeline) -> None:
    """Note the hash key of a pipeline whose policy began to hash after its set-up, or that version 0.1 set up."""
    register, key = pipeline.key_register(), pipeline.hash_key
    if key is not None and register.read() is None:
        with _unless_denied():
            register.claim(key)


def _check_without_facts(pipeline: Pipeline, noted_stream: str, source: SourceTable) -> None:
    identity.check_source_without_facts(
        noted_stream, pipeline.lake_table.key.attributes, pipeline.facts_now(), source, pipeline.name
    )


def _gap_of(source: SourceTable) -> str:
    return f"source-changed/{source.id or source.created_at}"


@contextmanager
def _unless_denied() -> Iterator[None]:
    """Do without what read-only credentials may not write."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
