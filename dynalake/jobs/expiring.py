"""Which rows of a pipeline have expired, so that every command leaves out the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynalake.errors import UserError
from ingest.source import ttl_attribute
from lake.contract.expiry import Expiry

if TYPE_CHECKING:
    from dynalake.pipeline import Pipeline


def expiry_of(pipeline: Pipeline, *, in_lake: bool) -> Expiry:
    """The rows that have expired as of now, by the source table's time-to-live attribute.

    The attribute's name is a fact that the set-up stored in the lake, so nobody needs the source account for it.

    Args:
        pipeline: the pipeline.
        in_lake: whether the rows are judged as the lake has them.

    Raises:
        UserError: the source table has no time-to-live, or the policy hides it from the lake.
    """
    config, facts = pipeline.config, pipeline.facts
    attribute = (
        ttl_attribute(pipeline.source_dynamodb(), config.source.table)
        if facts is None  # version 0.1 set the pipeline up
        else facts.ttl_attribute
    )
    if not attribute:
        raise UserError(
            f"the source table {config.source.table!r} has no time-to-live, so no row expires",
            remedy="leave leave_out_expired away; or, if time-to-live was enabled since the set-up, run "
            f"`dynalake setup {pipeline.name}`",
        )
    action = config.policy.get(attribute, config.policy.get("*", "keep"))
    if in_lake and action != "keep":
        raise UserError(
            f"the policy hides the time-to-live attribute {attribute!r} from the lake, so nobody can tell there "
            "which rows have expired",
            remedy="keep the attribute, or leave leave_out_expired away",
        )
    return Expiry(attribute, pipeline.now_ms())
