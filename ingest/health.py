"""Keeping a pipeline's health where every reader sees it: beside its checkpoints, in the lake account."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ingest.checkpoints import Checkpoints
from lake.contract.health import (
    ENTRY,
    GAP_PREFIX,
    HEALTH_ENTRY,
    PIPELINE,
    Gap,
    GapKind,
    Health,
    State,
    gap_from_item,
    gap_to_item,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class HealthStore:
    """The health and the gaps of one pipeline."""

    def __init__(
        self, dynamodb: DynamoDBClient, checkpoint_table: str, pipeline: str, now_ms: Callable[[], int]
    ) -> None:
        """Keep the health of `pipeline`, which is named by its lake table, with the lake account's client."""
        self._dynamodb = dynamodb
        self._table = checkpoint_table
        self._pipeline = pipeline
        self._now_ms = now_ms
        self._checkpoints = Checkpoints(dynamodb, checkpoint_table, pipeline)

    def say(self, state: State, newest_source_at: int | None) -> None:
        """Write down how far the stream has been read; `newest_source_at` in epoch milliseconds."""
        content: dict[str, Any] = {"state": {"S": state}, "at": {"N": str(self._now_ms())}}
        if newest_source_at is not None:
            content["newest_source_at"] = {"N": str(newest_source_at)}
        self._checkpoints.put(HEALTH_ENTRY, content)

    def open_gap(self, identity: str, kind: GapKind, detail: str) -> bool:
        """Note a gap. One that is open already under this identity is noted as found again.

        Returns:
            Whether this call opened it.
        """
        while True:
            now = self._now_ms()
            try:
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item=gap_to_item(self._pipeline, Gap(identity, kind, detail, now, now)),
                    ConditionExpression="attribute_not_exists(#entry) OR attribute_exists(closed_at)",
                    ExpressionAttributeNames={"#entry": ENTRY},
                )
            except ClientError as error:
                if not _is_refused(error):
                    raise
            else:
                return True
            try:
                self._dynamodb.update_item(
                    TableName=self._table,
                    Key=self._gap_key(identity),
                    UpdateExpression="SET last_found_at = :now",
                    ConditionExpression="attribute_exists(#entry) AND attribute_not_exists(closed_at)",
                    ExpressionAttributeNames={"#entry": ENTRY},
                    ExpressionAttributeValues={":now": {"N": str(now)}},
                )
            except ClientError as error:
                if not _is_refused(error):  # it was closed between the two writes: then it is opened anew
                    raise
            else:
                return False

    def given_up(self, detail: str) -> None:
        """Note that records were put away and not applied."""
        self.open_gap("given-up", "given up", detail)

    def close_gaps(self, mended_by: str, began_ms: int) -> list[Gap]:
        """Close the open gaps which a job covers: those of its kind that were last found before it began.

        Args:
            mended_by: "backfill", "redrive" or "repair"; a repair covers what the others do, too.
            began_ms: when the job began, epoch milliseconds.

        Returns:
            The gaps closed.
        """
        closed: list[Gap] = []
        for gap in self.gaps():
            if gap.remedy == mended_by or mended_by == "repair":
                try:
                    self._dynamodb.update_item(
                        TableName=self._table,
                        Key=self._gap_key(gap.id),
                        UpdateExpression="SET closed_at = :now",
                        ConditionExpression="last_found_at <= :began",
                        ExpressionAttributeValues={
                            ":now": {"N": str(self._now_ms())},
                            ":began": {"N": str(began_ms)},
                        },
                    )
                except ClientError as error:
                    if not _is_refused(error):
                        raise
                else:
                    closed.append(gap)
        return closed

    def gaps(self) -> list[Gap]:
        """The open gaps, oldest first."""
        return [gap for gap in self.history() if gap.closed_at is None]

    def history(self) -> list[Gap]:
        """Every gap there was, closed ones included, oldest first."""
        found = (gap_from_item(item) for _, item in self._checkpoints.entries(GAP_PREFIX))
        return sorted(found, key=lambda gap: gap.found_at)

    def health(self) -> Health:
        """What the pipeline knows about itself."""
        item = self._checkpoints.get(HEALTH_ENTRY)
        gaps = tuple(self.gaps())
        if item is None:
            return Health("not started", None, None, gaps)
        newest = item.get("newest_source_at")
        return Health(item["state"]["S"], int(item["at"]["N"]), int(newest["N"]) if newest else None, gaps)

    def _gap_key(self, identity: str) -> dict[str, Any]:
        return {PIPELINE: {"S": self._pipeline}, ENTRY: {"S": GAP_PREFIX + identity}}


def _is_refused(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"
