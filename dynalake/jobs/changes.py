"""The lake table's changes on their way into a snapshot: a file of lines, written as they come, read when asked.

A record that cannot be decoded (DynamoDB Local 3 streams an empty map without its type) neither ends the reading nor
is passed over: its row is read again from the lake table. That row is as new as the record or newer, and the changes
after it are still to come, so the rule gives the right result.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError

from ingest.errors import MalformedRecordError, UndecodableError
from ingest.records import number_of
from ingest.wire import checked_from_boto3
from lake.contract.rows import VERSION, Item, version_of

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from dynalake.pipeline import Pipeline

log = logging.getLogger(__name__)

BATCH_BYTES: Final = 4 << 20
"""Read back at once."""

_ANY_VERSION: Final = "~"
"""Newer than every version. A row that is gone was removed by the lake itself, whatever it was."""


def lets_go(old: Item | None, new: Item | None) -> bool:
    """Whether a snapshot must let a row go before it takes what the lake has instead.

    That is so for a row that was removed; and for one whose version fell. Every write raises a row's version, but for
    the repair of a forged one: the new version would lose against that.

    Args:
        old: the row before, as DynamoDB JSON or as boto3 gives it; None where it is not known, or there was none.
        new: the row after; None where it was removed.
    """
    return old is not None and (new is None or version_of(old) > version_of(new))


def change_lines(record: Mapping[str, Any]) -> list[bytes]:
    """A record of the lake table's stream, as boto3 gives it, as `lake.snapshot` and `lake.refresh` take it.

    Raises:
        MalformedRecordError: it cannot be decoded.
    """
    try:
        body = record["dynamodb"]
        removed = {"INSERT": False, "MODIFY": False, "REMOVE": True}[record["eventName"]]
        old = body["OldImage"] if removed else body.get("OldImage")
        new = None if removed else checked_from_boto3(body["NewImage"])
        lines = [_line("OldImage", checked_from_boto3(old))] if lets_go(old, new) else []
        if new is not None:
            lines.append(_line("NewImage", new))
        if not body["Keys"].keys() <= (old if new is None else new).keys():
            raise MalformedRecordError("the image lacks a key attribute")
    except (KeyError, TypeError, AttributeError):
        raise MalformedRecordError("the record lacks its form") from None
    return lines


def removal_line(key: Mapping[str, Any]) -> bytes:
    """The change that removes the row of this key, in wire form, whatever its version."""
    return _line("OldImage", {**key, VERSION: {"S": _ANY_VERSION}})


class LakeRows:
    """Rows of the lake table, read again where the stream's record of them cannot be decoded."""

    def __init__(self, dynamodb: Callable[[], DynamoDBClient], table: str) -> None:
        """Read from `table`; `dynamodb` makes a client of the lake account, which is rarely needed."""
        self._dynamodb = dynamodb
        self._table = table

    def lines(self, record: Mapping[str, Any]) -> list[bytes]:
        """The changes that make a snapshot's row what the lake's row is now.

        Raises:
            UndecodableError: the record does not say its key, or the row cannot be read or decoded either.
        """
        name = f"the record {number_of(record) or 'without a number'} of the stream of {self._table}"
        try:
            key = record["dynamodb"]["Keys"]
            wire_key = checked_from_boto3(key)
            found = self._dynamodb().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
            row = None if found is None else checked_from_boto3(found)
        except (ClientError, BotoCoreError) as error:
            why = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            raise UndecodableError(f"{name} cannot be decoded, and its row cannot be read ({why})") from error
        except (MalformedRecordError, KeyError, TypeError, AttributeError):
            raise UndecodableError(f"{name} cannot be decoded, nor can its row") from None
        log.warning("%s cannot be decoded; its row was read from the table instead", name)
        # Removed first: the version of what the record replaced is not known, and may be a forged one.
        return [removal_line(wire_key)] + ([] if row is None else [_line("NewImage", row)])


def lake_rows(pipeline: Pipeline) -> LakeRows:
    """The rows of a pipeline's lake table."""
    return LakeRows(pipeline.lake_dynamodb, pipeline.config.lake_table)


class ChangeSpool:
    """A temporary file of changes. Memory does not grow with them; they may wait as long as they must."""

    def __init__(self, rows: LakeRows) -> None:
        """Take changes of the lake table; `rows` are read again where a record cannot be decoded."""
        self._rows = rows
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._lock = threading.Lock()

    def take(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds records of the stream.

        Raises:
            UndecodableError: a record cannot be decoded, and its row cannot be read instead.
        """
        lines = [line for record in records for line in self._lines(record)]
        with self._lock:
            self._file.seek(0, 2)
            self._file.writelines(lines)

    def _lines(self, record: Mapping[str, Any]) -> list[bytes]:
        try:
            return change_lines(record)
        except MalformedRecordError:
            return self._rows.lines(record)

    def add(self, lines: Sequence[bytes]) -> None:
        """Adds changes that are lines already, without line ends."""
        with self._lock:
            self._file.seek(0, 2)
            self._file.writelines(line + b"\n" for line in lines)

    @property
    def end(self) -> int:
        """Where the next change will be written."""
        with self._lock:
            return self._file.seek(0, 2)

    def pages(self, end: int) -> Iterator[list[bytes]]:
        """Lines from the beginning up to `end`, in batches; more may be taken meanwhile."""
        at = 0
        while at < end:
            with self._lock:
                self._file.seek(at)
                lines = self._file.readlines(min(BATCH_BYTES, end - at))
            at += sum(map(len, lines))
            yield [line.rstrip(b"\n") for line in lines]

    def forget(self, end: int) -> None:
        """Lets go of the lines up to `end`, since they have been applied."""
        with self._lock:
            self._file.seek(end)
            kept = tempfile.TemporaryFile()  # noqa: SIM115 - takes the other's place
            while block := self._file.read(BATCH_BYTES):
                kept.write(block)
            self._file.close()
            self._file = kept

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(image: str, row: Mapping[str, Any]) -> bytes:
    return json.dumps({image: row}).encode() + b"\n"
