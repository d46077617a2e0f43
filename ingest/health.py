"""Keeping a pipeline's health where every reader sees it: beside its checkpoints, in the lake account."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from ingest.checkpoints import Checkpoints, StreamCheckpoint
from lake.contract.evidence import Observed, Reading, ReadingFault, TableStream, Waiting, judge
from lake.contract.health import (
    ENTRY,
    GAP_PREFIX,
    HEALTH_ENTRY,
    PIPELINE,
    Gap,
    GapKind,
    Health,
    gap_from_item,
    gap_to_item,
)
from lake.contract.versions import label_of_stream

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


DIFFERENT: Final = "different"
"""The identity of the gap that a comparison of both tables opens."""


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

    def read(self, reading: Reading, *, attended_until: int | None = None) -> None:
        """Store how far the stream has been read; an older reading never replaces a newer one.

        Args:
            reading: the reading.
            attended_until: up to when the stream's records were certainly read, where the reading does not tell it.
        """
        content: dict[str, Any] = {
            "at": {"N": str(reading.at)},
            "state": {"S": "caught up" if reading.at_end else "catching up"},
            "read_by": {"S": reading.by},
            "stream": {"S": reading.stream},
            "behind_s": {"NULL": True} if reading.behind_s is None else {"N": str(reading.behind_s)},
            "faults": {"S": json.dumps([asdict(fault) for fault in reading.faults])},
        }
        if reading.newest_source_at is not None:
            content["newest_source_at"] = {"N": str(reading.newest_source_at)}
        attended_until = attended_until if reading.attended_until is None else reading.attended_until
        if attended_until is not None:
            content["attended_until"] = {"N": str(attended_until)}
        self._observe(content, "at")

    def saw(self, table: TableStream) -> None:
        """Store which stream the source table has; an older look never replaces a newer one."""
        content = {"table_at": {"N": str(table.at)}, "table_stream": {"S": table.arn or ""}}
        self._observe(content, "table_at")

    def found_waiting(self, waiting: Waiting) -> None:
        """Store whether a check found changes that wait; an older check never replaces a newer one."""
        since: dict[str, Any] = {"NULL": True} if waiting.since is None else {"N": str(waiting.since)}
        self._observe({"waiting_at": {"N": str(waiting.at)}, "waiting_since": since}, "waiting_at")

    def _observe(self, content: Mapping[str, Any], at: str) -> None:
        attributes = list(content)
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={PIPELINE: {"S": self._pipeline}, ENTRY: {"S": HEALTH_ENTRY}},
                UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
                ConditionExpression=f"attribute_not_exists(#{at}) OR #{at} <= :{at}",
                ExpressionAttributeNames={f"#{name}": name for name in attributes},
                ExpressionAttributeValues={f":{name}": value for name, value in content.items()},
            )
        except ClientError as error:
            if not _is_refused(error):
                raise

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
        return [
            gap
            for gap in self.gaps()
            if (gap.remedy == mended_by or mended_by == "repair") and self.close_gap(gap.id, began_ms)
        ]

    def close_gap(self, identity: str, began_ms: int) -> bool:
        """Close one gap, unless more of it was found since `began_ms`; whether it was closed."""
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key=self._gap_key(identity),
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
            return False
        return True

    def compared(self, differing: int, began_ms: int, *, was_caught_up: bool) -> None:
        """Note what a comparison of both whole tables found.

        Rows that differ are a gap where the pipeline was caught up when it began; otherwise they may be on their way.
        Where none differ, an earlier finding of this kind is closed.

        Args:
            differing: rows that are missing, extra or different.
            began_ms: when the comparison began, epoch milliseconds.
            was_caught_up: whether the pipeline was caught up then.
        """
        if not differing:
            if any(gap.id == DIFFERENT for gap in self.gaps()):
                self.close_gap(DIFFERENT, began_ms)
        elif was_caught_up:
            detail = f"{differing:,} rows differ from the source, as a comparison at {moment(began_ms)} found"
            self.open_gap(DIFFERENT, "different", detail)

    def gaps(self) -> list[Gap]:
        """The open gaps, oldest first."""
        return [gap for gap in self.history() if gap.closed_at is None]

    def history(self) -> list[Gap]:
        """Every gap there was, closed ones included, oldest first."""
        found = (gap_from_item(item) for _, item in self._checkpoints.entries(GAP_PREFIX))
        return sorted(found, key=lambda gap: gap.found_at)

    def observed(self) -> Observed:
        """What was observed last."""
        item = self._checkpoints.get(HEALTH_ENTRY) or {}
        return Observed(_reading(item), _table_stream(item), _waiting(item))

    def attended_until(self) -> int:
        """Up to when the stream's records were certainly read, epoch milliseconds; 0 if that is not known."""
        item = self._checkpoints.get(HEALTH_ENTRY) or {}
        if "attended_until" in item:
            return int(item["attended_until"]["N"])
        reading = _reading(item)
        return (reading.attended_until if reading else None) or 0

    def health(self, name: str = "NAME") -> Health:
        """What the stored observations allow to say about the pipeline; see `lake.contract.evidence`.

        Args:
            name: the pipeline's name in the configuration, for the remedies.
        """
        return judge(self.observed(), self.gaps(), self._now_ms(), name)

    def _gap_key(self, identity: str) -> dict[str, Any]:
        return {PIPELINE: {"S": self._pipeline}, ENTRY: {"S": GAP_PREFIX + identity}}


def note_table_stream(
    health: HealthStore, checkpoints: Checkpoints, table: TableStream, *, is_read: bool
) -> str | None:
    """Store which stream the source table has, and open a gap where it is off or not the one noted.

    Whoever looks first notes it: the worker, the function's heartbeat, or a command.

    Args:
        health: the pipeline's health.
        checkpoints: which stream is noted as the one that is read.
        table: what the source table said.
        is_read: whether the table's stream is the one that is read already; it is noted then.

    Returns:
        What may be lost, for people; None where nothing is, or the pipeline is not set up.
    """
    noted = checkpoints.stream()
    health.saw(table)
    if noted is None or noted.arn == table.arn:
        return None
    attended = moment(max(noted.noted_at, health.attended_until()))
    if table.arn is None:
        detail = f"changes after {attended} may be lost (the stream is switched off)"
        health.open_gap(f"stream-off/{label_of_stream(noted.arn)}", "stream changed", detail)
        return detail
    label = label_of_stream(table.arn)
    detail = (
        f"changes between {attended} and {label.replace('T', ' ')[:19]} UTC may be lost (the stream was switched off "
        "and on)"
    )
    health.open_gap(f"stream-changed/{label}", "stream changed", detail)
    if is_read:
        checkpoints.note_stream(StreamCheckpoint(table.arn, table.at))
    return detail


def moment(milliseconds: int) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _reading(item: Mapping[str, Mapping[str, Any]]) -> Reading | None:
    """The reading in a health entry. What older versions wrote does not say which stream was read."""
    if "at" not in item:
        return None
    newest, behind = item.get("newest_source_at"), item.get("behind_s", {}).get("N")
    faults = json.loads(item["faults"]["S"]) if "faults" in item else []
    return Reading(
        by="function" if item.get("read_by", {}).get("S") == "function" else "worker",
        at=int(item["at"]["N"]),
        stream=item.get("stream", {}).get("S", ""),
        at_end=item["state"]["S"] == "caught up",
        newest_source_at=int(newest["N"]) if newest else None,
        behind_s=float(behind) if behind is not None else None,
        faults=tuple(ReadingFault(**fault) for fault in faults),
    )


def _table_stream(item: Mapping[str, Mapping[str, Any]]) -> TableStream | None:
    if "table_at" not in item:
        return None
    return TableStream(int(item["table_at"]["N"]), item["table_stream"]["S"] or None)


def _waiting(item: Mapping[str, Mapping[str, Any]]) -> Waiting | None:
    if "waiting_at" not in item:
        return None
    since = item["waiting_since"].get("N")
    return Waiting(int(item["waiting_at"]["N"]), int(since) if since is not None else None)


def _is_refused(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"
