"""A pipeline's tables as Hive, Spark, Athena and data catalogues see them: what is known of it, joined."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from dynalake.errors import UserError
from ingest.policy import actions_from, parse_path
from ingest.segments import Segments
from lake.contract.facts import KeyRole
from lake.contract.rows import RESERVED_PREFIX
from queries.ddl import Flavour, Generated, Partitions, dynamodb_table, parquet_table
from queries.ddl.partitions import partitions_of

if TYPE_CHECKING:
    from pyarrow import Schema

    from dynalake.exports import Export
    from dynalake.pipeline import Pipeline

DATABASE: Final = "lake"
"""The Hive database that generated statements name where the configuration says no other."""

_DONE: Final = {"hash": "hashed", "mask": "masked", "drop": "dropped", "keep": "kept"}


Written = Literal["dynamodb", "parquet", "athena", "spark"]
"""What DDL is written for."""

_FLAVOURS: Final[Mapping[str, Flavour]] = {
    "dynamodb": "hive",
    "parquet": "hive",
    "athena": "athena",
    "spark": "spark",
}


def generated_for(
    pipeline: Pipeline,
    engine: str,
    parquet: str | None,
    location: str | None,
    database: str,
    read_percent: float = 0.5,
    *,
    explicit: bool = False,
) -> tuple[Generated, list[str]]:
    """The tables for an engine, and warnings of what they would read.

    Args:
        pipeline: a pipeline that is set up.
        engine: one of `Written`.
        parquet: an export; needed for all engines but dynamodb.
        location: where the engine finds the export, if elsewhere.
        database: the database.
        read_percent: as for `over_lake`.
        explicit: whether each partition is named, and not found by MSCK REPAIR TABLE.

    Raises:
        UserError: there is no such engine, it needs an export, or there is no Parquet.
        DdlError: a name or type cannot be used.
    """
    from dynalake.exports import open_export

    if engine not in _FLAVOURS:
        raise UserError(f"there is no DDL for {engine!r}", remedy=f"give one of {', '.join(_FLAVOURS)}")
    export = None if parquet is None else open_export(parquet, pipeline.lake_s3)
    if engine == "dynamodb":
        like = None if export is None else export.schema
        return over_lake(pipeline, database, read_percent=read_percent, like=like), []
    if export is None:
        raise UserError(f"--engine {engine} needs an export", remedy="give its path with --parquet")
    generated = over_parquet(
        pipeline,
        export.schema,
        location or export.location,
        database,
        flavour=_FLAVOURS[engine],
        partitions=export_partitions(pipeline, export, explicit=explicit),
    )
    return generated, [export.warning] if location is None and export.warning is not None else []


def hive_name(pipeline: Pipeline) -> str:
    """What the pipeline's view is called in Hive, which has no hyphens in names."""
    return pipeline.name.replace("-", "_").lower()


def over_lake(
    pipeline: Pipeline,
    database: str = DATABASE,
    *,
    read_percent: float = 0.5,
    like: Schema | None = None,
) -> Generated:
    """The Hive table over the lake table itself, and its views, from the catalogue and without a scan.

    Args:
        pipeline: a pipeline that is set up.
        database: the Hive database.
        read_percent: the part of the lake table's read capacity that a query may use.
        like: the schema of a recent export, for exact decimals in the view.

    Raises:
        DdlError: a name cannot be used in Hive.
    """
    roles: tuple[KeyRole, ...] = ("HASH", "RANGE")
    table = dynamodb_table(
        pipeline.schema_history(),
        [
            (name, type_, role)
            for (name, type_), role in zip(pipeline.lake_table.key.attributes, roles, strict=False)
        ],
        lake_table=pipeline.config.lake_table,
        region=pipeline.config.lake.region,
        database=database,
        table=f"{hive_name(pipeline)}_live",
        read_percent=read_percent,
        endpoint=pipeline.config.lake.endpoint_url,
        sensitivity=sensitivity(pipeline),
    )
    return Generated.over(table, hive_name(pipeline), like=like)


def over_parquet(
    pipeline: Pipeline,
    schema: Schema,
    location: str,
    database: str = DATABASE,
    *,
    flavour: Flavour = "hive",
    partitions: Partitions | None = None,
) -> Generated:
    """The table over a Parquet export, and the views of the same names as over the lake table.

    Args:
        pipeline: a pipeline that is set up.
        schema: the export's Arrow schema.
        location: the folder that holds the files, as the engine reaches it.
        database: the database.
        flavour: whose DDL.
        partitions: how the export's folders partition it, if they do.

    Raises:
        DdlError: a name or type cannot be used.
    """
    table = parquet_table(
        schema,
        location=location,
        database=database,
        table=f"{hive_name(pipeline)}_parquet",
        flavour=flavour,
        partitions=partitions,
        observations=pipeline.schema_history(),
        sensitivity=sensitivity(pipeline),
    )
    return Generated.over(table, hive_name(pipeline))


def sensitivity(pipeline: Pipeline) -> Mapping[str, str]:
    """Attribute -> what the pipeline's policy does to it, in words, for those that it touches.

    The policy is that of the facts in the lake: an analyst's configuration need not have it.
    """
    facts = pipeline.facts
    return told_of_policy(pipeline.config.policy_document() if facts is None else facts.policy)


def told_of_policy(policy: Mapping[str, Any]) -> Mapping[str, str]:
    """Attribute -> what a policy does to it, in words.

    Args:
        policy: path -> action, as the configuration has it.

    Returns:
        What is known of the attributes that the policy names. Where it has a rule for `*`, an attribute that it
        does not name has that rule's words.
    """
    said: dict[str, list[str]] = {}
    others = ""
    for path, rule in actions_from(policy).items():
        attribute, *inside = parse_path(path)
        if isinstance(rule.action, Segments):
            done = " and ".join(sorted(_DONE[each] for each in rule.action.actions if each != "keep"))
            words = f"segments {done}" if done else ""
        else:
            words = _DONE[rule.action] if rule.action != "keep" else ""
        if not isinstance(attribute, str):
            others = words
        elif words:
            said.setdefault(attribute, []).append(f"{words} at {path}" if inside else words)
        else:
            said.setdefault(attribute, [])
    told = {attribute: f"{', '.join(words)} by policy" for attribute, words in said.items() if words}
    return _WithOthers(told, said, f"{others} by policy") if others else told


class _WithOthers(dict[str, str]):
    """Words for the attributes that a policy names, and one answer for all others of the source."""

    def __init__(self, told: Mapping[str, str], named: Collection[str], others: str) -> None:
        super().__init__(told)
        self._named = frozenset(named)
        self._others = others

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._named or key.startswith(RESERVED_PREFIX):
            return super().get(key, default)
        return self._others


def export_partitions(pipeline: Pipeline, export: Export, *, explicit: bool) -> Partitions | None:
    """How the folders of an export partition it; None where they do not."""
    return partitions_of(export.files, pipeline.schema_history(), explicit=explicit)
