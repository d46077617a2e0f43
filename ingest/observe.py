"""Noting in the catalogue what attributes exist and what they hold, at no cost when nothing is new.

Every attribute of every change that reaches the lake is compared with what is in memory; only a kind that was
never seen is written, once, on condition that it is not there. The first look at a pipeline loads what the
catalogue holds already, so a cold start writes nothing either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lake.contract.catalogue import OBSERVATION, TABLE, Observation, from_item, kind_of, to_item
from lake.contract.rows import Change

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class SchemaObserver:
    """The catalogue's writer for one lake table."""

    def __init__(
        self, dynamodb: DynamoDBClient, catalogue_table: str, lake_table: str, now_ms: Callable[[], int]
    ) -> None:
        """Note observations of `lake_table` in `catalogue_table`, with the lake account's client."""
        self._dynamodb = dynamodb
        self._catalogue_table = catalogue_table
        self._lake_table = lake_table
        self._now_ms = now_ms
        self._known: set[tuple[str, str]] | None = None
        self._lock = threading.Lock()

    def note(self, changes: Iterable[Change]) -> list[Observation]:
        """Write what is new in these changes to the catalogue.

        Returns:
            The observations that this call added, in order of appearance; usually none.

        Raises:
            botocore.exceptions.ClientError: the catalogue could not be read or written; nothing that was
                not written is taken as known, so the next call tries again.
        """
        with self._lock:
            if self._known is None:
                self._known = {(seen.attribute, seen.kind) for seen in self._load()}
            known = self._known
            added: list[Observation] = []
            for change in changes:
                for attribute, value in (change.image or {}).items():
                    if (attribute, next(iter(value))) in known:
                        continue  # of most types the kind is the bare tag: nothing to look into
                    kind = kind_of(value)
                    if (attribute, kind) not in known:
                        observation = Observation(attribute, kind, self._now_ms(), change.version)
                        if self._write(observation):
                            added.append(observation)
                        known.add((attribute, kind))
            return added

    def _load(self) -> Iterable[Observation]:
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._catalogue_table,
            KeyConditionExpression="#table = :table",
            ExpressionAttributeNames={"#table": TABLE},
            ExpressionAttributeValues={":table": {"S": self._lake_table}},
            ConsistentRead=True,
        )
        for page in pages:
            yield from map(from_item, page["Items"])

    def _write(self, observation: Observation) -> bool:
        try:
            self._dynamodb.put_item(
                TableName=self._catalogue_table,
                Item=to_item(self._lake_table, observation),
                ConditionExpression="attribute_not_exists(#observation)",
                ExpressionAttributeNames={"#observation": OBSERVATION},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True
