"""A pipeline's facts: storing them in the lake account, and refusing a source table that they do not describe.

What the facts are, `lake.contract.facts` says. Three properties identify a source table: its ARN, its key, and its
TableId (where an engine has none, its creation time). Under another key the lake table cannot hold the rows. Under
another TableId it could, but its rows are those of a table that is gone: no stream record deletes them, and an empty
table would, row by row, be taken for the truth. So both are refused, and the operator decides about the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ingest.checkpoints import Checkpoints
from ingest.errors import SourceChangedError
from ingest.source import SourceTable
from lake.contract.facts import FACTS_ENTRY, Facts, KeyFact, KeyType, facts_from_item
from lake.contract.health import ENTRY, PIPELINE
from lake.contract.versions import label_of_stream

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

LABEL_TOLERANCE_MS: Final = 60_000
"""A table is created at most so much later than its own first stream: the two times are not of one clock."""


class FactsStore:
    """The facts of one pipeline."""

    def __init__(self, dynamodb: DynamoDBClient, checkpoint_table: str, pipeline: str) -> None:
        """Keep the facts of `pipeline`, which is named by its lake table, with the lake account's client."""
        self._dynamodb = dynamodb
        self._table = checkpoint_table
        self._pipeline = pipeline

    def read(self) -> Facts | None:
        """The facts; None before they were stored, as of a pipeline that was set up by version 0.1."""
        item = Checkpoints(self._dynamodb, self._table, self._pipeline).get(FACTS_ENTRY)
        return facts_from_item(item) if item is not None and "key" in item else None

    def write(self, facts: Facts) -> None:
        """Update the stored facts with what `facts` has; everything else in the item stays."""
        content = facts.to_attributes()
        self._dynamodb.update_item(
            TableName=self._table,
            Key={PIPELINE: {"S": self._pipeline}, ENTRY: {"S": FACTS_ENTRY}},
            UpdateExpression="SET " + ", ".join(f"#f{number} = :f{number}" for number in range(len(content))),
            ExpressionAttributeNames={f"#f{number}": name for number, name in enumerate(content)},
            ExpressionAttributeValues={f":f{number}": value for number, value in enumerate(content.values())},
        )


def facts_of(
    source: SourceTable,
    lake_type: Callable[[str, KeyType], KeyType],
    policy: Mapping[str, Any],
    ttl_attribute: str,
    noted_at: int,
) -> Facts:
    """The facts of a source table.

    Args:
        source: the table.
        lake_type: the type that a key attribute of a name and a type has in the lake; see `Policy.key_type`.
        policy: path -> action, as the configuration has it.
        ttl_attribute: the table's own time-to-live attribute; empty if it has none.
        noted_at: epoch milliseconds.
    """
    _, _, _, region, account, _ = source.arn.split(":", 5)
    return Facts(
        account=account,
        region=region,
        table=source.name,
        arn=source.arn,
        table_id=source.id,
        table_created_at=source.created_at,
        key=tuple(
            KeyFact(part.name, part.role, part.type, lake_type(part.name, part.type)) for part in source.key
        ),
        policy=policy,
        ttl_attribute=ttl_attribute,
        noted_at=noted_at,
    )


def is_recreated(facts: Facts, source: SourceTable) -> bool:
    """Whether the source table has the name that the facts say, and is another table."""
    if facts.table_id and source.id:
        return facts.table_id != source.id
    return bool(facts.table_created_at and source.created_at) and facts.table_created_at != source.created_at


def check_source(
    facts: Facts, source: SourceTable, pipeline: str, *, accepts_recreated: bool = False
) -> None:
    """Refuse a source table that is not the one of the facts.

    Args:
        facts: what the pipeline was set up for.
        source: the table as it is now.
        pipeline: the pipeline's name, for the remedy.
        accepts_recreated: whether a table with the same name and key may take the place of the earlier one.

    Raises:
        SourceChangedError: it is another table, or has another key.
    """
    if facts.arn != source.arn:
        raise _other_table(facts.arn, source)
    before = [(part.name, part.type) for part in facts.key]
    now = [(part.name, part.type) for part in source.key]
    if before != now:
        raise SourceChangedError(
            f"the source table {source.name!r} was recreated with the key {_words(now)}; the pipeline was set up for "
            f"the key {_words(before)}, and so is its lake table",
            remedy=_new_lake_table(pipeline),
        )
    if is_recreated(facts, source) and not accepts_recreated:
        raise _recreated(source, pipeline)


def check_source_without_facts(
    noted_stream: str, lake_key: tuple[tuple[str, str], ...], facts: Facts, source: SourceTable, pipeline: str
) -> None:
    """The same for a pipeline that was set up by version 0.1, from what that version stored.

    Args:
        noted_stream: the ARN of the stream that the pipeline reads.
        lake_key: names and types of the lake table's key.
        facts: the facts as they would be stored now.
        source: the table as it is now.
        pipeline: the pipeline's name, for the remedy.

    Raises:
        SourceChangedError: it is another table, or has another key.
    """
    noted_table = noted_stream.partition("/stream/")[0]
    if noted_table != source.arn:
        raise _other_table(noted_table, source)
    needed = tuple((part.name, part.lake_type) for part in facts.key)
    if lake_key != needed:
        raise SourceChangedError(
            f"the source table {source.name!r} needs a lake table with the key {_words(needed)}, and the pipeline's "
            f"has the key {_words(lake_key)}: the source was recreated with another key, or the policy for its key "
            "was changed",
            remedy=_new_lake_table(pipeline),
        )
    if is_younger_than_stream(source, noted_stream):
        raise _recreated(source, pipeline)


def is_younger_than_stream(source: SourceTable, stream_arn: str) -> bool:
    """Whether the table was created after this stream of its name, which is then of an earlier table."""
    try:
        began = datetime.fromisoformat(label_of_stream(stream_arn))
    except ValueError:
        return False
    began_ms = (began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp() * 1000
    return source.created_at > began_ms + LABEL_TOLERANCE_MS


def _other_table(noted_arn: str, source: SourceTable) -> SourceChangedError:
    return SourceChangedError(
        f"the pipeline was set up for {noted_arn}, and the configuration now names {source.arn}",
        remedy="name the table of the set-up again, or give the other table a pipeline and a lake table (lake.table) "
        "of its own",
    )


def _recreated(source: SourceTable, pipeline: str) -> SourceChangedError:
    when = (
        f" on {datetime.fromtimestamp(source.created_at / 1000, UTC):%Y-%m-%d %H:%M} UTC"
        if source.created_at
        else ""
    )
    return SourceChangedError(
        f"the source table {source.name!r} was recreated or restored from a backup{when}, and the lake table holds the "
        "rows of the earlier one",
        remedy="if the new table continues the earlier one's data, run `dynalake setup "
        f"{pipeline} --accept-recreated-table`, then `dynalake repair {pipeline}`, which also deletes from the lake "
        "what the new table lacks; else give the pipeline a new lake table (lake.table)",
    )


def _new_lake_table(pipeline: str) -> str:
    return (
        f"give the pipeline a new lake table (lake.table in the configuration), then run `dynalake setup {pipeline}` "
        f"(or `dynalake deploy {pipeline}`) and `dynalake backfill {pipeline}`; the old lake table stays as it is"
    )


def _words(key: Any) -> str:
    return " + ".join(f"{name} ({type_})" for name, type_ in key)
